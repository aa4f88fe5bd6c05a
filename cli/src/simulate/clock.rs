//! The run's own clock.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::{Duration, Instant, sleep_until};

use super::truth::Micros;

/// Counts from the start of the run by the monotonic clock, and says it as time of day: so that nothing in a run goes
/// backwards, and append times can be compared.
#[derive(Clone, Copy)]
pub(crate) struct Clock {
    origin: Instant,
    origin_micros: Micros,
}

impl Clock {
    /// Starts now.
    pub(crate) fn start() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { origin: Instant::now(), origin_micros: since_epoch.as_micros() as Micros }
    }

    /// Microseconds since 1970-01-01 UTC.
    pub(crate) fn now(self) -> Micros {
        self.origin_micros + self.origin.elapsed().as_micros() as Micros
    }

    /// Microseconds since the start.
    pub(crate) fn elapsed(self) -> Micros {
        self.origin.elapsed().as_micros() as Micros
    }

    /// Seconds since the start.
    pub(crate) fn elapsed_s(self) -> f64 {
        self.origin.elapsed().as_secs_f64()
    }

    /// That many seconds after the start.
    pub(crate) fn instant_at(self, seconds: f64) -> Instant {
        self.origin + Duration::from_secs_f64(seconds.max(0.0))
    }
}

/// Waits until then, or for ever.
pub(crate) async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
