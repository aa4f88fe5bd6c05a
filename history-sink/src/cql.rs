//! The history in Cassandra or ScyllaDB.
//!
//! Partitioned by user and day (UTC), so that no partition grows past a day's reports. The write timestamp
//! follows from the broker's append time: writing a record again, in whatever order, leaves the same row.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt, TryStreamExt};
use scylla::SerializeRow;
use scylla::client::session::Session;
use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlDate, CqlTimestamp};

use crate::history::{History, HistoryError, HistoryKey, HistoryRow};
use crate::stored::{DAY_MS, LATE_WRITTEN_BEFORE_MS, date};

/// Schema changes of the history, in order: version, name, statement. `nearcast migrate` applies them.
pub const MIGRATIONS: &[(u32, &str, &str)] = &[(
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
)];

const COLUMNS: &str = "fixed_at, device, n, lat, lon, accuracy_m, speed_mps, heading_deg, altitude_m, device_time, \
                       appended_at, log_partition, log_offset, late";

/// Inserts at once by one `store`, and days read at once by one `range`.
const CONCURRENCY: usize = 32;

/// The insert's values, in the statement's order.
#[derive(SerializeRow)]
#[scylla(flavor = "enforce_order", skip_name_checks)]
struct Values<'a> {
    user: &'a str,
    day: CqlDate,
    fixed_at: CqlTimestamp,
    device: &'a str,
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

/// A history in the keyspace of a session.
pub struct CqlHistory {
    session: Arc<Session>,
    insert: PreparedStatement,
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
        let insert = prepare(format!(
            "INSERT INTO history (user_id, day, {COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
             USING TIMESTAMP ? AND TTL ?"
        ))
        .await?;
        let select = prepare(format!(
            "SELECT {COLUMNS} FROM history WHERE user_id = ? AND day = ? AND fixed_at >= ? AND fixed_at < ?"
        ))
        .await?;
        Ok(Self { session, insert, select, keep_days })
    }

    async fn insert(&self, row: &HistoryRow) -> Result<(), HistoryError> {
        let values = Values {
            user: &row.user,
            day: day_of(row.fixed_at),
            fixed_at: CqlTimestamp(row.fixed_at),
            device: &row.device,
            n: row.n,
            lat: row.lat,
            lon: row.lon,
            accuracy_m: row.accuracy_m,
            speed_mps: row.speed_mps,
            heading_deg: row.heading_deg,
            altitude_m: row.altitude_m,
            device_time: CqlTimestamp(row.device_time),
            appended_at: CqlTimestamp(row.appended_at),
            partition: row.partition,
            offset: row.offset,
            late: row.late,
            written_at_us: written_at_us(row),
            ttl_s: i32::from(self.keep_days) * 86_400,
        };
        self.session.execute_unpaged(&self.insert, values).await.map(drop).map_err(error_of)
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
    async fn store(&self, rows: &[HistoryRow]) -> Result<(), HistoryError> {
        let inserts: Vec<_> = rows.iter().map(|row| self.insert(row)).collect();
        futures_util::stream::iter(inserts).buffer_unordered(CONCURRENCY).try_collect().await
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

/// The write timestamp: the append time. A late row is written as of a minute before its fix, so that a report that was
/// shown as now and came once more, late, stays what it was; and an erasure outlasts both.
fn written_at_us(row: &HistoryRow) -> i64 {
    let at_ms = if row.late { row.appended_at.min(row.fixed_at - LATE_WRITTEN_BEFORE_MS) } else { row.appended_at };
    at_ms * 1_000
}

fn day_of(fixed_at: i64) -> CqlDate {
    date(fixed_at.div_euclid(DAY_MS))
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

/// What the database will refuse for ever is told from what it may accept later. The texts of both name no values.
fn error_of(error: ExecutionError) -> HistoryError {
    match &error {
        ExecutionError::BadQuery(_)
        | ExecutionError::LastAttemptError(RequestAttemptError::SerializationError(_))
        | ExecutionError::LastAttemptError(RequestAttemptError::DbError(DbError::Invalid | DbError::SyntaxError, _)) => {
            HistoryError::Refused(error.to_string())
        }
        _ => HistoryError::Unavailable(error.to_string()),
    }
}
