//! Twice the reports that the machine takes, with storms of reconnects on top: what is refused says so, what is accepted is
//! not lost, memory stays flat, and the system is soon itself again.
//!
//! `cargo test --release -p nearcast --test overload -- --long` does that for five minutes; without `--long`, as `cargo test`
//! does, for seconds and with few phones. First it finds out what the machine takes, by phones that report again as soon as
//! they are answered. Each service is a process of its own on the servers of `make up`. Prints a table and writes
//! `overload.json` into the target folder (`overload-short.json`). No time fails it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

mod crowd;
mod ledger;
mod pairs;
mod phone;
mod play;
mod report;
#[path = "../run/mod.rs"]
mod run;
mod services;

use std::process::ExitCode;
use std::time::Duration;

/// The name of the short run among the tests.
const TEST: &str = "overload_is_refused_clearly_and_ends_with_the_load";

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub phones: usize,
    /// Each phone's friends; all are near each other.
    pub friends: usize,
    /// A friend who moves and one who looks on, each.
    pub pairs: usize,
    /// How long it is found out what the machine takes.
    pub probe: Duration,
    /// Reports that each phone has on their way meanwhile. With one, phones wait more than the machine works.
    pub unanswered: usize,
    pub load: Duration,
    /// Between two storms, in each of which a third of the phones lose their sockets at once.
    pub storm_every: Duration,
    pub name: &'static str,
}

const LONG: Plan = Plan {
    phones: 1_500,
    friends: 4,
    pairs: 10,
    probe: Duration::from_secs(15),
    unanswered: 16,
    load: Duration::from_secs(300),
    storm_every: Duration::from_secs(20),
    name: "overload",
};

const SHORT: Plan = Plan {
    phones: 60,
    friends: 4,
    pairs: 2,
    probe: Duration::from_secs(2),
    unanswered: 1,
    load: Duration::from_secs(6),
    storm_every: Duration::from_secs(2),
    name: "overload-short",
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if has("--list") {
        println!("{TEST}: test");
        return ExitCode::SUCCESS;
    }
    if arguments.iter().any(|filter| !filter.starts_with('-') && !TEST.contains(filter.as_str())) {
        return ExitCode::SUCCESS;
    }
    let plan = if has("--long") { LONG } else { SHORT };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let good = runtime.block_on(play::play(plan));
    let (passed, failed, word) = if good { (1, 0, "ok") } else { (0, 1, "FAILED") };
    println!("test {TEST} ... {word}\n\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored");
    if good { ExitCode::SUCCESS } else { ExitCode::from(101) }
}
