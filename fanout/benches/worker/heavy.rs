//! What a user with thousands of friends costs the others: how late they are told, without that user and with.
//!
//! From the append of a friend's report to the append of the delivery that tells it, both by the broker's clock. The load
//! is far below what a worker can do, so that nobody waits but for what takes long.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nearcast_runtime::clock;
use nearcast_schemas::codec::{Codec, GatewayRecord};
use nearcast_schemas::delivery::Item;
use rdkafka::consumer::Consumer;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::case::TOWN;
use crate::check;
use crate::log::Log;
use crate::process::Worker;
use crate::reports::{Report, Walk};
use crate::stage::{Stage, gateway_id};
use crate::world::{SEED, Size, World};

/// The user of many friends reports, and in a burst of nerves says hello anew, this often.
const REPORTS_EVERY: Duration = Duration::from_secs(1);
const HELLO_EVERY: Duration = Duration::from_secs(5);
/// Each half, after what comes before it, and of a short run.
const HALF: Duration = Duration::from_secs(25);
const SHORT_HALF: Duration = Duration::from_secs(3);
const BEFORE_HALF: Duration = Duration::from_secs(2);

/// One upsert: when it was appended, and how long after the report; ms. `heavy`, `others`: whom it tells.
struct Told {
    at_ms: i64,
    late_ms: i64,
    heavy: bool,
    others: bool,
    viewers: usize,
}

pub fn run(size: Size, rate: u32, short: bool) -> Vec<Value> {
    let stage = Stage::new(1);
    let world = World::on(TOWN, size);
    let mut walk = Walk::new(&world);
    // Comes after all others, and is everybody's friend.
    let heavy = size.users;
    let mut log = Log::new(&stage, size.users + 1, Duration::from_millis(5));
    let mut friends = Vec::new();
    for (user, &(lat, lon)) in (0..).zip(walk.places()) {
        world.friends(user, &mut friends);
        friends.push(heavy);
        log.list(user, &friends);
        log.hello(Report { user, lat, lon, append_ms: 0 });
    }
    log.list(heavy, &(0..heavy).collect::<Vec<_>>());
    log.flush();
    let reader = Reader::start(&stage, heavy);
    let worker = Worker::start(&stage.prefix, None);
    worker.until_settled(size.users);

    let half = if short { SHORT_HALF } else { HALF };
    let mut load = Load { log, walk: &mut walk, rate, heavy: None };
    load.run(BEFORE_HALF);
    let without = load.measured(half, &worker);
    load.heavy = Some((heavy, Instant::now(), Instant::now()));
    load.run(BEFORE_HALF);
    let with = load.measured(half, &worker);
    load.log.flush();
    let told = reader.stop();

    let row = |case: &str, half: &Half| half.row(case, size, rate, &told);
    let without = row("heavy_without", &without);
    let mut with = row("heavy_with", &with);
    let more = |figure: &str| with[figure].as_f64().unwrap_or(f64::NAN) - without[figure].as_f64().unwrap_or(f64::NAN);
    let (p50, p99) = (more("p50_ms"), more("p99_ms"));
    with["friends_of_heavy"] = json!(heavy);
    with["p50_ms_more"] = json!(p50);
    with["p99_ms_more"] = json!(p99);
    if short {
        check::halves(&without, &with, heavy);
    }
    vec![without, with]
}

/// Reports at their pace.
struct Load<'a, 'w> {
    log: Log,
    walk: &'a mut Walk<'w>,
    /// Reports a second.
    rate: u32,
    /// Who has many friends, and when the next report and the next hello are due.
    heavy: Option<(u32, Instant, Instant)>,
}

/// What was run in some time by the broker's clock, which is this machine's.
struct Half {
    from_ms: i64,
    to_ms: i64,
    reports: u64,
    /// Share of a processor.
    engine_on_cpu: f64,
    tick_ms: f64,
}

impl Load<'_, '_> {
    fn measured(&mut self, lasts: Duration, worker: &Worker) -> Half {
        let (cpu, from_ms) = (worker.cpu(), clock::now_ms());
        let reports = self.run(lasts);
        let to_ms = clock::now_ms();
        let engine_on_cpu = worker.cpu().since(&cpu).engine / lasts.as_secs_f64();
        let tick_ms = worker.figures().get("nearcast_fanout_tick_seconds") * 1_000.0;
        // The last are told before anything else begins.
        std::thread::sleep(Duration::from_millis(500));
        Half { from_ms, to_ms, reports, engine_on_cpu, tick_ms }
    }

    /// Lets everybody report for some time; returns how many reports that were.
    fn run(&mut self, lasts: Duration) -> u64 {
        let begun = Instant::now();
        let mut reports = 0;
        while begun.elapsed() < lasts {
            let due = (begun.elapsed().as_secs_f64() * f64::from(self.rate)) as u64;
            while reports < due {
                let report = self.walk.step();
                self.log.fix(report);
                reports += 1;
            }
            self.heavy();
            std::thread::sleep(Duration::from_millis(2));
        }
        reports
    }

    fn heavy(&mut self) {
        let Some((user, report_at, hello_at)) = &mut self.heavy else { return };
        let now = Instant::now();
        let (lat, lon) = self.walk.places()[0];
        let report = Report { user: *user, lat, lon, append_ms: 0 };
        if now >= *hello_at {
            *hello_at = now + HELLO_EVERY;
            *report_at = now + REPORTS_EVERY;
            self.log.hello(report);
        } else if now >= *report_at {
            *report_at = now + REPORTS_EVERY;
            self.log.fix(report);
        }
    }
}

impl Half {
    fn row(&self, case: &str, size: Size, rate: u32, told: &[Told]) -> Value {
        let half: Vec<_> = told.iter().filter(|told| (self.from_ms..self.to_ms).contains(&told.at_ms)).collect();
        let of = |whose: fn(&Told) -> bool| {
            let mut late: Vec<i64> = half.iter().filter(|told| whose(told)).map(|told| told.late_ms).collect();
            late.sort_unstable();
            late
        };
        let (others, heavy) = (of(|told| told.others), of(|told| told.heavy));
        let viewers: usize = half.iter().map(|told| told.viewers).sum();
        let mut row = json!({
            "case": case,
            "users": size.users,
            "friends_online": size.online,
            "seed": SEED,
            "reports_per_second": rate,
            "reports": self.reports,
            "others": size.users,
            "samples": others.len(),
            "p50_ms": quantile(&others, 0.5),
            "p90_ms": quantile(&others, 0.9),
            "p99_ms": quantile(&others, 0.99),
            "max_ms": quantile(&others, 1.0),
            "viewers_per_upsert": viewers as f64 / half.len().max(1) as f64,
            "most_viewers": half.iter().map(|told| told.viewers).max(),
            "engine_on_cpu": self.engine_on_cpu,
            "tick_ms": self.tick_ms,
        });
        if !heavy.is_empty() {
            row["heavy_samples"] = json!(heavy.len());
            row["heavy_p50_ms"] = json!(quantile(&heavy, 0.5));
            row["heavy_p99_ms"] = json!(quantile(&heavy, 0.99));
        }
        row
    }
}

/// Of sorted numbers.
fn quantile(sorted: &[i64], share: f64) -> Option<i64> {
    let last = sorted.len().checked_sub(1)?;
    Some(sorted[(last as f64 * share).round() as usize])
}

/// Reads what the gateway is told, while it is told.
struct Reader {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Told>>,
}

impl Reader {
    fn start(stage: &Stage, heavy: u32) -> Self {
        let reader = stage.kafka.reader().unwrap();
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(&stage.topics.gateway(&gateway_id(0)), 0, Offset::Beginning).unwrap();
        reader.assign(&assignment).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (codec, mut told, mut seqs) = (Codec::default(), Vec::new(), BTreeMap::new());
            loop {
                let Some(message) = reader.poll(Duration::from_millis(200)) else {
                    if stopped.load(Ordering::Relaxed) {
                        return told;
                    }
                    continue;
                };
                let message = message.unwrap();
                let at_ms = message.timestamp().to_millis().unwrap();
                let record = codec.decode_gateway_record(message.payload().unwrap()).unwrap();
                let GatewayRecord::Batch(batch) = record else { panic!("a notice") };
                let last = seqs.insert(batch.worker_incarnation, batch.seq).unwrap_or(0);
                assert_eq!(batch.seq, last + 1, "a batch is missing");
                // The last heartbeats need not be waited for.
                if batch.items.is_empty() && stopped.load(Ordering::Relaxed) {
                    return told;
                }
                let upserts = batch.items.iter().filter_map(|item| match item {
                    Item::Upsert(upsert) => Some(upsert),
                    _ => None,
                });
                told.extend(upserts.map(|upsert| Told {
                    at_ms,
                    late_ms: at_ms - upsert.position.at,
                    heavy: upsert.viewers.iter().any(|viewer| viewer.handle == heavy as i32),
                    others: upsert.viewers.iter().any(|viewer| viewer.handle != heavy as i32),
                    viewers: upsert.viewers.len(),
                }));
            }
        });
        Self { stop, thread }
    }

    /// Everything that was told until a while after now.
    fn stop(self) -> Vec<Told> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("what the gateway is told can be read")
    }
}
