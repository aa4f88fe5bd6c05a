//! What the gateway counts, and what it says in the log: one place for both, so that names cannot drift.

use std::sync::Arc;

use metrics::{Counter, Histogram, counter, gauge, histogram};
use nearcast_schemas::codec::DecodeError;
use nearcast_schemas::event::Role;
use nearcast_schemas::notice::NoticeKind;
use nearcast_schemas::refusal::Refusal;

use crate::deliveries::Tally;
use crate::epochs::Dropped;
use crate::frames::{Kind, Nearby, ServerMessage, Unchanged};

/// Metrics of the ways that are taken often. Clones are the same.
#[derive(Clone)]
pub struct Meters(Arc<Handles>);

struct Handles {
    queued: Counter,
    conflated: Counter,
    bytes: Counter,
    upserts: Counter,
    removals: Counter,
    resets: Counter,
    in_resets: Counter,
    resumes: Counter,
    unchanged_first: Counter,
    unchanged: Counter,
    from_append: Histogram,
    from_report: Histogram,
}

impl Meters {
    /// Registers the metrics with the recorder of this process.
    pub fn new() -> Self {
        for cause in Dropped::ALL {
            counter!("nearcast_gateway_drops_total", "cause" => cause.name()).absolute(0);
        }
        counter!("nearcast_gateway_sequence_gaps_total").absolute(0);
        Self(Arc::new(Handles {
            queued: counter!("nearcast_gateway_updates_queued_total"),
            conflated: counter!("nearcast_gateway_updates_conflated_total"),
            bytes: counter!("nearcast_gateway_frames_bytes_total"),
            upserts: counter!("nearcast_gateway_updates_written_total", "kind" => "upsert"),
            removals: counter!("nearcast_gateway_updates_written_total", "kind" => "removal"),
            resets: counter!("nearcast_gateway_resets_written_total"),
            in_resets: counter!("nearcast_gateway_reset_positions_written_total"),
            resumes: counter!("nearcast_gateway_resumes_total"),
            unchanged_first: counter!("nearcast_gateway_unchanged_written_total", "answer" => "provisional"),
            unchanged: counter!("nearcast_gateway_unchanged_written_total", "answer" => "full"),
            from_append: histogram!("nearcast_gateway_append_to_socket_seconds"),
            from_report: histogram!("nearcast_gateway_report_to_socket_seconds"),
        }))
    }

    /// A record of the gateway's topic was passed on.
    pub fn delivered(&self, tally: &Tally) {
        self.0.queued.increment(tally.queued);
        self.0.conflated.increment(tally.conflated);
        for (cause, count) in &tally.dropped {
            counter!("nearcast_gateway_drops_total", "cause" => *cause).increment(*count);
        }
        if let Some(kind) = tally.notice {
            let kind = match kind {
                NoticeKind::Unknown => "unknown",
                NoticeKind::Forget => "forget",
                NoticeKind::Mode => "mode",
                NoticeKind::Close => "close",
            };
            counter!("nearcast_gateway_notices_total", "kind" => kind).increment(1);
        }
    }

    /// A frame was written at `now_ms`, in ms since the epoch, as the latencies' other ends are.
    pub fn written(&self, message: &ServerMessage, bytes: usize, now_ms: i64) {
        counter!("nearcast_gateway_frames_total", "type" => message.name()).increment(1);
        self.0.bytes.increment(bytes as u64);
        match message {
            ServerMessage::Nearby(Nearby { reset: None, upserts, removals }) => {
                self.0.upserts.increment(upserts.len() as u64);
                self.0.removals.increment(removals.len() as u64);
                for entry in upserts {
                    self.0.from_append.record(seconds(now_ms - entry.appended_at));
                    // A coarse position's time is not that of a report.
                    if !entry.sighting.position.coarse {
                        self.0.from_report.record(seconds(now_ms - entry.sighting.position.at));
                    }
                }
                for gone in removals.iter().filter(|gone| gone.appended_at > 0) {
                    self.0.from_append.record(seconds(now_ms - gone.appended_at));
                }
            }
            ServerMessage::Nearby(Nearby { upserts, .. }) => {
                self.0.resets.increment(1);
                self.0.in_resets.increment(upserts.len() as u64);
            }
            ServerMessage::Unchanged(Unchanged { provisional: true, .. }) => self.0.unchanged_first.increment(1),
            ServerMessage::Unchanged(_) => self.0.unchanged.increment(1),
            ServerMessage::Error(error) => refused(error.code, "message"),
            _ => {}
        }
    }

    /// A client said with its hello what it holds.
    pub fn resume(&self) {
        self.0.resumes.increment(1);
    }

    /// A message of a client was understood.
    pub fn message(&self, kind: Kind) {
        counter!("nearcast_gateway_messages_total", "type" => kind.name()).increment(1);
    }
}

/// Clocks of two machines differ: what seems to come from the future took no time.
fn seconds(ms: i64) -> f64 {
    ms.max(0) as f64 / 1_000.0
}

/// Something of a client was refused, or its connection closed.
pub fn refused(refusal: Refusal, what: &'static str) {
    counter!("nearcast_gateway_refusals_total", "code" => refusal.code(), "of" => what).increment(1);
}

/// A connection was refused before it became a WebSocket.
pub struct UpgradeRefused {
    /// Why.
    pub refusal: Refusal,
}

impl UpgradeRefused {
    /// Counts it.
    pub fn emit(&self) {
        refused(self.refusal, "upgrade");
    }
}

/// An open socket, counted while it lives.
pub struct ConnectionGauge;

impl ConnectionGauge {
    /// Counts one more.
    pub fn enter() -> Self {
        gauge!("nearcast_gateway_connections").increment(1.0);
        Self
    }
}

impl Drop for ConnectionGauge {
    fn drop(&mut self) {
        gauge!("nearcast_gateway_connections").decrement(1.0);
    }
}

/// A welcomed session, counted by its role while it lives.
pub struct SessionGauge(&'static str);

impl SessionGauge {
    /// Counts one more.
    pub fn enter(role: Role) -> Self {
        let role = match role {
            Role::Reporting => "reporting",
            Role::Watching => "watching",
            Role::Link => "link",
        };
        gauge!("nearcast_gateway_sessions", "role" => role).increment(1.0);
        Self(role)
    }
}

impl Drop for SessionGauge {
    fn drop(&mut self) {
        gauge!("nearcast_gateway_sessions", "role" => self.0).decrement(1.0);
    }
}

/// Batches of a worker are missing.
pub struct SequenceGap {
    /// Offset of the batch after the gap in the gateway's topic.
    pub offset: i64,
    /// Sessions that ask for a reset.
    pub sessions: usize,
}

impl SequenceGap {
    /// Counts and logs it.
    pub fn emit(&self) {
        counter!("nearcast_gateway_sequence_gaps_total").increment(1);
        tracing::warn!(offset = self.offset, sessions = self.sessions, "deliveries are missing, asking for resets");
    }
}

/// A record of the gateway's topic cannot be decoded.
pub struct Undecodable {
    /// Its offset.
    pub offset: i64,
    /// Why.
    pub error: DecodeError,
}

impl Undecodable {
    /// Counts and logs it.
    pub fn emit(&self) {
        counter!("nearcast_gateway_drops_total", "cause" => Dropped::Undecodable.name()).increment(1);
        tracing::error!(offset = self.offset, error = %self.error, "delivery cannot be decoded");
    }
}

/// Reading the gateway's topic failed; the client tries again.
pub struct ReadFailed {
    /// What the client says.
    pub error: String,
}

impl ReadFailed {
    /// Counts and logs it.
    pub fn emit(&self) {
        counter!("nearcast_gateway_read_errors_total").increment(1);
        tracing::warn!(error = self.error, "reading deliveries failed, trying again");
    }
}

/// The session registry did not take a session: notices will not find it, the worker's removals will.
pub struct NotRegistered {
    /// What the cache says.
    pub error: String,
}

impl NotRegistered {
    /// Counts it.
    pub fn emit(&self) {
        counter!("nearcast_gateway_registry_errors_total").increment(1);
        tracing::trace!(error = self.error, "session not registered");
    }
}

/// The session registry was away and is back: sessions take their places in it again.
pub struct RegistryBack {
    /// How many.
    pub sessions: usize,
}

impl RegistryBack {
    /// Counts and logs it.
    pub fn emit(&self) {
        counter!("nearcast_gateway_sessions_registered_again_total").increment(self.sessions as u64);
        tracing::info!(sessions = self.sessions, "the session registry is back, sessions register again");
    }
}

/// The cache did not say whether a user signed out: a new token is taken without that.
pub struct SignOutUnknown {
    /// What the cache says.
    pub error: String,
}

impl SignOutUnknown {
    /// Counts it.
    pub fn emit(&self) {
        counter!("nearcast_gateway_sign_outs_unknown_total").increment(1);
        tracing::trace!(error = self.error, "whether the user signed out is not known");
    }
}

/// Accepting connections failed, most likely for want of file descriptors.
pub struct AcceptFailed {
    /// What the operating system says.
    pub error: std::io::Error,
}

impl AcceptFailed {
    /// Counts and logs it.
    pub fn emit(&self) {
        counter!("nearcast_gateway_accept_errors_total").increment(1);
        tracing::error!(error = %self.error, "cannot accept connections");
    }
}

/// A session asks for a reset.
pub struct ResetAsked;

impl ResetAsked {
    /// Counts it.
    pub fn emit(&self) {
        counter!("nearcast_gateway_resets_asked_total").increment(1);
    }
}
