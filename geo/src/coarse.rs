//! Coarse positions: what an observer of somebody who shares approximately may learn.

use crate::edge::distance_to_edge_m;
use crate::{Cell, Position, Resolution};

/// The rules of coarse positions in a deployment: how large, how sticky, how often.
///
/// *How large*: a position is shown as a [`Cell`] of one resolution.
///
/// *How sticky*: the shown cell is left only for a position at least `margin_m` beyond its edge, so
/// some way inside the next cell as seen from it; then the cell of the position is shown. So
/// somebody walking along an edge, or sitting on one under a restless receiver, makes no changes
/// that would give the place away: between two changes lies a way of at least the margin, and of
/// twice the margin when the second undoes the first. At each evaluation the position is in the
/// shown cell or within the margin of it. The test is about the cell that is left and not about the
/// depth in the new one: whoever lives on the edge of two cells, and is deep in neither, would stay
/// for ever where they came from; and a change would tell that the position is in the core of the
/// new cell, which is finer than the cell.
///
/// *How often*: positions are evaluated at instants one period apart. They follow from a seed of the
/// user alone, and so tell nothing about when reports come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coarsener {
    resolution: Resolution,
    margin_m: f64,
    period_ms: i64,
}

/// A rule that a [`Coarsener`] can't keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoarsenerError {
    /// The margin is not a number above 0, or above half the mean edge of a cell: the cell shown
    /// would have little to do with the position.
    #[error("margin is not above 0 and at most half the edge of a cell")]
    Margin,
    /// The period is 0.
    #[error("period is 0")]
    Period,
}

/// All that may be shown of somebody who shares approximately.
///
/// `Debug` does not show the cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoarsePosition {
    /// The cell. Distances and order in a list are to be computed from its [`center`](Cell::center).
    pub cell: Cell,
    /// The scheduled instant of the evaluation, milliseconds since the Unix epoch. At most one period
    /// older than the report behind it, which has no trace here.
    pub at_ms: i64,
}

/// The state behind the coarse position of one user; 16 bytes.
///
/// It holds what was shown last and nothing else; so what is shown next depends on that and on the
/// position at the next evaluation, and never on what was reported in between. A user has one track,
/// kept for as long as the position is, whoever looks: a track started for each observer would give
/// an observer a reading whenever it likes to come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoarseTrack(CoarsePosition);

impl Coarsener {
    /// Rules with a margin in metres and a period in milliseconds.
    ///
    /// The period has to be shorter than the time to live of a position, because [`CoarsePosition`]
    /// may be a period older than the report behind it.
    ///
    /// # Errors
    ///
    /// [`CoarsenerError::Margin`] when the margin is not in (0, half the mean edge at the resolution];
    /// [`CoarsenerError::Period`] when the period is 0.
    pub fn new(resolution: Resolution, margin_m: f64, period_ms: u32) -> Result<Self, CoarsenerError> {
        if !(margin_m > 0.0 && margin_m <= resolution.edge_length_m() / 2.0) {
            return Err(CoarsenerError::Margin);
        }
        if period_ms == 0 {
            return Err(CoarsenerError::Period);
        }
        Ok(Self { resolution, margin_m, period_ms: i64::from(period_ms) })
    }

    /// The cell to show for a position, given the one shown so far.
    ///
    /// 0.4 µs while the position is in the shown cell, some µs otherwise.
    #[must_use]
    pub fn coarse_cell(&self, shown: Cell, position: Position) -> Cell {
        let cell = self.cell(position);
        // A cell of another resolution is one from before a change of the configuration.
        let stays = shown.resolution() == self.resolution
            && (cell == shown || distance_to_edge_m(position, shown) < self.margin_m);
        if stays { shown } else { cell }
    }

    /// The cell of a position at the resolution of these rules.
    #[must_use]
    pub fn cell(&self, position: Position) -> Cell {
        Cell::of(position, self.resolution)
    }

    /// The last instant of a user's schedule that is not after `now_ms`.
    fn last_instant_ms(&self, seed: u64, now_ms: i64) -> i64 {
        // Below the period, so below 2³².
        let phase_ms = (mix(seed) % self.period_ms.unsigned_abs()) as i64;
        let since_ms = (now_ms.rem_euclid(self.period_ms) - phase_ms).rem_euclid(self.period_ms);
        now_ms.saturating_sub(since_ms)
    }
}

impl CoarseTrack {
    /// Begins with a first position, reported at `now_ms` (milliseconds since the Unix epoch).
    ///
    /// `seed` is any number that belongs to the user and stays the same, such as a hash of the user's
    /// id; it sets the phase of the schedule. The first position is shown at once, dated by the last
    /// instant of the schedule.
    #[must_use]
    pub fn start(coarsener: &Coarsener, seed: u64, position: Position, now_ms: i64) -> Self {
        Self(CoarsePosition { cell: coarsener.cell(position), at_ms: coarsener.last_instant_ms(seed, now_ms) })
    }

    /// Takes a report of `now_ms` (milliseconds since the Unix epoch); returns what to show from now on,
    /// or `None` while the instant after the last evaluation has not come.
    ///
    /// Answers at most once a period, whether or not the cell is another: an unchanged cell with its
    /// new time says that the user is still seen. A report that belongs to an earlier time than the
    /// last evaluation is ignored. May also be called by a timer with the last known position; then
    /// not even the delay between an instant and the next report shows.
    pub fn observe(&mut self, coarsener: &Coarsener, position: Position, now_ms: i64) -> Option<CoarsePosition> {
        let elapsed_ms = now_ms.saturating_sub(self.0.at_ms);
        if elapsed_ms < coarsener.period_ms {
            return None;
        }
        self.0 = CoarsePosition {
            cell: coarsener.coarse_cell(self.0.cell, position),
            at_ms: self.0.at_ms + (elapsed_ms - elapsed_ms % coarsener.period_ms),
        };
        Some(self.0)
    }

    /// Does what a timer that looks at each instant of the schedule would have done by `now_ms`, given the last position
    /// and the time of its report; returns what is shown since, or `None` where nothing has changed. One evaluation at
    /// most: a report is evaluated at the first instant after it, and an instant without news shows nothing.
    pub fn catch_up(
        &mut self,
        coarsener: &Coarsener,
        position: Position,
        reported_ms: i64,
        now_ms: i64,
    ) -> Option<CoarsePosition> {
        let since_ms = reported_ms.saturating_sub(self.0.at_ms);
        if since_ms <= 0 {
            return None;
        }
        let late_ms = since_ms % coarsener.period_ms;
        let wait_ms = if late_ms == 0 { 0 } else { coarsener.period_ms - late_ms };
        let due_ms = reported_ms.saturating_add(wait_ms);
        if due_ms <= now_ms { self.observe(coarsener, position, due_ms) } else { None }
    }

    /// What is shown now.
    #[must_use]
    pub fn shown(self) -> CoarsePosition {
        self.0
    }
}

impl From<CoarsePosition> for CoarseTrack {
    /// Goes on from what was shown last, as from a snapshot.
    fn from(shown: CoarsePosition) -> Self {
        Self(shown)
    }
}

/// Spreads seeds that lie close together over all 64 bits, each to a place of its own.
///
/// Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (2014), the finaliser
/// of SplitMix64.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD_MS: u32 = 300_000;

    fn coarsener() -> Coarsener {
        Coarsener::new(Resolution::Seven, 200.0, PERIOD_MS).unwrap()
    }

    fn place(lat: f64, lon: f64) -> Position {
        Position::new(lat, lon).unwrap()
    }

    #[test]
    fn a_track_is_sixteen_bytes() {
        assert_eq!(size_of::<CoarseTrack>(), 16);
        assert_eq!(size_of::<Option<CoarseTrack>>(), 16);
    }

    #[test]
    fn rules_that_cannot_be_kept() {
        let check = |margin_m, period_ms, expect| {
            let got = Coarsener::new(Resolution::Seven, margin_m, period_ms).map(|_| ());
            assert_eq!(got, expect, "{margin_m} {period_ms}");
        };
        let half_edge_m = Resolution::Seven.edge_length_m() / 2.0;
        check(half_edge_m, 1, Ok(()));
        check(f64::MIN_POSITIVE, u32::MAX, Ok(()));
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, half_edge_m.next_up()] {
            check(bad, 1, Err(CoarsenerError::Margin));
        }
        check(1.0, 0, Err(CoarsenerError::Period));
    }

    #[test]
    fn answers_at_most_once_a_period_at_scheduled_instants() {
        let (rules, here) = (coarsener(), place(48.0, 11.0));
        let mut track = CoarseTrack::start(&rules, 7, here, 1_000_000_000);
        let first = track.shown().at_ms;
        let period = i64::from(PERIOD_MS);
        assert!((0..period).contains(&(1_000_000_000 - first)));

        let mut check = |now_ms: i64, expect: Option<i64>| {
            let got = track.observe(&rules, here, now_ms).map(|shown| shown.at_ms);
            assert_eq!(got, expect, "{}", now_ms - first);
        };
        check(first + period - 1, None);
        check(first + period, Some(first + period));
        check(first + period + 1, None);
        check(first + 2 * period + 29_000, Some(first + 2 * period));
        check(first + 2 * period + 31_000, None);
        // A night without reports costs no catching up.
        check(first + 90 * period + 5, Some(first + 90 * period));
        // The clock of another broker.
        check(first + 80 * period, None);
        check(first + 91 * period - 1, None);
    }

    #[test]
    fn catching_up_is_what_a_timer_would_have_done() {
        let rules = coarsener();
        let period = i64::from(PERIOD_MS);
        for after_ms in [1, 40_000, period - 1, period, period + 1, 3 * period + 7] {
            let start = CoarseTrack::start(&rules, 7, place(48.0, 11.0), 1_000_000_000);
            let (mut timed, mut read) = (start, start);
            let first = start.shown().at_ms;
            let (moved, reported_ms) = (place(48.2, 11.0), first + after_ms);
            // A timer at each instant, which evaluates only what is news.
            for n in 1..8 {
                let instant = first + n * period;
                if instant >= reported_ms && reported_ms > timed.shown().at_ms {
                    timed.observe(&rules, moved, instant);
                }
            }
            let due = timed.shown().at_ms;
            assert_eq!(read.catch_up(&rules, moved, reported_ms, due - 1), None, "{after_ms}");
            assert_eq!(read.catch_up(&rules, moved, reported_ms, due + 2 * period), Some(timed.shown()), "{after_ms}");
            assert_eq!(read.catch_up(&rules, moved, reported_ms, due + 9 * period), None, "{after_ms}");
        }
    }

    #[test]
    fn seeds_spread_over_the_period() {
        let (rules, here) = (coarsener(), place(48.0, 11.0));
        let mut tenths = [0; 10];
        for seed in 0..10_000 {
            let at_ms = CoarseTrack::start(&rules, seed, here, 0).shown().at_ms;
            tenths[usize::try_from(-at_ms / i64::from(PERIOD_MS / 10)).unwrap()] += 1;
        }
        assert!(tenths.iter().all(|n| (850..1150).contains(n)), "{tenths:?}");
    }

    #[test]
    fn times_at_the_ends_of_the_scale() {
        let (rules, here) = (coarsener(), place(48.0, 11.0));
        for now_ms in [i64::MIN, -1, 0, 1, i64::MAX] {
            let mut track = CoarseTrack::start(&rules, 3, here, now_ms);
            assert!(track.shown().at_ms <= now_ms);
            track.observe(&rules, here, i64::MIN);
            track.observe(&rules, here, i64::MAX);
        }
    }

    #[test]
    fn a_cell_of_another_resolution_is_replaced_even_on_its_edge() {
        let larger = Cell::of(place(48.0, 11.0), Resolution::Six);
        let corner = larger.index().boundary()[0];
        let here = place(corner.lat(), corner.lng());
        let mut track = CoarseTrack::from(CoarsePosition { cell: larger, at_ms: 0 });
        let next = track.observe(&coarsener(), here, i64::from(PERIOD_MS)).unwrap();
        assert_eq!(next.cell, Cell::of(here, Resolution::Seven));
    }

    #[test]
    fn debug_output_names_no_cell() {
        let track = CoarseTrack::start(&coarsener(), 3, place(48.0, 11.0), 0);
        assert!(format!("{track:?}").contains("Cell(…)"));
    }
}
