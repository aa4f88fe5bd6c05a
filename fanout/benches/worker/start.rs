//! How soon a worker that starts is ready: that it has read what it needs, and then that its viewers know their views.

use std::time::Duration;

use serde_json::{Value, json};

use crate::check;
use crate::log::Log;
use crate::process::{LOOK_EVERY, Worker};
use crate::reports::Walk;
use crate::stage::{LOCATION_PARTITIONS, Stage, VISIBILITY_PARTITIONS};
use crate::world::{SEED, Size, World};

/// Topics that deliveries go to.
const GATEWAYS: u32 = 4;

/// Everybody's hello, list, and so many reports are in the log; all of it counts, because it is just appended.
pub fn run(size: Size, reports: u32, short: bool) -> Vec<Value> {
    let stage = Stage::new(GATEWAYS);
    let world = World::new(size);
    let mut walk = Walk::new(&world);
    let mut log = Log::new(&stage, size.users, Duration::from_millis(20));
    log.begin(&world, &walk);
    for _ in 0..u64::from(size.users) * u64::from(reports) {
        let report = walk.step();
        log.fix(report);
    }
    log.flush();
    assert_eq!(stage.records(&stage.topics.locations(), LOCATION_PARTITIONS).unsigned_abs(), log.written());
    let row = one("log", &stage, size, log.written());
    if short {
        check::start(&row, log.written());
    }
    vec![row]
}

/// One start.
fn one(case: &str, stage: &Stage, size: Size, records: u64) -> Value {
    let worker = Worker::start(&stage.prefix);
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
    json!({
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
    })
}
