//! What this service says about itself: each event writes its log line and its metric together.

use std::time::Duration;

use metrics::{counter, histogram};

/// A request was answered.
pub(crate) struct Answered<'a> {
    /// The route's template, never the path, which holds ids.
    pub route: &'a str,
    pub method: &'a str,
    pub status: u16,
    pub after: Duration,
}

impl Answered<'_> {
    pub fn emit(self) {
        let Self { route, method, status, after } = self;
        let (route, method) = (route.to_owned(), method.to_owned());
        counter!("nearcast_api_requests_total", "route" => route.clone(), "method" => method, "status" => status.to_string())
            .increment(1);
        histogram!("nearcast_api_request_seconds", "route" => route).record(after);
    }
}

/// A request failed by a fault of this side.
pub(crate) struct RequestFailed<'a> {
    pub code: &'static str,
    pub error: &'a dyn std::fmt::Display,
}

impl RequestFailed<'_> {
    pub fn emit(self) {
        counter!("nearcast_api_failures_total", "code" => self.code).increment(1);
        if self.code == "internal" {
            tracing::error!(code = self.code, error = %self.error, "request failed");
        } else {
            tracing::warn!(code = self.code, error = %self.error, "request failed");
        }
    }
}

/// A list is in the log.
pub(crate) struct ListPublished {
    pub entries: usize,
    pub after: Duration,
}

impl ListPublished {
    pub fn emit(self) {
        counter!("nearcast_api_lists_published_total").increment(1);
        histogram!("nearcast_api_list_entries").record(self.entries as f64);
        histogram!("nearcast_api_publish_seconds").record(self.after);
    }
}

/// A gateway was told.
pub(crate) struct NoticeSent {
    /// `forget` or `mode`.
    pub kind: &'static str,
    /// `sent`, `no_topic` (the gateway is gone for good) or `unknown`.
    pub result: &'static str,
}

impl NoticeSent {
    pub fn emit(self) {
        counter!("nearcast_api_notices_total", "kind" => self.kind, "result" => self.result).increment(1);
    }
}

/// The registry did not say where a user is connected, so no gateway was told: the log alone carries the change.
pub(crate) struct RegistryUnknown<'a> {
    pub kind: &'static str,
    pub error: &'a dyn std::fmt::Display,
}

impl RegistryUnknown<'_> {
    pub fn emit(self) {
        counter!("nearcast_api_registry_unknown_total", "kind" => self.kind).increment(1);
        tracing::warn!(kind = self.kind, error = %self.error, "live sessions unknown, gateways not told");
    }
}

/// A hello was answered without positions, because the cache did not answer.
pub(crate) struct FirstAnswerUnknown<'a> {
    pub error: &'a dyn std::fmt::Display,
}

impl FirstAnswerUnknown<'_> {
    pub fn emit(self) {
        counter!("nearcast_api_first_answers_unknown_total").increment(1);
        tracing::warn!(error = %self.error, "hello answered without positions");
    }
}

/// The cache did not say whether a user signed out: the token is taken without that.
pub(crate) struct SignOutUnknown<'a> {
    pub error: &'a dyn std::fmt::Display,
}

impl SignOutUnknown<'_> {
    pub fn emit(self) {
        counter!("nearcast_api_sign_outs_unknown_total").increment(1);
        tracing::trace!(error = %self.error, "whether the user signed out is not known");
    }
}

/// Scheduled work was done, or is tried again later.
pub(crate) struct WorkDone<'a> {
    /// `pair`, `profile`, `mode`, `refresh` or `unknown`.
    pub work: &'static str,
    pub error: Option<&'a dyn std::fmt::Display>,
}

impl WorkDone<'_> {
    pub fn emit(self) {
        let result = if self.error.is_none() { "done" } else { "failed" };
        counter!("nearcast_api_scheduled_work_total", "work" => self.work, "result" => result).increment(1);
        if let Some(error) = self.error {
            tracing::warn!(work = self.work, error = %error, "scheduled work failed, it is tried again");
        }
    }
}

/// A sweep did not come to its end.
pub(crate) struct SweepFailed<'a> {
    pub error: &'a dyn std::fmt::Display,
}

impl SweepFailed<'_> {
    pub fn emit(self) {
        counter!("nearcast_api_failed_sweeps_total").increment(1);
        tracing::warn!(error = %self.error, "sweep failed");
    }
}
