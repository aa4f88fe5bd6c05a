//! Faults on the real stack, one after the other, under phones that audit everything: nothing acknowledged may be lost, and
//! no view may stay wrong.
//!
//! `cargo test -p nearcast --test chaos -- --long` plays the whole matrix, half an hour, `-- --long NAME…` the faults whose
//! names contain one of these (`sigkill`, `leader`, `sigstop-redis`), and without `--long`, as `cargo test` does, three of
//! them. Starts a cluster of its own by `infra/cluster/cluster.sh`, on ports and in a directory that no other has, and ends
//! with all of it stopped. Writes `chaos.json` into the target folder (`chaos-short.json`), what phones and parts logged
//! below `tmp/chaos-rows/`; ends with 1 where a row is not clean. `docs/faults.md` says what the columns mean.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

mod brokers;
#[path = "../run/cluster.rs"]
mod cluster;
mod disk;
mod fault;
mod felt;
mod harm;
mod part;
mod phones;
mod proxy;
mod report;
mod row;
#[path = "../run/mod.rs"]
mod run;
mod whole;

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use brokers::Brokers;
use cluster::Cluster;
use disk::Disk;
use fault::Fault;
use futures_util::FutureExt;
use harm::Stage;
use report::Report;
use row::Row;

/// The name of the short run among the tests.
const TEST: &str = "no_fault_loses_a_report_or_leaves_a_view_wrong";
/// Digests come often, so that a run compares many. A client that is told to go elsewhere comes back within two seconds.
const CLUSTER: cluster::Plan = cluster::Plan {
    name: "chaos",
    base: 28_000,
    inner_tls: false,
    settings: "gateway.drain_spread_ms=2000 fanout.digest_every=3s",
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if has("--list") {
        println!("{TEST}: test");
        return ExitCode::SUCCESS;
    }
    let filters: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let (faults, file) = if has("--long") {
        let wanted = |fault: &Fault| filters.iter().any(|filter| fault.to_string().contains(filter.as_str()));
        let mut faults = Fault::all();
        faults.retain(|fault| filters.is_empty() || wanted(fault));
        if faults.is_empty() {
            let names: Vec<String> = Fault::all().iter().map(Fault::to_string).collect();
            println!("no fault has such a name; there are: {}", names.join(", "));
            return ExitCode::from(64);
        }
        (faults, "chaos.json")
    } else if filters.iter().any(|filter| !TEST.contains(filter.as_str())) {
        return ExitCode::SUCCESS;
    } else {
        (Fault::few(), "chaos-short.json")
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let report = runtime.block_on(async {
        tokio::select! {
            report = AssertUnwindSafe(matrix(&faults, file)).catch_unwind() => report.ok(),
            // The phones and the cluster are stopped on the way out.
            _ = tokio::signal::ctrl_c() => None,
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(10));
    let clean = report.is_some_and(|report| report.is_clean());
    if has("--long") {
        return ExitCode::from(u8::from(!clean));
    }
    let (word, count) = if clean { ("ok", 1) } else { ("FAILED", 0) };
    println!("test {TEST} ... {word}");
    println!("test result: {word}. {count} passed; {} failed; 0 ignored", 1 - count);
    if clean { ExitCode::SUCCESS } else { ExitCode::from(101) }
}

/// Plays the faults and writes the report after each, so that a run that is ended leaves what it had.
async fn matrix(faults: &[Fault], file: &str) -> Report {
    let begun = Instant::now();
    let rows = Path::new(env!("CARGO_TARGET_TMPDIR")).join("chaos-rows");
    let _ = std::fs::remove_dir_all(&rows);
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let cluster = Cluster::cleared(CLUSTER);
    let disk = if faults.contains(&Fault::DiskFull) { Disk::mount(&cluster) } else { Err("no disk".to_owned()) };
    // Dropped before its disk, whatever happens.
    let cluster = cluster;
    cluster.up().await;
    println!("the cluster is up after {:.0} s; seed {seed}", begun.elapsed().as_secs_f64());
    let mut report = Report::new(seed, target().join(file));
    {
        let stage = Stage { cluster: &cluster, brokers: Brokers::of(&cluster), disk: &disk };
        let mut broken: Option<String> = None;
        for (number, &fault) in (0..).zip(faults) {
            let row = match &broken {
                Some(why) => Row::not_run(fault, why),
                None => row::play(&stage, fault, seed + number, &rows.join(fault.to_string())).await,
            };
            report.add(row);
            // A row that left the cluster broken says so; those after it would only say it again.
            if broken.is_none() {
                broken = whole::until_whole(&cluster, &stage.brokers).await.err();
            }
        }
    }
    report.end(begun.elapsed());
    cluster.stop().await;
    drop(disk);
    report
}

/// ms since the epoch by this machine's clock, which is that of the cluster's brokers.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// The target folder of this build.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target folder").to_owned()
}
