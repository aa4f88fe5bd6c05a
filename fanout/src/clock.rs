//! The broker's clock, as far as a reader can know it.

use std::time::Duration;

/// How long the best reading counts, so that a clock that drifts away from this machine's is followed down as well as up.
const WINDOW: Duration = Duration::from_secs(60);

/// Tells what time it is by the broker's clock: the latest append time seen, plus what passed here since.
///
/// A record is read some time after it was appended, so each reading is late by an unknown amount; the best of the last
/// minutes counts. `elapsed` is time by this machine's monotonic clock since any fixed moment.
#[derive(Debug, Default)]
pub struct BrokerClock {
    /// Append time less elapsed time, the greatest of this window and of the one before; ms.
    current: Option<i64>,
    previous: Option<i64>,
    window_began: Duration,
    now_ms: Option<i64>,
}

impl BrokerClock {
    /// A record was read that was appended at `append_ms`, ms since the epoch.
    pub fn observe(&mut self, append_ms: i64, elapsed: Duration) {
        if elapsed.saturating_sub(self.window_began) >= WINDOW {
            self.window_began = elapsed;
            // A window without records keeps what was known before.
            self.previous = self.current.take().or(self.previous);
        }
        let ahead = append_ms - millis(elapsed);
        self.current = Some(self.current.map_or(ahead, |best| best.max(ahead)));
    }

    /// The time in ms since the epoch; `None` before the first record. Never goes back.
    pub fn now_ms(&mut self, elapsed: Duration) -> Option<i64> {
        let ahead = self.current.max(self.previous)?;
        let now = ahead + millis(elapsed);
        self.now_ms = Some(self.now_ms.map_or(now, |last| last.max(now)));
        self.now_ms
    }
}

fn millis(elapsed: Duration) -> i64 {
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_latest_append_time_and_what_passed_since() {
        let mut clock = BrokerClock::default();
        assert_eq!(clock.now_ms(s(1)), None);
        clock.observe(1_000_000, s(1));
        clock.observe(999_000, s(1));
        assert_eq!(clock.now_ms(s(3)), Some(1_002_000));
        clock.observe(1_002_500, s(3));
        assert_eq!(
            clock.now_ms(s(3)),
            Some(1_002_500),
            "a record that comes sooner after its append is a better reading"
        );
        assert_eq!(clock.now_ms(s(1_000)), Some(1_999_500), "and goes on without records");
    }

    #[test]
    fn never_goes_back() {
        let mut clock = BrokerClock::default();
        clock.observe(1_000_000, s(0));
        assert_eq!(clock.now_ms(s(10)), Some(1_010_000));
        for minute in 1..=3 {
            clock.observe(1_000_000, s(60 * minute));
        }
        assert_eq!(clock.now_ms(s(180)), Some(1_060_000), "the reading of the minute before last is forgotten");
        assert_eq!(clock.now_ms(s(100)), Some(1_060_000));
    }
}
