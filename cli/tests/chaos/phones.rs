//! Phones all along: `nearcast simulate` as a process that is ended when the fault is over.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::felt::Felt;
use crate::run::nearcast;

/// How many.
pub const PHONES: usize = 40;
const FRIENDS: usize = 10;
/// Each reports about this often.
const REPORT_EVERY: &str = "1s";
/// Sockets that drop in a minute, so that whoever comes back meets the fault too.
const DROP_RATE: &str = "0.5";
/// Longer than any fault lasts: they are told to end.
const DURATION: &str = "20m";
/// For users and friendships, and for the end.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Killed when it is dropped.
pub struct Phones {
    child: Child,
    directory: PathBuf,
}

impl Phones {
    /// Starts them, and waits until all are connected and have been answered. What they say is left in a directory.
    pub async fn start(options: &[String], seed: u64, slack: Duration, directory: &Path) -> Result<Self, String> {
        let log = File::create(directory.join("simulate.log")).unwrap();
        let mut command = nearcast(&["simulate"]);
        command.args(options).arg(format!("--phones={PHONES}")).arg(format!("--friends={FRIENDS}"));
        command.arg(format!("--report-every={REPORT_EVERY}")).arg(format!("--drop-rate={DROP_RATE}"));
        command.arg(format!("--seed={seed}")).arg(format!("--duration={DURATION}"));
        command.arg(format!("--slack={}s", slack.as_secs()));
        for (option, file) in [("--ledger", "phones.ledger"), ("--timeline", "timeline"), ("--json", "simulate.json")] {
            command.arg(option).arg(directory.join(file));
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = Command::from(command).kill_on_drop(true).spawn().unwrap();
        let mut phones = Self { child, directory: directory.to_owned() };
        let deadline = Instant::now() + PATIENCE;
        while !phones.felt().is_complete(PHONES) {
            if let Some(status) = phones.child.try_wait().unwrap() {
                return Err(format!("the phones ended at once, {status}: {}", phones.said()));
            }
            if Instant::now() > deadline {
                return Err(format!("the phones were not complete within {PATIENCE:?}: {}", phones.said()));
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(phones)
    }

    /// What they felt so far.
    pub fn felt(&self) -> Felt {
        let read = |file| fs::read_to_string(self.directory.join(file)).unwrap_or_default();
        // The ledger first: whatever the timeline has not come to is left out.
        let ledger = read("phones.ledger");
        Felt::of(&read("timeline"), &ledger)
    }

    /// For `nearcast audit`.
    pub fn ledger(&self) -> PathBuf {
        self.directory.join("phones.ledger")
    }

    /// Asks them to end; their report.
    pub async fn end(mut self) -> Result<Value, String> {
        let Some(pid) = self.child.id() else { return Err(format!("the phones ended by themselves: {}", self.said())) };
        // A process that has just ended by itself is found by its status.
        let _ = std::process::Command::new("kill").args(["-TERM", &pid.to_string()]).status();
        if timeout(PATIENCE, self.child.wait()).await.is_err() {
            return Err(format!("the phones did not end within {PATIENCE:?}"));
        }
        let report = fs::read_to_string(self.directory.join("simulate.json")).unwrap_or_default();
        serde_json::from_str(&report).map_err(|_| format!("the phones made no report: {}", self.said()))
    }

    fn said(&self) -> String {
        fs::read_to_string(self.directory.join("simulate.log")).unwrap_or_default()
    }
}
