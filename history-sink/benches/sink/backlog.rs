//! A backlog in half of the partitions, while somebody reports in each of the others: memory, and how long the new wait.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nearcast_runtime::clock::now_ms;
use nearcast_runtime::kafka::ProducerProfile;
use nearcast_schemas::codec::Codec;
use nearcast_schemas::event::{Fix, LocationEvent};
use nearcast_schemas::topics::partition_of;
use rdkafka::producer::FutureRecord;
use scylla::value::CqlDate;
use serde_json::{Value, json};

use crate::log::{event, fill, user};
use crate::process::Sink;
use crate::stage::{PARTITIONS, Stage};

const LOOK_EVERY: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(600);
/// Between two reports of the new.
const PAUSE: Duration = Duration::from_millis(100);

/// What is looked at while the backlog is stored.
#[derive(Default)]
struct Seen {
    /// When a tenth of it is.
    resident_begun: u64,
    resident_most: u64,
    held_most: u64,
    new_ms: Vec<f64>,
}

pub async fn run(short: bool) -> Value {
    let (users, reports) = if short { (1_000, 20) } else { (20_000, 50) };
    let stage = Stage::new().await;
    let mut behind = Vec::new();
    let mut new = BTreeMap::new();
    for name in (0..).map(user) {
        let partition = partition_of(name.as_bytes(), PARTITIONS);
        if partition % 2 == 0 && behind.len() < users {
            behind.push(name);
        } else if partition % 2 == 1 {
            new.entry(partition).or_insert(name);
        }
        if behind.len() == users && new.len() == PARTITIONS as usize / 2 {
            break;
        }
    }
    let rows = fill(&stage, &behind, now_ms() - 3_600_000, reports).await;
    let sink = Sink::start(&stage.prefix);
    let begun = Instant::now();
    while sink.stored().await == 0 {
        assert!(begun.elapsed() < PATIENCE, "rows are stored");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let (since, before, cpu) = (Instant::now(), sink.stored().await, sink.cpu().all());
    let (seen, more) = watch(&stage, &sink, rows, &new.into_values().collect::<Vec<_>>()).await;
    let took = since.elapsed().as_secs_f64();
    let cpu_us = (sink.cpu().all() - cpu) * 1e6;
    assert_eq!(sink.stored().await, rows + more, "each row is written once");
    sink.end();
    if short {
        assert_eq!(stage.rows().await, rows + more);
    }
    stage.delete().await;
    let mut sorted = seen.new_ms;
    sorted.sort_by(f64::total_cmp);
    let quantile = |share: f64| sorted.get((sorted.len().saturating_sub(1) as f64 * share).round() as usize);
    json!({
        "case": "backlog",
        "rows": rows,
        "rows_per_second": (rows - before) as f64 / took,
        "cpu_us_per_row": cpu_us / (rows + more - before) as f64,
        "resident_bytes_begun": seen.resident_begun,
        "resident_bytes_most": seen.resident_most,
        "held_bytes_most": seen.held_most,
        "new": more,
        "new_ms_p50": quantile(0.5),
        "new_ms_p99": quantile(0.99),
    })
}

/// Reports and looks until the backlog is stored; what was seen, and how many new ones there were.
async fn watch(stage: &Stage, sink: &Sink, rows: u64, new: &[String]) -> (Seen, u64) {
    let profile = ProducerProfile { linger: Duration::from_millis(1), ..ProducerProfile::default() };
    let (producer, codec, topic) =
        (stage.kafka.producer(&profile).unwrap(), Codec::default(), stage.topics.locations());
    let text = "SELECT n FROM history WHERE user_id = ? AND day = ? AND fixed_at >= ?";
    let select = stage.session.prepare(text).await.unwrap();
    let (mut seen, mut value, mut reported) = (Seen::default(), Vec::new(), 0);
    let begun = Instant::now();
    loop {
        let figures = sink.figures().await.expect("the sink says how it does");
        let stored = figures.get("nearcast_history_sink_rows_stored_total") as u64;
        let resident = sink.resident();
        seen.held_most = seen.held_most.max(figures.get("nearcast_history_sink_held_bytes") as u64);
        seen.resident_most = seen.resident_most.max(resident);
        if stored >= rows / 10 && seen.resident_begun == 0 {
            seen.resident_begun = resident;
        }
        if stored >= rows + reported {
            return (seen, reported);
        }
        assert!(begun.elapsed() < PATIENCE, "{stored} of {rows} rows are stored");
        let (user, n) = (&new[reported as usize % new.len()], reported as i64);
        let at = now_ms();
        let report = LocationEvent { fix: event(at, 0).fix.map(|fix| Fix { n, ..fix }), ..event(at, 0) };
        value.clear();
        codec.encode_location(&report, &mut value);
        let record = FutureRecord::to(&topic).key(user).payload(&value);
        let sent = Instant::now();
        producer.send_result(record).map_err(|(error, _)| error).unwrap().await.unwrap().expect("Kafka takes it");
        reported += 1;
        let day = CqlDate(((1_i64 << 31) + at.div_euclid(86_400_000)) as u32);
        let values = (user, day, scylla::value::CqlTimestamp(at));
        loop {
            let found = stage.session.execute_unpaged(&select, values).await.unwrap().into_rows_result().unwrap();
            if found.rows_num() > 0 {
                break;
            }
            assert!(sent.elapsed() < PATIENCE, "what is new is stored");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        seen.new_ms.push(sent.elapsed().as_secs_f64() * 1e3);
        tokio::time::sleep(PAUSE).await;
    }
}
