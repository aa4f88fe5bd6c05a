//! A cluster of the test's own, by the script that `make up-cluster` uses.
#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Which one.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Of its directory.
    pub name: &'static str,
    /// All its ports are from here on, apart from those of `make up-cluster` and of the other tests.
    pub base: u16,
    /// The balancer speaks TLS to gateways too.
    pub inner_tls: bool,
    /// Further settings of every service, one a word.
    pub settings: &'static str,
}

/// Stopped, and its data removed, when it is dropped.
pub struct Cluster {
    plan: Plan,
    pub directory: PathBuf,
    stopped: bool,
}

impl Cluster {
    /// Starts everything and waits until it serves.
    pub async fn start(plan: Plan) -> Self {
        let cluster = Self::cleared(plan);
        cluster.up().await;
        cluster
    }

    /// A directory with nothing in it.
    pub fn cleared(plan: Plan) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(plan.name);
        let cluster = Self { plan, directory, stopped: false };
        // What a run that was killed has left.
        cluster.wipe();
        fs::create_dir_all(&cluster.directory).unwrap();
        cluster
    }

    /// Starts everything in it and waits until it serves.
    pub async fn up(&self) {
        self.run("cluster.sh", &["up"]).await;
    }

    /// Ends everything; each process has to end well.
    pub async fn stop(mut self) {
        self.run("cluster.sh", &["down"]).await;
        self.stopped = true;
    }

    /// Runs a script of `infra/cluster`, which must succeed, and returns what it printed.
    pub async fn run(&self, script: &str, args: &[&str]) -> String {
        let output = self.output(self.command(script, args)).await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script} {args:?}: {said}{errors}");
        said
    }

    /// What a command says, and its status.
    pub async fn output(&self, mut command: Command) -> Output {
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    /// `host:port` of the balancer.
    pub fn edge(&self) -> String {
        format!("localhost:{}", self.port(443))
    }

    /// The certificate of the authority that vouches for it.
    pub fn authority(&self) -> PathBuf {
        self.directory.join("tls/authority.pem")
    }

    /// One of its ports by its number in the table of `infra/cluster/README.md`.
    pub fn port(&self, number: u16) -> u16 {
        self.plan.base + number
    }

    /// What every service is set to besides.
    pub fn settings(&self) -> &'static str {
        self.plan.settings
    }

    /// A script of `infra/cluster` with the environment that makes it this cluster's.
    pub fn command(&self, script: &str, args: &[&str]) -> Command {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/cluster");
        let mut command = Command::new(scripts.join(script));
        command.args(args).stdin(Stdio::null());
        command.env("NEARCAST_CLUSTER", &self.directory).env("NEARCAST_CLUSTER_BASE", self.plan.base.to_string());
        command.env("NEARCAST_BIN", env!("CARGO_BIN_EXE_nearcast"));
        if self.plan.inner_tls {
            command.env("NEARCAST_EDGE_TLS", "1");
        }
        command.env("NEARCAST_SETTINGS", self.plan.settings);
        command
    }

    /// The log of each process.
    pub fn logs(&self) -> Vec<(String, PathBuf)> {
        let entries = fs::read_dir(&self.directory).unwrap().flatten();
        let logs = entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path().join("log")));
        logs.filter(|(_, log)| log.exists()).collect()
    }

    /// Stops what runs, keeps the logs, and removes the rest.
    fn wipe(&self) {
        if !self.directory.exists() {
            return;
        }
        if !self.stopped {
            let _ = self.command("cluster.sh", &["down"]).stdout(Stdio::null()).status();
        }
        let kept = self.directory.with_file_name(format!("{}-logs", self.plan.name));
        let _ = fs::remove_dir_all(&kept);
        fs::create_dir_all(&kept).unwrap();
        for (name, log) in self.logs() {
            let _ = fs::copy(log, kept.join(name).with_extension("log"));
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.wipe();
    }
}
