//! Bytes that are no record: refused, never a panic, and never read as something that apache-avro does not see.

use nearcast_schemas::codec::{Codec, DecodeError, Fault};
use nearcast_schemas::delivery::DeliveryBatch;
use nearcast_schemas::event::LocationEvent;
use nearcast_schemas::list::VisibilityList;
use nearcast_schemas::notice::Notice;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::reference::{Record, avro_read, encoded, framed, schema};
use crate::strategies;

/// The id under which this build's own schema is registered once more, so that its data goes through resolution.
const RESOLVED: u32 = 77;

fn codec<R: Record>() -> Codec {
    Codec::default().with_writer(RESOLVED, R::AVSC).unwrap()
}

/// A change of one byte: where, and to what.
type Change = (Index, u8);

fn changes() -> impl Strategy<Value = Vec<Change>> {
    vec((any::<Index>(), any::<u8>()), 1..4)
}

/// Whatever decodes is what apache-avro reads from the same bytes, and is encoded and decoded again as it is.
fn check_datum<R: Record>(datum: &[u8]) -> Result<(), TestCaseError> {
    let codec = codec::<R>();
    if let Ok(value) = R::decode(&codec, &framed(R::ID, datum)) {
        let theirs = avro_read::<R>(&schema(R::AVSC), datum);
        prop_assert!(theirs.is_some(), "apache-avro refuses what we read");
        // By their bytes, because NaN equals nothing.
        prop_assert_eq!(theirs.map(|theirs| encoded(&theirs)), Some(encoded(&value)));
        let resolved = R::decode(&codec, &framed(RESOLVED, datum)).map(|value| encoded(&value));
        prop_assert_eq!(resolved, Ok(encoded(&value)));
    } else {
        // Neither may panic; whether it is refused is apache-avro's affair.
        let _ = R::decode(&codec, &framed(RESOLVED, datum));
    }
    Ok(())
}

fn check_changed<R: Record>(value: &R, changes: &[Change]) -> Result<(), TestCaseError> {
    let mut datum = encoded(value).split_off(5);
    for (at, byte) in changes {
        let at = at.index(datum.len());
        datum[at] = *byte;
    }
    check_datum::<R>(&datum)
}

/// A record cut anywhere is refused, in both ways, and so is one with a byte too many.
fn check_cut<R: Record>(value: &R, at: &Index) -> Result<(), TestCaseError> {
    let codec = codec::<R>();
    let mut record = encoded(value);
    let at = at.index(record.len());
    prop_assert!(R::decode(&codec, &record[..at]).is_err(), "cut at {}", at);
    record.push(0);
    let trailing = DecodeError::Malformed { fault: Fault::Trailing, at: record.len() - 1 };
    prop_assert_eq!(R::decode(&codec, &record), Err(trailing));

    record[1..5].copy_from_slice(&RESOLVED.to_be_bytes());
    prop_assert_eq!(R::decode(&codec, &record), Err(DecodeError::Unresolved(RESOLVED)));
    if at >= 5 {
        prop_assert_eq!(R::decode(&codec, &record[..at]), Err(DecodeError::Unresolved(RESOLVED)));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn random_bytes(datum in vec(any::<u8>(), 0..300)) {
        check_datum::<LocationEvent>(&datum)?;
        check_datum::<VisibilityList>(&datum)?;
        check_datum::<DeliveryBatch>(&datum)?;
        check_datum::<Notice>(&datum)?;
        prop_assert!(Codec::default().decode_location(&datum).is_err() || datum[..5] == [0, 0, 0, 0, 1]);
    }

    #[test]
    fn bytes_that_look_like_numbers(datum in vec(prop_oneof![0..6u8, Just(0x80), Just(0xff)], 0..120)) {
        check_datum::<LocationEvent>(&datum)?;
        check_datum::<VisibilityList>(&datum)?;
        check_datum::<DeliveryBatch>(&datum)?;
        check_datum::<Notice>(&datum)?;
    }

    #[test]
    fn changed_location_events(value in strategies::location(), changes in changes(), at in any::<Index>()) {
        check_changed(&value, &changes)?;
        check_cut(&value, &at)?;
    }

    #[test]
    fn changed_visibility_lists(value in strategies::list(), changes in changes(), at in any::<Index>()) {
        check_changed(&value, &changes)?;
        check_cut(&value, &at)?;
    }

    #[test]
    fn changed_delivery_batches(value in strategies::batch(), changes in changes(), at in any::<Index>()) {
        check_changed(&value, &changes)?;
        check_cut(&value, &at)?;
    }

    #[test]
    fn changed_notices(value in strategies::notice(), changes in changes(), at in any::<Index>()) {
        check_changed(&value, &changes)?;
        check_cut(&value, &at)?;
    }
}

#[test]
fn records_without_a_known_schema_say_so() {
    let codec = Codec::default();
    let check = |record: &[u8], expect| {
        assert_eq!(codec.decode_location(record).map(|event| event.to_owned()), Err(expect));
    };
    check(&[], DecodeError::NotFramed);
    check(&[0, 0, 0, 1], DecodeError::NotFramed);
    check(&[1, 0, 0, 0, 1], DecodeError::NotFramed);
    check(b"{\"kind\":\"fix\"}", DecodeError::NotFramed);
    check(&[0, 0, 0, 1, 0], DecodeError::UnknownSchema(256));
    check(&[0, 0xff, 0xff, 0xff, 0xff], DecodeError::UnknownSchema(u32::MAX));
    check(&[0, 0, 0, 0, 4], DecodeError::OtherRecord(4));
    check(&[0, 0, 0, 0, 1], DecodeError::Malformed { fault: Fault::Truncated, at: 5 });
    assert_eq!(codec.decode_gateway_record(&[0, 0, 0, 0, 1, 2]), Err(DecodeError::OtherRecord(1)));
    assert_eq!(codec.decode_list(&[0, 0, 0, 0, 3, 2]).err(), Some(DecodeError::OtherRecord(3)));
    let resolved = Codec::default().with_writer(9, LocationEvent::AVSC).unwrap();
    assert_eq!(resolved.decode_gateway_record(&[0, 0, 0, 0, 9, 2]), Err(DecodeError::OtherRecord(9)));
}

#[test]
fn a_count_that_lies_takes_no_memory() {
    let mut list = encoded(&VisibilityList::list(1, 0, 0, Vec::new()));
    // The array's end, before an empty worker and its incarnation, becomes a count of 2^40.
    let end = list.len() - 3;
    list.splice(end..end, [0x80, 0x80, 0x80, 0x80, 0x80, 0x40]);
    let refused = Codec::default().decode_list(&list).err();
    assert_eq!(refused, Some(DecodeError::Malformed { fault: Fault::Count, at: end + 6 }));
}
