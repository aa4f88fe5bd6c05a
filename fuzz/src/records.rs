//! Every decoder of `schemas/`: records of all topics by this build's schemas and by others, and what the services say to
//! each other.

use std::fmt::Debug;
use std::sync::LazyLock;

use nearcast_gateway::frames::{Entry, Gone, Nearby, ResetPart, ServerMessage, StrangersMessage};
use nearcast_schemas::codec::{Codec, DecodeError, GatewayRecord, ItemWriter, avsc};
use nearcast_schemas::delivery::{DeliveryBatch, Item};
use nearcast_schemas::event::LocationEvent;
use nearcast_schemas::internal::{FriendAnswer, FriendRequest, HelloAnswer, HelloRequest, Problem};
use nearcast_schemas::list::VisibilityList;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{answers, memory};

/// This build's schemas are registered once more under their ids and this, so that their data goes through resolution.
const AGAIN: u32 = 10;

/// Schemas of older and newer builds, by the ids that a record may give.
const OTHERS: [(u32, &str); 7] = [
    (21, include_str!("../../schemas/avro/compat/location_event.older.avsc")),
    (22, include_str!("../../schemas/avro/compat/location_event.newer.avsc")),
    (23, include_str!("../../schemas/avro/compat/visibility_list.newer.avsc")),
    (24, include_str!("../../schemas/avro/compat/delivery_batch.older.avsc")),
    (25, include_str!("../../schemas/avro/compat/delivery_batch.newer.avsc")),
    (26, include_str!("../../schemas/avro/compat/notice.older.avsc")),
    (27, include_str!("../../schemas/avro/compat/notice.newer.avsc")),
];

static CODEC: LazyLock<Codec> = LazyLock::new(|| {
    let again = [avsc::LOCATION_EVENT, avsc::VISIBILITY_LIST, avsc::DELIVERY_BATCH, avsc::NOTICE];
    let again = (1..).map(|id| id + AGAIN).zip(again);
    again.chain(OTHERS).fold(Codec::default(), |codec, (id, avsc)| {
        codec.with_writer(id, avsc).expect("the schema resolves into this build's")
    })
});

/// A record with its header, read as one of each topic; or JSON, which never begins as a record does.
pub fn records(data: &[u8]) {
    if data.first() != Some(&0) {
        internal::<HelloRequest>(data);
        internal::<HelloAnswer>(data);
        internal::<FriendRequest>(data);
        internal::<FriendAnswer>(data);
        internal::<Problem>(data);
    }
    let location = decode(data, |record| CODEC.decode_location(record).map(|event| event.to_owned()));
    check(data, location, |event, out| CODEC.encode_location(event, out));
    let list = decode(data, |record| {
        let list = CODEC.decode_list(record)?;
        assert_eq!(list.entries().len(), list.entries().count(), "it knows how many entries it has");
        Ok(list.to_owned())
    });
    check(data, list, |list, out| CODEC.encode_list(list, out));
    let record = decode(data, |record| CODEC.decode_gateway_record(record));
    if let Ok(GatewayRecord::Batch(batch)) = &record {
        gathered(batch);
        batch.items.iter().for_each(told);
    }
    check(data, record, |record, out| match record {
        GatewayRecord::Batch(batch) => CODEC.encode_batch(batch, out),
        GatewayRecord::Notice(notice) => CODEC.encode_notice(notice, out),
    });
}

type Decoded<T> = Result<T, DecodeError>;

/// Decodes with as little memory as the record is short. Avro's own reader takes what a length says before it looks
/// whether the bytes are there, up to a limit that is this codec's.
fn decode<T>(record: &[u8], decode: impl Fn(&[u8]) -> Decoded<T>) -> Decoded<T> {
    LazyLock::force(&CODEC);
    let limit = match record {
        [0, 0, 0, 0, ..=4, ..] => 4_096 + 256 * record.len(),
        _ => (256 << 20) + 4_096 * record.len(),
    };
    memory::within(limit, || decode(record))
}

/// What decodes is encoded to something that decodes to the same, and apache-avro reads the same from the same bytes.
/// Values are compared by their bytes, because NaN equals nothing.
fn check<T: Again>(record: &[u8], decoded: Decoded<T>, encode: impl Fn(&T, &mut Vec<u8>)) {
    let Ok(value) = decoded else { return };
    let encoded = |value: &T| {
        let mut out = Vec::new();
        encode(value, &mut out);
        out
    };
    let bytes = encoded(&value);
    let read = T::read(&bytes).expect("what was encoded can be decoded");
    assert_eq!(encoded(&read), bytes);
    if let [0, 0, 0, 0, id @ ..=4, datum @ ..] = record {
        let again = [&[0, 0, 0, 0, id + AGAIN as u8], datum].concat();
        let again = T::read(&again).expect("apache-avro reads what we read");
        assert_eq!(encoded(&again), bytes, "and sees the same in it");
    }
}

trait Again: Sized + Debug {
    fn read(record: &[u8]) -> Decoded<Self>;
}

impl Again for LocationEvent {
    fn read(record: &[u8]) -> Decoded<Self> {
        CODEC.decode_location(record).map(|event| event.to_owned())
    }
}

impl Again for VisibilityList {
    fn read(record: &[u8]) -> Decoded<Self> {
        CODEC.decode_list(record).map(|list| list.to_owned())
    }
}

impl Again for GatewayRecord {
    fn read(record: &[u8]) -> Decoded<Self> {
        CODEC.decode_gateway_record(record)
    }
}

/// Items that a worker encodes as it decides them come to the same bytes.
fn gathered(batch: &DeliveryBatch) {
    let mut writer = ItemWriter::default();
    for item in &batch.items {
        match item {
            Item::Upsert(upsert) => {
                writer.upsert(upsert.friend.as_bytes(), upsert.display_name.as_bytes(), &upsert.position);
                upsert.viewers.iter().for_each(|viewer| writer.shown_to(*viewer));
            }
            Item::Removal(removal) => {
                writer.removal(removal.friend.as_bytes(), removal.reason);
                removal.viewers.iter().for_each(|handle| writer.removed_from(*handle));
            }
            item => writer.push(item),
        }
    }
    let DeliveryBatch { worker, worker_incarnation, seq, sent_at, gateway_incarnation, epochs, .. } = batch.clone();
    let items = writer.take();
    assert_eq!(items.len(), batch.items.len());
    let gathered = DeliveryBatch { worker, worker_incarnation, seq, sent_at, gateway_incarnation, epochs, items };
    let (mut one, mut other) = (Vec::new(), Vec::new());
    CODEC.encode_gathered(&gathered, &mut one);
    CODEC.encode_batch(batch, &mut other);
    assert_eq!(one, other);
}

/// What a client is told of an item.
fn told(item: &Item) {
    match item {
        Item::Removal(removal) => {
            let gone = Gone { friend: removal.friend.as_str().into(), reason: removal.reason.into(), appended_at: 0 };
            answers::check(&ServerMessage::Nearby(Nearby { removals: vec![gone], ..Nearby::default() }));
        }
        Item::Reset(reset) => {
            let upserts = reset.entries.iter().map(|entry| Entry::of_reset(entry.clone(), 0)).collect();
            let reset = ResetPart { part: reset.part, parts: reset.parts, provisional: false, known: true };
            answers::check(&ServerMessage::Nearby(Nearby { reset: Some(reset), upserts, removals: Vec::new() }));
        }
        Item::Strangers(strangers) => {
            let strangers = strangers.entries.clone();
            answers::check(&ServerMessage::Strangers(StrangersMessage { strangers }));
        }
        _ => {}
    }
}

/// What one service says to another is the same when it is said again.
fn internal<T: Serialize + DeserializeOwned>(data: &[u8]) {
    let Ok(value) = serde_json::from_slice::<T>(data) else { return };
    let text = serde_json::to_string(&value).expect("a message is JSON");
    let read: T = serde_json::from_str(&text).expect("what was written can be read");
    assert_eq!(serde_json::to_string(&read).expect("a message is JSON"), text);
}
