//! The services, each a process of the one binary.

use std::fs;

use nearcast_runtime::Secret;
use nearcast_runtime::auth::{AuthConfig, Signer};

use crate::run::{Running, Stack, free, good, metrics, strs, until_body};

/// One service.
pub struct Service {
    pub name: &'static str,
    /// Where health and metrics are.
    pub address: String,
    running: Running,
}

/// A deployment in processes.
pub struct Services {
    pub stack: Stack,
    pub ws: String,
    pub api: String,
    pub all: Vec<Service>,
    http: reqwest::Client,
}

impl Services {
    /// Starts everything and waits until it is ready.
    pub async fn start() -> Self {
        let stack = Stack::new();
        good(&strs(&stack.args(&["topics", "create"])));
        good(&strs(&stack.args(&["migrate"])));
        let (ws, api) = (free(), free());
        let mut all = Vec::new();
        for name in ["api", "fanout", "history-sink", "gateway"] {
            let address = if name == "api" { api.clone() } else { free() };
            let set = match name {
                "api" => vec![format!("api.listen={api}")],
                "fanout" => vec![format!("fanout.admin_listen={address}")],
                "history-sink" => vec![format!("history_sink.admin_listen={address}")],
                _ => vec![
                    format!("gateway.listen={ws}"),
                    format!("gateway.admin_listen={address}"),
                    format!("gateway.api_url=http://{api}"),
                    "gateway.drain_spread_ms=0".to_owned(),
                    // Few phones are to do what many would.
                    "gateway.messages_per_s=10000".to_owned(),
                ],
            };
            let mut args = stack.args(&[name]);
            for set in set {
                args.extend(["--set".to_owned(), set]);
            }
            let running = Running::start(&strs(&args));
            until_body(&format!("http://{address}/readyz"), "\"ready\":true").await;
            all.push(Service { name, address, running });
        }
        Self { stack, ws, api, all, http: reqwest::Client::new() }
    }

    /// Bytes of each process in memory.
    pub fn resident(&self) -> Vec<(&'static str, u64)> {
        self.all.iter().map(|service| (service.name, resident(service.running.pid()))).collect()
    }

    /// What a service counts.
    pub async fn metrics(&self, name: &str) -> Metrics {
        let service = self.all.iter().find(|service| service.name == name).expect("a service");
        let url = format!("http://{}/metrics", service.address);
        Metrics(self.http.get(url).send().await.unwrap().text().await.unwrap())
    }

    /// Ends everything in order and deletes what it made.
    pub async fn end(self) {
        for service in self.all.into_iter().rev() {
            let (code, log) = service.running.stop();
            assert_eq!(code, 0, "{}: {log}", service.name);
        }
        self.stack.clean().await;
    }
}

/// The text of `/metrics`.
pub struct Metrics(String);

impl Metrics {
    /// The sum over the lines of a name that have this label.
    pub fn sum(&self, name: &str, label: &str) -> f64 {
        metrics::sum(&self.0, name, label)
    }

    /// The largest of the lines of a name.
    pub fn max(&self, name: &str) -> f64 {
        metrics::values(&self.0, name, "").fold(0.0, f64::max)
    }
}

fn resident(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("the service runs");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel names the field");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of kilobytes") * 1_024
}

/// Signs users' tokens as `nearcast token` does.
pub fn signer() -> Signer {
    let config = AuthConfig {
        hs256_secret: Some(Secret::new("the development secret of nearcast, known to everybody")),
        audience: "nearcast".into(),
        ..AuthConfig::default()
    };
    Signer::new(&config).unwrap()
}
