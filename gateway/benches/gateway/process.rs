//! A server in a process of its own: this program again.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nearcast_gateway::{Config, ForwardedHeader, Networks, Parts, ProxyProtocol, run_on_both};
use nearcast_ingest::{Config as IngestConfig, Ingest, RedisCache, RedisConfig};
use nearcast_runtime::Secret;
use nearcast_runtime::auth::Verifier;
use nearcast_runtime::health::Readiness;
use nearcast_runtime::kafka::{Kafka, KafkaConfig};
use nearcast_runtime::lifecycle::Shutdown;
use nearcast_runtime::telemetry::{LogFormat, TelemetryConfig, init};
use nearcast_schemas::codec::Codec;
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::echo;
use crate::secure::{CERTIFICATE, KEY_FILE};
use crate::stage::{GATEWAY, KEY, auth, deployment};

/// Which server a process is to be.
#[derive(Clone, Debug)]
pub enum Serves {
    /// A gateway on this cluster, with this API; with the certificate and the key of a folder, TLS.
    Gateway { kafka: KafkaConfig, api: String, tls: Option<PathBuf>, coalesce_ms: u32 },
    /// Echo with the library's defaults.
    Echo,
    /// Echo with a read buffer as small as the gateway's.
    SmallEcho,
}

/// Serves if the arguments say so, until the input ends, as it does when whoever started it has gone.
pub fn serve(arguments: &[String]) -> bool {
    let told = |flag: &str| arguments.iter().position(|argument| argument == flag).map(|at| &arguments[at + 1..]);
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if let Some(rest) = told("--gateway") {
        let kafka = serde_json::from_str(&rest[0]).expect("the cluster's settings");
        let coalesce_ms = rest[2].parse().expect("milliseconds");
        runtime().block_on(gateway(kafka, config(rest[1].clone(), coalesce_ms, rest.get(3).map(Path::new))));
        return true;
    }
    if let Some(rest) = told("--echo") {
        let small = WebSocketConfig::default().read_buffer_size(1_024).write_buffer_size(4_096);
        let config = if rest[0] == "small" { small } else { WebSocketConfig::default() };
        runtime().block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            println!("{}", listener.local_addr().unwrap());
            tokio::select! {
                () = echo::serve(listener, config) => {}
                _ = tokio::task::spawn_blocking(input_ends) => {}
            }
        });
        return true;
    }
    false
}

fn input_ends() {
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

async fn gateway(kafka: KafkaConfig, config: Config) {
    let metrics = init(&TelemetryConfig { filter: "warn".to_owned(), format: LogFormat::Text }).unwrap();
    let shutdown = Shutdown::new();
    let ends = shutdown.clone();
    std::thread::spawn(move || {
        input_ends();
        ends.begin();
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let admin = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    let deployment = deployment();
    let (kafka, codec, readiness) = (Kafka::new(kafka), Codec::default(), Readiness::default());
    let redis = RedisConfig {
        nodes: vec![std::env::var("NEARCAST_TEST_REDIS").unwrap_or_else(|_| "redis://127.0.0.1:26379".to_owned())],
        cluster: false,
        username: None,
        password: None,
        timeout: Duration::from_secs(5),
        max_waiting_writes: 100_000,
    };
    let (cache, writer) = RedisCache::new(&redis, &deployment).unwrap();
    tokio::spawn(writer.run(readiness.component("cache"), shutdown.clone()));
    let cache = Arc::new(cache);
    let write = IngestConfig {
        linger: Duration::from_millis(5),
        delivery_timeout: Duration::from_secs(30),
        max_in_flight: 100_000,
        max_age_s: 60,
        max_late_days: 30,
    };
    let ingest = Ingest::new(&write, &deployment, codec.clone(), &kafka, cache.clone()).unwrap();
    let parts = Parts {
        deployment,
        codec,
        kafka,
        ingest,
        cache,
        verifier: Verifier::new(&auth()).unwrap(),
        internal_key: Secret::new(KEY),
        readiness,
        metrics,
    };
    run_on_both(listener, admin, config, parts, shutdown).await.unwrap();
}

/// As `nearcast config default` has it, but for a farewell that is not spread.
fn config(api_url: String, coalesce_ms: u32, tls: Option<&Path>) -> Config {
    let file = |name| tls.map(|folder| folder.join(name)).unwrap_or_default();
    Config {
        id: GATEWAY.into(),
        listen: ([127, 0, 0, 1], 0).into(),
        threads: 0,
        tls_certificate: file(CERTIFICATE),
        tls_key: file(KEY_FILE),
        proxy_protocol: ProxyProtocol::Off,
        trusted_proxies: Networks::default(),
        forwarded_header: ForwardedHeader::Forwarded,
        admin_listen: ([127, 0, 0, 1], 0).into(),
        api_url,
        api_timeout_ms: 10_000,
        handshake_timeout_s: 60,
        hello_timeout_s: 60,
        ping_every_s: 25,
        slow_after_s: 300,
        message_bytes: 131_072,
        messages_per_s: 20,
        coalesce_ms,
        waiting_bytes: 8 << 20,
        reset_wait_s: 60,
        max_unanswered: 256,
        max_connections: 100_000,
        max_connections_per_address: 0,
        handshakes_per_s: 0,
        handshakes_per_s_per_address: 0,
        send_buffer_bytes: 16_384,
        drain_spread_ms: 0,
        grace_s: 10,
    }
}

/// A running server. Ends with it.
pub struct Server {
    child: Child,
    _input: ChildStdin,
    pub addr: SocketAddr,
}

impl Server {
    pub fn start(serves: &Serves) -> Self {
        let arguments = match serves {
            Serves::Gateway { kafka, api, tls, coalesce_ms } => {
                let kafka = serde_json::to_string(kafka).unwrap();
                let tls = tls.iter().map(|folder| folder.to_str().expect("a path of text").to_owned());
                ["--gateway".to_owned(), kafka, api.clone(), coalesce_ms.to_string()].into_iter().chain(tls).collect()
            }
            Serves::Echo => vec!["--echo".to_owned(), "default".to_owned()],
            Serves::SmallEcho => vec!["--echo".to_owned(), "small".to_owned()],
        };
        // By the kernel's link and not by its path: this very program, also when it was built anew meanwhile.
        let mut child = Command::new("/proc/self/exe")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts again");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let addr = line.trim().parse().expect("a server says where it listens");
        Self { _input: child.stdin.take().unwrap(), child, addr }
    }

    /// Bytes of its own in memory: what it allocated, and no shared pages of programs.
    pub fn resident(&self) -> f64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the server runs");
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("the kernel names the field");
        line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number of kilobytes") * 1_024.0
    }

    /// Microseconds on processors so far, of all its threads.
    pub fn cpu_us(&self) -> f64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("the server runs");
        let of_task = |task: fs::DirEntry| {
            let times = fs::read_to_string(task.path().join("schedstat")).ok()?;
            times.split(' ').next()?.parse::<f64>().ok()
        };
        tasks.filter_map(Result::ok).filter_map(of_task).sum::<f64>() / 1_000.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
