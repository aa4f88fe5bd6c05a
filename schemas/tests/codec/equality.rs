//! The hand-written codec and apache-avro agree, in both directions, on everything.

use std::borrow::Cow;

use apache_avro::from_value;
use nearcast_schemas::codec::{Codec, LocationEventRef, VisibilityListRef};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::reference::{Record, avro_read, avro_value, avro_write, encoded, framed, schema};
use crate::{blocks, strategies};

fn agree<R: Record>(value: &R, cuts: &[(usize, bool)]) -> Result<(), TestCaseError> {
    let schema = schema(R::AVSC);
    let codec = Codec::default();
    let theirs = avro_value(value, &schema);
    prop_assert_eq!(&from_value::<R>(&theirs).unwrap(), value);

    let datum = avro_write(&schema, theirs.clone());
    let ours = encoded(value);
    prop_assert_eq!(&ours, &framed(R::ID, &datum), "our bytes are theirs");
    prop_assert_eq!(&R::decode(&codec, &ours).unwrap(), value);
    prop_assert_eq!(&avro_read::<R>(&schema, &datum).unwrap(), value);

    let cut = blocks::encode(&schema, &theirs, cuts);
    prop_assert_eq!(&avro_read::<R>(&schema, &cut).unwrap(), value, "blocks, read by apache-avro");
    prop_assert_eq!(&R::decode(&codec, &framed(R::ID, &cut)).unwrap(), value, "blocks, read by us");

    let codec = codec.with_writer(77, R::AVSC).unwrap();
    prop_assert_eq!(&R::decode(&codec, &framed(77, &cut)).unwrap(), value, "read by resolution");
    Ok(())
}

fn cuts() -> impl Strategy<Value = Vec<(usize, bool)>> {
    vec((1..4usize, any::<bool>()), 1..6)
}

proptest! {
    #[test]
    fn on_location_events(value in strategies::location(), cuts in cuts()) {
        agree(&value, &cuts)?;
    }

    #[test]
    fn on_visibility_lists(value in strategies::list(), cuts in cuts()) {
        agree(&value, &cuts)?;
    }

    #[test]
    fn on_delivery_batches(value in strategies::batch(), cuts in cuts()) {
        agree(&value, &cuts)?;
    }

    #[test]
    fn on_notices(value in strategies::notice(), cuts in cuts()) {
        agree(&value, &cuts)?;
    }

    #[test]
    fn what_is_borrowed_is_what_was_lent(event in strategies::location(), list in strategies::list()) {
        prop_assert_eq!(LocationEventRef::from(&event).to_owned(), event.clone());
        prop_assert_eq!(LocationEventRef::from(event.clone()), LocationEventRef::from(&event));
        prop_assert_eq!(VisibilityListRef::from(&list).to_owned(), list.clone());
        prop_assert_eq!(VisibilityListRef::from(list.clone()).to_owned(), list);
    }

    #[test]
    fn strings_are_borrowed_from_the_record(event in strategies::location(), list in strategies::list()) {
        let codec = Codec::default();
        let record = encoded(&event);
        let event = codec.decode_location(&record).unwrap();
        prop_assert!(event.route.is_none_or(|route| matches!(route.gateway, Cow::Borrowed(_))));
        prop_assert!(event.fix.is_none_or(|fix| matches!(fix.device, Cow::Borrowed(_))));
        let record = encoded(&list);
        let list = codec.decode_list(&record).unwrap();
        for entry in list.entries() {
            prop_assert!(record.as_ptr_range().contains(&entry.friend.as_ptr()) || entry.friend.is_empty());
        }
    }
}
