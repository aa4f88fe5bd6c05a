//! Two gateways of one deployment: restarted in turn under audited phones, and both with sessions of one user.
//!
//! `cargo test -p nearcast --test gateways -- --long` restarts them more often, under more phones and with the default
//! drain. Every service is a process of its own on the servers of `make up`; what the gateways logged is left in the target
//! folder under `gateways-logs/`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

mod deployment;
mod phone;
mod rolling;
#[path = "../run/mod.rs"]
mod run;
mod sessions;

use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::Duration;

use deployment::Deployment;
use futures_util::FutureExt;

const ROLLING: &str = "a_rolling_restart_loses_nothing";
const SESSIONS: &str = "one_user_has_sessions_at_both_gateways";

/// Who looks on while how much is restarted.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub phones: u32,
    pub friends: u32,
    pub report_every: &'static str,
    /// How long phones report. The restarts have to be over by then.
    pub duration: Duration,
    /// How often both gateways are restarted.
    pub rounds: u32,
    /// Of the gateways.
    pub drain_spread: Duration,
}

const LONG: Plan = Plan {
    phones: 300,
    friends: 20,
    report_every: "2s",
    duration: Duration::from_secs(180),
    rounds: 5,
    drain_spread: Duration::from_secs(10),
};

const SHORT: Plan = Plan {
    phones: 60,
    friends: 10,
    report_every: "1s",
    duration: Duration::from_secs(25),
    rounds: 1,
    drain_spread: Duration::from_secs(3),
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let filters: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let asked = |test: &str| filters.is_empty() || filters.iter().any(|filter| test.contains(filter.as_str()));
    let tests: Vec<_> = [SESSIONS, ROLLING].into_iter().filter(|test| asked(test)).collect();
    if has("--list") {
        tests.iter().for_each(|test| println!("{test}: test"));
        return ExitCode::SUCCESS;
    }
    if tests.is_empty() {
        return ExitCode::SUCCESS;
    }
    let plan = if has("--long") { LONG } else { SHORT };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let passed = runtime.block_on(play(plan, &tests));
    let failed = tests.len() - passed;
    let word = if failed == 0 { "ok" } else { "FAILED" };
    println!("test result: {word}. {passed} passed; {failed} failed; 0 ignored");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(101) }
}

/// Plays them on one deployment; how many passed.
async fn play(plan: Plan, tests: &[&str]) -> usize {
    let mut deployment = Deployment::start(plan).await;
    let mut passed = 0;
    for test in tests {
        let played = async {
            match *test {
                SESSIONS => sessions::play(&mut deployment).await,
                _ => rolling::play(&mut deployment, plan).await,
            }
        };
        let ok = AssertUnwindSafe(played).catch_unwind().await.is_ok();
        println!("test {test} ... {}", if ok { "ok" } else { "FAILED" });
        passed += usize::from(ok);
    }
    deployment.end().await;
    passed
}
