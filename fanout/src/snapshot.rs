//! The local snapshot: what a worker knows from the locations, in a file, so that a restart replays a minute and not ten.
//!
//! It shortens a replay and nothing else: whatever is wrong with it, the worker begins from the log alone. The engine's
//! thread copies some slots a tick ([`saver`]) and hands them to a thread that writes ([`writer`]); when all are written,
//! the file takes the place of the last ([`files`]). The offsets in its head are those of before the copy, so that the
//! state may be ahead of them and is never behind; each part says how far ahead it is (`engine/saved.rs`); and its end
//! names the last records that had an effect, without which a log is another one (`worker/resume.rs`).
//!
//! A plain file, written and read from begin to end. Mapped memory would be no faster for that, a full disk would kill the
//! process instead of failing a write, and a file that somebody else cuts short would too.
//!
//! It holds positions. So it is readable by its owner alone; it is replaced at every interval, and removed when that
//! fails, so that nothing that was erased outlives the pass after the one that is under way; and it is removed at a start
//! that cannot use it. A worker that stopped leaves its last one, for its next start.

pub(crate) mod files;
pub(crate) mod format;
pub(crate) mod load;
pub(crate) mod saver;
pub(crate) mod writer;

use std::path::Path;
use std::time::Duration;

use metrics::{counter, gauge};

/// Why a snapshot is of no use. Nothing of its content is in it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    /// It is of another log, another version, or made by other settings.
    #[error("{0}")]
    Foreign(String),
    /// It is not as it was written.
    #[error("{0}")]
    Torn(String),
    /// It is older than the time to live.
    #[error("older than the time to live")]
    Old,
    /// It could not be read, or not be compared with the log: it may be good.
    #[error("{0}")]
    Unread(String),
}

impl Unusable {
    fn outcome(&self) -> &'static str {
        match self {
            Self::Foreign(_) => "foreign",
            Self::Torn(_) => "torn",
            Self::Old => "old",
            Self::Unread(_) => "unread",
        }
    }

    /// Whether it will never be of use.
    pub(crate) fn is_for_good(&self) -> bool {
        !matches!(self, Self::Unread(_))
    }

    pub(crate) fn emit(&self, path: &Path) {
        count(self.outcome());
        let (path, outcome) = (path.display(), self.outcome());
        tracing::warn!(%path, outcome, reason = %self, "snapshot ignored, replaying from the log alone");
    }
}

/// A snapshot was taken in.
pub(crate) fn loaded(rows: u64, age_ms: i64, took: Duration) {
    count("loaded");
    gauge!("nearcast_fanout_snapshot_age_seconds").set(age_ms as f64 / 1_000.0);
    gauge!("nearcast_fanout_snapshot_rows").set(rows as f64);
    tracing::info!(rows, age_s = age_ms / 1_000, took_ms = took.as_millis() as u64, "snapshot restored");
}

/// A pass was written whole.
fn written(rows: u64, bytes: u64, took: Duration) {
    count("written");
    gauge!("nearcast_fanout_snapshot_rows").set(rows as f64);
    gauge!("nearcast_fanout_snapshot_bytes").set(bytes as f64);
    gauge!("nearcast_fanout_snapshot_write_seconds").set(took.as_secs_f64());
    tracing::debug!(rows, bytes, "snapshot written");
}

/// A pass could not be written.
fn failed(path: &Path, error: &std::io::Error) {
    count("failed");
    let path = path.display();
    tracing::warn!(%path, %error, "snapshot not written, a restart now replays from the log alone");
}

fn count(outcome: &'static str) {
    counter!("nearcast_fanout_snapshot_total", "outcome" => outcome).increment(1);
}
