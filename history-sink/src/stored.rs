//! The history row by row, as it lies in the database, for whoever audits it: with rows that [`crate::history::History`]
//! shows as one, and without a position.

use std::ops::RangeInclusive;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use scylla::client::session::Session;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlDate, CqlTimestamp};

use crate::history::HistoryError;
pub use crate::row::{DAY_MS, LATE_WRITTEN_BEFORE_MS};

/// Days read at once for one user.
const CONCURRENCY: usize = 16;

/// `date` counts days from 2^31 at 1970-01-01.
const EPOCH_DAY: i64 = 1 << 31;

/// One row of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRow {
    /// The installation that numbered the report.
    pub device: String,
    /// Its number.
    pub n: i64,
    /// When the broker appended the record, in ms since the epoch; -1 where the row does not say.
    pub appended_at: i64,
    /// Partition of the record in the location log; so too.
    pub partition: i32,
    /// Offset of the record in the location log; so too.
    pub offset: i64,
}

type Columns = (String, i64, Option<CqlTimestamp>, Option<i32>, Option<i64>);

/// Reads rows in the keyspace of a session.
pub struct Stored {
    session: Arc<Session>,
    select: PreparedStatement,
}

impl Stored {
    /// Prepares the statement.
    ///
    /// # Errors
    /// The table is missing (run `nearcast migrate`), or the database does not answer.
    pub async fn new(session: Arc<Session>) -> Result<Self, HistoryError> {
        let text = "SELECT device, n, appended_at, log_partition, log_offset FROM history \
                    WHERE user_id = ? AND day = ?";
        let mut select = session.prepare(text).await.map_err(unavailable)?;
        select.set_is_idempotent(true);
        Ok(Self { session, select })
    }

    /// All rows of a user on these days (UTC, counted from 1970-01-01).
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn rows(&self, user: &str, days: RangeInclusive<i64>) -> Result<Vec<StoredRow>, HistoryError> {
        let mut days = futures_util::stream::iter(days).map(|day| self.day(user, day)).buffer_unordered(CONCURRENCY);
        let mut rows = Vec::new();
        while let Some(of_day) = days.try_next().await? {
            rows.extend(of_day);
        }
        Ok(rows)
    }

    async fn day(&self, user: &str, day: i64) -> Result<Vec<StoredRow>, HistoryError> {
        let values = (user, date(day));
        let rows = self.session.execute_iter(self.select.clone(), values).await.map_err(unavailable)?;
        let rows = rows.rows_stream::<Columns>().map_err(unavailable)?;
        rows.map_ok(|(device, n, appended_at, partition, offset)| StoredRow {
            device,
            n,
            appended_at: appended_at.map_or(-1, |at| at.0),
            partition: partition.unwrap_or(-1),
            offset: offset.unwrap_or(-1),
        })
        .try_collect()
        .await
        .map_err(unavailable)
    }
}

/// A day, counted from 1970-01-01, in the database's type.
pub(crate) fn date(day: i64) -> CqlDate {
    CqlDate((EPOCH_DAY + day) as u32)
}

fn unavailable(error: impl std::fmt::Display) -> HistoryError {
    HistoryError::Unavailable(error.to_string())
}
