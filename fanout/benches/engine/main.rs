//! How many pairs of a viewer and a friend the engine decides in a second, at which size, in how much memory.
//!
//! `cargo bench -p nearcast-fanout --bench engine` measures every case, each in a process of its own, prints a table and
//! writes `bench/engine.json` into the target folder. After `--`, a name, a number of users, or both as
//! `all_online:1000000` choose among the cases; `--short` measures little and checks much, as `cargo test` does, and
//! writes `bench/engine-short.json`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod baseline;
mod case;
mod check;
mod log;
mod measure;
mod report;
#[allow(dead_code, reason = "another bench uses the rest")]
#[path = "../shared/reports.rs"]
mod reports;
mod subject;
#[allow(dead_code, reason = "another bench uses the rest")]
#[path = "../shared/table.rs"]
mod table;
#[allow(dead_code, reason = "another bench uses the rest")]
#[path = "../shared/world.rs"]
mod world;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use serde_json::Value;

use case::{Case, LONG, SHORT};

/// The name of the short run among the tests.
const TEST: &str = "a_short_run_counts_right";
/// Says that this process is to measure one case.
const CHILD: &str = "--case";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    // Cargo says `--bench` when it is to be measured, and nothing when it is to be tested.
    let tested = !has("--bench") && !has("--short");
    let short = tested || has("--short");
    if has("--list") {
        println!("{TEST}: test");
        return ExitCode::SUCCESS;
    }
    if let Some(at) = arguments.iter().position(|argument| argument == CHILD) {
        let case = arguments.get(at + 1).and_then(|name| Case::named(name)).expect("a case by its name");
        println!("{}", case.run(short));
        return ExitCode::SUCCESS;
    }
    let chosen: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    if !tested {
        let cases = if short { SHORT } else { LONG };
        let cases = cases.iter().filter(|case| chosen.is_empty() || chosen.iter().any(|name| case.is_called(name)));
        return ExitCode::from(u8::from(!run(cases.copied().collect(), short)));
    }
    if chosen.iter().any(|filter| !TEST.contains(filter.as_str())) {
        return ExitCode::SUCCESS;
    }
    let passed = run(SHORT.to_vec(), true);
    let (word, count) = if passed { ("ok", 1) } else { ("FAILED", 0) };
    println!("test {TEST} ... {word}");
    println!("test result: {word}. {count} passed; {} failed; 0 ignored", 1 - count);
    if passed { ExitCode::SUCCESS } else { ExitCode::from(101) }
}

/// Runs the cases one after the other and reports what came of them; whether all went well.
fn run(cases: Vec<Case>, short: bool) -> bool {
    let mut rows = Vec::new();
    let mut failed = Vec::new();
    for case in cases {
        match measured(case, short) {
            Some(of_case) => rows.extend(of_case),
            None => failed.push(case.to_string()),
        }
    }
    report::print(&rows);
    let path = target().join("bench").join(if short { "engine-short.json" } else { "engine.json" });
    table::write(&path, &rows);
    println!("\n{}", path.display());
    if short {
        check::rows(&path);
    }
    for case in &failed {
        println!("FAILED  {case}");
    }
    failed.is_empty() && !rows.is_empty()
}

/// The rows of a case, from a process of its own, so that no case finds memory that another one left behind.
fn measured(case: Case, short: bool) -> Option<Vec<Value>> {
    // By the kernel's link and not by its path: this very program, also when it was built anew meanwhile.
    let mut command = Command::new("/proc/self/exe");
    command.args([CHILD, &case.to_string(), if short { "--short" } else { "--bench" }]);
    let output = command.stderr(Stdio::inherit()).output().expect("this program starts again");
    if !output.status.success() {
        return None;
    }
    let rows: Value = serde_json::from_slice(&output.stdout).expect("a case writes its rows");
    rows.as_array().cloned()
}

/// The target folder of this build, which has a folder for the temporary files of tests and benches.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target folder").to_owned()
}

/// Ends this process with a reason.
fn fail(reason: &str) -> ! {
    eprintln!("{reason}");
    std::process::exit(1);
}
