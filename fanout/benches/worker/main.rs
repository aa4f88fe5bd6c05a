//! The worker on real Kafka: what it reads, joins and delivers in a second, how soon it is ready after a start, and what
//! a user with thousands of friends costs the others.
//!
//! `cargo bench -p nearcast-fanout --bench worker` measures every case, prints tables and writes `bench/worker.json` and
//! `bench/start.json` into the target folder. After `--`, a name, a number of users, or both as `near_40:100000` choose
//! among the cases; `--short` measures little and checks much, as `cargo test` does, and writes `…-short.json`.
//!
//! Kafka is that of `make up`, or the one that `NEARCAST_TEST_KAFKA` names. Each case has topics of its own, which are
//! deleted afterwards. The worker runs in a process of its own, so that its time on processors and its memory are its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]
#![allow(clippy::disallowed_methods, reason = "its main thread serves nobody while it sleeps")]

mod burst;
mod case;
mod check;
#[path = "../shared/figures.rs"]
mod figures;
mod heavy;
mod log;
mod process;
mod report;
#[allow(dead_code, reason = "another bench uses the rest")]
#[path = "../shared/reports.rs"]
mod reports;
mod stage;
mod start;
#[allow(dead_code, reason = "another bench uses the rest")]
#[path = "../shared/table.rs"]
mod table;
#[allow(dead_code, reason = "another bench uses the rest")]
#[path = "../shared/world.rs"]
mod world;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use case::{Case, File};

/// The name of the short run among the tests.
const TEST: &str = "a_short_run_on_kafka_counts_right";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if let Some(at) = arguments.iter().position(|argument| argument == process::WORKER) {
        let prefix = arguments.get(at + 1).expect("the prefix of a deployment");
        process::serve(prefix, arguments.get(at + 2).map(String::as_str));
        return ExitCode::SUCCESS;
    }
    // Cargo says `--bench` when it is to be measured, and nothing when it is to be tested.
    let tested = !has("--bench") && !has("--short");
    if has("--list") {
        println!("{TEST}: test");
        return ExitCode::SUCCESS;
    }
    let chosen: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    if !tested {
        let short = has("--short");
        let cases = if short { case::SHORT } else { case::LONG };
        let cases = cases.iter().filter(|case| chosen.is_empty() || chosen.iter().any(|name| case.is_called(name)));
        return ExitCode::from(u8::from(!run(&cases.copied().collect::<Vec<_>>(), short)));
    }
    if chosen.iter().any(|filter| !TEST.contains(filter.as_str())) {
        return ExitCode::SUCCESS;
    }
    let passed = run(case::SHORT, true);
    let (word, count) = if passed { ("ok", 1) } else { ("FAILED", 0) };
    println!("test {TEST} ... {word}");
    println!("test result: {word}. {count} passed; {} failed; 0 ignored", 1 - count);
    if passed { ExitCode::SUCCESS } else { ExitCode::from(101) }
}

/// Runs the cases one after the other and reports what came of them; whether all went well.
fn run(cases: &[Case], short: bool) -> bool {
    let (mut worker, mut start, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for case in cases {
        eprintln!("{case}");
        let rows = match case.file() {
            File::Worker => &mut worker,
            File::Start => &mut start,
        };
        // What a case cannot do it panics about, and the others go on.
        match std::panic::catch_unwind(|| case.run(short)) {
            Ok(of_case) => rows.extend(of_case),
            Err(_) => failed.push(case.to_string()),
        }
    }
    report::print(&worker, &start);
    for (name, rows) in [("worker", &worker), ("start", &start)] {
        if !rows.is_empty() {
            let path = target().join("bench").join(format!("{name}{}.json", if short { "-short" } else { "" }));
            table::write(&path, rows);
            println!("\n{}", path.display());
        }
    }
    for case in &failed {
        println!("FAILED  {case}");
    }
    failed.is_empty() && !(worker.is_empty() && start.is_empty())
}

/// The target folder of this build, which has a folder for the temporary files of tests and benches.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target folder").to_owned()
}
