//! What is said of the rows.

use serde_json::Value;

use crate::table::{Column, table};

const SPEED: &[Column] = &[
    ("users", "users", 1.0, 0),
    ("online", "friends_online", 1.0, 0),
    ("near", "friends_near", 1.0, 1),
    ("krec/s", "records_per_second", 1e3, 0),
    ("slowest", "records_per_second_slowest", 1e3, 0),
    ("fastest", "records_per_second_fastest", 1e3, 0),
    ("/engine CPU s", "records_per_engine_cpu_second", 1e3, 0),
    ("us/record", "cpu_us_per_record", 1.0, 2),
    ("engine", "engine_cpu_us_per_record", 1.0, 2),
    ("kafka", "kafka_cpu_us_per_record", 1.0, 2),
    ("on CPU", "engine_on_cpu", 1.0, 2),
    ("kafka on", "kafka_on_cpu", 1.0, 2),
];

const DELIVERIES: &[Column] = &[
    ("users", "users", 1.0, 0),
    ("near", "friends_near", 1.0, 1),
    ("gateways", "gateways", 1.0, 0),
    ("requests/s", "produce_requests_per_second", 1.0, 0),
    ("batches/s", "batches_per_second", 1.0, 0),
    ("MB/s", "delivery_bytes_per_second", 1e6, 1),
    ("B/record", "delivery_bytes_per_record", 1.0, 0),
    ("GB held", "resident_bytes", 1e9, 2),
];

const HEAVY: &[Column] = &[
    ("others", "others", 1.0, 0),
    ("online", "friends_online", 1.0, 0),
    ("reports/s", "reports_per_second", 1.0, 0),
    ("samples", "samples", 1.0, 0),
    ("p50 ms", "p50_ms", 1.0, 0),
    ("p90 ms", "p90_ms", 1.0, 0),
    ("p99 ms", "p99_ms", 1.0, 0),
    ("max ms", "max_ms", 1.0, 0),
    ("p99 more", "p99_ms_more", 1.0, 0),
    ("tick ms", "tick_ms", 1.0, 0),
    ("on CPU", "engine_on_cpu", 1.0, 2),
];

const START: &[Column] = &[
    ("users", "users", 1.0, 0),
    ("online", "friends_online", 1.0, 0),
    ("ready s", "seconds_to_ready", 1.0, 2),
    ("owning s", "seconds_to_ownership", 1.0, 2),
    ("views s", "seconds_to_views", 1.0, 2),
    ("krecords", "records", 1e3, 0),
    ("replayed", "records_replayed", 1e3, 0),
    ("krec/s", "records_per_second", 1e3, 0),
    ("us/record", "cpu_us_per_record", 1.0, 2),
    ("on CPU", "engine_on_cpu", 1.0, 2),
    ("GB held", "resident_bytes", 1e9, 2),
];

/// Prints the rows as plain tables.
pub fn print(worker: &[Value], start: &[Value]) {
    let (heavy, bursts): (Vec<_>, Vec<_>) = worker.iter().partition(|row| !row["p99_ms"].is_null());
    print_some("A backlog on real Kafka: read, decoded, applied, joined and delivered", SPEED, &bursts);
    print_some("What of it went to the gateways", DELIVERIES, &bursts);
    print_some("How late others are told, without and with a user of many friends", HEAVY, &heavy);
    print_some("A start", START, &start.iter().collect::<Vec<_>>());
}

fn print_some(title: &str, columns: &[Column], rows: &[&Value]) {
    if !rows.is_empty() {
        table(title, columns, rows);
    }
}
