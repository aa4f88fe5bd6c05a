//! A worker in a process of its own: this program again.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use nearcast_fanout::{Config, Parts};
use nearcast_runtime::kafka::Kafka;
use nearcast_runtime::lifecycle::Shutdown;
use nearcast_runtime::telemetry::{LogFormat, TelemetryConfig, init};
use nearcast_schemas::codec::Codec;
use nearcast_schemas::deployment::Deployment;

use crate::figures::{Cpu, Figures};
use crate::stage;

/// Says that this process is to be a worker; the prefix follows, and the folder of its snapshots if it has one.
pub const WORKER: &str = "--worker";
/// How long a case waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks.
pub const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Runs a worker until its input ends, as it does when whoever started it has gone.
pub fn serve(prefix: &str, snapshots: Option<&str>) {
    let telemetry = TelemetryConfig { filter: "warn".to_owned(), format: LogFormat::Text };
    let metrics = init(&telemetry).unwrap();
    let shutdown = Shutdown::new();
    let ends = shutdown.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        ends.begin();
    });
    let parts =
        Parts { deployment: deployment(prefix), kafka: Kafka::new(stage::config()), codec: Codec::default(), metrics };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        nearcast_fanout::run_on(listener, config(snapshots), parts, shutdown).await.unwrap();
    });
}

/// As `nearcast config default` has it.
fn deployment(prefix: &str) -> Deployment {
    Deployment {
        prefix: prefix.to_owned(),
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

/// As `nearcast config default` has it, but for snapshots, which a case should not wait for.
fn config(snapshots: Option<&str>) -> Config {
    Config {
        admin_listen: ([127, 0, 0, 1], 0).into(),
        worker: "bench".to_owned(),
        tick: Duration::from_millis(10),
        tick_max: Duration::from_millis(50),
        heartbeat: Duration::from_secs(1),
        digest_every: Duration::from_secs(60),
        resets_per_tick: 500,
        discovery_max: 20,
        delivery_timeout: Duration::from_secs(30),
        stall_after: Duration::from_secs(30),
        drain: Duration::from_secs(10),
        snapshot_dir: snapshots.map(PathBuf::from).unwrap_or_default(),
        snapshot_every: Duration::from_secs(2),
    }
}

/// A running worker. Ends with it.
pub struct Worker {
    child: Child,
    began: Instant,
    input: Option<ChildStdin>,
    admin: SocketAddr,
}

impl Worker {
    /// With a folder for snapshots, if it is to have any.
    pub fn start(prefix: &str, snapshots: Option<&Path>) -> Self {
        let began = Instant::now();
        // By the kernel's link and not by its path: this very program, also when it was built anew meanwhile.
        let mut child = Command::new("/proc/self/exe")
            .args([WORKER, prefix])
            .args(snapshots)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts again");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let admin = line.trim().parse().expect("a worker says where its health is");
        Self { input: child.stdin.take(), child, began, admin }
    }

    /// Ends it in order.
    pub fn end(mut self) {
        self.input = None;
        assert!(self.child.wait().is_ok_and(|status| status.success()), "the worker ends well");
    }

    /// Since its process was started.
    pub fn age(&self) -> Duration {
        self.began.elapsed()
    }

    pub fn is_ready(&self) -> bool {
        self.get("/readyz").starts_with("HTTP/1.1 200")
    }

    pub fn figures(&self) -> Figures {
        Figures::of(&self.get("/metrics"))
    }

    pub fn cpu(&self) -> Cpu {
        Cpu::of(self.child.id())
    }

    /// Bytes in memory.
    pub fn resident(&self) -> u64 {
        crate::figures::resident(self.child.id())
    }

    /// Looks until the figures are right, and returns them.
    pub fn until(&self, what: &str, right: impl Fn(&Figures) -> bool) -> Figures {
        let begun = Instant::now();
        loop {
            let figures = self.figures();
            if right(&figures) {
                return figures;
            }
            assert!(begun.elapsed() < PATIENCE, "{what} did not come");
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Everybody has been told their view.
    pub fn until_settled(&self, users: u32) -> Figures {
        self.until("a view of everybody", |figures| {
            let resets = figures.sum("nearcast_fanout_resets_total");
            resets >= f64::from(users) && figures.get("nearcast_fanout_lag_records") == 0.0
        })
    }

    /// Kafka has everything that was written until now.
    pub fn until_acknowledged(&self) {
        let written = self.figures().sum("nearcast_fanout_batches_total");
        self.until("the last acknowledgement", |figures| {
            figures.get("nearcast_fanout_delivery_ack_seconds_count") >= written
        });
    }

    pub fn pause(&self) {
        self.signal("-STOP");
    }

    pub fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "kill {signal}");
    }

    fn get(&self, path: &str) -> String {
        let mut answer = String::new();
        let mut stream = TcpStream::connect(self.admin).expect("the worker answers");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: worker\r\nConnection: close\r\n\r\n").unwrap();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
