//! One process of the cluster, as `cluster.sh` names it.

use std::fmt;
use std::process::Command;

use crate::cluster::Cluster;

/// Such as `kafka 2`, or `cassandra`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    name: &'static str,
    ordinal: Option<i32>,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ordinal {
            Some(ordinal) => write!(f, "{} {ordinal}", self.name),
            None => f.write_str(self.name),
        }
    }
}

impl Part {
    pub fn of(name: &'static str, ordinal: i32) -> Self {
        Self { name, ordinal: Some(ordinal) }
    }

    pub fn cassandra() -> Self {
        Self { name: "cassandra", ordinal: None }
    }

    /// Its directory.
    pub fn directory(&self) -> String {
        self.to_string().replace(' ', "-")
    }

    /// Sends it a signal, such as `-STOP`.
    pub async fn signal(&self, cluster: &Cluster, signal: &str) -> Result<(), String> {
        let pid = self.told(cluster, "pid", "").await?;
        let sent = Command::new("kill").args([signal, pid.trim()]).status().unwrap();
        if sent.success() { Ok(()) } else { Err(format!("{self} got no {signal}")) }
    }

    /// Whether it runs.
    pub async fn runs(&self, cluster: &Cluster) -> bool {
        self.told(cluster, "pid", "").await.is_ok()
    }

    /// Starts it, unless it runs, and waits until it answers.
    pub async fn start(&self, cluster: &Cluster) -> Result<(), String> {
        self.start_with(cluster, "").await
    }

    /// The same with a setting beside those of the cluster.
    pub async fn start_with(&self, cluster: &Cluster, setting: &str) -> Result<(), String> {
        self.told(cluster, "start", setting).await.map(drop)
    }

    /// Asks it to end, and waits until it has.
    pub async fn stop(&self, cluster: &Cluster) -> Result<(), String> {
        self.told(cluster, "stop", "").await.map(drop)
    }

    async fn told(&self, cluster: &Cluster, verb: &str, setting: &str) -> Result<String, String> {
        let words = self.to_string();
        let args: Vec<&str> = std::iter::once(verb).chain(words.split(' ')).collect();
        let mut command = cluster.command("cluster.sh", &args);
        if !setting.is_empty() {
            command.env("NEARCAST_SETTINGS", format!("{} {setting}", cluster.settings()));
        }
        let output = cluster.output(command).await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(said);
        }
        Err(format!("cluster.sh {verb} {self}: {said}{}", String::from_utf8_lossy(&output.stderr)))
    }
}
