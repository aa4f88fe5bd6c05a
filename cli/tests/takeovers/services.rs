//! The services, each a process of the one binary.

use std::fs;
use std::path::Path;

use crate::Plan;
use crate::run::{Running, Stack, free, good, strs, until_body};

/// A deployment in processes.
pub struct Services {
    pub stack: Stack,
    plan: Plan,
    /// Where phones connect, and where REST is.
    pub ws: String,
    pub api: String,
    workers: Vec<Worker>,
    others: Vec<(&'static str, Running)>,
}

struct Worker {
    admin: String,
    running: Option<Running>,
    /// What was logged by those that were killed.
    logged: String,
}

/// What a worker is called in claims and deliveries.
pub fn name(worker: usize) -> String {
    format!("worker-{worker}")
}

impl Services {
    /// Starts everything and waits until it is ready.
    pub async fn start(plan: Plan) -> Self {
        let (ws, admin, api, sink) = (free(), free(), free(), free());
        let workers = (0..plan.workers).map(|_| Worker { admin: free(), running: None, logged: String::new() });
        let workers = workers.collect();
        let mut services = Self { stack: Stack::new(), plan, ws, api, workers, others: Vec::new() };
        good(&strs(&services.args(&["topics", "create"], &[])));
        good(&strs(&services.args(&["migrate"], &[])));
        let set = [format!("api.listen={}", services.api)];
        services.other("api", &set);
        let set = [
            format!("gateway.listen={}", services.ws),
            format!("gateway.admin_listen={admin}"),
            format!("gateway.api_url=http://{}", services.api),
        ];
        services.other("gateway", &set);
        services.other("history-sink", &[format!("history_sink.admin_listen={sink}")]);
        for worker in 0..plan.workers {
            services.start_worker(worker);
        }
        for address in [&services.api, &admin, &sink] {
            until_body(&format!("http://{address}/readyz"), "\"ready\":true").await;
        }
        for worker in &services.workers {
            until_body(&format!("http://{}/readyz", worker.admin), "\"ready\":true").await;
        }
        services
    }

    /// Starts a worker; it becomes ready by itself.
    pub fn start_worker(&mut self, worker: usize) {
        let set = [
            format!("fanout.admin_listen={}", self.workers[worker].admin),
            format!("fanout.worker={}", name(worker)),
            // So that a run compares many.
            "fanout.digest_every=3s".to_owned(),
        ];
        let args = self.args(&["fanout"], &set);
        self.workers[worker].running = Some(Running::start(&strs(&args)));
    }

    /// Ends a worker by SIGKILL.
    pub fn kill(&mut self, worker: usize) {
        let worker = &mut self.workers[worker];
        if let Some(running) = worker.running.take() {
            worker.logged += &running.kill();
            worker.logged += "\n-- killed\n";
        }
    }

    /// Ends everything in order, cleans up, and leaves the logs in a folder; whether all ended as they should.
    pub async fn stop(mut self, logs: &Path) -> bool {
        fs::create_dir_all(logs).unwrap();
        let mut ended_well = true;
        let mut end = |name: &str, before: &str, running: Running| {
            let (code, log) = running.stop();
            fs::write(logs.join(format!("{name}.log")), format!("{before}{log}\n")).unwrap();
            if code != 0 {
                println!("{name} ended with {code}");
                ended_well = false;
            }
        };
        for (at, worker) in self.workers.iter_mut().enumerate() {
            if let Some(running) = worker.running.take() {
                end(&name(at), &worker.logged, running);
            }
        }
        // The gateway before the API that it asks.
        for (name, running) in self.others.into_iter().rev() {
            end(name, "", running);
        }
        self.stack.clean().await;
        ended_well
    }

    fn other(&mut self, service: &'static str, set: &[String]) {
        let args = self.args(&[service], set);
        self.others.push((service, Running::start(&strs(&args))));
    }

    fn args(&self, command: &[&str], set: &[String]) -> Vec<String> {
        let mut args = self.stack.args(command);
        let partitions = format!("topics.visibility_partitions={}", self.plan.partitions);
        for set in [partitions, "topics.locations_partitions=4".to_owned()].iter().chain(set) {
            args.extend(["--set".to_owned(), set.clone()]);
        }
        args
    }
}
