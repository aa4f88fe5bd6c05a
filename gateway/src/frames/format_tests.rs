use super::*;
use crate::frames::{ClientMessage, Kind, parse};
use nearcast_schemas::refusal::Refusal;
use proptest::prelude::*;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Value;

/// A JSON object whose keys may come twice, in the order of the text.
struct Pairs(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs;

            fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}

impl Serialize for Pairs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

/// The same message as MessagePack. None for what JSON cannot say either, or MessagePack cannot get wrong.
pub(crate) fn transcode(text: &str) -> Option<Vec<u8>> {
    let bytes = match serde_json::from_str::<Pairs>(text) {
        Ok(pairs) => rmp_serde::to_vec_named(&pairs),
        Err(_) => rmp_serde::to_vec_named(&serde_json::from_str::<Value>(text).ok()?),
    };
    Some(bytes.unwrap())
}

#[track_caller]
fn check(bytes: &[u8], refusal: Refusal, of: Option<Kind>, detail: Option<&str>) {
    let refused = parse(Frame::Binary(bytes)).unwrap_err();
    assert_eq!((refused.refusal, refused.of), (refusal, of), "{bytes:x?}");
    if detail.is_some() {
        assert_eq!(refused.detail.as_deref(), detail, "{bytes:x?}");
    }
}

const SYNC: &[u8] = b"\x81\xa4type\xa4sync";

#[test]
fn only_one_whole_map_with_strings_for_keys_is_a_message() {
    assert_eq!(parse(Frame::Binary(SYNC)).unwrap().message, ClientMessage::Sync);
    check(b"", Refusal::Malformed, None, Some("see byte 0"));
    check(&SYNC[..8], Refusal::Malformed, None, None);
    check(&[SYNC, b"\xc0"].concat(), Refusal::Malformed, None, Some("see byte 11"));
    check(&[SYNC, SYNC].concat(), Refusal::Malformed, None, None);
    let keys = Some("a message is a map, and the keys of maps are strings");
    check(b"\x91\xa4sync", Refusal::Malformed, None, keys);
    // What serde would take for the first field, by its number.
    check(b"\x81\x00\xa4sync", Refusal::Malformed, None, keys);
    check(b"\x82\x00\xc0\xa4type\xa4sync", Refusal::Malformed, None, None);
    check(b"\x82\xa1x\x81\x01\x02\xa4type\xa4sync", Refusal::Malformed, None, keys);
    check(b"\x82\xa4type\xa4sync\xa2id\xc4\x01\xff", Refusal::IdInvalid, Some(Kind::Sync), None);
    check(b"\x82\xa4type\xa4sync\xa2id\xa1\xff", Refusal::IdInvalid, Some(Kind::Sync), None);
    check(b"\x81\xa4type\xc4\x04\xff\xff\xff\xff", Refusal::Malformed, None, Some("`type` must be a string"));
    check(b"\x81\xa4type\xc1", Refusal::Malformed, None, None);
}

#[test]
fn what_only_messagepack_has_is_ignored_in_unknown_fields() {
    for value in [
        &b"\xc4\x02ab"[..],
        b"\xd6\xff\x00\x00\x00\x00",
        b"\xca\x7f\xc0\x00\x00",
        b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        let message = [b"\x82\xa1x", value, b"\xa4type\xa4sync"].concat();
        assert_eq!(parse(Frame::Binary(&message)).unwrap().message, ClientMessage::Sync, "{value:x?}");
    }
}

#[test]
fn numbers_may_be_whole_where_fractions_may_stand() {
    #[derive(Serialize)]
    struct Whole {
        r#type: &'static str,
        n: u64,
        lat: u8,
        lon: i8,
        time: u64,
    }
    let whole = Whole { r#type: "location", n: 7, lat: 52, lon: -13, time: 1_700_000_000_000 };
    let bytes = rmp_serde::to_vec_named(&whole).unwrap();
    let ClientMessage::Location(location) = parse(Frame::Binary(&bytes)).unwrap().message else { panic!() };
    assert_eq!((location.report.n, location.report.lat, location.report.lon), (7, 52.0, -13.0));
    let bytes = rmp_serde::to_vec_named(&Whole { n: u64::MAX, ..whole }).unwrap();
    check(&bytes, Refusal::Malformed, Some(Kind::Location), None);
}

#[test]
fn deep_frames_do_not_reach_the_end_of_the_stack() {
    for unit in [&b"\x91"[..], b"\x81\xa1a", b"\x81\xa4type", b"\x81\xa2id", b"\xdd\x00\x00\x00\x01"] {
        check(&unit.repeat(131_072 / unit.len()), Refusal::Malformed, None, None);
        for key in [&b"\xa2id"[..], b"\xa8position", b"\xa1x"] {
            let start = [b"\x82\xa4type\xa5hello", key].concat();
            check(&[start, unit.repeat(100_000 / unit.len())].concat(), Refusal::Malformed, None, None);
        }
    }
}

#[test]
fn announced_lengths_cost_nothing() {
    for length in
        [&b"\xdb\xff\xff\xff\xff"[..], b"\xc6\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff"]
    {
        check(length, Refusal::Malformed, None, None);
        for key in [&b"\xa2id"[..], b"\xa5fixes", b"\xa6device", b"\xa1x"] {
            let message = [b"\x82\xa4type\xa9locations", key, length].concat();
            check(&message, Refusal::Malformed, None, None);
        }
    }
}

#[test]
fn subprotocols_name_the_formats() {
    assert_eq!(Format::of_subprotocol("nearcast.v1"), Some(Format::Json));
    assert_eq!(Format::of_subprotocol("nearcast.v1.msgpack"), Some(Format::MessagePack));
    assert_eq!(Format::of_subprotocol("nearcast.v2"), None);
}

proptest! {
    #[test]
    fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(Frame::Binary(&bytes));
    }

    /// Also where the beginning of a frame is right.
    #[test]
    fn never_panics_behind_a_type(kind in "(hello|location|locations|sync|subscribe)", bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let mut frame = b"\x83\xa4type".to_vec();
        frame.push(0xa0 | kind.len() as u8);
        frame.extend(kind.as_bytes());
        frame.extend(bytes);
        let _ = parse(Frame::Binary(&frame));
    }

    #[test]
    fn a_refusal_does_not_repeat_the_frame(secret in "[a-z]{12,20}", field in "(type|id|n|lat|lon|time|device|ack|friend|fixes)") {
        for kind in ["location", "hello", "locations", "subscribe", "dance"] {
            let pairs = [(field.as_str(), secret.as_str()), ("type", kind), (&secret, "1"), ("position", &secret)];
            let pairs = Pairs(pairs.into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect());
            let bytes = rmp_serde::to_vec_named(&pairs).unwrap();
            if let Err(refused) = parse(Frame::Binary(&bytes)) {
                prop_assert!(!refused.detail.unwrap_or_default().contains(&secret));
            }
        }
    }
}
