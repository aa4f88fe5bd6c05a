//! Writing: rows of one user and day in one request, all else side by side.

use std::collections::HashMap;

use futures_util::{StreamExt, TryStreamExt};
use nearcast_runtime::clock::now_ms;
use scylla::SerializeRow;
use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use scylla::statement::batch::{Batch, BatchStatement, BatchType};
use scylla::value::{CqlDate, CqlTimestamp};

use super::{COLUMNS, CONCURRENCY, CqlHistory, DAY_MS, day_of};
use crate::events;
use crate::history::{Failed, HistoryError, HistoryRow};
use crate::row::{lives_s, written_at_us};

/// Rows of one request. About 150 bytes each, and Cassandra warns of batches beyond 5 KiB.
const TOGETHER: usize = 30;

/// The insert's text.
pub(super) fn insert() -> String {
    format!(
        "INSERT INTO history (user_id, day, {COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
         USING TIMESTAMP ? AND TTL ?"
    )
}

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

impl<'a> Values<'a> {
    /// `None` when the row's time is over.
    fn of(row: &'a HistoryRow, keep_days: u16, now_ms: i64) -> Option<Self> {
        let ttl_s = i32::try_from(lives_s(row, keep_days, now_ms)).ok().filter(|left| *left > 0)?;
        Some(Self {
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
            ttl_s,
        })
    }
}

impl CqlHistory {
    pub(super) async fn write_rows(&self, rows: &[HistoryRow]) -> Vec<Failed> {
        let now_ms = now_ms();
        let mut requests = Vec::new();
        let mut by_partition: HashMap<(&str, u32), Vec<usize>> = HashMap::new();
        for (at, row) in rows.iter().enumerate() {
            let together = by_partition.entry((&row.user, day_of(row.fixed_at).0)).or_default();
            together.push(at);
            if together.len() == TOGETHER {
                requests.push(std::mem::take(together));
            }
        }
        requests.extend(by_partition.into_values());
        let requests: Vec<_> = requests.into_iter().map(|together| self.request(rows, together, now_ms)).collect();
        futures_util::stream::iter(requests).buffer_unordered(CONCURRENCY).concat().await
    }

    /// Writes some rows of one user and day.
    async fn request(&self, rows: &[HistoryRow], mut together: Vec<usize>, now_ms: i64) -> Vec<Failed> {
        let before = together.len();
        let mut values: Vec<_> = Vec::with_capacity(before);
        together.retain(|at| {
            let of_row = Values::of(&rows[*at], self.keep_days, now_ms);
            let lives = of_row.is_some();
            values.extend(of_row);
            lives
        });
        if before > together.len() {
            events::RowsExpired { rows: before - together.len() }.emit();
        }
        if values.len() > 1 {
            // They are one mutation to the database: no log of batches, and one trip.
            let statements = values.iter().map(|_| BatchStatement::from(self.insert.clone())).collect();
            let mut batch = Batch::new_with_statements(BatchType::Unlogged, statements);
            batch.set_is_idempotent(true);
            match self.session.batch(&batch, &values).await {
                Ok(_) => return Vec::new(),
                // One of them is refused: which one, they say one by one.
                Err(error) if is_refusal(&error) => {}
                Err(error) => {
                    let error = error.to_string();
                    return together.into_iter().map(|at| (at, HistoryError::Unavailable(error.clone()))).collect();
                }
            }
        }
        let mut failed = Vec::new();
        for (at, values) in together.into_iter().zip(values) {
            if let Err(error) = self.session.execute_unpaged(&self.insert, values).await {
                failed.push((at, self.failure(error).await));
            }
        }
        failed
    }

    /// Deletes whole partitions, each as of the erasure: a row that was appended until then is gone, whenever it is written.
    pub(super) async fn erase_until(&self, user: &str, at: i64) -> Result<(), HistoryError> {
        let day = |days: i64| day_of(at.saturating_add(days.saturating_mul(DAY_MS)));
        // A fix is at most a day ahead of the log, and its row is gone `keep_days` after it.
        let deletes: Vec<_> = (-i64::from(self.keep_days) - 1..=1)
            .map(|days| async move {
                let values = (at.saturating_mul(1_000), user, day(days));
                match self.session.execute_unpaged(&self.delete, values).await {
                    Ok(_) => Ok(()),
                    Err(error) => Err(self.failure(error).await),
                }
            })
            .collect();
        futures_util::stream::iter(deletes).buffer_unordered(CONCURRENCY).try_collect().await
    }

    /// A refusal is the row's own fault only where the database still takes the statement: without its table it refuses
    /// every row, and those are not poison.
    async fn failure(&self, error: ExecutionError) -> HistoryError {
        if !is_refusal(&error) {
            return HistoryError::Unavailable(error.to_string());
        }
        match self.session.prepare(insert()).await {
            Ok(_) => HistoryError::Refused(error.to_string()),
            Err(error) => {
                HistoryError::Unavailable(format!("its table is not as it was, run `nearcast migrate`: {error}"))
            }
        }
    }
}

/// What the database will refuse for ever is told from what it may accept later. The texts of both name no values.
fn is_refusal(error: &ExecutionError) -> bool {
    matches!(
        error,
        ExecutionError::BadQuery(_)
            | ExecutionError::LastAttemptError(
                RequestAttemptError::SerializationError(_)
                    | RequestAttemptError::CqlRequestSerialization(_)
                    | RequestAttemptError::DbError(DbError::Invalid | DbError::SyntaxError, _)
            )
    )
}
