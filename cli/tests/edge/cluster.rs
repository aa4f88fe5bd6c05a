//! A cluster of the test's own, by the script that `make up-cluster` uses.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// All its ports are from here on, apart from those of `make up-cluster`.
const BASE: u16 = 31_000;

/// Stopped, and its data removed, when it is dropped.
pub struct Cluster {
    directory: PathBuf,
    stopped: bool,
}

impl Cluster {
    /// Starts everything and waits until it serves.
    pub async fn start() -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("edge");
        let cluster = Self { directory, stopped: false };
        // What a run that was killed has left.
        cluster.wipe();
        fs::create_dir_all(&cluster.directory).unwrap();
        cluster.run("cluster.sh", &["up"]).await;
        cluster
    }

    /// Ends everything; each process has to end well.
    pub async fn stop(mut self) {
        self.run("cluster.sh", &["down"]).await;
        self.stopped = true;
    }

    /// Runs a script of `infra/cluster`, which must succeed, and returns what it printed.
    pub async fn run(&self, script: &str, args: &[&str]) -> String {
        let mut command = self.command(script, args);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script} {args:?}: {said}{errors}");
        said
    }

    /// `host:port` of the balancer.
    pub fn edge(&self) -> String {
        format!("localhost:{}", BASE + 443)
    }

    /// The certificate of the authority that vouches for it.
    pub fn authority(&self) -> PathBuf {
        self.directory.join("tls/authority.pem")
    }

    fn command(&self, script: &str, args: &[&str]) -> Command {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/cluster");
        let mut command = Command::new(scripts.join(script));
        command.args(args).stdin(Stdio::null());
        command.env("NEARCAST_CLUSTER", &self.directory).env("NEARCAST_CLUSTER_BASE", BASE.to_string());
        command.env("NEARCAST_BIN", env!("CARGO_BIN_EXE_nearcast"));
        // The balancer speaks TLS to gateways too.
        command.env("NEARCAST_EDGE_TLS", "1");
        // A client that is told to go elsewhere comes back within this time; ten seconds would only be waited for.
        command.env("NEARCAST_SETTINGS", "gateway.drain_spread_ms=2000");
        command
    }

    /// Stops what runs, keeps the logs, and removes the rest.
    fn wipe(&self) {
        if !self.directory.exists() {
            return;
        }
        if !self.stopped {
            let _ = self.command("cluster.sh", &["down"]).stdout(Stdio::null()).status();
        }
        let logs = self.directory.with_file_name("edge-logs");
        let _ = fs::remove_dir_all(&logs);
        fs::create_dir_all(&logs).unwrap();
        for entry in fs::read_dir(&self.directory).unwrap().flatten() {
            let log = entry.path().join("log");
            if log.exists() {
                let _ = fs::copy(log, logs.join(entry.file_name()).with_extension("log"));
            }
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.wipe();
    }
}
