//! When a client of a gateway that goes away is told so, and when it may come back.
//!
//! Returns are spread evenly over the configured time. So are the farewells, over as much of it as a third of the grace
//! allows: a client whose turn comes late is served until then, and is away for the shorter. The second third is for
//! answers from the log, the last for the clients' own farewells.
//!
//! Times are ms of any clock that does not go back.

/// One client's turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure {
    /// It is told to go.
    pub bye_at: i64,
    /// Answers that the log owes it are waited for until then.
    pub answers_until: i64,
    back_at: i64,
}

impl Departure {
    /// For a client that may come back in `back_in_ms`, which is drawn from 0 to `spread_ms`.
    pub fn new(now: i64, back_in_ms: i64, spread_ms: i64, grace_ms: i64) -> Self {
        let third = grace_ms / 3;
        let bye_in_ms = if spread_ms > third { back_in_ms * third / spread_ms } else { back_in_ms };
        Self {
            bye_at: now.saturating_add(bye_in_ms),
            answers_until: now.saturating_add(2 * third),
            back_at: now.saturating_add(back_in_ms),
        }
    }

    /// The same for a client that is not served yet: it is told at once.
    #[must_use]
    pub fn at_once(self, now: i64) -> Self {
        Self { bye_at: now, ..self }
    }

    /// In how many ms the client may come back.
    pub fn reconnect_in_ms(&self, now: i64) -> i64 {
        self.back_at.saturating_sub(now).max(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_can_be_served_until_its_return_is_away_for_no_time() {
        let departure = Departure::new(1_000, 9_000, 10_000, 30_000);
        assert_eq!((departure.bye_at, departure.answers_until), (10_000, 21_000));
        assert_eq!(departure.reconnect_in_ms(10_000), 0);
        assert_eq!(departure.reconnect_in_ms(12_000), 0, "its answers took longer");
        let departure = departure.at_once(1_000);
        assert_eq!((departure.bye_at, departure.reconnect_in_ms(1_000)), (1_000, 9_000));
    }

    #[test]
    fn farewells_are_spread_over_a_third_of_the_grace_and_returns_over_all_of_the_spread() {
        let farewells = |back_in_ms| {
            let departure = Departure::new(0, back_in_ms, 60_000, 30_000);
            (departure.bye_at, departure.reconnect_in_ms(departure.bye_at))
        };
        assert_eq!(farewells(0), (0, 0));
        assert_eq!(farewells(30_000), (5_000, 25_000));
        assert_eq!(farewells(60_000), (10_000, 50_000));
        assert_eq!(Departure::new(0, 0, 0, 1_000).bye_at, 0);
    }
}
