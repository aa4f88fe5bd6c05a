//! A worker, driven by hand.

use nearcast_runtime::kafka::{Kafka, Producer, ProducerProfile};
use nearcast_schemas::codec::Codec;
use nearcast_schemas::delivery::{
    Applied, DeliveryBatch, Digest, FriendPosition, Item, PartitionEpoch, Removal, RemovalReason, Reset, ResetEntry,
    Stranger, Strangers, Superseded, Upsert, UpsertViewer,
};
use nearcast_schemas::digest::ViewDigest;
use nearcast_schemas::notice::Notice;
use rdkafka::producer::FutureRecord;
use std::time::Duration;

/// A session as the log knows it.
#[derive(Clone, Debug)]
pub struct Seat {
    pub handle: i32,
    pub incarnation: i64,
    /// Offset of its hello.
    pub session: i64,
}

pub struct Worker {
    producer: Producer,
    topic: String,
    codec: Codec,
    pub name: String,
    pub epoch: i64,
    pub seq: i64,
    /// The partitions that it speaks for.
    pub partitions: Vec<i32>,
    pub gateway_incarnation: i64,
}

impl Worker {
    /// Owns all visibility partitions by epoch 10.
    pub fn new(kafka: &Kafka, topic: &str, partitions: i32, gateway_incarnation: i64) -> Self {
        let profile = ProducerProfile { linger: Duration::ZERO, ..ProducerProfile::default() };
        Self {
            producer: kafka.producer(&profile).unwrap(),
            topic: topic.into(),
            codec: Codec::default(),
            name: "w1".into(),
            epoch: 10,
            seq: 0,
            partitions: (0..partitions).collect(),
            gateway_incarnation,
        }
    }

    /// Another worker, which takes everything over.
    pub fn successor(&self, name: &str) -> Self {
        Self {
            producer: self.producer.clone(),
            topic: self.topic.clone(),
            codec: self.codec.clone(),
            name: name.into(),
            epoch: self.epoch + 10,
            seq: 0,
            partitions: self.partitions.clone(),
            gateway_incarnation: self.gateway_incarnation,
        }
    }

    pub async fn batch(&mut self, items: Vec<Item>) {
        self.seq += 1;
        let epochs = self.partitions.iter().map(|&partition| PartitionEpoch { partition, epoch: self.epoch }).collect();
        let batch = DeliveryBatch {
            worker: self.name.clone(),
            worker_incarnation: 1,
            seq: self.seq,
            sent_at: 0,
            gateway_incarnation: self.gateway_incarnation,
            epochs,
            items,
        };
        let mut bytes = Vec::new();
        self.codec.encode_batch(&batch, &mut bytes);
        self.write(&bytes).await;
    }

    pub async fn notice(&self, notice: Notice) {
        let mut bytes = Vec::new();
        self.codec.encode_notice(&notice, &mut bytes);
        self.write(&bytes).await;
    }

    pub async fn write(&self, bytes: &[u8]) {
        let record: FutureRecord<'_, (), [u8]> = FutureRecord::to(&self.topic).payload(bytes);
        self.producer.send_result(record).map_err(|(error, _)| error).unwrap().await.unwrap().unwrap();
    }
}

pub fn position(at: i64) -> FriendPosition {
    FriendPosition {
        lat: 52.5,
        lon: 13.25,
        at,
        coarse: false,
        accuracy_m: Some(4.5),
        speed_mps: None,
        heading_deg: None,
    }
}

pub fn entry(friend: &str) -> ResetEntry {
    ResetEntry {
        friend: friend.into(),
        display_name: friend.to_uppercase(),
        position: position(1),
        distance_dm: 12_345,
    }
}

pub fn upsert(friend: &str, seats: &[&Seat]) -> Item {
    upsert_at(friend, 2, seats)
}

pub fn upsert_at(friend: &str, at: i64, seats: &[&Seat]) -> Item {
    let viewers = seats.iter().map(|seat| UpsertViewer { handle: seat.handle, distance_dm: 12_345 }).collect();
    Item::Upsert(Upsert { friend: friend.into(), display_name: friend.to_uppercase(), position: position(at), viewers })
}

pub fn removal(friend: &str, seats: &[&Seat]) -> Item {
    let viewers = seats.iter().map(|seat| seat.handle).collect();
    Item::Removal(Removal { friend: friend.into(), reason: RemovalReason::OutOfRange, viewers })
}

pub fn reset(seat: &Seat, list_version: i64, friends: &[&str]) -> Item {
    reset_part(seat, list_version, 1, 1, friends)
}

pub fn reset_part(seat: &Seat, list_version: i64, part: i32, parts: i32, friends: &[&str]) -> Item {
    let entries = friends.iter().map(|friend| entry(friend)).collect();
    Item::Reset(Reset { handle: seat.handle, list_version, part, parts, entries })
}

pub fn applied(seat: &Seat, list_version: i64) -> Item {
    Item::Applied(Applied { handle: seat.handle, list_version })
}

pub fn digest(seat: &Seat, friends: &[&str]) -> (Item, String) {
    let mut sum = ViewDigest::default();
    friends.iter().for_each(|friend| sum.add(friend));
    let count = friends.len() as i32;
    (Item::Digest(Digest { handle: seat.handle, count, digest: sum.to_i64() }), sum.to_hex())
}

/// All strangers near, each two kilometres and some away.
pub fn strangers(seat: &Seat, aliases: &[i64]) -> Item {
    let stranger = |&alias: &i64| Stranger { alias, lat: 52.5, lon: 13.25, at: 3, distance_dm: 24_310 };
    Item::Strangers(Strangers { viewer: seat.handle, entries: aliases.iter().map(stranger).collect() })
}

pub fn superseded(seat: &Seat) -> Item {
    Item::Superseded(Superseded { handle: seat.handle })
}
