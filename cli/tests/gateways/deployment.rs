//! The services, each a process of the one binary.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Plan;
use crate::run::{PATIENCE, Running, Stack, free, good, strs, until_body};

/// A deployment in processes.
pub struct Deployment {
    pub stack: Stack,
    plan: Plan,
    pub api: String,
    gateways: Vec<Gateway>,
    others: Vec<(&'static str, Running)>,
}

struct Gateway {
    ws: String,
    admin: String,
    running: Option<Running>,
    /// What was logged by those before.
    logged: String,
}

/// How a gateway ended.
pub struct Ended {
    pub code: i32,
    pub took: Duration,
    pub log: String,
}

impl Deployment {
    /// Starts everything and waits until it is ready.
    pub async fn start(plan: Plan) -> Self {
        let gateway = || Gateway { ws: free(), admin: free(), running: None, logged: String::new() };
        let mut deployment =
            Self { stack: Stack::new(), plan, api: free(), gateways: vec![gateway(), gateway()], others: Vec::new() };
        good(&strs(&deployment.args("topics", &["create"], &[])));
        good(&strs(&deployment.args("migrate", &[], &[])));
        let (fanout, sink) = (free(), free());
        let api = deployment.api.clone();
        for (service, set) in [
            ("api", vec![format!("api.listen={api}")]),
            // So that a short run compares some digests.
            ("fanout", vec![format!("fanout.admin_listen={fanout}"), "fanout.digest_every=3s".to_owned()]),
            ("history-sink", vec![format!("history_sink.admin_listen={sink}")]),
        ] {
            let running = Running::start(&strs(&deployment.args(service, &[], &set)));
            deployment.others.push((service, running));
        }
        for address in [&api, &fanout, &sink] {
            until_body(&format!("http://{address}/readyz"), "\"ready\":true").await;
        }
        for gateway in 0..deployment.gateways.len() {
            deployment.start_gateway(gateway).await;
        }
        deployment
    }

    /// Starts a gateway and waits until it is ready.
    pub async fn start_gateway(&mut self, gateway: usize) {
        let drain_spread = format!("gateway.drain_spread_ms={}", self.plan.drain_spread.as_millis());
        self.start_gateway_with(gateway, &[drain_spread]).await;
    }

    /// The same with these settings.
    pub async fn start_gateway_with(&mut self, gateway: usize, further: &[String]) {
        let Gateway { ws, admin, .. } = &self.gateways[gateway];
        let set = [
            format!("gateway.id={}", gateway + 1),
            format!("gateway.listen={ws}"),
            format!("gateway.admin_listen={admin}"),
            format!("gateway.api_url=http://{}", self.api),
        ];
        let set = [&set, further].concat();
        let ready = format!("http://{admin}/readyz");
        let running = Running::start(&strs(&self.args("gateway", &[], &set)));
        self.gateways[gateway].running = Some(running);
        until_body(&ready, "\"ready\":true").await;
    }

    /// Asks a gateway to end, which it must do well.
    pub fn stop_gateway(&mut self, gateway: usize) -> Ended {
        self.signal(gateway, "-TERM");
        let ended = self.ended(gateway);
        assert_eq!(ended.code, 0, "{}", ended.log);
        ended
    }

    /// Waits for the end of a gateway.
    pub fn ended(&mut self, gateway: usize) -> Ended {
        let gateway = &mut self.gateways[gateway];
        let begun = Instant::now();
        let (code, log) = gateway.running.take().expect("it runs").ended();
        gateway.logged += &format!("{log}\n-- ended with {code}\n");
        Ended { code, took: begun.elapsed(), log }
    }

    /// Waits until a gateway says that it drains.
    pub async fn until_draining(&self, gateway: usize) {
        until_body(&format!("http://{}/readyz", self.gateways[gateway].admin), "draining").await;
    }

    /// Sends a gateway a signal.
    pub fn signal(&self, gateway: usize, signal: &str) {
        self.gateways[gateway].running.as_ref().expect("it runs").signal(signal);
    }

    /// Sends the worker a signal.
    pub fn signal_worker(&self, signal: &str) {
        let worker = self.others.iter().find(|(service, _)| *service == "fanout");
        worker.expect("it runs").1.signal(signal);
    }

    /// Where clients connect.
    pub fn ws(&self, gateway: usize) -> &str {
        &self.gateways[gateway].ws
    }

    /// Sessions of a gateway that report.
    pub async fn sessions(&self, gateway: usize) -> u32 {
        let url = format!("http://{}/metrics", self.gateways[gateway].admin);
        let metrics = reqwest::get(url).await.unwrap().text().await.unwrap();
        let line = metrics.lines().find_map(|line| line.strip_prefix("nearcast_gateway_sessions{role=\"reporting\"} "));
        line.map_or(0, |count| count.parse().unwrap())
    }

    /// Waits until both gateways together have so many; how many each has.
    pub async fn until_sessions(&self, count: u32) -> [u32; 2] {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let each = [self.sessions(0).await, self.sessions(1).await];
            if each[0] + each[1] == count {
                return each;
            }
            assert!(Instant::now() < deadline, "{each:?} sessions and not {count}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A token of a user.
    pub fn token(&self, user: &str) -> String {
        good(&strs(&self.stack.args(&["token", "--sub", user]))).trim().to_owned()
    }

    /// Ends everything in order, and leaves the gateways' logs in the target folder.
    pub async fn end(mut self) {
        let logs = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("gateways-logs");
        fs::create_dir_all(&logs).unwrap();
        for gateway in 0..self.gateways.len() {
            if self.gateways[gateway].running.is_some() {
                // A test that failed may have left it asleep; so with the others.
                self.signal(gateway, "-CONT");
                self.stop_gateway(gateway);
            }
            fs::write(logs.join(format!("gateway-{}.log", gateway + 1)), &self.gateways[gateway].logged).unwrap();
        }
        for (service, running) in self.others.into_iter().rev() {
            running.signal("-CONT");
            let (code, log) = running.stop();
            assert_eq!(code, 0, "{service}: {log}");
        }
        self.stack.clean().await;
    }

    fn args(&self, command: &str, further: &[&str], set: &[String]) -> Vec<String> {
        let mut args = self.stack.args(&[&[command], further].concat());
        for set in set {
            args.extend(["--set".to_owned(), set.clone()]);
        }
        args
    }
}
