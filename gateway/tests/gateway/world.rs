//! A gateway and everything around it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nearcast_gateway::{Config, Error, ForwardedHeader, Networks, Parts, ProxyProtocol, run_on_both};
use nearcast_ingest::{Cache, Config as IngestConfig, Ingest, MemoryCache, RedisCache, RedisConfig};
use nearcast_runtime::Secret;
use nearcast_runtime::auth::{AuthConfig, Signer, Verifier};
use nearcast_runtime::embedded::Embedded;
use nearcast_runtime::health::Readiness;
use nearcast_runtime::kafka::Kafka;
use nearcast_runtime::lifecycle::Shutdown;
use nearcast_runtime::telemetry::Metrics;
use nearcast_schemas::codec::Codec;
use nearcast_schemas::deployment::Deployment;
use nearcast_schemas::event::LocationKind;
use nearcast_schemas::topics::Topics;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::api::{FakeApi, KEY};
use crate::log::Log;
use crate::phone::{Phone, hello};
use crate::worker::{Seat, Worker};

pub const PATIENCE: Duration = Duration::from_secs(20);
pub const VISIBILITY_PARTITIONS: i32 = 8;

pub struct World {
    pub addr: SocketAddr,
    pub admin: SocketAddr,
    pub api: FakeApi,
    pub log: Log,
    pub cache: Arc<dyn Cache>,
    pub shutdown: Shutdown,
    pub kafka: Kafka,
    pub topics: Topics,
    running: JoinHandle<Result<(), Error>>,
    cluster: Option<Embedded>,
}

pub fn deployment(prefix: &str) -> Deployment {
    Deployment {
        prefix: prefix.into(),
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

pub fn config(api_url: &str) -> Config {
    Config {
        id: "g1".into(),
        listen: ([127, 0, 0, 1], 0).into(),
        threads: 0,
        tls_certificate: PathBuf::new(),
        tls_key: PathBuf::new(),
        proxy_protocol: ProxyProtocol::Off,
        trusted_proxies: Networks::default(),
        forwarded_header: ForwardedHeader::Forwarded,
        admin_listen: ([127, 0, 0, 1], 0).into(),
        api_url: api_url.into(),
        api_timeout_ms: 5_000,
        handshake_timeout_s: 10,
        hello_timeout_s: 10,
        ping_every_s: 25,
        slow_after_s: 300,
        message_bytes: 131_072,
        messages_per_s: 20,
        coalesce_ms: 5,
        waiting_bytes: 8 << 20,
        reset_wait_s: 60,
        max_unanswered: 256,
        max_connections: 1_000,
        max_connections_per_address: 0,
        handshakes_per_s: 0,
        handshakes_per_s_per_address: 0,
        send_buffer_bytes: 16_384,
        drain_spread_ms: 1_000,
        grace_s: 10,
    }
}

pub fn ingest_config() -> IngestConfig {
    IngestConfig {
        linger: Duration::from_millis(1),
        delivery_timeout: Duration::from_secs(5),
        max_in_flight: 10_000,
        max_age_s: 60,
        max_late_days: 30,
    }
}

pub fn auth() -> AuthConfig {
    AuthConfig {
        hs256_secret: Some(Secret::new("0123456789abcdef0123456789abcdef")),
        link_secret: Some(Secret::new("fedcba9876543210fedcba9876543210")),
        leeway_s: 0,
        ..AuthConfig::default()
    }
}

pub fn sign(auth: &AuthConfig, user: &str, ttl: Duration) -> String {
    Signer::new(auth).unwrap().sign(user, ttl, &[]).unwrap()
}

pub fn token(user: &str) -> String {
    sign(&auth(), user, Duration::from_secs(600))
}

/// A cache in the Redis at a URL, which says through its part of the readiness how it does.
pub fn redis_at(url: String, deployment: &Deployment, readiness: &Readiness) -> Arc<dyn Cache> {
    let config = RedisConfig {
        nodes: vec![url],
        cluster: false,
        username: None,
        password: None,
        timeout: Duration::from_secs(5),
        max_waiting_writes: 1_000,
    };
    let (cache, writer) = RedisCache::new(&config, deployment).unwrap();
    tokio::spawn(writer.run(readiness.component("cache"), Shutdown::new()));
    Arc::new(cache)
}

/// What a gateway needs.
pub fn parts(kafka: Kafka, deployment: Deployment, cache: Arc<dyn Cache>, readiness: Readiness) -> Parts {
    parts_with(&ingest_config(), kafka, deployment, cache, readiness)
}

fn parts_with(
    ingest: &IngestConfig,
    kafka: Kafka,
    deployment: Deployment,
    cache: Arc<dyn Cache>,
    readiness: Readiness,
) -> Parts {
    let codec = Codec::default();
    let ingest = Ingest::new(ingest, &deployment, codec.clone(), &kafka, cache.clone()).unwrap();
    Parts {
        deployment,
        codec,
        kafka,
        ingest,
        cache,
        verifier: Verifier::new(&auth()).unwrap(),
        internal_key: Secret::new(KEY),
        readiness,
        metrics: Metrics::install_once().unwrap(),
    }
}

impl World {
    pub async fn start() -> Self {
        Self::with(|_, _| ()).await
    }

    /// A gateway whose configuration differs.
    pub async fn with(change: impl FnOnce(&mut Config, &mut Deployment)) -> Self {
        Self::with_cache(change, |deployment, _| Arc::new(MemoryCache::new(deployment))).await
    }

    /// A gateway whose cache is another one.
    pub async fn with_cache(
        change: impl FnOnce(&mut Config, &mut Deployment),
        cache: impl FnOnce(&Deployment, &Readiness) -> Arc<dyn Cache>,
    ) -> Self {
        let topics = Topics::new("t");
        let cluster = Embedded::start(&[
            (topics.locations(), 4),
            (topics.visibility(), VISIBILITY_PARTITIONS),
            (topics.gateway("g1"), 1),
        ])
        .unwrap();
        let kafka = Kafka::new(cluster.config());
        Self { cluster: Some(cluster), ..Self::on(kafka, deployment("t"), change, cache).await }
    }

    /// A gateway on a cluster that has its topics.
    pub async fn on(
        kafka: Kafka,
        deployment: Deployment,
        change: impl FnOnce(&mut Config, &mut Deployment),
        cache: impl FnOnce(&Deployment, &Readiness) -> Arc<dyn Cache>,
    ) -> Self {
        Self::on_with(kafka, deployment, ingest_config(), change, cache).await
    }

    /// The same whose write path differs.
    pub async fn on_with(
        kafka: Kafka,
        mut deployment: Deployment,
        ingest: IngestConfig,
        change: impl FnOnce(&mut Config, &mut Deployment),
        cache: impl FnOnce(&Deployment, &Readiness) -> Arc<dyn Cache>,
    ) -> Self {
        let topics = Topics::new(&deployment.prefix);
        let api = FakeApi::default();
        let mut config = config(&api.serve().await);
        change(&mut config, &mut deployment);

        let readiness = Readiness::default();
        let cache = cache(&deployment, &readiness);
        let parts = parts_with(&ingest, kafka.clone(), deployment, cache.clone(), readiness);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let admin_listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin = admin_listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let running = tokio::spawn(run_on_both(listener, admin_listener, config, parts, shutdown.clone()));
        let log = Log::read(&kafka, &topics.locations()).await;
        Self { addr, admin, api, log, cache, shutdown, kafka, topics, running, cluster: None }
    }

    /// A connection that has said nothing. The listener is bound already, so a gateway that is starting is waited for.
    pub async fn connect(&self, user: &str) -> Phone {
        Phone::connect(self.addr, &token(user)).await.unwrap()
    }

    /// What the admin address answers, head and body.
    pub async fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// What `/readyz` answers once it says this.
    pub async fn until_readyz(&self, part: &str) -> String {
        let asked = async {
            loop {
                let answer = self.get("/readyz").await;
                if answer.contains(part) {
                    return answer;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("/readyz does not say {part}"))
    }

    /// A session that has its welcome and an empty first answer.
    pub async fn join(&mut self, user: &str) -> (Phone, Seat) {
        self.join_by(user, hello()).await
    }

    /// A session that only watches.
    pub async fn watch(&mut self, user: &str) -> (Phone, Seat) {
        self.join_by(user, json!({"type": "hello", "device": "d2", "watch": true})).await
    }

    async fn join_by(&mut self, user: &str, hello: Value) -> (Phone, Seat) {
        let mut phone = self.connect(user).await;
        phone.send(hello).await;
        phone.expect("welcome").await;
        assert_eq!(phone.nearby().await, "[1/1? ]");
        let seat = self.seat(user).await;
        (phone, seat)
    }

    /// The session of the next hello in the log.
    pub async fn seat(&mut self, user: &str) -> Seat {
        let record = self.log.next(user, LocationKind::Hello).await;
        let route = record.event.route.unwrap();
        assert_eq!(route.gateway, "g1");
        Seat { handle: route.handle, incarnation: route.incarnation, session: record.offset }
    }

    /// A worker that owns everybody.
    pub fn worker(&self, seat: &Seat) -> Worker {
        Worker::new(&self.kafka, &self.topics.gateway("g1"), VISIBILITY_PARTITIONS, seat.incarnation)
    }

    /// Ends the cluster in this process.
    pub fn stop_kafka(&mut self) {
        self.cluster = None;
    }

    /// What the gateway ends with.
    pub async fn ended(self) -> Result<(), Error> {
        timeout(PATIENCE, self.running).await.expect("it does not end").unwrap()
    }
}
