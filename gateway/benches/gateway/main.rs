//! What a connection costs the gateway: bytes while it is idle, CPU time for a message in, for an update out, and for
//! coming; beside a plain echo server of tokio-tungstenite in the same run.
//!
//! `cargo bench -p nearcast-gateway` holds ten thousand connections from this process to a server in another one, prints
//! a table and writes `bench/gateway.json` into the target folder. After `--`, names choose among the cases, `--short`
//! measures little and checks what is counted, as `cargo test` does, and writes `gateway-short.json`.
//!
//! Kafka is librdkafka's mock in this process, and so is the API; Redis is the local stack's. What is measured is the gateway
//! alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod case;
mod echo;
mod phones;
mod process;
mod secure;
mod stage;
#[allow(dead_code, reason = "another bench uses the rest")]
#[path = "../../../fanout/benches/shared/table.rs"]
mod table;

use std::path::Path;
use std::process::ExitCode;

use case::Case;

/// As the binary has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The name of the short run among the tests.
const TEST: &str = "a_short_run_counts_right";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if process::serve(&arguments) {
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
    let chosen = if tested { Vec::new() } else { chosen };
    let cases: Vec<Case> = Case::ALL
        .into_iter()
        .filter(|case| chosen.is_empty() || chosen.iter().any(|name| *name == case.name()))
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let rows: Vec<_> = cases.iter().flat_map(|case| runtime.block_on(case.run(short))).collect();
    assert!(!rows.is_empty(), "no such case; there are {:?}", Case::ALL.map(Case::name));
    table::table(
        "What a connection costs",
        &[
            ("connections", "connections", 1.0, 0),
            ("B/conn", "bytes_per_connection", 1.0, 0),
            ("us to come", "cpu_us_per_connection", 1.0, 0),
            ("us/min idle", "cpu_us_per_idle_minute", 1.0, 0),
            ("us/message", "cpu_us_per_message", 1.0, 1),
            ("us/update", "cpu_us_per_update", 1.0, 1),
            ("us/frame", "cpu_us_per_frame", 1.0, 1),
            ("entries/fr", "entries_per_frame", 1.0, 2),
            ("p99 ms", "p99_us", 1_000.0, 1),
            ("MB more", "grown_bytes", 1e6, 1),
        ],
        &rows.iter().collect::<Vec<_>>(),
    );
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target folder");
    let path = target.join("bench").join(if short { "gateway-short.json" } else { "gateway.json" });
    table::write(&path, &rows);
    println!("\n{}", path.display());
    if tested {
        println!("test {TEST} ... ok\ntest result: ok. 1 passed; 0 failed; 0 ignored");
    }
    ExitCode::SUCCESS
}
