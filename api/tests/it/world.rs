//! A running service and what tests ask of it and of the log.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nearcast_api::{Config, MemoryStore, Parts, Store, run_on};
use nearcast_history_sink::memory::MemoryHistory;
use nearcast_ingest::{Cache, Ingest, LastSeen, MemoryCache, Session};
use nearcast_runtime::Secret;
use nearcast_runtime::auth::{AuthConfig, LinkSigner, Signer, Verifier};
use nearcast_runtime::clock::now_ms;
use nearcast_runtime::embedded::Embedded;
use nearcast_runtime::health::Readiness;
use nearcast_runtime::kafka::{Kafka, KafkaConfig, Reader};
use nearcast_runtime::lifecycle::Shutdown;
use nearcast_runtime::telemetry::Metrics;
use nearcast_schemas::codec::{Codec, GatewayRecord};
use nearcast_schemas::delivery::FriendPosition;
use nearcast_schemas::deployment::Deployment;
use nearcast_schemas::event::{LocationEvent, Mode, NO_SESSION, Role};
use nearcast_schemas::list::VisibilityList;
use nearcast_schemas::notice::Notice;
use nearcast_schemas::rule::sharing_at;
use nearcast_schemas::topics::Topics;
use rdkafka::consumer::Consumer;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub const INTERNAL_KEY: &str = "an internal key of the tests";
pub const GATEWAYS: [&str; 2] = ["g1", "g2"];
const PARTITIONS: i32 = 3;

pub struct World {
    pub url: String,
    pub http: reqwest::Client,
    pub store: Arc<dyn Store>,
    pub cache: Arc<dyn Cache>,
    pub history: Arc<MemoryHistory>,
    pub signer: Signer,
    kafka: Kafka,
    topics: Topics,
    codec: Codec,
    logs: Mutex<HashMap<String, Arc<Mutex<Log>>>>,
    shutdown: Shutdown,
    served: JoinHandle<Result<(), nearcast_api::Error>>,
    _cluster: Option<Embedded>,
}

/// One topic, as far as it was read.
struct Log {
    reader: Reader,
    /// Keys and values by partition and offset.
    records: Vec<Vec<(Vec<u8>, Vec<u8>)>>,
}

/// An answer: its status and its JSON, null without a body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub json: Value,
}

pub fn auth() -> AuthConfig {
    AuthConfig {
        hs256_secret: Some(Secret::new("a secret of the tests, long enough")),
        link_secret: Some(Secret::new("a secret of the tests for share links")),
        leeway_s: 0,
        ..AuthConfig::default()
    }
}

pub fn deployment() -> Deployment {
    Deployment {
        prefix: "t".into(),
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

pub fn config() -> Config {
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        request_timeout: Duration::from_secs(20),
        linger: Duration::from_millis(1),
        delivery_timeout: Duration::from_secs(15),
        republish_after: Duration::from_secs(2_700),
        settle_after: Duration::from_secs(60),
        sweep_every: Duration::from_millis(50),
        max_friends: 5_000,
        cors_origins: Vec::new(),
        drain: Duration::from_secs(10),
    }
}

impl World {
    pub async fn start() -> Self {
        Self::with(config(), Arc::new(MemoryStore::default()), Arc::new(MemoryCache::new(&deployment()))).await
    }

    pub async fn with(config: Config, store: Arc<dyn Store>, cache: Arc<dyn Cache>) -> Self {
        let topics = Topics::new(&deployment().prefix);
        let mut names = vec![(topics.locations(), PARTITIONS), (topics.visibility(), PARTITIONS)];
        names.extend(GATEWAYS.map(|gateway| (topics.gateway(gateway), 1)));
        let cluster = Embedded::start(&names).unwrap();
        let kafka = Kafka::new(cluster.config());
        Self::on(kafka, deployment(), config, store, cache, Some(cluster)).await
    }

    /// On real Kafka, with topics of its own.
    pub async fn on_real_kafka() -> Self {
        let bootstrap = std::env::var("NEARCAST_TEST_KAFKA").unwrap_or_else(|_| "127.0.0.1:29092".to_owned());
        let startup_wait = Duration::from_secs(5);
        let kafka = Kafka::new(KafkaConfig { bootstrap, embedded: false, startup_wait, options: Default::default() });
        if let Err(error) = kafka.wait_until_up(&Readiness::default().component("kafka")).await {
            panic!("{error}: run `make up`");
        }
        let deployment = Deployment { prefix: format!("t{:016x}", rand::random::<u64>()), ..deployment() };
        let topics = Topics::new(&deployment.prefix);
        let mut specs = vec![topics.locations_spec(PARTITIONS), topics.visibility_spec(PARTITIONS)];
        specs.extend(GATEWAYS.map(|gateway| topics.gateway_spec(gateway)));
        for spec in specs {
            kafka.ensure_topic(&spec.name, spec.partitions, &spec.settings).await.unwrap();
        }
        let cache = Arc::new(MemoryCache::new(&deployment));
        Self::on(kafka, deployment, config(), Arc::new(MemoryStore::default()), cache, None).await
    }

    /// Deletes the topics of [`World::on_real_kafka`].
    pub async fn delete_topics(&self) {
        let mut names = vec![self.topics.locations(), self.topics.visibility()];
        names.extend(GATEWAYS.map(|gateway| self.topics.gateway(gateway)));
        for name in names {
            self.kafka.delete_topic(&name).await.unwrap();
        }
    }

    async fn on(
        kafka: Kafka,
        deployment: Deployment,
        config: Config,
        store: Arc<dyn Store>,
        cache: Arc<dyn Cache>,
        cluster: Option<Embedded>,
    ) -> Self {
        let topics = Topics::new(&deployment.prefix);
        let codec = Codec::default();
        let ingest_config = nearcast_ingest::Config {
            linger: Duration::from_millis(1),
            delivery_timeout: Duration::from_secs(15),
            max_in_flight: 10_000,
            max_age_s: 60,
            max_late_days: 30,
        };
        let ingest = Ingest::new(&ingest_config, &deployment, codec.clone(), &kafka, Arc::clone(&cache)).unwrap();
        let history = Arc::new(MemoryHistory::default());
        let parts = Parts {
            deployment,
            store: Arc::clone(&store),
            history: history.clone(),
            cache: Arc::clone(&cache),
            ingest,
            kafka: kafka.clone(),
            codec: codec.clone(),
            verifier: Verifier::new(&auth()).unwrap(),
            link_signer: LinkSigner::new(&auth()).unwrap(),
            internal_key: Secret::new(INTERNAL_KEY),
            metrics: Metrics::install_once().unwrap(),
        };
        let listener = TcpListener::bind(config.listen).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = Shutdown::new();
        let served = tokio::spawn(run_on(listener, config, parts, shutdown.clone()));
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let signer = Signer::new(&auth()).unwrap();
        let logs = Mutex::default();
        Self {
            url,
            http,
            store,
            cache,
            history,
            signer,
            kafka,
            topics,
            codec,
            logs,
            shutdown,
            served,
            _cluster: cluster,
        }
    }

    /// Another instance of the service on the same Kafka, store and cache.
    pub async fn twin(&self, config: Config) -> Self {
        let (store, cache) = (Arc::clone(&self.store), Arc::clone(&self.cache));
        Self::on(self.kafka.clone(), deployment(), config, store, cache, None).await
    }

    /// Stops the service, which must end well.
    pub async fn stop(self) {
        self.shutdown.begin();
        self.served.await.unwrap().unwrap();
    }

    pub fn token(&self, user: &str) -> String {
        self.signer.sign(user, Duration::from_secs(60), &[]).unwrap()
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let is_json = response.headers().get("content-type").is_some_and(|kind| kind == "application/json");
        let text = response.text().await.unwrap();
        assert!(is_json || text.is_empty(), "{status}: {text}");
        Answer { status, json: if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() } }
    }

    pub async fn call(&self, method: &str, user: &str, path: &str, body: Option<Value>) -> Answer {
        let method = method.parse().unwrap();
        let mut request = self.http.request(method, format!("{}{path}", self.url)).bearer_auth(self.token(user));
        if let Some(body) = body {
            request = request.json(&body);
        }
        self.send(request).await
    }

    pub async fn get(&self, user: &str, path: &str) -> Value {
        self.call("GET", user, path, None).await.ok()
    }

    pub async fn put(&self, user: &str, path: &str, body: Value) -> Value {
        self.call("PUT", user, path, Some(body)).await.ok()
    }

    pub async fn post(&self, user: &str, path: &str) -> Value {
        self.call("POST", user, path, None).await.ok()
    }

    pub async fn delete(&self, user: &str, path: &str) {
        assert_eq!(self.call("DELETE", user, path, None).await.status, 204, "{path}");
    }

    /// Asks as a gateway does.
    pub async fn ask(&self, path: &str, body: Value) -> Answer {
        self.send(self.http.post(format!("{}{path}", self.url)).bearer_auth(INTERNAL_KEY).json(&body)).await
    }

    pub async fn hello(&self, user: &str) -> Value {
        self.ask("/internal/v1/hello", json!({"user": user, "role": "reporting", "place": null})).await.ok()
    }

    /// Two users become friends.
    pub async fn befriend(&self, a: &str, b: &str) {
        for user in [a, b] {
            self.get(user, "/v1/me").await;
        }
        self.post(a, &format!("/v1/friends/{b}/request")).await;
        assert_eq!(self.post(b, &format!("/v1/friends/{a}/accept")).await["state"], "accepted");
    }

    /// What the log holds of a viewer's list, in order.
    pub async fn lists_of(&self, viewer: &str) -> Vec<VisibilityList> {
        let records = self.records(&self.topics.visibility(), PARTITIONS).await;
        records
            .into_iter()
            .filter(|(key, _)| key == viewer.as_bytes())
            .map(|(_, value)| self.codec.decode_list(&value).unwrap().to_owned())
            .collect()
    }

    /// The ids on the last list of a viewer in the log.
    pub async fn listed(&self, viewer: &str) -> Vec<String> {
        let last = self.lists_of(viewer).await.pop().unwrap();
        last.entries.into_iter().map(|entry| entry.friend).collect()
    }

    /// The notices in a gateway's topic, in order.
    pub async fn notices(&self, gateway: &str) -> Vec<Notice> {
        let records = self.records(&self.topics.gateway(gateway), 1).await;
        records
            .into_iter()
            .map(|(_, value)| match self.codec.decode_gateway_record(&value).unwrap() {
                GatewayRecord::Notice(notice) => notice,
                GatewayRecord::Batch(_) => panic!("the API writes no batches"),
            })
            .collect()
    }

    /// A user's records in the location log, in order.
    pub async fn events_of(&self, user: &str) -> Vec<LocationEvent> {
        let records = self.records(&self.topics.locations(), PARTITIONS).await;
        records
            .into_iter()
            .filter(|(key, _)| key == user.as_bytes())
            .map(|(_, value)| self.codec.decode_location(&value).unwrap().to_owned())
            .collect()
    }

    /// Every record that a topic holds now, keys and values, partition by partition.
    async fn records(&self, topic: &str, partitions: i32) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut ends = Vec::new();
        for partition in 0..partitions {
            ends.push(self.kafka.watermarks(topic, partition).await.unwrap().1);
        }
        let log = Arc::clone(self.logs.lock().unwrap().entry(topic.to_owned()).or_insert_with(|| {
            let reader = self.kafka.reader().unwrap();
            let mut assignment = TopicPartitionList::new();
            for partition in 0..partitions {
                assignment.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
            }
            reader.assign(&assignment).unwrap();
            Arc::new(Mutex::new(Log { reader, records: vec![Vec::new(); ends.len()] }))
        }));
        tokio::task::spawn_blocking(move || log.lock().unwrap().up_to(&ends)).await.unwrap()
    }

    /// A user is connected at a gateway.
    pub async fn connect(&self, user: &str, gateway: &str, handle: i32) {
        let session = Session {
            gateway: gateway.into(),
            incarnation: 1,
            handle,
            role: Role::Reporting,
            session: i64::from(handle),
        };
        self.cache.register(user, &session).await.unwrap();
    }

    /// A user was last seen so many metres north of the equator at longitude 0, and approximately in the cell so many
    /// metres north.
    pub async fn see(&self, user: &str, north_m: f64, coarse_north_m: f64) {
        let mode = self.store.user(user).await.unwrap().map_or(Mode::default(), |user| user.mode);
        let position = |metres: f64, coarse| FriendPosition {
            lat: metres / 110_574.0,
            lon: 0.0,
            at: now_ms(),
            coarse,
            accuracy_m: (!coarse).then_some(5.0),
            speed_mps: None,
            heading_deg: None,
        };
        let seen = LastSeen {
            position: position(north_m, false),
            coarse: Some(position(coarse_north_m, true)),
            reported: sharing_at(&mode, now_ms()),
            mode,
            session: NO_SESSION,
        };
        self.cache.put_position(user, seen);
        assert!(self.cache.settled(Duration::from_secs(5)).await);
    }
}

impl Log {
    /// The records before these offsets, by partition.
    fn up_to(&mut self, ends: &[i64]) -> Vec<(Vec<u8>, Vec<u8>)> {
        while self.records.iter().zip(ends).any(|(records, end)| (records.len() as i64) < *end) {
            let Some(message) = self.reader.poll(Duration::from_secs(10)) else { panic!("records are missing") };
            let message = message.unwrap();
            let partition = &mut self.records[usize::try_from(message.partition()).unwrap()];
            assert_eq!(message.offset(), partition.len() as i64);
            let key = message.key().unwrap_or_default().to_vec();
            partition.push((key, message.payload().unwrap().to_vec()));
        }
        let before = |(records, end): (&Vec<_>, &i64)| records[..usize::try_from(*end).unwrap()].to_vec();
        self.records.iter().zip(ends).flat_map(before).collect()
    }
}

impl Answer {
    /// The JSON of a success.
    pub fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "{self:?}");
        self.json
    }

    /// Asserts a refusal by its code, with the table's status and nothing but code and message.
    pub fn refused(&self, code: &str) {
        assert_eq!(self.json["code"], code, "{self:?}");
        let refusal = nearcast_schemas::refusal::Refusal::from_code(code).unwrap();
        assert_eq!(self.status, refusal.row().status, "{self:?}");
        assert!(self.json["message"].as_str().is_some_and(|message| !message.is_empty()), "{self:?}");
        assert_eq!(self.json.as_object().unwrap().len(), 2, "{self:?}");
    }
}

/// The values of one key in an array of objects.
pub fn pluck(array: &Value, key: &str) -> Vec<Value> {
    array.as_array().unwrap().iter().map(|item| item[key].clone()).collect()
}

/// Asks until it is so.
pub async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let limit = tokio::time::timeout(Duration::from_secs(60), async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(limit.await.is_ok(), "still not so: {what}");
}
