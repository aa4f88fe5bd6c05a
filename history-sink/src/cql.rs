//! The history in Cassandra or ScyllaDB.
//!
//! Partitioned by user and day (UTC), so that no partition grows past a day's reports. The write timestamp
//! follows from the broker's append time: writing a record again, in whatever order, leaves the same row, and none that an
//! erasure forbids.

mod write;

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt};
use scylla::client::session::Session;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlDate, CqlTimestamp};

use crate::history::{Failed, History, HistoryError, HistoryKey, HistoryRow};
use crate::stored::{DAY_MS, date};

/// Schema changes of the history, in order: version, name, statement. `nearcast migrate` applies them.
pub const MIGRATIONS: &[(u32, &str, &str)] = &[
    (
        1,
        "history",
        "CREATE TABLE IF NOT EXISTS history (
        user_id text, day date, fixed_at timestamp, device text, n bigint,
        lat double, lon double, accuracy_m float, speed_mps float, heading_deg float, altitude_m float,
        device_time timestamp, appended_at timestamp, log_partition int, log_offset bigint, late boolean,
        PRIMARY KEY ((user_id, day), fixed_at, device, n)
    ) WITH CLUSTERING ORDER BY (fixed_at ASC, device ASC, n ASC)
      AND compaction = {'class': 'TimeWindowCompactionStrategy', 'compaction_window_unit': 'DAYS', 'compaction_window_size': 1}
      AND gc_grace_seconds = 86400",
    ),
    // An erasure is remembered for longer than the log, or a dead letter, keeps a record that it forbids.
    (2, "erasures outlast the log", "ALTER TABLE history WITH gc_grace_seconds = 259200"),
];

const COLUMNS: &str = "fixed_at, device, n, lat, lon, accuracy_m, speed_mps, heading_deg, altitude_m, device_time, \
                       appended_at, log_partition, log_offset, late";

/// Requests at once by one call.
const CONCURRENCY: usize = 32;

/// A history in the keyspace of a session.
pub struct CqlHistory {
    session: Arc<Session>,
    insert: PreparedStatement,
    delete: PreparedStatement,
    select: PreparedStatement,
    keep_days: u16,
}

type Columns = (
    CqlTimestamp,
    String,
    i64,
    f64,
    f64,
    Option<f32>,
    Option<f32>,
    Option<f32>,
    Option<f32>,
    CqlTimestamp,
    CqlTimestamp,
    i32,
    i64,
    bool,
);

impl CqlHistory {
    /// Prepares the statements. The session's keyspace holds the table; rows live for `keep_days`, 1 to 7000.
    ///
    /// # Errors
    /// The table is missing (run `nearcast migrate`), or the database does not answer.
    pub async fn new(session: Arc<Session>, keep_days: u16) -> Result<Self, HistoryError> {
        let prepare = |cql: String| {
            let session = Arc::clone(&session);
            async move {
                let mut statement =
                    session.prepare(cql).await.map_err(|error| HistoryError::Unavailable(error.to_string()))?;
                statement.set_is_idempotent(true);
                Ok::<_, HistoryError>(statement)
            }
        };
        let insert = prepare(write::insert()).await?;
        let delete = prepare("DELETE FROM history USING TIMESTAMP ? WHERE user_id = ? AND day = ?".to_owned()).await?;
        let select = prepare(format!(
            "SELECT {COLUMNS} FROM history WHERE user_id = ? AND day = ? AND fixed_at >= ? AND fixed_at < ?"
        ))
        .await?;
        Ok(Self { session, insert, delete, select, keep_days })
    }

    async fn day(&self, user: &str, day: i64, from_ms: i64, to_ms: i64) -> Result<Vec<HistoryRow>, HistoryError> {
        let rows = self
            .session
            .execute_iter(self.select.clone(), (user, date(day), CqlTimestamp(from_ms), CqlTimestamp(to_ms)))
            .await
            .map_err(|error| HistoryError::Unavailable(error.to_string()))?;
        rows.rows_stream::<Columns>()
            .map_err(|error| HistoryError::Unavailable(error.to_string()))?
            .map_ok(|columns| row_of(user, columns))
            .try_collect()
            .await
            .map_err(|error| HistoryError::Unavailable(error.to_string()))
    }
}

#[async_trait]
impl History for CqlHistory {
    async fn write(&self, rows: &[HistoryRow]) -> Vec<Failed> {
        self.write_rows(rows).await
    }

    async fn erase(&self, user: &str, at: i64) -> Result<(), HistoryError> {
        self.erase_until(user, at).await
    }

    async fn range(
        &self,
        user: &str,
        from_ms: i64,
        to_ms: i64,
        limit: usize,
        after: Option<&HistoryKey>,
    ) -> Result<Vec<HistoryRow>, HistoryError> {
        let now_ms = nearcast_runtime::clock::now_ms();
        // Nothing older is kept, and a phone's corrected clock is never ahead of the server's.
        let oldest = now_ms - (i64::from(self.keep_days) + 1) * DAY_MS;
        let from_ms = from_ms.max(oldest).max(after.map_or(i64::MIN, |key| key.fixed_at));
        let to_ms = to_ms.min(now_ms + DAY_MS);
        if from_ms >= to_ms || limit == 0 {
            return Ok(Vec::new());
        }
        let days = from_ms.div_euclid(DAY_MS)..=(to_ms - 1).div_euclid(DAY_MS);
        let mut by_day =
            futures_util::stream::iter(days).map(|day| self.day(user, day, from_ms, to_ms)).buffered(CONCURRENCY);
        let mut found = Vec::new();
        let mut reports = HashSet::new();
        while let Some(rows) = by_day.try_next().await? {
            for row in rows {
                if after.is_some_and(|key| row.key() <= *key) || !reports.insert((row.device.clone(), row.n)) {
                    continue;
                }
                found.push(row);
                if found.len() == limit {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }
}

/// The day of a time; of a row, it was checked to be after 1970 and before the end of `date`.
fn day_of(at_ms: i64) -> CqlDate {
    date(at_ms.div_euclid(DAY_MS))
}

fn row_of(user: &str, columns: Columns) -> HistoryRow {
    let (fixed_at, device, n, lat, lon, accuracy_m, speed_mps, heading_deg, altitude_m, device_time, appended_at, ..) =
        columns;
    HistoryRow {
        user: user.to_owned(),
        fixed_at: fixed_at.0,
        device,
        n,
        lat,
        lon,
        accuracy_m,
        speed_mps,
        heading_deg,
        altitude_m,
        device_time: device_time.0,
        appended_at: appended_at.0,
        partition: columns.11,
        offset: columns.12,
        late: columns.13,
    }
}
