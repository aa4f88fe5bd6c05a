//! A sink in a process of its own: this program again.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nearcast_history_sink::cql::CqlHistory;
use nearcast_history_sink::{Config, Parts, run};
use nearcast_runtime::cql;
use nearcast_runtime::lifecycle::Shutdown;
use nearcast_runtime::telemetry::{LogFormat, TelemetryConfig, init};
use nearcast_schemas::codec::Codec;
use nearcast_schemas::topics::Topics;

use crate::figures::{Cpu, Figures, resident};
use crate::stage::{cassandra, kafka};

/// Says that this process is to be a sink; the prefix of its deployment follows.
pub const SINK: &str = "--sink";

/// As `nearcast config default` has it.
fn config(admin_listen: std::net::SocketAddr) -> Config {
    Config {
        admin_listen,
        batch_records: 500,
        batch_wait: Duration::from_millis(100),
        batches_in_flight: 8,
        held_bytes: 64 << 20,
        keep_days: 90,
        drain: Duration::from_secs(20),
    }
}

/// Runs a sink until its input ends, as it does when whoever started it has gone.
pub fn serve(prefix: &str) {
    let metrics = init(&TelemetryConfig { filter: "warn".to_owned(), format: LogFormat::Text }).unwrap();
    let shutdown = Shutdown::new();
    let ends = shutdown.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        ends.begin();
    });
    // Free a moment ago.
    let admin = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let config = config(admin);
        let history = CqlHistory::new(cql::connect(&cassandra(prefix)).await.unwrap(), config.keep_days).await.unwrap();
        println!("{admin}");
        let parts = Parts {
            kafka: kafka(),
            topics: Topics::new(prefix),
            codec: Arc::new(Codec::default()),
            history: Arc::new(history),
            metrics,
        };
        run(config, parts, shutdown).await.unwrap();
    });
}

/// A running sink. Ends with it.
pub struct Sink {
    child: Child,
    input: Option<ChildStdin>,
    metrics: String,
}

impl Sink {
    pub fn start(prefix: &str) -> Self {
        // By the kernel's link and not by its path: this very program, also when it was built anew meanwhile.
        let mut child = Command::new("/proc/self/exe")
            .args([SINK, prefix])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts again");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { input: child.stdin.take(), child, metrics: format!("http://{}/metrics", line.trim()) }
    }

    /// Ends it in order.
    pub fn end(mut self) {
        self.input = None;
        assert!(self.child.wait().is_ok_and(|status| status.success()), "the sink ends well");
    }

    /// None as long as it does not serve.
    pub async fn figures(&self) -> Option<Figures> {
        let answer = reqwest::get(&self.metrics).await.ok()?;
        Some(Figures::of(&answer.text().await.ok()?))
    }

    /// Rows that it has stored.
    pub async fn stored(&self) -> u64 {
        self.figures().await.map_or(0, |figures| figures.get("nearcast_history_sink_rows_stored_total") as u64)
    }

    pub fn cpu(&self) -> Cpu {
        Cpu::of(self.child.id())
    }

    /// Bytes in memory.
    pub fn resident(&self) -> u64 {
        resident(self.child.id())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
