//! The same rows by the driver alone: the insert of the sink, prepared, so many at once.

use std::time::Instant;

use futures_util::StreamExt;
use scylla::SerializeRow;
use scylla::value::{CqlDate, CqlTimestamp};

use crate::log::{event, user};
use crate::stage::Stage;

/// What is found to be fastest is what the sink is compared with.
pub const AT_ONCE: [usize; 3] = [64, 256, 1_024];

const DAY_MS: i64 = 86_400_000;

#[derive(SerializeRow)]
#[scylla(flavor = "enforce_order", skip_name_checks)]
struct Row {
    user: String,
    day: CqlDate,
    fixed_at: CqlTimestamp,
    device: String,
    n: i64,
    lat: f64,
    lon: f64,
    accuracy_m: Option<f32>,
    speed_mps: Option<f32>,
    heading_deg: Option<f32>,
    altitude_m: Option<f32>,
    device_time: CqlTimestamp,
    appended_at: CqlTimestamp,
    partition: i32,
    offset: i64,
    late: bool,
    written_at_us: i64,
    ttl_s: i32,
}

/// Rows a second.
pub async fn run(stage: &Stage, users: u32, start: i64, reports: i64, at_once: usize) -> f64 {
    let insert = "INSERT INTO history (user_id, day, fixed_at, device, n, lat, lon, accuracy_m, speed_mps, heading_deg, \
                  altitude_m, device_time, appended_at, log_partition, log_offset, late) \
                  VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ? AND TTL ?";
    let mut insert = stage.session.prepare(insert).await.unwrap();
    insert.set_is_idempotent(true);
    let rows = (0..reports).flat_map(|n| (0..users).map(move |number| (n, number)));
    let begun = Instant::now();
    let writes = rows.map(|(n, number)| {
        let fix = event(start, n).fix.unwrap();
        let row = Row {
            user: user(number),
            day: CqlDate(((1_i64 << 31) + fix.fixed_at.div_euclid(DAY_MS)) as u32),
            fixed_at: CqlTimestamp(fix.fixed_at),
            device: fix.device,
            n,
            lat: fix.lat,
            lon: fix.lon,
            accuracy_m: fix.accuracy_m,
            speed_mps: fix.speed_mps,
            heading_deg: fix.heading_deg,
            altitude_m: fix.altitude_m,
            device_time: CqlTimestamp(fix.device_time),
            appended_at: CqlTimestamp(fix.fixed_at),
            partition: 0,
            offset: n,
            late: false,
            written_at_us: fix.fixed_at * 1_000,
            ttl_s: 7_776_000,
        };
        let (session, insert) = (&stage.session, &insert);
        async move { session.execute_unpaged(insert, row).await.map(drop) }
    });
    let mut written = futures_util::stream::iter(writes).buffer_unordered(at_once);
    while let Some(result) = written.next().await {
        result.expect("Cassandra takes the row");
    }
    f64::from(users) * reports as f64 / begun.elapsed().as_secs_f64()
}
