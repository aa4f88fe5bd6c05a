//! How far the audit may trust its own clock: when this process did not get to run, what it saw late is no defect of
//! the server's.

use super::truth::Micros;

/// A tick later than this is a pause.
const PAUSE: Micros = 500_000;

/// Watches the audit's own ticks.
pub(crate) struct Pace {
    every: Micros,
    slack: Micros,
    last: Option<Micros>,
    wide: Option<(Micros, Micros)>,
    pauses: u64,
    paused: Micros,
    widest: Micros,
}

impl Pace {
    /// Ticks are due `every` so often, and changes get `slack` time to be seen.
    pub(crate) fn new(every: Micros, slack: Micros) -> Self {
        Self { every, slack, last: None, wide: None, pauses: 0, paused: 0, widest: slack }
    }

    /// A tick came. Returns the slack to judge this instant by: after a pause it is longer by the pause, until what
    /// happened during the pause is older than that.
    pub(crate) fn tick(&mut self, now: Micros) -> Micros {
        let late = self.last.map_or(0, |last| (now - last - self.every).max(0));
        self.last = Some(now);
        let mut extra = match self.wide {
            Some((until, extra)) if now <= until => extra,
            _ => 0,
        };
        if late > PAUSE {
            self.pauses += 1;
            self.paused += late;
            extra = extra.max(late);
            self.wide = Some((now + self.slack + extra, extra));
        }
        self.widest = self.widest.max(self.slack + extra);
        self.slack + extra
    }

    /// How often this process did not get to run.
    pub(crate) fn pauses(&self) -> u64 {
        self.pauses
    }

    /// For how long, all together.
    pub(crate) fn paused(&self) -> Micros {
        self.paused
    }

    /// The longest slack that anything was judged by.
    pub(crate) fn widest(&self) -> Micros {
        self.widest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Micros = 1_000;

    fn pace() -> Pace {
        let mut pace = Pace::new(250 * MS, 2_000 * MS);
        assert_eq!(pace.tick(0), 2_000 * MS);
        pace
    }

    #[test]
    fn ticks_in_time_change_nothing() {
        let mut pace = pace();
        for tick in 1..100 {
            assert_eq!(pace.tick(tick * 300 * MS), 2_000 * MS);
        }
        assert_eq!((pace.pauses(), pace.paused(), pace.widest()), (0, 0, 2_000 * MS));
    }

    #[test]
    fn a_pause_widens_the_slack_by_itself_and_is_counted() {
        let mut pace = pace();
        assert_eq!(pace.tick(3_250 * MS), 5_000 * MS);
        assert_eq!(pace.tick(3_500 * MS), 5_000 * MS);
        let mut now = 3_500 * MS;
        while now + 250 * MS <= 8_250 * MS {
            now += 250 * MS;
            assert_eq!(pace.tick(now), 5_000 * MS);
        }
        assert_eq!(pace.tick(now + 250 * MS), 2_000 * MS);
        assert_eq!((pace.pauses(), pace.paused(), pace.widest()), (1, 3_000 * MS, 5_000 * MS));
    }

    #[test]
    fn a_short_pause_after_a_long_one_does_not_narrow_it() {
        let mut pace = pace();
        pace.tick(3_250 * MS);
        assert_eq!(pace.tick(4_250 * MS), 5_000 * MS);
        assert_eq!((pace.pauses(), pace.paused()), (2, 3_750 * MS));
    }
}
