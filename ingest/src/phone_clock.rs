//! What a phone's clock shows, by the messages of one connection.

/// A message is under way for less than this; ms. A difference that grows by more is a clock that was set.
const UNDER_WAY_MS: i64 = 120_000;

/// The difference between a phone's clock and the server's, from what the phone says its clock showed when it sent.
///
/// That difference contains the way of the message. After a network that held messages back for some seconds, the same
/// report would be dated twice: once as it came late, and once as it is sent again on another connection. A way only ever
/// adds, so the least difference of a connection is the best.
#[derive(Clone, Copy, Debug, Default)]
pub struct PhoneClock {
    least_ms: Option<i64>,
}

impl PhoneClock {
    /// What the phone's clock shows now, where a message that shows `clock` came at `now_ms` by the server's; both in ms
    /// since the epoch. Nothing is known by a message that does not say.
    pub fn now(&mut self, clock: Option<i64>, now_ms: i64) -> Option<i64> {
        // A time that cannot be is for whoever checks the report to refuse.
        let clock = clock.filter(|&clock| clock > 0)?;
        let difference = now_ms.saturating_sub(clock);
        let held_back = |least: &i64| (*least..least.saturating_add(UNDER_WAY_MS)).contains(&difference);
        let least = self.least_ms.filter(held_back).unwrap_or(difference);
        self.least_ms = Some(least);
        Some(now_ms.saturating_sub(least))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages of a connection: what the phone's clock showed, and when each came; what it shows by then.
    fn check(messages: &[(Option<i64>, i64, Option<i64>)]) {
        let mut phone = PhoneClock::default();
        for &(clock, now_ms, expect) in messages {
            assert_eq!(phone.now(clock, now_ms), expect, "{clock:?} at {now_ms} of {messages:?}");
        }
    }

    #[test]
    fn a_message_that_was_held_back_does_not_change_the_clock() {
        check(&[
            (Some(1_000), 1_050, Some(1_000)),
            (Some(2_000), 22_000, Some(21_950)),
            (Some(23_000), 23_060, Some(23_010)),
        ]);
        // Another connection finds nearly the same.
        check(&[(Some(22_500), 22_540, Some(22_500))]);
    }

    #[test]
    fn a_shorter_way_says_more() {
        check(&[
            (Some(1_000), 9_000, Some(1_000)),
            (Some(9_500), 9_550, Some(9_500)),
            (Some(10_000), 12_000, Some(11_950)),
        ]);
    }

    #[test]
    fn a_clock_that_was_set_is_followed() {
        let hour = 3_600_000;
        check(&[(Some(2 * hour), 2 * hour, Some(2 * hour)), (Some(hour), 2 * hour + 10, Some(hour))]);
        check(&[(Some(hour), 2 * hour, Some(hour)), (Some(2 * hour), 2 * hour + 10, Some(2 * hour))]);
    }

    #[test]
    fn nothing_is_known_by_a_message_that_does_not_say() {
        check(&[(None, 5_000, None), (Some(1_000), 6_000, Some(1_000)), (None, 7_000, None)]);
        check(&[(Some(i64::MAX), 1, Some(i64::MAX)), (Some(1), i64::MAX, Some(1))]);
    }
}
