//! What gateways and the API would have written: sessions, reports and lists.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nearcast_runtime::clock;
use nearcast_runtime::kafka::ProducerProfile;
use nearcast_schemas::list::{Precision, VisibilityEntry, VisibilityList};
use nearcast_schemas::topics::partition_of;
use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};

use crate::reports::{Encoder, Report, Walk};
use crate::stage::{LOCATION_PARTITIONS, Stage, VISIBILITY_PARTITIONS};
use crate::world::{World, write_display_name, write_id};

/// Radius of every viewer, in metres.
const RADIUS_M: i32 = 8_000;
/// The one version of every list.
const LIST_VERSION: i64 = 1;
/// While the producer's queue is full.
const PAUSE: Duration = Duration::from_millis(1);

/// Counts what Kafka refused.
struct Refused(Arc<AtomicU64>);

impl ClientContext for Refused {}

impl ProducerContext for Refused {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The writer of all records of a case. One producer and its order: so it knows the offsets, of which sessions are some.
pub struct Log {
    producer: ThreadedProducer<Refused>,
    refused: Arc<AtomicU64>,
    encoder: Encoder,
    locations: String,
    visibility: String,
    /// The offset of the next record of each partition of the locations.
    next: Vec<i64>,
    /// The session of each user.
    sessions: Vec<i64>,
    /// Numbers of reports.
    n: i64,
    id: String,
    value: Vec<u8>,
    list: VisibilityList,
}

/// Records that are ready to be sent.
#[derive(Default)]
pub struct Batch {
    values: Vec<u8>,
    /// User, partition, and where the value ends.
    rows: Vec<(u32, i32, usize)>,
}

impl Log {
    /// Of so many users; `linger` is the producer's.
    pub fn new(stage: &Stage, users: u32, linger: Duration) -> Self {
        let profile = ProducerProfile {
            linger,
            batch_bytes: 900_000,
            queue_records: 200_000,
            queue_bytes: 256 << 20,
            ..ProducerProfile::default()
        };
        let refused = Arc::new(AtomicU64::new(0));
        Self {
            producer: stage.kafka.producer_with(&profile, Refused(Arc::clone(&refused))).unwrap(),
            refused,
            encoder: Encoder::new(stage.gateways),
            locations: stage.topics.locations(),
            visibility: stage.topics.visibility(),
            next: vec![0; LOCATION_PARTITIONS as usize],
            sessions: vec![0; users as usize],
            n: 0,
            id: String::new(),
            value: Vec::new(),
            list: VisibilityList::list(LIST_VERSION, clock::now_ms(), RADIUS_M, Vec::new()),
        }
    }

    /// Begins a session of a user.
    pub fn hello(&mut self, report: Report) {
        write_id(report.user, &mut self.id);
        let partition = partition_of(self.id.as_bytes(), LOCATION_PARTITIONS);
        let report = Report { append_ms: clock::now_ms(), ..report };
        self.value.clear();
        self.n += 1;
        self.encoder.hello(report, self.n, LIST_VERSION, &mut self.value);
        self.sessions[report.user as usize] = self.next[partition as usize];
        self.next[partition as usize] += 1;
        send(&self.producer, &self.locations, partition, &self.id, &self.value);
    }

    /// A report of a user's session.
    pub fn fix(&mut self, report: Report) {
        let mut batch = Batch::default();
        self.prepare(report, &mut batch);
        self.send(&batch, None);
    }

    /// Encodes a report to be sent later.
    pub fn prepare(&mut self, report: Report, batch: &mut Batch) {
        write_id(report.user, &mut self.id);
        let partition = partition_of(self.id.as_bytes(), LOCATION_PARTITIONS);
        let report = Report { append_ms: clock::now_ms(), ..report };
        self.n += 1;
        self.encoder.fix(report, self.n, self.sessions[report.user as usize], &mut batch.values);
        batch.rows.push((report.user, partition, batch.values.len()));
    }

    /// Sends what was prepared, as far as it goes until then; returns how many.
    pub fn send(&mut self, batch: &Batch, until: Option<Instant>) -> u64 {
        let mut from = 0;
        for (sent, &(user, partition, to)) in batch.rows.iter().enumerate() {
            if sent % 1_024 == 0 && until.is_some_and(|until| Instant::now() >= until) {
                return sent as u64;
            }
            write_id(user, &mut self.id);
            self.next[partition as usize] += 1;
            send(&self.producer, &self.locations, partition, &self.id, &batch.values[from..to]);
            from = to;
        }
        batch.rows.len() as u64
    }

    /// The list of a user, with these friends.
    pub fn list(&mut self, user: u32, friends: &[u32]) {
        self.list.entries.truncate(friends.len());
        for (at, &friend) in friends.iter().enumerate() {
            if at == self.list.entries.len() {
                self.list.entries.push(entry());
            }
            write_id(friend, &mut self.list.entries[at].friend);
            write_display_name(friend, &mut self.list.entries[at].display_name);
        }
        write_id(user, &mut self.id);
        self.value.clear();
        self.encoder.codec().encode_list(&self.list, &mut self.value);
        let partition = partition_of(self.id.as_bytes(), VISIBILITY_PARTITIONS);
        send(&self.producer, &self.visibility, partition, &self.id, &self.value);
    }

    /// Everybody's list and hello.
    pub fn begin(&mut self, world: &World, walk: &Walk<'_>) {
        let mut friends = Vec::new();
        for (user, &(lat, lon)) in (0..).zip(walk.places()) {
            world.friends(user, &mut friends);
            self.list(user, &friends);
            self.hello(Report { user, lat, lon, append_ms: 0 });
        }
    }

    /// Waits until Kafka has everything.
    pub fn flush(&self) {
        self.producer.flush(Duration::from_secs(60)).expect("Kafka takes what is written");
        assert_eq!(self.refused.load(Ordering::Relaxed), 0, "Kafka refused records");
    }

    /// Records of the locations so far.
    pub fn written(&self) -> u64 {
        self.next.iter().sum::<i64>().unsigned_abs()
    }
}

fn entry() -> VisibilityEntry {
    VisibilityEntry {
        friend: String::new(),
        display_name: String::new(),
        precision: Precision::Exact,
        radius_m: 0,
        expires_at: 0,
    }
}

fn send(producer: &ThreadedProducer<Refused>, topic: &str, partition: i32, key: &str, value: &[u8]) {
    let mut record = BaseRecord::to(topic).partition(partition).key(key).payload(value);
    while let Err((error, back)) = producer.send(record) {
        match error {
            KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) => record = back,
            error => panic!("{topic}: {error}"),
        }
        std::thread::sleep(PAUSE);
    }
}
