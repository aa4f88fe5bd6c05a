//! What this crate says about itself: each event writes its log line and its metric together.

use std::time::Duration;

use metrics::{counter, gauge, histogram};
use nearcast_schemas::event::LocationKind;
use nearcast_schemas::refusal::Refusal;

use crate::pending::Outcome;

/// A report was accepted.
pub(crate) struct ReportAccepted {
    pub outcome: Outcome,
}

impl ReportAccepted {
    pub fn emit(self) {
        counter!("nearcast_ingest_reports_total", "outcome" => self.outcome.name()).increment(1);
    }
}

/// A report or another record was refused, or nobody knows what became of it.
pub(crate) struct Refused {
    pub refusal: Refusal,
}

impl Refused {
    pub fn emit(self) {
        counter!("nearcast_ingest_refused_total", "code" => self.refusal.code()).increment(1);
    }
}

/// Counts a refusal where it arises.
pub(crate) fn refused(refusal: Refusal) -> Refusal {
    Refused { refusal }.emit();
    refusal
}

/// Kafka acknowledged a record.
pub(crate) struct RecordAcknowledged {
    pub kind: LocationKind,
    pub after: Duration,
    /// The record before it had failed.
    pub recovered: bool,
}

impl RecordAcknowledged {
    pub fn emit(self) {
        counter!("nearcast_ingest_records_total", "kind" => kind_name(self.kind)).increment(1);
        histogram!("nearcast_ingest_kafka_ack_seconds").record(self.after);
        if self.recovered {
            tracing::info!("kafka acknowledges records again");
        }
    }
}

/// Kafka took no record, or did not acknowledge it in time.
pub(crate) struct RecordFailed<'a> {
    pub kind: LocationKind,
    pub error: &'a dyn std::fmt::Display,
    /// The record before it had not failed.
    pub first: bool,
}

impl RecordFailed<'_> {
    pub fn emit(self) {
        let kind = kind_name(self.kind);
        counter!("nearcast_ingest_failed_records_total", "kind" => kind).increment(1);
        if self.first {
            tracing::warn!(kind, error = %self.error, "kafka does not acknowledge records");
        } else {
            tracing::trace!(kind, error = %self.error, "record failed");
        }
    }
}

/// Records began to wait for Kafka, or wait no longer.
pub(crate) struct InFlightChanged {
    pub by: f64,
}

impl InFlightChanged {
    pub fn emit(self) {
        gauge!("nearcast_ingest_in_flight").increment(self.by);
    }
}

/// Writes to the cache began to wait, or wait no longer.
pub(crate) struct CacheWritesWaiting {
    pub by: f64,
}

impl CacheWritesWaiting {
    pub fn emit(self) {
        gauge!("nearcast_ingest_cache_writes_waiting").increment(self.by);
    }
}

/// The producer can send nothing any more.
pub(crate) struct ProducerFailed<'a> {
    pub reason: &'a str,
}

impl ProducerFailed<'_> {
    pub fn emit(self) {
        counter!("nearcast_ingest_fatal_errors_total").increment(1);
        tracing::error!(reason = self.reason, "the producer failed for good, the process has to start again");
    }
}

/// What was to be written to the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CacheWrite {
    Position,
    Mode,
    Session,
    Erasure,
    SignOut,
    Page,
}

impl CacheWrite {
    fn name(self) -> &'static str {
        match self {
            Self::Position => "position",
            Self::Mode => "mode",
            Self::Session => "session",
            Self::Erasure => "erasure",
            Self::SignOut => "sign_out",
            Self::Page => "page",
        }
    }
}

/// This machine's time of day has become another than the brokers', or theirs again.
pub(crate) struct ClockOff {
    /// This machine's less the brokers'; ms.
    pub off_ms: i64,
    pub is_off: bool,
}

impl ClockOff {
    pub fn emit(self) {
        let Self { off_ms, is_off } = self;
        gauge!("nearcast_ingest_clock_off_seconds").set(if is_off { off_ms as f64 / 1_000.0 } else { 0.0 });
        if is_off {
            tracing::warn!(
                off_ms,
                "this machine's clock is not the brokers': reports are dated by theirs, tokens are judged by this one; set it"
            );
        } else {
            tracing::info!("this machine's clock is the brokers' again");
        }
    }
}

/// What became of a write to the cache.
pub(crate) struct CacheWritten {
    pub what: CacheWrite,
    /// `written`, `failed`, `dropped` (the queue was full) or `down` (not tried).
    pub result: &'static str,
}

impl CacheWritten {
    pub fn emit(self) {
        counter!("nearcast_ingest_cache_writes_total", "what" => self.what.name(), "result" => self.result)
            .increment(1);
    }
}

/// The cache was read, or not.
pub(crate) struct CacheRead {
    pub what: &'static str,
    pub result: &'static str,
    pub after: Duration,
}

impl CacheRead {
    pub fn emit(self) {
        counter!("nearcast_ingest_cache_reads_total", "what" => self.what, "result" => self.result).increment(1);
        histogram!("nearcast_ingest_cache_read_seconds").record(self.after);
    }
}

/// The cache stopped answering, or answers again.
pub(crate) struct CacheReachable<'a> {
    pub nodes: &'a str,
    pub error: Option<&'a str>,
}

impl CacheReachable<'_> {
    pub fn emit(self) {
        gauge!("nearcast_ingest_cache_up").set(if self.error.is_none() { 1.0 } else { 0.0 });
        match self.error {
            None => tracing::info!(nodes = self.nodes, "redis answers"),
            Some(error) => tracing::warn!(nodes = self.nodes, error, "redis does not answer"),
        }
    }
}

fn kind_name(kind: LocationKind) -> &'static str {
    match kind {
        LocationKind::Unknown => "unknown",
        LocationKind::Hello => "hello",
        LocationKind::Fix => "fix",
        LocationKind::Presence => "presence",
        LocationKind::Mode => "mode",
        LocationKind::Leave => "leave",
        LocationKind::Backfill => "backfill",
        LocationKind::Erase => "erase",
    }
}
