//! What the sink says about itself: one struct an event, its log line and its metrics together.

use std::time::Duration;

use metrics::{counter, gauge, histogram};

use crate::dead_letters::Outcome;

/// Rows are in the history, but for those that failed.
pub struct RowsStored {
    pub rows: usize,
    pub failed: usize,
    pub took: Duration,
}

impl RowsStored {
    pub fn emit(self) {
        counter!("nearcast_history_sink_rows_stored_total").increment((self.rows - self.failed) as u64);
        histogram!("nearcast_history_sink_store_seconds").record(self.took.as_secs_f64());
    }
}

/// Rows were not written, because their time was over before.
pub struct RowsExpired {
    pub rows: usize,
}

impl RowsExpired {
    pub fn emit(self) {
        counter!("nearcast_history_sink_rows_expired_total").increment(self.rows as u64);
    }
}

/// Everything of a user that was appended before the erasure is erased.
pub struct Erased;

impl Erased {
    pub fn emit(self) {
        counter!("nearcast_history_sink_erasures_total").increment(1);
    }
}

/// The database did not take rows now; they are tried again.
pub struct StoreFailed<'a> {
    pub rows: usize,
    pub cause: &'a str,
}

impl StoreFailed<'_> {
    pub fn emit(self) {
        counter!("nearcast_history_sink_store_failures_total").increment(1);
        counter!("nearcast_history_sink_rows_retried_total").increment(self.rows as u64);
        tracing::warn!(rows = self.rows, cause = self.cause, "history not stored, trying again");
    }
}

/// The log lost records before they were read: it is shorter than this sink was behind.
pub struct Missed {
    pub partition: i32,
    pub records: i64,
}

impl Missed {
    pub fn emit(self) {
        counter!("nearcast_history_sink_records_missed_total").increment(self.records.unsigned_abs());
        tracing::error!(
            partition = self.partition,
            records = self.records,
            "records left the log before the history had them"
        );
    }
}

/// What is read and not yet stored.
pub struct Held {
    pub bytes: usize,
    pub paused: usize,
    /// When the oldest of it was appended, in ms since the epoch.
    pub oldest: Option<i64>,
}

impl Held {
    pub fn emit(self) {
        gauge!("nearcast_history_sink_held_bytes").set(self.bytes as f64);
        gauge!("nearcast_history_sink_paused_partitions").set(self.paused as f64);
        let behind_ms = self.oldest.map_or(0, |at| nearcast_runtime::clock::now_ms() - at);
        gauge!("nearcast_history_sink_behind_seconds").set(behind_ms.max(0) as f64 / 1_000.0);
    }
}

/// A dead letter was tried once more.
pub struct LetterRetried<'a> {
    pub outcome: &'a Outcome,
}

impl LetterRetried<'_> {
    pub fn emit(self) {
        let outcome = match self.outcome {
            Outcome::Stored => "stored",
            Outcome::Nothing => "nothing",
            Outcome::Stays(_) => "stays",
        };
        counter!("nearcast_history_sink_letters_retried_total", "outcome" => outcome).increment(1);
    }
}

/// A record that cannot be used is among the dead letters.
pub struct Buried<'a> {
    pub kind: &'static str,
    pub partition: i32,
    pub offset: i64,
    pub cause: &'a str,
}

impl Buried<'_> {
    pub fn emit(self) {
        counter!("nearcast_history_sink_dead_letters_total", "kind" => self.kind).increment(1);
        tracing::error!(
            kind = self.kind,
            partition = self.partition,
            offset = self.offset,
            cause = self.cause,
            "record put among the dead letters"
        );
    }
}

/// A dead letter could not be published; it is tried again.
pub struct BuryFailed<'a> {
    pub cause: &'a str,
}

impl BuryFailed<'_> {
    pub fn emit(self) {
        counter!("nearcast_history_sink_dead_letter_failures_total").increment(1);
        tracing::warn!(cause = self.cause, "dead letter not published, trying again");
    }
}

/// Records were read from the log.
pub struct RecordsRead {
    pub records: u64,
    pub rows: u64,
}

impl RecordsRead {
    pub fn emit(self) {
        counter!("nearcast_history_sink_records_total").increment(self.records);
        counter!("nearcast_history_sink_records_without_row_total").increment(self.records - self.rows);
    }
}

/// Offsets were committed, or not.
pub struct Commit<'a> {
    pub failed: Option<&'a str>,
}

impl Commit<'_> {
    pub fn emit(self) {
        match self.failed {
            None => counter!("nearcast_history_sink_commits_total").increment(1),
            Some(cause) => {
                counter!("nearcast_history_sink_commit_failures_total").increment(1);
                tracing::warn!(cause, "offsets not committed, the next commit covers them");
            }
        }
    }
}

/// Partitions that this sink reads now.
pub struct Assigned {
    pub partitions: usize,
}

impl Assigned {
    pub fn emit(self) {
        gauge!("nearcast_history_sink_partitions").set(self.partitions as f64);
        tracing::info!(partitions = self.partitions, "partitions assigned");
    }
}
