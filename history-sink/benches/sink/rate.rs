//! Rows a second, in turn by the driver alone and by the sink.

use std::time::{Duration, Instant};

use nearcast_runtime::clock::now_ms;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::config::ClientConfig;
use serde_json::{Value, json};

use crate::driver;
use crate::log::{fill, user};
use crate::process::Sink;
use crate::stage::Stage;

const LOOK_EVERY: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(300);

struct Stored {
    rows_per_second: f64,
    cpu_us_per_row: f64,
}

pub async fn run(short: bool) -> Vec<Value> {
    let (users, reports, rounds) = if short { (500, 4, 1) } else { (20_000, 5, 5) };
    let stage = Stage::new().await;
    let names: Vec<_> = (0..users).map(user).collect();
    // Everything was fixed before it is appended, as of phones.
    let start = now_ms() - 3_600_000;
    let rows = fill(&stage, &names, start, reports).await;
    // Both write every row again in each round; what warms them up is not counted.
    let (mut alone, mut fastest) = (0.0, driver::AT_ONCE[0]);
    driver::run(&stage, users, start, reports, fastest).await;
    for at_once in driver::AT_ONCE {
        let speed = driver::run(&stage, users, start, reports, at_once).await;
        eprintln!("driver, {at_once} at once: {speed:.0} rows/s");
        if speed > alone {
            (alone, fastest) = (speed, at_once);
        }
    }
    store(&stage, rows).await;
    let (mut by_driver, mut by_sink) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        by_driver.push(driver::run(&stage, users, start, reports, fastest).await);
        let stored = store(&stage, rows).await;
        eprintln!("round {round}: driver {:.0}, sink {:.0} rows/s", by_driver[round], stored.rows_per_second);
        by_sink.push(stored);
    }
    assert_eq!(stage.rows().await, rows, "every record has its row");
    stage.delete().await;
    let driver = median(by_driver.iter().copied());
    let sink = median(by_sink.iter().map(|stored| stored.rows_per_second));
    let cpu = median(by_sink.iter().map(|stored| stored.cpu_us_per_row));
    vec![
        json!({ "case": "driver alone", "rows": rows, "rows_per_second": driver, "at_once": fastest }),
        json!({
            "case": "sink",
            "rows": rows,
            "rows_per_second": sink,
            "share_of_driver": sink / driver,
            "cpu_us_per_row": cpu,
        }),
    ]
}

/// The sink stores the whole log, as if it never had.
async fn store(stage: &Stage, rows: u64) -> Stored {
    let sink = Sink::start(&stage.prefix);
    let begun = Instant::now();
    let (mut first, mut seen) = (None, 0);
    while seen < rows {
        assert!(begun.elapsed() < PATIENCE, "{seen} of {rows} rows are stored");
        tokio::time::sleep(LOOK_EVERY).await;
        seen = sink.stored().await;
        if seen > 0 && first.is_none() {
            first = Some((Instant::now(), seen, sink.cpu().all()));
        }
    }
    let (since, before, cpu) = first.expect("rows were stored");
    let (took, more) = (since.elapsed().as_secs_f64(), (rows - before) as f64);
    let cpu_us_per_row = (sink.cpu().all() - cpu) * 1e6 / more;
    assert_eq!(seen, rows, "each row is written once");
    sink.end();
    let admin: AdminClient<_> =
        ClientConfig::new().set("bootstrap.servers", &stage.kafka.config().bootstrap).create().unwrap();
    let forgotten = admin.delete_groups(&[&stage.topics.history_group()], &AdminOptions::new()).await.unwrap();
    assert!(forgotten.iter().all(Result::is_ok), "{forgotten:?}");
    Stored { rows_per_second: more / took, cpu_us_per_row }
}

fn median(of: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = of.collect();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
