//! A real Kafka broker of a test's own, which can be stopped for a while.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use nearcast_runtime::kafka::{Kafka, KafkaConfig};
use tempfile::TempDir;

use crate::world::PATIENCE;

/// Ends, and its data with it, when it is dropped.
pub struct Broker {
    directory: TempDir,
    port: u16,
}

impl Broker {
    /// Starts it by the script that `make up` uses, from the jars that that has fetched.
    pub fn start() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let local = std::env::var_os("NEARCAST_LOCAL").map_or_else(|| root.join(".local"), PathBuf::from);
        let directory = tempfile::tempdir().unwrap();
        let own = directory.path().join("kafka");
        std::fs::create_dir(&own).unwrap();
        let jars = local.canonicalize().expect("run `make up`").join("kafka/libs");
        std::os::unix::fs::symlink(jars, own.join("libs")).unwrap();
        let broker = Self { directory, port: two_free_ports() };
        broker.script("up");
        broker
    }

    /// How to reach it.
    pub fn kafka(&self) -> Kafka {
        Kafka::new(KafkaConfig {
            bootstrap: format!("127.0.0.1:{}", self.port),
            embedded: false,
            startup_wait: PATIENCE,
            options: Default::default(),
        })
    }

    /// Sends it a signal, such as `-STOP`.
    pub fn signal(&self, signal: &str) {
        let pid = std::fs::read_to_string(self.directory.path().join("kafka/pid")).unwrap();
        assert!(Command::new("kill").args([signal, pid.trim()]).status().unwrap().success());
    }

    fn script(&self, verb: &str) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/local/kafka.sh");
        let mut command = Command::new(script);
        command.arg(verb).env("NEARCAST_LOCAL", self.directory.path());
        let said = command.env("NEARCAST_KAFKA_PORT", self.port.to_string()).output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stdout));
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Its data is not kept: it need not end in order. A test that fails ends it, too.
        let _ = std::panic::catch_unwind(|| self.signal("-KILL"));
    }
}

/// A port that was free a moment ago, with the next one, for the broker and its controller. Below those that the system
/// hands out.
fn two_free_ports() -> u16 {
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let begin = (std::process::id() % 450) as u16;
    let mut pairs = (0..450).map(|number| 11_000 + 2 * ((begin + number) % 450));
    pairs.find(|port| free(port) && free(&(port + 1))).expect("two ports")
}
