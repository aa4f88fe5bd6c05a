//! Workers that are killed while phones are served: no view may stay wrong, and takeovers are timed.
//!
//! `cargo test -p nearcast --test takeovers -- --long` runs four workers for five minutes and kills one by SIGKILL every 20 s;
//! without `--long`, as `cargo test` does, two workers and one kill. Every service is a process of its own on the servers
//! of `make up`. Writes `takeovers.json` into the target folder (`takeovers-short.json`), and what each process logged beside it
//! into `takeovers/`; ends with 1 where anything was wrong.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

mod ownership;
mod report;
#[path = "../run/mod.rs"]
mod run;
mod services;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ownership::Watch;
use report::{Kill, Report};
use run::phones::Phones;
use services::Services;

/// The name of the short run among the tests.
const TEST: &str = "a_killed_worker_leaves_no_wrong_view";

/// What is done to whom.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub workers: usize,
    pub kills: u32,
    /// Between two kills, and between the last and the end.
    pub every: Duration,
    pub phones: u32,
    pub friends: u32,
    pub report_every: &'static str,
    /// A view that is wrong for longer was not settled. More than a takeover takes.
    pub slack: Duration,
    pub seed: u64,
    /// Of the visibility topic.
    pub partitions: i32,
}

const LONG: Plan = Plan {
    workers: 4,
    kills: 15,
    every: Duration::from_secs(20),
    phones: 300,
    friends: 20,
    report_every: "5s",
    slack: Duration::from_secs(15),
    seed: 4,
    partitions: 16,
};

const SHORT: Plan = Plan {
    workers: 2,
    kills: 1,
    every: Duration::from_secs(10),
    phones: 40,
    report_every: "2s",
    friends: 10,
    slack: Duration::from_secs(12),
    seed: 5,
    partitions: 8,
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if has("--list") {
        println!("{TEST}: test");
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    if has("--long") {
        let clean = runtime.block_on(play(LONG, "takeovers.json"));
        return ExitCode::from(u8::from(!clean));
    }
    if arguments.iter().any(|filter| !filter.starts_with('-') && !TEST.contains(filter.as_str())) {
        return ExitCode::SUCCESS;
    }
    let passed = std::panic::catch_unwind(|| runtime.block_on(play(SHORT, "takeovers-short.json"))).unwrap_or(false);
    let (word, count) = if passed { ("ok", 1) } else { ("FAILED", 0) };
    println!("test {TEST} ... {word}");
    println!("test result: {word}. {count} passed; {} failed; 0 ignored", 1 - count);
    if passed { ExitCode::SUCCESS } else { ExitCode::from(101) }
}

impl Plan {
    /// Of the phones.
    fn options(&self, services: &Services) -> Vec<String> {
        vec![
            format!("--ws=ws://{}/v1/ws", services.ws),
            format!("--api=http://{}", services.api),
            format!("--friends={}", self.friends),
            format!("--report-every={}", self.report_every),
            format!("--slack={}s", self.slack.as_secs()),
            format!("--seed={}", self.seed),
            format!("--duration={}s", (self.every * (self.kills + 1)).as_secs()),
        ]
    }
}

/// Runs a plan and reports what came of it; whether all went well.
async fn play(plan: Plan, file: &str) -> bool {
    let mut services = Services::start(plan).await;
    let watch = Watch::start(&services.stack, plan.partitions);
    let phones = Phones::start(plan.phones, &plan.options(&services));
    let mut kills = Vec::new();
    for number in 0..plan.kills {
        tokio::time::sleep((phones.complete + plan.every * (number + 1)).saturating_duration_since(Instant::now()))
            .await;
        // In turn, among those who have something to lose.
        let owning = watch.owners(now_ms());
        let turn = (0..plan.workers).map(|at| (number as usize + at) % plan.workers);
        let Some(worker) = turn.into_iter().find(|&at| owning.iter().any(|name| *name == services::name(at))) else {
            println!("nobody owns anything");
            continue;
        };
        let at_ms = now_ms();
        services.kill(worker);
        services.start_worker(worker);
        println!("{} killed", services::name(worker));
        kills.push(Kill { worker: services::name(worker), at_ms });
    }
    let (code, simulated) = phones.ended();
    let seen = watch.stop();
    let folder = target().join("takeovers");
    let ended_well = services.stop(&folder).await;
    let report = Report::of(plan, &kills, &seen, code, &simulated, ended_well);
    report.print();
    let path = target().join(file);
    report.write(&path);
    println!("\n{}; logs in {}", path.display(), folder.display());
    report.is_clean()
}

/// ms since the epoch by this machine's clock, which is that of the local stack's broker.
fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// The target folder of this build.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target folder").to_owned()
}
