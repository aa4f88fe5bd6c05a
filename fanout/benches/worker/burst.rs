//! A backlog, read as fast as the worker can.
//!
//! A worker joins its group only once it has caught up, so a backlog that is joined has to come while it runs; and
//! whoever writes it takes the processors that the worker needs. So the worker is stopped while the burst is written, for
//! less time than the group waits for it, and measured while nobody else has anything to do.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::check;
use crate::figures::{Cpu, Figures};
use crate::log::{Batch, Log};
use crate::process::{LOOK_EVERY, Worker};
use crate::reports::Walk;
use crate::stage::{Stage, VISIBILITY_PARTITIONS};
use crate::world::{Land, SEED, Size, World};

/// Topics that deliveries go to.
const GATEWAYS: u32 = 4;
/// Bursts that count, after one that warms up.
const ROUNDS: usize = 3;
/// Records of one burst, at most, and in a short run.
const BURST: usize = 1_500_000;
const SHORT_BURST: usize = 30_000;
/// A burst is written in this time, because the group misses a member after 6 s.
const WRITTEN_WITHIN: Duration = Duration::from_millis(3_500);

/// What was seen at one moment.
struct Sample {
    at: Instant,
    figures: Figures,
    cpu: Cpu,
}

impl Sample {
    fn of(worker: &Worker) -> Self {
        let figures = worker.figures();
        Self { at: Instant::now(), figures, cpu: worker.cpu() }
    }
}

/// One burst.
struct Round {
    records: u64,
    per_second: f64,
    /// Of the whole burst.
    cpu: Cpu,
    /// The share of the time that the engine's thread was on a processor.
    engine_on_cpu: f64,
    kafka_on_cpu: f64,
    wall_s: f64,
    before: Figures,
    after: Figures,
}

impl Round {
    fn more(&self, name: &str) -> f64 {
        self.after.sum(name) - self.before.sum(name)
    }
}

pub fn run(name: &str, land: Land, size: Size, short: bool) -> Value {
    let stage = Stage::new(GATEWAYS);
    let world = World::on(land, size);
    let mut walk = Walk::new(&world);
    let mut log = Log::new(&stage, size.users, Duration::from_millis(20));
    log.begin(&world, &walk);
    log.flush();
    let worker = Worker::start(&stage.prefix, None);
    worker.until_settled(size.users);
    let burst = if short { SHORT_BURST } else { BURST };
    let mut rounds = Vec::new();
    for number in 0..=ROUNDS {
        let mut batch = Batch::default();
        for _ in 0..burst {
            log.prepare(walk.step(), &mut batch);
        }
        let round = one(&worker, &mut log, &batch);
        eprintln!("  {} records at {:.0} a second", round.records, round.per_second);
        // The first fills what is empty yet.
        if number > 0 {
            rounds.push(round);
        }
    }
    let figures = worker.figures();
    assert_eq!(figures.records(), log.written(), "every record of the log is read once");
    if short {
        check::deliveries(&stage, &figures);
    }
    row(name, size, &rounds, worker.resident())
}

fn one(worker: &Worker, log: &mut Log, batch: &Batch) -> Round {
    let before = Sample::of(worker);
    worker.pause();
    let sent = log.send(batch, Some(Instant::now() + WRITTEN_WITHIN));
    log.flush();
    let (begun, aim) = (Instant::now(), before.figures.records() + sent);
    worker.go_on();
    let mut samples: Vec<Sample> = Vec::new();
    let end = loop {
        std::thread::sleep(LOOK_EVERY);
        let sample = Sample::of(worker);
        let records = sample.figures.records();
        if records >= aim {
            break sample;
        }
        // The worker says it once a second.
        let last = samples.last().map_or(before.figures.records(), |last| last.figures.records());
        if records > last {
            samples.push(sample);
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "the burst is not read");
    };
    // From the first word after the burst to the last before its end, or all of it where it is over too soon.
    let (from, to) = match (samples.first(), samples.last()) {
        (Some(first), Some(last)) if samples.len() >= 3 => (first, last),
        _ => (&before, &end),
    };
    let since = if std::ptr::eq(from, &before) { begun } else { from.at };
    let window_s = to.at.duration_since(since).as_secs_f64();
    let read = to.figures.records() - from.figures.records();
    let in_window = to.cpu.since(&from.cpu);
    let wall_s = read_in(begun, &end, sent, read as f64 / window_s);
    worker.until_acknowledged();
    // The producer counts its requests each second.
    std::thread::sleep(Duration::from_millis(1_100));
    let after = worker.figures();
    assert_eq!(after.get("nearcast_fanout_owned_partitions"), f64::from(VISIBILITY_PARTITIONS), "the group missed it");
    let resets = |figures: &Figures| figures.sum("nearcast_fanout_resets_total");
    assert_eq!(resets(&before.figures), resets(&after), "the worker began anew within a burst");
    Round {
        records: sent,
        per_second: read as f64 / window_s,
        cpu: end.cpu.since(&before.cpu),
        engine_on_cpu: in_window.engine / window_s,
        kafka_on_cpu: in_window.kafka / window_s,
        wall_s,
        before: before.figures,
        after,
    }
}

/// How long the burst took: at its rate, and never longer than until its end was seen.
fn read_in(begun: Instant, end: &Sample, records: u64, per_second: f64) -> f64 {
    (records as f64 / per_second).min(end.at.duration_since(begun).as_secs_f64())
}

fn row(name: &str, size: Size, rounds: &[Round], resident: u64) -> Value {
    let median = |figure: &dyn Fn(&Round) -> f64| {
        let mut figures: Vec<f64> = rounds.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    let per_record = |metric: &str| median(&|round| round.more(metric) / round.records as f64);
    let per_second = |metric: &str| median(&|round| round.more(metric) / round.wall_s);
    let cpu_us = |of: fn(&Cpu) -> f64| median(&|round| of(&round.cpu) * 1e6 / round.records as f64);
    let (engine, kafka) = (median(&|round| round.engine_on_cpu), median(&|round| round.kafka_on_cpu));
    let rate = median(&|round| round.per_second);
    json!({
        "case": name,
        "users": size.users,
        "friends_online": size.online,
        "friends_near": per_record("nearcast_fanout_upserts_total"),
        "gateways": GATEWAYS,
        "seed": SEED,
        "records": rounds.iter().map(|round| round.records).sum::<u64>(),
        "records_per_second": rate.round(),
        "records_per_second_slowest": rounds.iter().map(|round| round.per_second).fold(f64::MAX, f64::min).round(),
        "records_per_second_fastest": rounds.iter().map(|round| round.per_second).fold(0.0, f64::max).round(),
        "records_per_engine_cpu_second": (1e6 / cpu_us(|cpu| cpu.engine)).round(),
        "cpu_us_per_record": cpu_us(Cpu::all),
        "engine_cpu_us_per_record": cpu_us(|cpu| cpu.engine),
        "kafka_cpu_us_per_record": cpu_us(|cpu| cpu.kafka),
        "other_cpu_us_per_record": cpu_us(|cpu| cpu.other),
        "engine_on_cpu": engine,
        "kafka_on_cpu": kafka,
        "bound": if engine >= kafka { "engine" } else { "kafka" },
        "pair_checks_per_record": per_record("nearcast_fanout_pair_checks_total"),
        "batches_per_second": per_second("nearcast_fanout_batches_total"),
        "produce_requests_per_second": per_second("nearcast_fanout_produce_requests_total"),
        "delivery_bytes_per_second": per_second("nearcast_fanout_delivery_bytes_total").round(),
        "delivery_bytes_per_record": per_record("nearcast_fanout_delivery_bytes_total"),
        "resident_bytes": resident,
    })
}
