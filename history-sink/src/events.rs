//! What the sink says about itself: one struct an event, its log line and its metrics together.

use std::time::Duration;

use metrics::{counter, gauge, histogram};

use crate::history::HistoryRow;

/// Rows are in the history.
pub struct RowsStored<'a> {
    pub rows: &'a [HistoryRow],
    pub took: Duration,
}

impl RowsStored<'_> {
    pub fn emit(self) {
        counter!("nearcast_history_sink_rows_stored_total").increment(self.rows.len() as u64);
        histogram!("nearcast_history_sink_store_seconds").record(self.took.as_secs_f64());
        if let Some(row) = self.rows.last() {
            let behind_ms = nearcast_runtime::clock::now_ms() - row.appended_at;
            gauge!("nearcast_history_sink_behind_seconds").set(behind_ms.max(0) as f64 / 1_000.0);
        }
    }
}

/// The database did not answer; the same rows are tried again.
pub struct StoreFailed<'a> {
    pub cause: &'a str,
}

impl StoreFailed<'_> {
    pub fn emit(self) {
        counter!("nearcast_history_sink_store_failures_total").increment(1);
        tracing::warn!(cause = self.cause, "history not stored, trying again");
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
