//! The sink between a log and a history: embedded and in memory, and on real Kafka and Cassandra.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use nearcast_history_sink::cql::{CqlHistory, MIGRATIONS};
use nearcast_history_sink::history::{History, HistoryError, HistoryKey, HistoryRow};
use nearcast_history_sink::memory::MemoryHistory;
use nearcast_history_sink::{Config, Parts, run};
use nearcast_runtime::clock::now_ms;
use nearcast_runtime::cql::{self, CqlConfig};
use nearcast_runtime::embedded::Embedded;
use nearcast_runtime::kafka::{Kafka, KafkaConfig, Producer, ProducerProfile};
use nearcast_runtime::lifecycle::Shutdown;
use nearcast_runtime::telemetry::Metrics;
use nearcast_schemas::codec::{Codec, SchemaIds};
use nearcast_schemas::event::{Fix, LocationEvent, LocationKind, Mode, NO_SESSION};
use nearcast_schemas::topics::{Topics, partition_of};
use rdkafka::consumer::Consumer;
use rdkafka::message::{Headers, Message};
use rdkafka::producer::FutureRecord;
use rdkafka::{Offset, TopicPartitionList};

const PARTITIONS: i32 = 3;

fn config() -> Config {
    Config {
        admin_listen: "127.0.0.1:0".parse().unwrap(),
        batch_records: 100,
        batch_wait: Duration::from_millis(20),
        batches_in_flight: 4,
        keep_days: 30,
        drain: Duration::from_secs(10),
    }
}

fn test_prefix() -> String {
    use std::hash::{BuildHasher, RandomState};
    format!("t{:016x}", RandomState::new().hash_one(now_ms()))
}

struct Log {
    kafka: Kafka,
    topics: Topics,
    codec: Arc<Codec>,
    producer: Producer,
    /// Keeps the embedded cluster alive.
    _cluster: Option<Embedded>,
}

impl Log {
    fn embedded() -> Self {
        let topics = Topics::new("t");
        let cluster = Embedded::start(&[(topics.locations(), PARTITIONS), (topics.dead_letters(), 1)]).unwrap();
        Self::of(Kafka::new(cluster.config()), topics, Some(cluster))
    }

    async fn real() -> Self {
        let bootstrap = std::env::var("NEARCAST_TEST_KAFKA").unwrap_or_else(|_| "127.0.0.1:29092".to_owned());
        let kafka = Kafka::new(KafkaConfig {
            bootstrap,
            embedded: false,
            startup_wait: Duration::from_secs(5),
            options: Default::default(),
        });
        let topics = Topics::new(&test_prefix());
        for spec in [topics.locations_spec(PARTITIONS), topics.dead_letters_spec()] {
            kafka.ensure_topic(&spec.name, spec.partitions, &spec.settings).await.expect("Kafka: run `make up`");
        }
        Self::of(kafka, topics, None)
    }

    fn of(kafka: Kafka, topics: Topics, cluster: Option<Embedded>) -> Self {
        let producer = kafka
            .producer(&ProducerProfile { linger: Duration::from_millis(1), ..ProducerProfile::default() })
            .unwrap();
        Self { kafka, topics, codec: Arc::new(Codec::new(SchemaIds::default())), producer, _cluster: cluster }
    }

    async fn append(&self, user: &str, value: &[u8]) -> (i32, i64) {
        let topic = self.topics.locations();
        let record = FutureRecord::to(&topic).key(user).payload(value);
        let delivery = self.producer.send_result(record).map_err(|(error, _)| error).unwrap();
        let delivered = delivery.await.unwrap().map_err(|(error, _)| error).unwrap();
        assert_eq!(delivered.partition, partition_of(user.as_bytes(), PARTITIONS));
        (delivered.partition, delivered.offset)
    }

    async fn report(&self, user: &str, n: i64, fixed_at: i64, kind: LocationKind) {
        let mut value = Vec::new();
        self.codec.encode_location(&event(n, fixed_at, kind), &mut value);
        self.append(user, &value).await;
    }

    fn parts(&self, history: Arc<dyn History>) -> Parts {
        Parts {
            kafka: self.kafka.clone(),
            topics: self.topics.clone(),
            codec: Arc::clone(&self.codec),
            history,
            metrics: Metrics::install_once().unwrap(),
        }
    }

    fn start(&self, history: Arc<dyn History>) -> Sink {
        let shutdown = Shutdown::new();
        Sink { task: tokio::spawn(run(config(), self.parts(history), shutdown.clone())), shutdown }
    }

    async fn delete(self) {
        if self._cluster.is_none() {
            self.kafka.delete_topic(&self.topics.locations()).await.unwrap();
            self.kafka.delete_topic(&self.topics.dead_letters()).await.unwrap();
        }
    }

    /// The first dead letter's headers and value.
    async fn dead_letter(&self) -> (Vec<(String, String)>, Vec<u8>) {
        let reader = self.kafka.reader().unwrap();
        let mut from = TopicPartitionList::new();
        from.add_partition_offset(&self.topics.dead_letters(), 0, Offset::Beginning).unwrap();
        reader.assign(&from).unwrap();
        tokio::task::spawn_blocking(move || {
            loop {
                if let Some(Ok(message)) = reader.poll(Duration::from_millis(100)) {
                    let headers = message.headers().unwrap();
                    let headers = headers
                        .iter()
                        .map(|h| (h.key.to_owned(), String::from_utf8(h.value.unwrap().to_vec()).unwrap()))
                        .collect();
                    return (headers, message.payload().unwrap().to_vec());
                }
            }
        })
        .await
        .unwrap()
    }
}

struct Sink {
    task: tokio::task::JoinHandle<Result<(), nearcast_history_sink::Error>>,
    shutdown: Shutdown,
}

impl Sink {
    async fn stop(self) {
        self.shutdown.begin();
        self.task.await.unwrap().unwrap();
    }
}

fn event(n: i64, fixed_at: i64, kind: LocationKind) -> LocationEvent {
    LocationEvent {
        kind,
        session: NO_SESSION,
        route: None,
        list_version: 0,
        reset: false,
        mode: Mode::default(),
        fix: (kind != LocationKind::Presence).then(|| Fix {
            lat: 10.0 + n as f64 / 1_000.0,
            lon: 20.0,
            accuracy_m: Some(4.0),
            speed_mps: None,
            heading_deg: Some(90.0),
            altitude_m: None,
            device: "d".into(),
            n,
            device_time: fixed_at,
            fixed_at,
        }),
        gateway_time: fixed_at,
    }
}

async fn rows(history: &dyn History, user: &str, expect: usize) -> Vec<HistoryRow> {
    let wait = async {
        loop {
            let rows = history.range(user, 0, i64::MAX, 10_000, None).await.unwrap();
            assert!(rows.len() <= expect, "{} rows, expected {expect}", rows.len());
            if rows.len() == expect {
                return rows;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("the rows arrive")
}

/// Every position is one row, in the order of time, whatever else the log holds; a restart doubles nothing.
async fn stores_each_report_once(log: &Log, history: Arc<dyn History>) {
    let now = now_ms();
    let users: Vec<String> = (0..5).map(|i| format!("u{i}-{}", test_prefix())).collect();
    let sink = log.start(Arc::clone(&history));
    for n in 0..40 {
        for user in &users {
            let kind = if n % 4 == 3 { LocationKind::Backfill } else { LocationKind::Fix };
            log.report(user, n, now - 40_000 + n * 1_000, kind).await;
            log.report(user, n, now, LocationKind::Presence).await;
        }
    }
    // Sent again, as a phone does that missed the acknowledgement.
    log.report(&users[0], 5, now - 35_000, LocationKind::Backfill).await;
    log.report(&users[0], 40, now, LocationKind::Fix).await;
    assert!(!rows(&*history, &users[0], 41).await[5].late, "it was shown as now the first time");
    for user in &users[1..] {
        let rows = rows(&*history, user, 40).await;
        assert!(rows.is_sorted_by_key(HistoryRow::key));
        assert!(rows.iter().all(|row| (row.lat - 10.0 - row.n as f64 / 1_000.0).abs() < 1e-9));
        assert!(rows[3].late);
        assert_eq!(rows[4].heading_deg, Some(90.0));
    }
    sink.stop().await;
    let again = log.start(Arc::clone(&history));
    log.report(&users[1], 40, now, LocationKind::Fix).await;
    rows(&*history, &users[1], 41).await;
    again.stop().await;
}

async fn pages(history: &dyn History) {
    let user = format!("p-{}", test_prefix());
    let now = now_ms();
    let all: Vec<HistoryRow> = (0..7)
        .map(|n| {
            let mut value = event(n, now - (7 - n) * 86_400_000 / 3, LocationKind::Fix);
            let fix = value.fix.take().unwrap();
            HistoryRow {
                user: user.clone(),
                fixed_at: fix.fixed_at,
                device: fix.device,
                n,
                lat: fix.lat,
                lon: fix.lon,
                accuracy_m: fix.accuracy_m,
                speed_mps: None,
                heading_deg: None,
                altitude_m: None,
                device_time: fix.device_time,
                appended_at: now,
                partition: 0,
                offset: n,
                late: false,
            }
        })
        .collect();
    history.store(&all).await.unwrap();
    let mut found = Vec::new();
    let mut after: Option<HistoryKey> = None;
    loop {
        let page = history.range(&user, 0, now, 3, after.as_ref()).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.key());
        found.extend(page);
    }
    assert_eq!(found, all);
    let between = history.range(&user, all[2].fixed_at, all[4].fixed_at, 10, None).await.unwrap();
    assert_eq!(between, all[2..4], "from is inclusive, to is not");
}

/// What cannot be decoded is put aside with its cause, and what follows is stored.
async fn buries_poison(log: &Log, history: Arc<dyn History>) {
    let user = format!("poison-{}", test_prefix());
    let sink = log.start(Arc::clone(&history));
    let (partition, offset) = log.append(&user, b"not avro").await;
    log.report(&user, 1, now_ms(), LocationKind::Fix).await;
    rows(&*history, &user, 1).await;
    let (headers, value) = log.dead_letter().await;
    assert_eq!(value, b"not avro");
    let header = |name: &str| headers.iter().find(|(key, _)| key == name).unwrap().1.clone();
    assert_eq!(header("topic"), log.topics.locations());
    assert_eq!(header("partition"), partition.to_string());
    assert_eq!(header("offset"), offset.to_string());
    assert!(!header("error").is_empty());
    sink.stop().await;
}

async fn cassandra() -> CqlHistory {
    let nodes = std::env::var("NEARCAST_TEST_CASSANDRA").unwrap_or_else(|_| "127.0.0.1:29042".to_owned());
    let keyspace = "test_history".to_owned();
    let session = cql::connect(&CqlConfig {
        nodes: vec![nodes],
        keyspace: keyspace.clone(),
        replication_factor: 1,
        datacenter: None,
        startup_wait: Duration::from_secs(5),
        username: None,
        password: None,
    })
    .await
    .expect("Cassandra: run `make up`");
    // Users are random, so that runs share the keyspace and need not make one each.
    cql::migrate(&session, &keyspace, 1, "history-sink", MIGRATIONS).await.unwrap();
    CqlHistory::new(session, 30).await.unwrap()
}

/// A database that does not answer the first few times.
struct Away {
    inner: MemoryHistory,
    failures: AtomicUsize,
}

#[async_trait]
impl History for Away {
    async fn store(&self, rows: &[HistoryRow]) -> Result<(), HistoryError> {
        let left = self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        match left {
            Ok(_) => Err(HistoryError::Unavailable("it is away".into())),
            Err(_) => self.inner.store(rows).await,
        }
    }

    async fn range(
        &self,
        user: &str,
        from_ms: i64,
        to_ms: i64,
        limit: usize,
        after: Option<&HistoryKey>,
    ) -> Result<Vec<HistoryRow>, HistoryError> {
        self.inner.range(user, from_ms, to_ms, limit, after).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_log_into_memory() {
    stores_each_report_once(&Log::embedded(), Arc::new(MemoryHistory::default())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_poison() {
    buries_poison(&Log::embedded(), Arc::new(MemoryHistory::default())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_away_gets_everything() {
    let log = Log::embedded();
    let history = Arc::new(Away { inner: MemoryHistory::default(), failures: AtomicUsize::new(5) });
    let sink = log.start(history.clone());
    for n in 0..10 {
        log.report("u", n, now_ms() + n, LocationKind::Fix).await;
    }
    rows(&*history, "u", 10).await;
    assert_eq!(history.failures.load(Ordering::SeqCst), 0);
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_log_into_cassandra() {
    let log = Log::real().await;
    let history = Arc::new(cassandra().await);
    stores_each_report_once(&log, history.clone()).await;
    buries_poison(&log, history).await;
    log.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sinks_share_the_log() {
    let log = Log::real().await;
    let history: Arc<dyn History> = Arc::new(MemoryHistory::default());
    let one = log.start(Arc::clone(&history));
    for n in 0..50 {
        log.report("early", n, now_ms() + n, LocationKind::Fix).await;
    }
    rows(&*history, "early", 50).await;
    let other = log.start(Arc::clone(&history));
    for n in 0..50 {
        for user in ["a", "b", "c", "d"] {
            log.report(user, n, now_ms() + n, LocationKind::Fix).await;
        }
    }
    one.stop().await;
    for user in ["a", "b", "c", "d"] {
        rows(&*history, user, 50).await;
    }
    other.stop().await;
    log.delete().await;
}

#[tokio::test]
async fn memory_pages() {
    pages(&MemoryHistory::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cassandra_pages() {
    pages(&cassandra().await).await;
}
