//! A log, and sinks that read it.

use std::sync::Arc;
use std::time::Duration;

use nearcast_history_sink::cql::{CqlHistory, MIGRATIONS};
use nearcast_history_sink::dead_letters::DeadLetters;
use nearcast_history_sink::history::{History, HistoryRow};
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
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::producer::{DeliveryFuture, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};

pub const PARTITIONS: i32 = 3;

pub fn config() -> Config {
    Config {
        admin_listen: "127.0.0.1:0".parse().unwrap(),
        batch_records: 100,
        batch_wait: Duration::from_millis(20),
        batches_in_flight: 4,
        held_bytes: 1 << 20,
        keep_days: 30,
        drain: Duration::from_secs(10),
    }
}

pub fn test_prefix() -> String {
    use std::hash::{BuildHasher, RandomState};
    format!("t{:016x}", RandomState::new().hash_one(now_ms()))
}

pub struct Log {
    pub kafka: Kafka,
    pub topics: Topics,
    pub codec: Arc<Codec>,
    pub producer: Producer,
    /// Keeps the embedded cluster alive.
    _cluster: Option<Embedded>,
}

impl Log {
    pub fn embedded() -> Self {
        let topics = Topics::new("t");
        let cluster = Embedded::start(&[(topics.locations(), PARTITIONS), (topics.dead_letters(), 1)]).unwrap();
        Self::of(Kafka::new(cluster.config()), topics, Some(cluster))
    }

    pub async fn real() -> Self {
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

    pub fn of(kafka: Kafka, topics: Topics, cluster: Option<Embedded>) -> Self {
        let producer = kafka
            .producer(&ProducerProfile { linger: Duration::from_millis(1), ..ProducerProfile::default() })
            .unwrap();
        Self { kafka, topics, codec: Arc::new(Codec::new(SchemaIds::default())), producer, _cluster: cluster }
    }

    pub fn send(&self, user: &str, value: &[u8]) -> DeliveryFuture {
        let topic = self.topics.locations();
        let record = FutureRecord::to(&topic).key(user).payload(value);
        self.producer.send_result(record).map_err(|(error, _)| error).unwrap()
    }

    pub async fn append(&self, user: &str, value: &[u8]) -> (i32, i64) {
        let delivered = self.send(user, value).await.unwrap().map_err(|(error, _)| error).unwrap();
        assert_eq!(delivered.partition, partition_of(user.as_bytes(), PARTITIONS));
        (delivered.partition, delivered.offset)
    }

    pub async fn append_keyless(&self, value: &[u8]) -> (i32, i64) {
        let topic = self.topics.locations();
        let record = FutureRecord::<(), _>::to(&topic).payload(value);
        let delivery = self.producer.send_result(record).map_err(|(error, _)| error).unwrap();
        let delivered = delivery.await.unwrap().map_err(|(error, _)| error).unwrap();
        (delivered.partition, delivered.offset)
    }

    pub fn dead_letters(&self, codec: Arc<Codec>) -> DeadLetters {
        DeadLetters::new(self.kafka.clone(), self.topics.clone(), codec).unwrap()
    }

    /// A codec to which location events have this id.
    pub fn codec_of(&self, location_event: u32) -> Arc<Codec> {
        Arc::new(Codec::new(SchemaIds { location_event, ..SchemaIds::default() }))
    }

    pub async fn append_report(&self, user: &str, n: i64, fixed_at: i64, kind: LocationKind) -> (i32, i64) {
        let mut value = Vec::new();
        self.codec.encode_location(&event(n, fixed_at, kind), &mut value);
        self.append(user, &value).await
    }

    pub async fn report(&self, user: &str, n: i64, fixed_at: i64, kind: LocationKind) {
        self.append_report(user, n, fixed_at, kind).await;
    }

    /// As after a loss of the group: the next sink begins at the beginning.
    pub async fn forget_offsets(&self) {
        let admin: AdminClient<_> =
            ClientConfig::new().set("bootstrap.servers", &self.kafka.config().bootstrap).create().unwrap();
        let group = self.topics.history_group();
        let deleted = admin.delete_groups(&[&group], &AdminOptions::new()).await.unwrap();
        assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
    }

    /// What the sinks have committed, all partitions together.
    pub async fn committed(&self) -> i64 {
        let (kafka, group, topic) = (self.kafka.clone(), self.topics.history_group(), self.topics.locations());
        tokio::task::spawn_blocking(move || {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", &kafka.config().bootstrap).set("group.id", &group);
            let asking: BaseConsumer = config.create().unwrap();
            let mut partitions = TopicPartitionList::new();
            partitions.add_partition_range(&topic, 0, PARTITIONS - 1);
            let committed = asking.committed_offsets(partitions, Duration::from_secs(10)).unwrap();
            committed.elements().iter().filter_map(|element| element.offset().to_raw()).filter(|at| *at > 0).sum()
        })
        .await
        .unwrap()
    }

    pub fn parts(&self, history: Arc<dyn History>) -> Parts {
        Parts {
            kafka: self.kafka.clone(),
            topics: self.topics.clone(),
            codec: Arc::clone(&self.codec),
            history,
            metrics: Metrics::install_once().unwrap(),
        }
    }

    pub fn start(&self, history: Arc<dyn History>) -> Sink {
        let shutdown = Shutdown::new();
        Sink { task: tokio::spawn(run(config(), self.parts(history), shutdown.clone())), shutdown }
    }

    pub async fn delete(self) {
        if self._cluster.is_none() {
            self.kafka.delete_topic(&self.topics.locations()).await.unwrap();
            self.kafka.delete_topic(&self.topics.dead_letters()).await.unwrap();
        }
    }

    /// The first dead letter's headers and value.
    pub async fn dead_letter(&self) -> (Vec<(String, String)>, Vec<u8>) {
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

pub struct Sink {
    pub task: tokio::task::JoinHandle<Result<(), nearcast_history_sink::Error>>,
    shutdown: Shutdown,
}

impl Sink {
    pub async fn stop(self) {
        self.shutdown.begin();
        self.task.await.unwrap().unwrap();
    }
}

pub fn event(n: i64, fixed_at: i64, kind: LocationKind) -> LocationEvent {
    LocationEvent {
        kind,
        session: NO_SESSION,
        route: None,
        list_version: 0,
        reset: false,
        mode: Mode::default(),
        fix: (!matches!(kind, LocationKind::Presence | LocationKind::Erase)).then(|| Fix {
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

pub async fn rows(history: &dyn History, user: &str, expect: usize) -> Vec<HistoryRow> {
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

pub fn cassandra_address() -> String {
    std::env::var("NEARCAST_TEST_CASSANDRA").unwrap_or_else(|_| "127.0.0.1:29042".to_owned())
}

pub async fn cassandra() -> CqlHistory {
    cassandra_at(cassandra_address()).await
}

pub async fn cassandra_at(nodes: String) -> CqlHistory {
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
