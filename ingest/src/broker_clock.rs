//! What the brokers' clock shows, learned from their acknowledgements, so that this machine's need not be right.
//!
//! A record is appended after it was handed over and before its acknowledgement comes. So each append time bounds the
//! difference between the brokers' clock and this machine's from both sides, and whatever difference is within the bounds
//! is kept: the way of a message is not taken for a difference of clocks.
//!
//! Between two acknowledgements it goes on by a clock that does not jump, whatever happens to the time of day of this
//! machine. That counts until the first acknowledgement of a process, and not afterwards.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Instant;

use nearcast_runtime::clock;

use crate::events::ClockOff;

/// Brokers' clocks may be apart by so much, and a difference that is known so well is known; ms.
const SLACK_MS: i64 = 1_000;
/// A time of day that is off by more is told; ms.
const TOLD_MS: i64 = 5_000;

/// The brokers' clock, for all threads.
#[derive(Debug)]
pub(crate) struct BrokerClock {
    began: Instant,
    /// This machine's time of day then, in ms since the epoch.
    began_ms: i64,
    /// The brokers' clock less the one that began then; ms.
    ahead_ms: AtomicI64,
    told: AtomicBool,
}

impl BrokerClock {
    /// One that has heard nothing.
    pub fn start() -> Self {
        let (ahead_ms, told) = (AtomicI64::new(0), AtomicBool::new(false));
        Self { began: Instant::now(), began_ms: clock::now_ms(), ahead_ms, told }
    }

    /// What the brokers' clock shows now, in ms since the epoch.
    pub fn now_ms(&self) -> i64 {
        self.steady_ms().saturating_add(self.ahead_ms.load(Ordering::Relaxed))
    }

    /// A clock that does not jump, in ms since the epoch; as wrong as this machine's time of day at the begin.
    pub fn steady_ms(&self) -> i64 {
        let elapsed = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        self.began_ms.saturating_add(elapsed)
    }

    /// A record that was handed over when the steady clock showed `handed_ms` was appended at `appended_ms`, and this was
    /// heard just now.
    pub fn heard(&self, handed_ms: i64, appended_ms: i64) {
        let known = self.ahead_ms.load(Ordering::Relaxed);
        let next = settled(known, handed_ms, appended_ms, self.steady_ms());
        if next != known {
            self.ahead_ms.store(next, Ordering::Relaxed);
        }
        let off_ms = clock::now_ms().saturating_sub(self.now_ms());
        let is_off = off_ms.abs() > TOLD_MS;
        if is_off != self.told.swap(is_off, Ordering::Relaxed) {
            ClockOff { off_ms, is_off }.emit();
        }
    }
}

/// The difference after an acknowledgement: the one that was known where it is within the bounds, else the nearest that is.
fn settled(known_ms: i64, handed_ms: i64, appended_ms: i64, heard_ms: i64) -> i64 {
    let (least, most) = (appended_ms.saturating_sub(heard_ms), appended_ms.saturating_sub(handed_ms));
    if (least.saturating_sub(SLACK_MS)..=most.saturating_add(SLACK_MS)).contains(&known_ms) {
        return known_ms;
    }
    known_ms.max(least).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(known: i64, handed: i64, appended: i64, heard: i64, expect: i64) {
        assert_eq!(settled(known, handed, appended, heard), expect);
    }

    #[test]
    fn what_is_within_the_bounds_is_kept() {
        check(0, 100_000, 100_010, 100_020, 0);
        check(0, 100_000, 99_200, 100_020, 0);
        // Waited for half a minute in front of a broker that was away.
        check(0, 100_000, 130_000, 130_010, 0);
        check(-600_000, 700_000, 100_010, 700_020, -600_000);
        check(-600_300, 700_000, 100_010, 700_020, -600_300);
    }

    #[test]
    fn a_wrong_clock_is_found_from_both_sides() {
        // Ten minutes ahead, and ten behind.
        check(0, 700_000, 100_010, 700_020, -599_990);
        check(0, 100_000, 700_010, 100_020, 599_990);
        // Set right again.
        check(-599_990, 100_000, 100_010, 100_020, -10);
    }

    proptest! {
        /// Whatever the clocks show and however long it takes: after one acknowledgement the difference is wrong by no
        /// more than the way and the slack, and the next ones of the same clocks change nothing.
        #[test]
        fn one_acknowledgement_is_enough(
            known in -10_000_000i64..10_000_000,
            ahead in -10_000_000i64..10_000_000,
            there in 0i64..30_000,
            back in 0i64..30_000,
        ) {
            let handed = 1_000_000_000;
            let (appended, heard) = (handed + there + ahead, handed + there + back);
            let next = settled(known, handed, appended, heard);
            prop_assert!((next - ahead).abs() <= there.max(back) + SLACK_MS, "{next} for {ahead}");
            prop_assert_eq!(settled(next, handed, appended, heard), next);
        }
    }
}
