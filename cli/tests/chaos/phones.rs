//! The phones: `nearcast simulate` as a process, with its verdict.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::Plan;
use crate::run::nearcast;
use crate::services::Services;

/// Phones are switched on at this rate, see `nearcast simulate`.
const SWITCHED_ON_PER_S: f64 = 50.0;

/// A run of `nearcast simulate`. Killed when it is dropped.
pub struct Phones {
    child: Child,
    json: tempfile::NamedTempFile,
    told: Option<JoinHandle<()>>,
    /// When all phones are switched on.
    pub complete: Instant,
}

impl Phones {
    /// Starts it, and waits until users and friendships are made.
    pub fn start(services: &Services, plan: Plan) -> Self {
        let json = tempfile::NamedTempFile::new().unwrap();
        let args = [
            "simulate".to_owned(),
            format!("--ws=ws://{}/v1/ws", services.ws),
            format!("--api=http://{}", services.api),
            format!("--phones={}", plan.phones),
            format!("--friends={}", plan.friends),
            format!("--report-every={}", plan.report_every),
            format!("--slack={}s", plan.slack.as_secs()),
            format!("--seed={}", plan.seed),
            format!("--duration={}s", (plan.every * (plan.kills + 1)).as_secs()),
            format!("--json={}", json.path().display()),
        ];
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut child = nearcast(&args).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        loop {
            let line = lines.next().expect("users and friendships are made").unwrap();
            println!("{line}");
            if line.contains(" friendships in ") {
                break;
            }
        }
        let complete = Instant::now() + Duration::from_secs_f64(f64::from(plan.phones) / SWITCHED_ON_PER_S);
        let told = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                println!("{line}");
            }
        });
        Self { child, json, told: Some(told), complete }
    }

    /// Waits for the end; the status and the report.
    pub fn ended(mut self) -> (i32, Value) {
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        self.told.take().map(JoinHandle::join);
        let report = std::fs::read_to_string(self.json.path()).unwrap();
        (code, serde_json::from_str(&report).unwrap_or_default())
    }
}

impl Drop for Phones {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
