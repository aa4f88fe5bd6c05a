//! What the sink stores in a second, beside the scylla driver alone with the same rows; and what a backlog costs: memory,
//! and how long what is new waits for it.
//!
//! `cargo bench -p nearcast-history-sink` measures every case, prints a table and writes `bench/sink.json` into the target
//! folder. After `--`, names choose among the cases, `--short` measures little and checks what is counted, as `cargo test`
//! does, and writes `sink-short.json`.
//!
//! Kafka and Cassandra are those of `make up`. The sink runs in a process of its own, as the binary has it, so that its time
//! on processors and its memory are its own; the database shares the machine with both.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod backlog;
mod driver;
#[allow(dead_code, reason = "another bench uses the rest")]
#[path = "../../../fanout/benches/shared/figures.rs"]
mod figures;
mod log;
mod process;
mod rate;
mod stage;
#[allow(dead_code, reason = "another bench uses the rest")]
#[path = "../../../fanout/benches/shared/table.rs"]
mod table;

use std::path::Path;
use std::process::ExitCode;

/// As the binary has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The name of the short run among the tests.
const TEST: &str = "a_short_run_stores_what_it_counts";

const CASES: [&str; 2] = ["rate", "backlog"];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if let [flag, prefix] = &arguments[..]
        && flag == process::SINK
    {
        process::serve(prefix);
        return ExitCode::SUCCESS;
    }
    if has("--list") {
        println!("{TEST}: test");
        return ExitCode::SUCCESS;
    }
    // Cargo says `--bench` when it is to be measured, and nothing when it is to be tested.
    let tested = !has("--bench") && !has("--short");
    let chosen: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    if tested && chosen.iter().any(|filter| !TEST.contains(filter.as_str())) {
        return ExitCode::SUCCESS;
    }
    let short = tested || has("--short");
    let runs = |case: &str| tested || chosen.is_empty() || chosen.iter().any(|name| *name == case);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut rows = Vec::new();
    runtime.block_on(async {
        if runs("rate") {
            rows.extend(rate::run(short).await);
        }
        if runs("backlog") {
            rows.push(backlog::run(short).await);
        }
    });
    assert!(!rows.is_empty(), "no such case; there are {CASES:?}");
    table::table(
        "Rows into the history",
        &[
            ("rows", "rows", 1.0, 0),
            ("krows/s", "rows_per_second", 1e3, 2),
            ("% of driver", "share_of_driver", 0.01, 0),
            ("us/row", "cpu_us_per_row", 1.0, 1),
            ("MB at 10 %", "resident_bytes_begun", 1e6, 0),
            ("MB at most", "resident_bytes_most", 1e6, 0),
            ("MB held", "held_bytes_most", 1e6, 0),
            ("new p50 ms", "new_ms_p50", 1.0, 0),
            ("new p99 ms", "new_ms_p99", 1.0, 0),
        ],
        &rows.iter().collect::<Vec<_>>(),
    );
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target folder");
    let path = target.join("bench").join(if short { "sink-short.json" } else { "sink.json" });
    table::write(&path, &rows);
    println!("\n{}", path.display());
    if tested {
        println!("test {TEST} ... ok\ntest result: ok. 1 passed; 0 failed; 0 ignored");
    }
    ExitCode::SUCCESS
}
