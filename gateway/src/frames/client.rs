//! What clients send. Parsing is lenient about what it does not know, and says nothing of what it was given.

use std::borrow::Cow;

use nearcast_ingest::validate::RawFix;
use nearcast_schemas::ids::{MAX_ID_BYTES, check_id};
use nearcast_schemas::refusal::Refusal;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::auth::{Auth, Token};
use super::format::Frame;

/// Most late fixes in one `locations`.
pub const MAX_FIXES: usize = 500;

/// The types of messages that a client may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Begins the session.
    Hello,
    /// A new token for the connection.
    Auth,
    /// A report.
    Location,
    /// Late reports.
    Locations,
    /// Asks for the whole list.
    Sync,
    /// Asks for one friend's last position, and ends a mute.
    Subscribe,
    /// Mutes one friend for this session.
    Unsubscribe,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Hello, Self::Auth, Self::Location, Self::Locations, Self::Sync, Self::Subscribe, Self::Unsubscribe];

    /// The value of `type`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Auth => "auth",
            Self::Location => "location",
            Self::Locations => "locations",
            Self::Sync => "sync",
            Self::Subscribe => "subscribe",
            Self::Unsubscribe => "unsubscribe",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// A message and the name that its sender gave it.
#[derive(Clone, Debug, PartialEq)]
pub struct Incoming {
    /// Echoed as `re` in direct answers; 1 to 64 bytes.
    pub id: Option<String>,
    /// The message.
    pub message: ClientMessage,
}

/// One message of a client.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientMessage {
    /// Begins the session.
    Hello(Hello),
    /// A new token for the connection.
    Auth {
        /// The token; nothing of it is checked yet.
        token: Token,
    },
    /// A report.
    Location(Location),
    /// Late reports.
    Locations(Locations),
    /// Asks for the whole list.
    Sync,
    /// Asks for one friend's last position, and ends a mute.
    Subscribe {
        /// The friend's user id.
        friend: String,
    },
    /// Mutes one friend for this session.
    Unsubscribe {
        /// The friend's user id.
        friend: String,
    },
}

impl ClientMessage {
    /// The message's type.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Hello(_) => Kind::Hello,
            Self::Auth { .. } => Kind::Auth,
            Self::Location(_) => Kind::Location,
            Self::Locations(_) => Kind::Locations,
            Self::Sync => Kind::Sync,
            Self::Subscribe { .. } => Kind::Subscribe,
            Self::Unsubscribe { .. } => Kind::Unsubscribe,
        }
    }

    /// The number of the report in it, for an `error` that names it.
    pub fn n(&self) -> Option<i64> {
        match self {
            Self::Hello(hello) => hello.position.as_ref().map(|report| report.n),
            Self::Location(location) => Some(location.report.n),
            _ => None,
        }
    }
}

/// `hello`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Hello {
    /// The installation that numbers its reports.
    pub device: String,
    /// What the phone's clock shows at sending, in ms since the epoch.
    #[serde(default)]
    pub clock: Option<i64>,
    /// The session only watches.
    #[serde(default)]
    pub watch: Option<bool>,
    /// The first report.
    #[serde(default)]
    pub position: Option<RawFix>,
    /// The list that the client holds from before.
    #[serde(default)]
    pub resume: Option<Resume>,
}

/// What a client says of the list that it holds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Resume {
    /// Friends in it.
    pub count: u32,
    /// [`nearcast_schemas::digest::ListDigest::to_hex`].
    pub digest: String,
}

/// `location`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Location {
    /// The installation; without it the one of `hello`.
    #[serde(default)]
    pub device: Option<String>,
    /// What the phone's clock shows at sending, in ms since the epoch.
    #[serde(default)]
    pub clock: Option<i64>,
    /// Whether the client wants an acknowledgement.
    #[serde(default)]
    pub ack: Option<bool>,
    /// The report; nothing of it is checked yet.
    #[serde(flatten)]
    pub report: RawFix,
}

/// `locations`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Locations {
    /// The installation; without it the one of `hello`.
    #[serde(default)]
    pub device: Option<String>,
    /// What the phone's clock shows at sending, in ms since the epoch.
    #[serde(default)]
    pub clock: Option<i64>,
    /// Whether the client wants an acknowledgement.
    #[serde(default)]
    pub ack: Option<bool>,
    /// The late reports.
    pub fixes: Vec<RawFix>,
}

/// A message that was not understood, and what of it an answer may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub refusal: Refusal,
    /// For people: where in the frame; never what was there.
    pub detail: Option<String>,
    /// The sender's name for the message, if it has a usable one.
    pub id: Option<String>,
    /// The message's type, if it is one that exists.
    pub of: Option<Kind>,
    /// The number of the report in it, if that is an integer of 64 bits.
    pub n: Option<i64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Text<'a> {
    Text(#[serde(borrow)] Cow<'a, str>),
    Other(IgnoredAny),
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Option<Text<'a>>,
    #[serde(borrow, default)]
    id: Option<Text<'a>>,
}

/// Looks at nothing else, so that a field beside it can be as wrong as it likes.
#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Numbered {
    n: Option<i64>,
}

#[derive(Deserialize)]
struct NumberedHello {
    position: Option<Numbered>,
}

#[derive(Deserialize)]
struct Named {
    friend: String,
}

/// Reads one frame.
///
/// # Errors
/// [`Refusal::Malformed`], [`Refusal::UnknownType`], [`Refusal::IdInvalid`] or [`Refusal::TooManyFixes`], with what an
/// answer may name.
pub fn parse(frame: Frame<'_>) -> Result<Incoming, Box<Refused>> {
    let refused = |refusal, detail, id| {
        let of = kind_of(frame);
        let n = of.and_then(|kind| number(kind, frame));
        Box::new(Refused { refusal, detail, id, of, n })
    };
    let malformed = |detail, id| refused(Refusal::Malformed, Some(detail), id);
    let envelope: Envelope<'_> = frame.read().map_err(|place| malformed(place, None))?;
    if !frame.is_object() {
        let expected = match frame {
            Frame::Text(_) => "a message is a JSON object",
            Frame::Binary(_) => "a message is a map, and the keys of maps are strings",
        };
        return Err(malformed(expected.into(), None));
    }
    let id = match envelope.id {
        None => None,
        Some(Text::Text(id)) if !id.is_empty() && id.len() <= MAX_ID_BYTES => Some(id.into_owned()),
        Some(Text::Text(_) | Text::Other(_)) => {
            return Err(refused(Refusal::IdInvalid, Some("`id` must be a string of 1 to 64 bytes".into()), None));
        }
    };
    let Some(Text::Text(name)) = envelope.kind else {
        return Err(malformed("`type` must be a string".into(), id));
    };
    let Some(kind) = Kind::from_name(&name) else {
        return Err(refused(Refusal::UnknownType, None, id));
    };
    match message(kind, frame) {
        Ok(message) => Ok(Incoming { id, message }),
        Err((refusal, detail)) => Err(refused(refusal, detail, id)),
    }
}

type Problem = (Refusal, Option<String>);

fn message(kind: Kind, frame: Frame<'_>) -> Result<ClientMessage, Problem> {
    Ok(match kind {
        Kind::Hello => ClientMessage::Hello(shape(frame)?),
        Kind::Auth => {
            let Auth { token } = shape(frame)?;
            ClientMessage::Auth { token }
        }
        Kind::Location => ClientMessage::Location(shape(frame)?),
        Kind::Locations => {
            let locations: Locations = shape(frame)?;
            if locations.fixes.len() > MAX_FIXES {
                return Err((Refusal::TooManyFixes, None));
            }
            ClientMessage::Locations(locations)
        }
        Kind::Sync => ClientMessage::Sync,
        Kind::Subscribe => ClientMessage::Subscribe { friend: friend(frame)? },
        Kind::Unsubscribe => ClientMessage::Unsubscribe { friend: friend(frame)? },
    })
}

fn shape<T: DeserializeOwned>(frame: Frame<'_>) -> Result<T, Problem> {
    frame.read().map_err(|place| (Refusal::Malformed, Some(place)))
}

fn friend(frame: Frame<'_>) -> Result<String, Problem> {
    let named: Named = shape(frame)?;
    check_id(&named.friend).map_err(|_| (Refusal::IdInvalid, None))?;
    Ok(named.friend)
}

/// The type of a message that was refused, whatever else is wrong with it.
fn kind_of(frame: Frame<'_>) -> Option<Kind> {
    let typed: Typed<'_> = frame.read().ok().filter(|_| frame.is_object())?;
    Kind::from_name(&typed.kind)
}

/// The number of a report whose other fields were wrong, so that the client knows which one was refused.
fn number(kind: Kind, frame: Frame<'_>) -> Option<i64> {
    match kind {
        Kind::Location => frame.read::<Numbered>().ok()?.n,
        Kind::Hello => frame.read::<NumberedHello>().ok()?.position?.n,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::tests::transcode;
    use super::*;
    use proptest::prelude::*;

    /// Reads a text frame, and sees that the same message as a binary frame is taken alike.
    fn parse(text: &str) -> Result<Incoming, Box<Refused>> {
        let read = super::parse(Frame::Text(text));
        if let Some(bytes) = transcode(text) {
            match (&read, super::parse(Frame::Binary(&bytes))) {
                (Ok(read), Ok(again)) => assert_eq!(*read, again, "{text}"),
                (Err(read), Err(again)) => {
                    assert_eq!((read.refusal, &read.id), (again.refusal, &again.id), "{text}");
                    assert_eq!((read.of, read.n), (again.of, again.n), "{text}");
                }
                (read, again) => panic!("{text}: {read:?} as text, {again:?} as binary"),
            }
        }
        read
    }

    fn check(text: &str, expect: Result<ClientMessage, Refusal>) {
        match (parse(text), expect) {
            (Ok(got), Ok(expect)) => assert_eq!(got.message, expect, "{text}"),
            (Err(got), Err(expect)) => assert_eq!(got.refusal, expect, "{text}"),
            (got, expect) => panic!("{text}: got {got:?}, expected {expect:?}"),
        }
    }

    fn report() -> RawFix {
        RawFix {
            n: 12,
            lat: 52.5,
            lon: 13.4,
            time: 1_700_000_000_000,
            accuracy_m: None,
            speed_mps: None,
            heading_deg: None,
            altitude_m: None,
        }
    }

    #[test]
    fn reads_every_type() {
        let fields = r#""n":12,"lat":52.5,"lon":13.4,"time":1700000000000"#;
        check(
            &format!(r#"{{"type":"hello","device":"d1","clock":5,"position":{{{fields}}}}}"#),
            Ok(ClientMessage::Hello(Hello {
                device: "d1".into(),
                clock: Some(5),
                watch: None,
                position: Some(report()),
                resume: None,
            })),
        );
        check(
            r#"{"type":"hello","device":"d1","watch":true,"position":null}"#,
            Ok(ClientMessage::Hello(Hello {
                device: "d1".into(),
                clock: None,
                watch: Some(true),
                position: None,
                resume: None,
            })),
        );
        check(
            r#"{"type":"hello","device":"d1","resume":{"count":2,"digest":"00ff","since":5}}"#,
            Ok(ClientMessage::Hello(Hello {
                device: "d1".into(),
                clock: None,
                watch: None,
                position: None,
                resume: Some(Resume { count: 2, digest: "00ff".into() }),
            })),
        );
        check(
            &format!(r#"{{"type":"location",{fields},"accuracy_m":5,"ack":true}}"#),
            Ok(ClientMessage::Location(Location {
                device: None,
                clock: None,
                ack: Some(true),
                report: RawFix { accuracy_m: Some(5.0), ..report() },
            })),
        );
        check(
            &format!(r#"{{"type":"locations","device":"d2","fixes":[{{{fields}}}]}}"#),
            Ok(ClientMessage::Locations(Locations {
                device: Some("d2".into()),
                clock: None,
                ack: None,
                fixes: vec![report()],
            })),
        );
        check(r#"{"type":"sync"}"#, Ok(ClientMessage::Sync));
        check(r#"{"type":"auth","token":"a.b.c"}"#, Ok(ClientMessage::Auth { token: Token::new("a.b.c") }));
        check(r#"{"type":"subscribe","friend":"bob"}"#, Ok(ClientMessage::Subscribe { friend: "bob".into() }));
        check(r#"{"type":"unsubscribe","friend":"bob"}"#, Ok(ClientMessage::Unsubscribe { friend: "bob".into() }));
    }

    #[test]
    fn ignores_unknown_fields() {
        check(r#"{"type":"sync","colour":{"a":[1,2,{"b":null}]},"x":1e3}"#, Ok(ClientMessage::Sync));
        check(
            r#"{"type":"location","n":12,"lat":52.5,"lon":13.4,"time":1700000000000,"battery":{"level":3}}"#,
            Ok(ClientMessage::Location(Location { device: None, clock: None, ack: None, report: report() })),
        );
    }

    #[test]
    fn refuses_what_has_no_shape() {
        for text in [
            "",
            "{",
            "null",
            "[]",
            "\"hello\"",
            "{}",
            r#"{"type":7}"#,
            r#"["sync"]"#,
            r#"{"type":"location"}"#,
            r#"{"type":"location","n":"12","lat":1,"lon":1,"time":1}"#,
            r#"{"type":"location","n":1.5,"lat":1,"lon":1,"time":1}"#,
            r#"{"type":"location","n":1,"lat":1e999,"lon":1,"time":1}"#,
            r#"{"type":"location","n":1,"lat":NaN,"lon":1,"time":1}"#,
            r#"{"type":"locations","fixes":{}}"#,
            r#"{"type":"hello"}"#,
            r#"{"type":"auth"}"#,
            r#"{"type":"auth","token":5}"#,
            r#"{"type":"auth","token":null}"#,
            r#"{"type":"hello","device":"d1","resume":{"count":-1,"digest":""}}"#,
            r#"{"type":"hello","device":"d1","resume":{"count":1}}"#,
            r#"{"type":"hello","device":"d1","resume":true}"#,
            r#"{"type":"subscribe"}"#,
            r#"{"type":"subscribe","friend":5}"#,
        ] {
            check(text, Err(Refusal::Malformed));
        }
        check(r#"{"type":"dance"}"#, Err(Refusal::UnknownType));
        check(r#"{"type":"subscribe","friend":""}"#, Err(Refusal::IdInvalid));
        check(r#"{"type":"subscribe","friend":"a b"}"#, Err(Refusal::IdInvalid));
        check(r#"{"type":"sync","id":5}"#, Err(Refusal::IdInvalid));
        check(&format!(r#"{{"type":"sync","id":"{}"}}"#, "x".repeat(65)), Err(Refusal::IdInvalid));
        let fix = r#"{"n":1,"lat":1,"lon":1,"time":1}"#;
        let fixes = vec![fix; MAX_FIXES + 1].join(",");
        check(&format!(r#"{{"type":"locations","fixes":[{fixes}]}}"#), Err(Refusal::TooManyFixes));
    }

    #[test]
    fn names_the_message_it_refuses() {
        let refused = parse(r#"{"type":"location","id":"m1","n":7,"lat":"x"}"#).unwrap_err();
        assert_eq!((refused.id.as_deref(), refused.of, refused.n), (Some("m1"), Some(Kind::Location), Some(7)));
        let refused = parse(r#"{"type":"hello","device":"d","position":{"n":3}}"#).unwrap_err();
        assert_eq!(
            (refused.of, refused.n, refused.detail.as_deref()),
            (Some(Kind::Hello), Some(3), Some("`lat` is missing"))
        );
        let refused = parse(r#"{"type":"dance","id":"m2","n":7}"#).unwrap_err();
        assert_eq!((refused.id.as_deref(), refused.of, refused.n), (Some("m2"), None, None));
    }

    #[test]
    fn names_the_report_whatever_is_wrong_beside_it() {
        let check = |text: &str, of: Option<Kind>, n: Option<i64>| {
            let refused = parse(text).unwrap_err();
            assert_eq!((refused.of, refused.n), (of, n), "{text}");
        };
        let long = format!(r#""id":"{}""#, "x".repeat(65));
        let deep = format!(r#""id":{}{}"#, "[".repeat(100), "]".repeat(100));
        for beside in [
            r#""id":"""#,
            r#""id":5"#,
            r#""id":1e999"#,
            r#""id":"\ud800""#,
            r#""id":"a","id":"b""#,
            r#""device":5"#,
            r#""device":"\ud800""#,
            r#""lat":1e999"#,
            r#""ack":"yes""#,
            &long,
            &deep,
        ] {
            check(&format!(r#"{{{beside},"type":"location","n":7}}"#), Some(Kind::Location), Some(7));
            check(
                &format!(r#" {{"type":"hello","position":{{"n":7,"lat":"x"}},{beside}}}"#),
                Some(Kind::Hello),
                Some(7),
            );
            check(&format!(r#"{{"type":"locations","fixes":[{{"n":7}}],{beside}}}"#), Some(Kind::Locations), None);
        }
        for n in ["7.5", "\"7\"", "null", "9223372036854775808", "1e999", "7,\"n\":8"] {
            check(&format!(r#"{{"type":"location","id":5,"n":{n}}}"#), Some(Kind::Location), None);
        }
        check(r#"{"type":"location","id":5}"#, Some(Kind::Location), None);
        check(r#"{"type":"unsubscribe","id":5}"#, Some(Kind::Unsubscribe), None);
        // Which of the two it is, nobody knows; and what is no object has no fields.
        check(r#"{"type":"location","type":"hello","n":7}"#, None, None);
        check(r#"{"type":["location"],"n":7}"#, None, None);
        check(r#"["location"]"#, None, None);
        check(r#"{"type":"location","n":7"#, None, None);
    }

    #[test]
    fn a_token_is_not_shown() {
        let incoming = parse(r#"{"type":"auth","token":"s3cret"}"#).unwrap();
        assert!(!format!("{incoming:?} {incoming:#?}").contains("s3cret"));
        let text = r#"{"type":"auth","token":"s3cret","token":"s3cret","id":["s3cret"]}"#;
        assert!(!format!("{:?}", parse(text).unwrap_err()).contains("s3cret"));
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,200}") {
            let _ = parse(&text);
        }

        #[test]
        fn a_refusal_does_not_repeat_the_frame(secret in "[a-z]{12,20}", field in "(type|n|lat|lon|time|device|ack|friend|fixes|token)") {
            for kind in ["location", "hello", "locations", "subscribe", "auth", "dance"] {
                let text = format!(r#"{{"{field}":"{secret}","type":"{kind}","{secret}":1,"n":"{secret}"}}"#);
                if let Err(refused) = parse(&text) {
                    prop_assert!(!refused.detail.unwrap_or_default().contains(&secret));
                }
            }
        }
    }
}
