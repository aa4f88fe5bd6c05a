//! Phones beside what is done to the services: `nearcast simulate` as a process, with its verdict.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::nearcast;

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
    /// Starts so many with further options, and waits until users and friendships are made.
    pub fn start(phones: u32, options: &[String]) -> Self {
        let json = tempfile::NamedTempFile::new().unwrap();
        let mut command = nearcast(&["simulate"]);
        command.arg(format!("--phones={phones}")).arg("--json").arg(json.path()).args(options);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        loop {
            let line = lines.next().expect("users and friendships are made").unwrap();
            println!("{line}");
            if line.contains(" friendships in ") {
                break;
            }
        }
        let complete = Instant::now() + Duration::from_secs_f64(f64::from(phones) / SWITCHED_ON_PER_S);
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
