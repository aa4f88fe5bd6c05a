//! A deployment of its own for a test: topics under a random prefix, on Kafka as it is or on the embedded cluster.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nearcast_fanout::{Config, Error, Parts};
use nearcast_runtime::Secret;
use nearcast_runtime::clock;
use nearcast_runtime::embedded::Embedded;
use nearcast_runtime::health::Readiness;
use nearcast_runtime::kafka::{Kafka, KafkaConfig, Producer, ProducerProfile};
use nearcast_runtime::lifecycle::Shutdown;
use nearcast_runtime::telemetry::Metrics;
use nearcast_schemas::codec::{Codec, GatewayRecord};
use nearcast_schemas::delivery::{DeliveryBatch, Item, Reset};
use nearcast_schemas::deployment::Deployment;
use nearcast_schemas::event::{Fix, LocationEvent, LocationKind, Mode, NO_SESSION, Role, Route};
use nearcast_schemas::list::{Precision, VisibilityEntry, VisibilityList};
use nearcast_schemas::topics::{TopicSpec, Topics};
use rdkafka::consumer::Consumer;
use rdkafka::message::{Headers, Message};
use rdkafka::producer::FutureRecord;
use rdkafka::{Offset, TopicPartitionList};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How long a test waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const INCARNATION: i64 = 77;

pub struct Stack {
    pub kafka: Kafka,
    pub topics: Topics,
    pub deployment: Deployment,
    pub codec: Codec,
    producer: Producer,
    created: Vec<String>,
    /// Ends the cluster when it is dropped.
    _embedded: Option<Embedded>,
}

pub fn deployment(prefix: &str) -> Deployment {
    Deployment {
        prefix: prefix.to_owned(),
        friend_ttl_s: 600,
        default_radius_m: 8_000,
        max_radius_m: 20_000,
        max_silence_s: 180,
        min_move_m: 10.0,
        report_interval_s: 30,
        coarse_resolution: 7,
        coarse_period_s: 300,
    }
}

pub fn real_config() -> KafkaConfig {
    KafkaConfig {
        bootstrap: std::env::var("NEARCAST_TEST_KAFKA").unwrap_or_else(|_| "127.0.0.1:29092".to_owned()),
        embedded: false,
        startup_wait: Duration::from_secs(5),
        // A topic that is not there is known to be absent after a second, not thirty.
        options: BTreeMap::from([("topic.metadata.propagation.max.ms".to_owned(), Secret::new("1000"))]),
    }
}

fn specs(topics: &Topics, visibility: i32, gateways: &[&str]) -> Vec<TopicSpec> {
    let mut specs = vec![topics.locations_spec(3), topics.visibility_spec(visibility), topics.dead_letters_spec()];
    specs.extend(gateways.iter().map(|gateway| topics.gateway_spec(gateway)));
    specs
}

impl Stack {
    pub async fn real(visibility: i32, gateways: &[&str]) -> Self {
        let prefix = format!("t{:012x}", rand::random::<u64>() >> 16);
        Self::real_with(&prefix, visibility, gateways).await
    }

    pub async fn real_with(prefix: &str, visibility: i32, gateways: &[&str]) -> Self {
        let kafka = Kafka::new(real_config());
        if let Err(error) = kafka.wait_until_up(&Readiness::default().component("kafka")).await {
            panic!("this test needs the real stack, run `make up`: {error}");
        }
        let topics = Topics::new(prefix);
        let specs = specs(&topics, visibility, gateways);
        for spec in &specs {
            kafka.ensure_topic(&spec.name, spec.partitions, &spec.settings).await.unwrap();
        }
        Self::new(kafka, prefix, specs, None)
    }

    pub async fn embedded(visibility: i32, gateways: &[&str]) -> Self {
        let topics = Topics::new("demo");
        let specs = specs(&topics, visibility, gateways);
        let names: Vec<_> = specs.iter().map(|spec| (spec.name.clone(), spec.partitions)).collect();
        let embedded = Embedded::start(&names).unwrap();
        Self::new(Kafka::new(embedded.config()), "demo", specs, Some(embedded))
    }

    fn new(kafka: Kafka, prefix: &str, specs: Vec<TopicSpec>, embedded: Option<Embedded>) -> Self {
        let profile = ProducerProfile { linger: Duration::ZERO, ..ProducerProfile::default() };
        Self {
            producer: kafka.producer(&profile).unwrap(),
            kafka,
            topics: Topics::new(prefix),
            deployment: deployment(prefix),
            codec: Codec::default(),
            created: specs.into_iter().map(|spec| spec.name).collect(),
            _embedded: embedded,
        }
    }

    /// Removes what the test made; a test that fails leaves it for whoever looks.
    pub async fn clean(self) {
        if self._embedded.is_none() {
            for topic in &self.created {
                self.kafka.delete_topic(topic).await.unwrap();
            }
        }
    }

    pub fn parts(&self) -> Parts {
        Parts {
            deployment: self.deployment.clone(),
            kafka: self.kafka.clone(),
            codec: self.codec.clone(),
            metrics: Metrics::install_once().unwrap(),
        }
    }

    pub async fn worker(&self, name: &str) -> Running {
        self.worker_with(config(name)).await
    }

    pub async fn worker_with(&self, config: Config) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (admin, shutdown) = (listener.local_addr().unwrap(), Shutdown::new());
        let task = tokio::spawn(nearcast_fanout::run_on(listener, config, self.parts(), shutdown.clone()));
        Running { admin, shutdown, task }
    }

    pub async fn write(&self, topic: &str, partition: Option<i32>, key: &[u8], value: Option<&[u8]>) -> i64 {
        let mut record = FutureRecord::to(topic).key(key);
        record.payload = value;
        record.partition = partition;
        let delivery = self.producer.send_result(record).map_err(|(error, _)| error).unwrap();
        delivery.await.unwrap().map_err(|(error, _)| error).unwrap().offset
    }

    pub async fn list(&self, viewer: &str, version: i64, friends: &[&str]) {
        let entry = |friend: &&str| VisibilityEntry {
            friend: (*friend).to_owned(),
            display_name: friend.to_uppercase(),
            precision: Precision::Exact,
            radius_m: 0,
            expires_at: 0,
        };
        let entries = friends.iter().map(entry).collect();
        let list = VisibilityList::list(version, clock::now_ms(), 8_000, entries);
        let mut bytes = Vec::new();
        self.codec.encode_list(&list, &mut bytes);
        self.write(&self.topics.visibility(), None, viewer.as_bytes(), Some(&bytes)).await;
    }

    /// Begins a session and returns its number.
    pub async fn hello(&self, user: &str, gateway: &str, handle: i32, list_version: i64, metres: f64) -> i64 {
        let route = Route { gateway: gateway.to_owned(), incarnation: INCARNATION, handle, role: Role::Reporting };
        let mut event = event(LocationKind::Hello, NO_SESSION, Some(metres));
        event.route = Some(route);
        event.list_version = list_version;
        self.send(user, &event).await
    }

    /// A report over HTTP.
    pub async fn fix(&self, user: &str, metres: f64) -> i64 {
        self.send(user, &event(LocationKind::Fix, NO_SESSION, Some(metres))).await
    }

    pub async fn send(&self, user: &str, event: &LocationEvent) -> i64 {
        let mut bytes = Vec::new();
        self.codec.encode_location(event, &mut bytes);
        self.write(&self.topics.locations(), None, user.as_bytes(), Some(&bytes)).await
    }

    /// Reads a gateway's topic from its beginning.
    pub fn gateway(&self, id: &str) -> Gateway {
        Gateway { reader: self.reader(&self.topics.gateway(id), 1), codec: self.codec.clone(), batches: Vec::new() }
    }

    pub fn reader(&self, topic: &str, partitions: i32) -> nearcast_runtime::kafka::Reader {
        let reader = self.kafka.reader().unwrap();
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
        }
        reader.assign(&list).unwrap();
        reader
    }

    /// Waits for the first dead letter and returns its key, value and headers.
    pub fn dead_letter(&self) -> (Vec<u8>, Vec<u8>, BTreeMap<String, String>) {
        let reader = self.reader(&self.topics.dead_letters(), 1);
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "no dead letter came");
            let Some(Ok(message)) = reader.poll(Duration::from_millis(100)) else { continue };
            let text = |value: Option<&[u8]>| String::from_utf8(value.unwrap().to_vec()).unwrap();
            let headers = message.headers().unwrap().iter();
            let headers = headers.map(|header| (header.key.to_owned(), text(header.value))).collect();
            return (message.key().unwrap().to_vec(), message.payload().unwrap().to_vec(), headers);
        }
    }
}

pub fn event(kind: LocationKind, session: i64, metres: Option<f64>) -> LocationEvent {
    let fix = metres.map(|metres| Fix {
        lat: 0.0,
        lon: (metres / 6_378_137.0).to_degrees(),
        accuracy_m: None,
        speed_mps: None,
        heading_deg: None,
        altitude_m: None,
        device: "d".to_owned(),
        n: 1,
        device_time: 0,
        fixed_at: 0,
    });
    let mode = Mode::default();
    LocationEvent { kind, session, route: None, list_version: 0, reset: false, mode, fix, gateway_time: 0 }
}

pub fn config(name: &str) -> Config {
    Config {
        admin_listen: ([127, 0, 0, 1], 0).into(),
        worker: name.to_owned(),
        tick: Duration::from_millis(10),
        tick_max: Duration::from_millis(50),
        heartbeat: Duration::from_secs(1),
        digest_every: Duration::from_secs(60),
        resets_per_tick: 500,
        discovery_max: 20,
        delivery_timeout: Duration::from_secs(30),
        stall_after: Duration::from_secs(30),
        drain: Duration::from_secs(10),
        snapshot_dir: PathBuf::new(),
        snapshot_every: Duration::from_secs(1),
    }
}

/// The value of a metric, by its name and labels as they are shown; 0 where there is none yet.
pub fn metric(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().unwrap())
}

/// A worker in this process.
pub struct Running {
    pub admin: SocketAddr,
    pub shutdown: Shutdown,
    task: tokio::task::JoinHandle<Result<(), Error>>,
}

impl Running {
    pub async fn stop(self) {
        self.shutdown.begin();
        self.ended().await.unwrap();
    }

    pub async fn ended(self) -> Result<(), Error> {
        tokio::time::timeout(PATIENCE, self.task).await.expect("the worker ends").unwrap()
    }

    pub async fn ready(&self) {
        self.until("/readyz", |answer| answer.starts_with("HTTP/1.1 200")).await;
    }

    /// Asks until the answer is right, and returns it.
    pub async fn until(&self, path: &str, right: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.get(path).await;
            if right(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "{path} still answers {answer}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

/// What came for one gateway.
pub struct Gateway {
    reader: nearcast_runtime::kafka::Reader,
    codec: Codec,
    pub batches: Vec<DeliveryBatch>,
}

impl Gateway {
    /// Reads on until what came so far is right.
    pub fn until<T>(&mut self, what: &str, found: impl Fn(&[DeliveryBatch]) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = found(&self.batches) {
                return found;
            }
            assert!(Instant::now() < deadline, "{what} did not come; so far: {:?}", self.batches);
            let Some(message) = self.reader.poll(Duration::from_millis(100)) else { continue };
            let message = message.unwrap();
            let record = self.codec.decode_gateway_record(message.payload().unwrap()).unwrap();
            let GatewayRecord::Batch(batch) = record else { panic!("a notice") };
            self.batches.push(batch);
        }
    }

    /// The first reset of a session that comes from now on and shows these friends.
    pub fn reset(&mut self, handle: i32, friends: &[&str]) -> (DeliveryBatch, Reset) {
        let seen = self.batches.len();
        self.until(&format!("a reset of {handle} to {friends:?}"), |batches| {
            batches[seen..].iter().find_map(|batch| {
                let mut resets = batch.items.iter().filter_map(|item| match item {
                    Item::Reset(reset) if reset.handle == handle => Some(reset),
                    _ => None,
                });
                let shows = |reset: &&Reset| {
                    reset.entries.iter().map(|entry| entry.friend.as_str()).eq(friends.iter().copied())
                };
                resets.rfind(shows).map(|reset| (batch.clone(), reset.clone()))
            })
        })
    }
}
