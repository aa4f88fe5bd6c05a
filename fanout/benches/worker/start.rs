//! How soon a worker that starts is ready: that it has read what it needs, and then that its viewers know their views.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::check;
use crate::figures::Figures;
use crate::log::Log;
use crate::process::{LOOK_EVERY, Worker};
use crate::reports::Walk;
use crate::stage::{LOCATION_PARTITIONS, Stage, VISIBILITY_PARTITIONS};
use crate::world::{SEED, Size, World};

/// Topics that deliveries go to.
const GATEWAYS: u32 = 4;
/// What everybody reports in the minute that a snapshot is old, when it is of use.
const REPORTS_SINCE: u32 = 2;

/// Everybody's hello, list, and so many reports are in the log; all of it counts, because it is just appended. From it the
/// worker starts, writes a snapshot, and ends; a minute's reports come; and it starts again.
pub fn run(size: Size, reports: u32, short: bool) -> Vec<Value> {
    let stage = Stage::new(GATEWAYS);
    let world = World::new(size);
    let mut walk = Walk::new(&world);
    let mut log = Log::new(&stage, size.users, Duration::from_millis(20));
    let mut report = |log: &mut Log, reports: u32| {
        for _ in 0..u64::from(size.users) * u64::from(reports) {
            log.fix(walk.step());
        }
        log.flush();
        assert_eq!(stage.records(&stage.topics.locations(), LOCATION_PARTITIONS).unsigned_abs(), log.written());
    };
    let snapshots = tempfile::tempdir().unwrap();
    report(&mut log, reports);
    let from_log = log.written();
    let (worker, row) = one("log", &stage, snapshots.path(), size, from_log);
    let written = |figures: &Figures| figures.get("nearcast_fanout_snapshot_total{outcome=\"written\"}");
    // The first that is finished may have been begun before everything was read.
    let before = written(&worker.figures());
    worker.until("a snapshot", |figures| written(figures) >= before + 2.0);
    worker.end();
    report(&mut log, REPORTS_SINCE);
    let (_, since) = one("snapshot", &stage, snapshots.path(), size, log.written());
    if short {
        check::start(&row, from_log);
        check::start(&since, log.written() - from_log);
    }
    vec![row, since]
}

/// One start.
fn one(case: &str, stage: &Stage, snapshots: &Path, size: Size, records: u64) -> (Worker, Value) {
    let worker = Worker::start(&stage.prefix, Some(snapshots));
    while !worker.is_ready() {
        std::thread::sleep(LOOK_EVERY / 5);
    }
    let (ready, cpu, resident) = (worker.age().as_secs_f64(), worker.cpu(), worker.resident());
    eprintln!("  {case}: ready after {ready:.2} s");
    let owned = f64::from(VISIBILITY_PARTITIONS);
    worker.until("ownership", |figures| figures.get("nearcast_fanout_owned_partitions") == owned);
    let owning = worker.age().as_secs_f64();
    let figures = worker.until_settled(size.users);
    let replayed = figures.records();
    let row = json!({
        "case": case,
        "users": size.users,
        "friends_online": size.online,
        "seed": SEED,
        "seconds_to_ready": ready,
        "seconds_to_ownership": owning,
        "seconds_to_views": worker.age().as_secs_f64(),
        "records": records,
        "records_replayed": replayed,
        "records_per_second": (replayed as f64 / ready).round(),
        "cpu_us_per_record": cpu.all() * 1e6 / replayed as f64,
        "engine_cpu_us_per_record": cpu.engine * 1e6 / replayed as f64,
        "engine_on_cpu": cpu.engine / ready,
        "kafka_on_cpu": cpu.kafka / ready,
        "resident_bytes_when_ready": resident,
        "resident_bytes": worker.resident(),
    });
    (worker, row)
}
