//! Whether the cluster is itself: everything is there, ready, and in sync.

use std::process::Command;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::brokers::Brokers;
use crate::cluster::Cluster;

/// After a fault is over everything is back within this, or something hangs.
const PATIENCE: Duration = Duration::from_secs(180);
const LOOK_EVERY: Duration = Duration::from_millis(250);
const REDIS_NODES: u16 = 6;
/// Where health is asked, see `infra/cluster/README.md`.
const SERVICES: [(&str, u16); 4] = [("gateway", 520), ("api", 540), ("fanout", 560), ("history-sink", 580)];

/// Waits until the cluster is itself; otherwise what is missing.
pub async fn until_whole(cluster: &Cluster, brokers: &Brokers) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let Err(missing) = whole(cluster, brokers).await else { return Ok(()) };
        if Instant::now() > deadline {
            return Err(format!("not itself within {PATIENCE:?}: {missing}"));
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Waits until the sinks have stored everything that is in the log now.
pub async fn until_stored(brokers: &Brokers) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    let ends = loop {
        match brokers.ends().await {
            Ok(ends) => break ends,
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => sleep(LOOK_EVERY).await,
        }
    };
    loop {
        let lag = brokers.lag(&ends).await;
        if lag == Ok(0) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("the history is not up to date within {PATIENCE:?}: {lag:?} records behind"));
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn whole(cluster: &Cluster, brokers: &Brokers) -> Result<(), String> {
    brokers.whole().await?;
    for (service, port) in SERVICES {
        for ordinal in 1..=2 {
            let url = format!("http://127.0.0.1:{}/readyz", cluster.port(port + ordinal));
            let asked = reqwest::Client::new().get(url).timeout(Duration::from_secs(5)).send().await;
            let ready = asked.is_ok_and(|answer| answer.status().is_success());
            if !ready {
                return Err(format!("{service} {ordinal} is not ready"));
            }
        }
    }
    for node in 1..=REDIS_NODES {
        let info = redis(cluster, node, &["cluster", "info"])?;
        if !info.contains("cluster_state:ok") || !info.contains("cluster_slots_ok:16384") {
            return Err(format!("redis {node}: the cluster is not whole"));
        }
        if redis(cluster, node, &["info", "replication"])?.contains("master_link_status:down") {
            return Err(format!("redis {node} is not in sync"));
        }
    }
    let cassandra = TcpStream::connect(("127.0.0.1", cluster.port(42))).await;
    cassandra.map_err(|error| format!("cassandra: {error}"))?;
    let balancer = cluster.run("balancer.sh", &["show"]).await;
    match balancer.lines().skip(1).find(|line| line.split_whitespace().nth(1) != Some("UP")) {
        Some(line) => Err(format!("the balancer says: {line}")),
        None => Ok(()),
    }
}

/// The first master.
pub fn redis_master(cluster: &Cluster) -> Result<i32, String> {
    for node in 1..=REDIS_NODES {
        if redis(cluster, node, &["info", "replication"])?.contains("role:master") {
            return Ok(i32::from(node));
        }
    }
    Err("no node of Redis is a master".to_owned())
}

fn redis(cluster: &Cluster, node: u16, args: &[&str]) -> Result<String, String> {
    let port = cluster.port(370 + node).to_string();
    let output = Command::new("timeout").args(["5", "redis-cli", "-p", &port]).args(args).output().unwrap();
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("redis {node} does not answer"))
}
