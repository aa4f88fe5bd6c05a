//! What a worker says of itself: metrics once a second, log lines where somebody should know.

use std::time::Duration;

use metrics::{counter, gauge};

use crate::engine::{Engine, Stats};

/// Between two log lines of one kind.
const SELDOM: Duration = Duration::from_secs(60);

/// How far the worker has come, for gauges.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Position {
    /// The greatest lag of a partition of the locations, in seconds.
    pub(crate) lag_seconds: f64,
    /// Records between what was read and the ends.
    pub(crate) lag_records: u64,
    /// Partitions that the group gave.
    pub(crate) given: usize,
    /// Partitions that are owned.
    pub(crate) owned: usize,
}

/// Passes the engine's counts on as metrics.
#[derive(Debug, Default)]
pub(crate) struct Export {
    last: Stats,
}

impl Export {
    pub(crate) fn emit(&mut self, engine: &Engine, position: Position) {
        let (now, last) = (*engine.stats(), std::mem::replace(&mut self.last, *engine.stats()));
        let add = |name: &'static str, of: fn(&Stats) -> u64| counter!(name).increment(of(&now) - of(&last));
        add("nearcast_fanout_records_total", |s| s.records);
        add("nearcast_fanout_reports_joined_total", |s| s.joined);
        add("nearcast_fanout_lists_total", |s| s.lists);
        add("nearcast_fanout_lists_evicted_total", |s| s.lists_evicted);
        add("nearcast_fanout_pair_checks_total", |s| s.pair_checks);
        add("nearcast_fanout_upserts_total", |s| s.upserts);
        add("nearcast_fanout_applied_total", |s| s.applied);
        add("nearcast_fanout_digests_total", |s| s.digests);
        add("nearcast_fanout_strangers_lists_total", |s| s.strangers);
        add("nearcast_fanout_superseded_total", |s| s.superseded);
        let labelled = |name: &'static str, label: &'static str, value: &'static str, of: fn(&Stats) -> u64| {
            counter!(name, label => value).increment(of(&now) - of(&last));
        };
        let ignored = |cause, of| labelled("nearcast_fanout_records_ignored_total", "cause", cause, of);
        ignored("history", |s| s.records_for_history);
        ignored("unknown_kind", |s| s.records_unknown);
        ignored("superseded", |s| s.records_superseded);
        ignored("invalid", |s| s.records_invalid);
        ignored("stale", |s| s.records_stale);
        ignored("saved", |s| s.records_saved);
        let ignored = |cause, of| labelled("nearcast_fanout_lists_ignored_total", "cause", cause, of);
        ignored("stale", |s| s.lists_stale);
        ignored("misplaced", |s| s.lists_misplaced);
        ignored("invalid", |s| s.lists_invalid);
        ignored("invalid_entry", |s| s.entries_invalid);
        let removals = |reason, of| labelled("nearcast_fanout_removals_total", "reason", reason, of);
        removals("out_of_range", |s| s.removals_out_of_range);
        removals("silent", |s| s.removals_silent);
        removals("not_shared", |s| s.removals_not_shared);
        let resets = |cause, of| labelled("nearcast_fanout_resets_total", "cause", cause, of);
        resets("hello", |s| s.resets_hello);
        resets("asked", |s| s.resets_asked);
        resets("ownership", |s| s.resets_ownership);
        resets("delivery", |s| s.resets_delivery);
        gauge!("nearcast_fanout_users").set(engine.users() as f64);
        gauge!("nearcast_fanout_known_users").set(engine.known() as f64);
        gauge!("nearcast_fanout_viewers").set(engine.viewers() as f64);
        gauge!("nearcast_fanout_discoverable_users").set(engine.discoverable() as f64);
        gauge!("nearcast_fanout_lag_seconds").set(position.lag_seconds);
        gauge!("nearcast_fanout_lag_records").set(position.lag_records as f64);
        gauge!("nearcast_fanout_given_partitions").set(position.given as f64);
        gauge!("nearcast_fanout_owned_partitions").set(position.owned as f64);
    }
}

/// A batch was handed to the producer. `seq`: its number for its gateway process.
pub(crate) fn batch_written(gateway: &str, bytes: usize, items: usize, seq: i64) {
    let kind = if items == 0 { "heartbeat" } else { "items" };
    counter!("nearcast_fanout_batches_total", "kind" => kind).increment(1);
    counter!("nearcast_fanout_delivery_bytes_total").increment(bytes as u64);
    gauge!("nearcast_fanout_seq", "gateway" => gateway.to_owned()).set(seq as f64);
}

/// The worker has caught up, after so many records.
pub(crate) fn replayed(records: u64) {
    gauge!("nearcast_fanout_replayed_records").set(records as f64);
    tracing::info!(records, "locations replayed");
}

/// How long the next tick lasts.
pub(crate) fn tick(lasts: Duration) {
    gauge!("nearcast_fanout_tick_seconds").set(lasts.as_secs_f64());
}

/// Requests that the producer has sent since it was made.
pub(crate) fn produce_requests(sent: i64) {
    counter!("nearcast_fanout_produce_requests_total").absolute(u64::try_from(sent).unwrap_or(0));
}

/// Lets one line of a kind through once in a while.
#[derive(Debug, Default)]
pub(crate) struct Seldom(Option<Duration>);

impl Seldom {
    fn now(&mut self, now: Duration) -> bool {
        let due = self.0.is_none_or(|last| now.saturating_sub(last) >= SELDOM);
        if due {
            self.0 = Some(now);
        }
        due
    }
}

/// The log lines that could come often.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    delivery: Seldom,
    gone: Seldom,
    undecodable: Seldom,
    dead_letter: Seldom,
    consumer: Seldom,
}

impl Lines {
    pub(crate) fn delivery_failed(&mut self, gateway: &str, code: &dyn std::fmt::Display, now: Duration) {
        counter!("nearcast_fanout_deliveries_failed_total").increment(1);
        if self.delivery.now(now) {
            tracing::warn!(gateway, %code, "delivery failed, resets follow (said once a minute)");
        }
    }

    pub(crate) fn gateway_gone(&mut self, gateway: &str, sessions: usize, now: Duration) {
        counter!("nearcast_fanout_routes_dropped_total").increment(sessions as u64);
        if sessions > 0 && self.gone.now(now) {
            tracing::warn!(gateway, sessions, "gateway has no topic, routes dropped (said once a minute)");
        }
    }

    pub(crate) fn undecodable(&mut self, topic: &str, partition: i32, offset: i64, error: &str, now: Duration) {
        counter!("nearcast_fanout_undecodable_total", "topic" => topic.to_owned()).increment(1);
        if self.undecodable.now(now) {
            tracing::warn!(topic, partition, offset, error, "record skipped (said once a minute)");
        }
    }

    pub(crate) fn dead_letter_failed(&mut self, code: &dyn std::fmt::Display, now: Duration) {
        counter!("nearcast_fanout_dead_letters_failed_total").increment(1);
        if self.dead_letter.now(now) {
            tracing::error!(%code, "dead letter not written (said once a minute)");
        }
    }

    pub(crate) fn consumer_error(&mut self, error: &dyn std::fmt::Display, now: Duration) {
        counter!("nearcast_fanout_consumer_errors_total").increment(1);
        if self.consumer.now(now) {
            tracing::warn!(%error, "consumer error (said once a minute)");
        }
    }
}
