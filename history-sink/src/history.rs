//! The history of positions: what is kept, and the trait behind which Cassandra, ScyllaDB or memory keep it.

use async_trait::async_trait;

/// One report in somebody's history. `Debug` leaves the coordinates out.
#[derive(Clone, PartialEq)]
pub struct HistoryRow {
    /// Whose.
    pub user: String,
    /// When the phone was there, by its corrected clock, in ms since the epoch.
    pub fixed_at: i64,
    /// The installation that numbered the report.
    pub device: String,
    /// Its number: (user, device, n) is a report.
    pub n: i64,
    /// WGS84 degrees.
    pub lat: f64,
    /// WGS84 degrees.
    pub lon: f64,
    /// Metres.
    pub accuracy_m: Option<f32>,
    /// Metres a second.
    pub speed_mps: Option<f32>,
    /// Degrees clockwise from true north.
    pub heading_deg: Option<f32>,
    /// Metres above the ellipsoid.
    pub altitude_m: Option<f32>,
    /// What the phone said, in ms since the epoch.
    pub device_time: i64,
    /// When the broker appended the record, in ms since the epoch.
    pub appended_at: i64,
    /// Partition of the record in the location log.
    pub partition: i32,
    /// Offset of the record in the location log.
    pub offset: i64,
    /// It came late and was never shown as now.
    pub late: bool,
}

impl std::fmt::Debug for HistoryRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HistoryRow")
            .field("partition", &self.partition)
            .field("offset", &self.offset)
            .field("n", &self.n)
            .field("late", &self.late)
            .finish_non_exhaustive()
    }
}

/// A place in one user's history, in its order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HistoryKey {
    /// As in [`HistoryRow::fixed_at`].
    pub fixed_at: i64,
    /// As in [`HistoryRow::device`].
    pub device: String,
    /// As in [`HistoryRow::n`].
    pub n: i64,
}

impl HistoryRow {
    /// The row's place in its user's history.
    pub fn key(&self) -> HistoryKey {
        HistoryKey { fixed_at: self.fixed_at, device: self.device.clone(), n: self.n }
    }
}

/// Why a history could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The database did not answer, or not in time: the same call may succeed later.
    #[error("the history database does not answer: {0}")]
    Unavailable(String),
    /// The database refused these rows; they will never be accepted.
    #[error("the history database refuses the rows: {0}")]
    Refused(String),
}

/// A row that was not written: its index, and why.
pub type Failed = (usize, HistoryError);

/// Where positions are kept per user and time.
#[async_trait]
pub trait History: Send + Sync {
    /// Writes rows, side by side, and returns those that were not written. Writing a row again changes nothing; so does
    /// writing one that was appended before an erasure of its user.
    async fn write(&self, rows: &[HistoryRow]) -> Vec<Failed>;

    /// Writes rows. Writing a row again changes nothing.
    ///
    /// # Errors
    /// Of the first row that was not written; the others may have been.
    async fn store(&self, rows: &[HistoryRow]) -> Result<(), HistoryError> {
        self.write(rows).await.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Erases everything of a user that was appended until `at`, in ms since the epoch; for good, even where such a record
    /// is written once more. Erasing again changes nothing.
    ///
    /// # Errors
    /// Some of it may have been erased.
    async fn erase(&self, user: &str, at: i64) -> Result<(), HistoryError>;

    /// One user's rows with `from_ms <= fixed_at < to_ms`, oldest first, at most `limit`, after `after` if given.
    /// A report that was sent twice is one row.
    ///
    /// # Errors
    /// Nothing was read.
    async fn range(
        &self,
        user: &str,
        from_ms: i64,
        to_ms: i64,
        limit: usize,
        after: Option<&HistoryKey>,
    ) -> Result<Vec<HistoryRow>, HistoryError>;
}
