//! What is around the gateway: an API that knows everybody, Kafka, and a worker driven by the case.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::routing::post;
use axum::{Json, Router};
use nearcast_runtime::Secret;
use nearcast_runtime::auth::{AuthConfig, Signer};
use nearcast_runtime::embedded::Embedded;
use nearcast_runtime::kafka::{Kafka, KafkaConfig, Producer, ProducerProfile};
use nearcast_schemas::codec::Codec;
use nearcast_schemas::delivery::{
    DeliveryBatch, FriendPosition, Item, PartitionEpoch, Reset, ResetEntry, Upsert, UpsertViewer,
};
use nearcast_schemas::deployment::Deployment;
use nearcast_schemas::event::{LocationKind, Mode};
use nearcast_schemas::internal::HelloAnswer;
use nearcast_schemas::topics::Topics;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rdkafka::consumer::Consumer;
use rdkafka::producer::FutureRecord;
use rdkafka::{Message, Offset, TopicPartitionList};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep_until};

pub const KEY: &str = "internal-key";
pub const GATEWAY: &str = "g1";
const PREFIX: &str = "bench";
const LOCATION_PARTITIONS: i32 = 4;
const VISIBILITY_PARTITIONS: i32 = 8;
/// Sessions that one record of the worker speaks of.
const VIEWERS_A_RECORD: usize = 1_000;
/// Who moves when all others have.
pub const LAST: &str = "the-last";
/// Friends in everybody's view.
pub const NEAR: usize = 4;

pub fn user(number: usize) -> String {
    format!("user-{number:06}")
}

pub fn auth() -> AuthConfig {
    AuthConfig {
        hs256_secret: Some(Secret::new("0123456789abcdef0123456789abcdef")),
        audience: "nearcast".into(),
        ..AuthConfig::default()
    }
}

pub fn token(user: &str) -> String {
    Signer::new(&auth()).unwrap().sign(user, Duration::from_secs(3_600), &[]).unwrap()
}

/// As `nearcast config default` has it.
pub fn deployment() -> Deployment {
    Deployment {
        prefix: PREFIX.into(),
        friend_ttl_s: 600,
        default_radius_m: 8_000,
        max_radius_m: 50_000,
        max_silence_s: 180,
        min_move_m: 10.0,
        report_interval_s: 30,
        coarse_resolution: 7,
        coarse_period_s: 300,
    }
}

/// The surroundings of one gateway.
pub struct Stage {
    pub api: String,
    cluster: Embedded,
    kafka: Kafka,
    producer: Producer,
    topics: Topics,
    codec: Codec,
    seq: i64,
    incarnation: i64,
    /// Handles of the sessions, by user.
    pub seats: BTreeMap<String, i32>,
}

impl Stage {
    pub async fn set_up() -> Self {
        let topics = Topics::new(PREFIX);
        let cluster = Embedded::start(&[
            (topics.locations(), LOCATION_PARTITIONS),
            (topics.visibility(), VISIBILITY_PARTITIONS),
            (topics.gateway(GATEWAY), 1),
        ])
        .unwrap();
        let kafka = Kafka::new(cluster.config());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().route("/internal/v1/hello", post(|| async { Json(answer()) }));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let profile = ProducerProfile { linger: Duration::ZERO, ..ProducerProfile::default() };
        let producer = kafka.producer(&profile).unwrap();
        let codec = Codec::default();
        Self { api, cluster, kafka, producer, topics, codec, seq: 0, incarnation: 0, seats: BTreeMap::new() }
    }

    pub fn kafka(&self) -> KafkaConfig {
        self.cluster.config()
    }

    /// Reads the hellos of so many users.
    pub fn read_hellos(&mut self, count: usize) {
        let reader = self.kafka.reader().unwrap();
        let mut list = TopicPartitionList::new();
        for partition in 0..LOCATION_PARTITIONS {
            list.add_partition_offset(&self.topics.locations(), partition, Offset::Offset(0)).unwrap();
        }
        reader.assign(&list).unwrap();
        while self.seats.len() < count {
            let Some(record) = reader.poll(Duration::from_secs(60)) else { panic!("{} hellos", self.seats.len()) };
            let record = record.unwrap();
            let event = self.codec.decode_location(record.payload().unwrap()).unwrap().to_owned();
            if event.kind == LocationKind::Hello {
                let route = event.route.unwrap();
                self.incarnation = route.incarnation;
                self.seats.insert(String::from_utf8(record.key().unwrap().to_vec()).unwrap(), route.handle);
            }
        }
    }

    /// Everybody gets a view of four friends.
    pub async fn reset_all(&mut self) {
        let handles: Vec<i32> = self.seats.values().copied().collect();
        for some in handles.chunks(VIEWERS_A_RECORD) {
            let entries = || (0..NEAR).map(entry).collect();
            let reset = |&handle| Item::Reset(Reset { handle, list_version: 1, part: 1, parts: 1, entries: entries() });
            self.batch(some.iter().map(reset).collect()).await;
        }
    }

    /// In one batch, so many friends move before the eyes of the first `viewers` users.
    pub async fn move_friends(&mut self, viewers: usize, friends: usize) {
        let handles: Vec<i32> = self.seats.values().copied().take(viewers).collect();
        for some in handles.chunks(VIEWERS_A_RECORD) {
            let seen = some.iter().map(|&handle| UpsertViewer { handle, distance_dm: 12_345 });
            let upsert = |number| {
                let ResetEntry { friend, display_name, position, .. } = entry(number);
                Item::Upsert(Upsert { friend, display_name, position, viewers: seen.clone().collect() })
            };
            self.batch((0..friends).map(upsert).collect()).await;
        }
    }

    /// The users are in groups of `near + 1` friends who see each other; for `seconds` each reports at random, once in
    /// `every`, and what came within a `tick` is a batch.
    pub async fn move_at_random(&mut self, near: usize, seconds: u64, every: Duration, tick: Duration) {
        let handles: Vec<i32> = self.seats.values().copied().collect();
        let chance = tick.as_secs_f64() / every.as_secs_f64();
        let mut random = StdRng::seed_from_u64(7);
        let mut next = Instant::now();
        let end = next + Duration::from_secs(seconds);
        while next < end {
            let mut items = Vec::new();
            for group in handles.chunks(near + 1) {
                for mover in 0..group.len() {
                    if random.random_bool(chance) {
                        let others = group.iter().enumerate().filter(|(other, _)| *other != mover);
                        let viewers: Vec<_> =
                            others.map(|(_, &handle)| UpsertViewer { handle, distance_dm: 12_345 }).collect();
                        let ResetEntry { friend, display_name, position, .. } = entry(mover);
                        items.push(Item::Upsert(Upsert { friend, display_name, position, viewers }));
                    }
                }
            }
            if !items.is_empty() {
                self.batch(items).await;
            }
            next += tick;
            sleep_until(next).await;
        }
    }

    /// One more friend, whom nobody saw before, moves before the eyes of the first `viewers` users.
    pub async fn move_last(&mut self, viewers: usize) {
        let seen =
            self.seats.values().take(viewers).map(|&handle| UpsertViewer { handle, distance_dm: 12_345 }).collect();
        let ResetEntry { display_name, position, .. } = entry(0);
        self.batch(vec![Item::Upsert(Upsert { friend: LAST.into(), display_name, position, viewers: seen })]).await;
    }

    async fn batch(&mut self, items: Vec<Item>) {
        self.seq += 1;
        let epochs = (0..VISIBILITY_PARTITIONS).map(|partition| PartitionEpoch { partition, epoch: 10 }).collect();
        let batch = DeliveryBatch {
            worker: "bench".into(),
            worker_incarnation: 1,
            seq: self.seq,
            sent_at: nearcast_runtime::clock::now_ms(),
            gateway_incarnation: self.incarnation,
            epochs,
            items,
        };
        let mut bytes = Vec::new();
        self.codec.encode_batch(&batch, &mut bytes);
        let topic = self.topics.gateway(GATEWAY);
        let record: FutureRecord<'_, (), [u8]> = FutureRecord::to(&topic).payload(&bytes);
        self.producer.send_result(record).map_err(|(error, _)| error).unwrap().await.unwrap().unwrap();
    }
}

fn answer() -> HelloAnswer {
    HelloAnswer {
        list_version: 1,
        mode: Mode::default(),
        last_report: None,
        radius_m: 8_000,
        nearby: Vec::new(),
        nearby_known: true,
    }
}

fn entry(number: usize) -> ResetEntry {
    let at = nearcast_runtime::clock::now_ms();
    let position = FriendPosition {
        lat: 52.512_345,
        lon: 13.254_321,
        at,
        coarse: false,
        accuracy_m: Some(4.5),
        speed_mps: None,
        heading_deg: None,
    };
    ResetEntry {
        friend: format!("friend-{number:06}"),
        display_name: "A friend's name".into(),
        position,
        distance_dm: 12_345,
    }
}
