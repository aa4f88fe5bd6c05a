//! Servers, deployments and waiting, for the tests of this crate.
#![allow(dead_code)]

use std::future::Future;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nearcast_ingest::{Config, RawFix, RedisCache, RedisConfig};
use nearcast_runtime::health::Readiness;
use nearcast_runtime::kafka::{Kafka, KafkaConfig};
use nearcast_runtime::lifecycle::Shutdown;
use nearcast_schemas::delivery::FriendPosition;
use nearcast_schemas::deployment::Deployment;
use nearcast_schemas::event::{Mode, Role, Route, Sharing};
use tempfile::TempDir;

/// 2025-10-09.
pub const NOW: i64 = 1_760_000_000_000;

pub fn random_prefix() -> String {
    format!("t{:016x}", rand::random::<u64>())
}

pub fn deployment() -> Deployment {
    Deployment {
        prefix: random_prefix(),
        friend_ttl_s: 600,
        default_radius_m: 8_000,
        max_radius_m: 8_000,
        max_silence_s: 180,
        min_move_m: 10.0,
        report_interval_s: 30,
        coarse_resolution: 7,
        coarse_period_s: 300,
    }
}

pub fn config() -> Config {
    Config {
        linger: Duration::from_millis(5),
        delivery_timeout: Duration::from_secs(30),
        max_in_flight: 10_000,
        max_age_s: 60,
        max_late_days: 30,
    }
}

pub fn kafka_at(bootstrap: &str) -> Kafka {
    Kafka::new(KafkaConfig {
        bootstrap: bootstrap.to_owned(),
        embedded: false,
        startup_wait: Duration::from_secs(5),
        options: Default::default(),
    })
}

/// The real Kafka.
pub async fn kafka() -> Kafka {
    let bootstrap = std::env::var("NEARCAST_TEST_KAFKA").unwrap_or_else(|_| "127.0.0.1:29092".to_owned());
    let kafka = kafka_at(&bootstrap);
    let up = kafka.wait_until_up(&Readiness::default().component("kafka")).await;
    assert!(up.is_ok(), "no Kafka at {bootstrap}: run `make up`");
    kafka
}

/// The real Redis.
pub fn redis_url() -> String {
    std::env::var("NEARCAST_TEST_REDIS").unwrap_or_else(|_| "redis://127.0.0.1:26379".to_owned())
}

pub fn redis_config(nodes: Vec<String>, cluster: bool) -> RedisConfig {
    RedisConfig {
        nodes,
        cluster,
        username: None,
        password: None,
        // Generous: these tests share their machine.
        timeout: Duration::from_secs(5),
        max_waiting_writes: 10_000,
    }
}

/// A cache whose writer runs until the end of the test.
pub fn redis_cache(config: &RedisConfig, deployment: &Deployment) -> (RedisCache, Readiness) {
    let (cache, writer) = RedisCache::new(config, deployment).unwrap();
    let readiness = Readiness::default();
    tokio::spawn(writer.run(readiness.component("redis"), Shutdown::new()));
    (cache, readiness)
}

pub async fn redis_connection(url: &str) -> redis::aio::MultiplexedConnection {
    let connection = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await;
    connection.unwrap_or_else(|error| panic!("no Redis at {url}: {error}; run `make up`"))
}

pub fn raw(n: i64, lat: f64, time: i64) -> RawFix {
    RawFix {
        n,
        lat,
        lon: 11.0,
        time,
        accuracy_m: Some(5.0),
        speed_mps: None,
        heading_deg: Some(90.0),
        altitude_m: None,
    }
}

pub fn route(role: Role) -> Route {
    Route { gateway: "gw-0".to_owned(), incarnation: 7, handle: 1, role }
}

pub fn mode(sharing: Sharing, version: i64) -> Mode {
    Mode { sharing, until: 0, discoverable: false, version }
}

pub fn place(lat: f64, at: i64, coarse: bool) -> FriendPosition {
    FriendPosition {
        lat,
        lon: 11.123_456_789_012_3,
        at,
        coarse,
        accuracy_m: (!coarse).then_some(4.2),
        speed_mps: None,
        heading_deg: (!coarse).then_some(271.25),
    }
}

/// Waits until it holds.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}: not within 30 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Ports that nobody listens on, and that nobody is given by chance: those from 32768 on are handed out to whoever
/// connects or asks for any.
pub fn free_ports<const N: usize>() -> [u16; N] {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Processes begin apart from each other.
    let begin = std::process::id().wrapping_mul(257);
    [(); N].map(|()| {
        loop {
            let number = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
            // Below 28 000.
            let port = 12_000 + (number % 16_000) as u16;
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return port;
            }
        }
    })
}

/// A Redis of the test's own, which it may stop and start.
pub struct RedisServer {
    pub url: String,
    pub port: u16,
    pub bus_port: u16,
    cluster: bool,
    directory: TempDir,
    process: Option<Child>,
}

impl RedisServer {
    /// Reserved, not started.
    pub fn new(cluster: bool) -> Self {
        let [port, bus_port] = free_ports();
        let url = format!("redis://127.0.0.1:{port}");
        Self { url, port, bus_port, cluster, directory: tempfile::tempdir().unwrap(), process: None }
    }

    /// Starts it, empty.
    pub async fn start(&mut self) {
        let mut command = Command::new("redis-server");
        command.current_dir(self.directory.path()).args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.args(["--port", &self.port.to_string()]);
        if self.cluster {
            command.args(["--cluster-enabled", "yes", "--cluster-port", &self.bus_port.to_string()]);
        }
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.process = Some(process.unwrap_or_else(|error| panic!("redis-server: {error}; run `make setup`")));
        until("redis-server answers", || async {
            let client = redis::Client::open(self.url.as_str()).unwrap();
            let Ok(mut connection) = client.get_multiplexed_async_connection().await else { return false };
            redis::cmd("PING").query_async::<String>(&mut connection).await.is_ok()
        })
        .await;
    }

    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Three nodes that share the slots.
pub async fn redis_cluster() -> [RedisServer; 3] {
    let mut nodes = [(); 3].map(|()| RedisServer::new(true));
    for node in &mut nodes {
        node.start().await;
    }
    for (node, (from, to)) in nodes.iter().zip([(0, 5_460), (5_461, 10_922), (10_923, 16_383)]) {
        let mut connection = redis_connection(&node.url).await;
        let mut slots = redis::cmd("CLUSTER");
        slots.arg("ADDSLOTSRANGE").arg(from).arg(to);
        slots.query_async::<()>(&mut connection).await.unwrap();
        for other in &nodes {
            let mut meet = redis::cmd("CLUSTER");
            meet.arg("MEET").arg("127.0.0.1").arg(other.port).arg(other.bus_port);
            meet.query_async::<()>(&mut connection).await.unwrap();
        }
    }
    for node in &nodes {
        until("the cluster is whole", || async {
            let mut connection = redis_connection(&node.url).await;
            let info: String = redis::cmd("CLUSTER").arg("INFO").query_async(&mut connection).await.unwrap();
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
        })
        .await;
    }
    nodes
}
