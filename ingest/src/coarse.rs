//! The approximate position that goes into the cache beside the exact one.

use nearcast_geo::{CoarsePosition, CoarseTrack, Coarsener, Position};
use nearcast_schemas::delivery::FriendPosition;
use nearcast_schemas::internal::LastReport;

/// One user's approximate position, with the last report, which the next instant of the user's schedule evaluates.
#[derive(Clone, Copy)]
pub struct Coarse {
    track: CoarseTrack,
    position: Position,
    reported_ms: i64,
}

impl Coarse {
    /// Begins with a first position.
    pub fn start(rules: &Coarsener, seed: u64, position: Position, at_ms: i64) -> Self {
        Self { track: CoarseTrack::start(rules, seed, position, at_ms), position, reported_ms: at_ms }
    }

    /// Goes on from what the cache holds, so that a session shows no reading of its own.
    pub fn after(last: &LastReport, rules: &Coarsener) -> Option<Self> {
        let LastReport { position, coarse } = last;
        let shown = CoarsePosition { cell: rules.cell(place(coarse)?), at_ms: coarse.at };
        Some(Self { track: shown.into(), position: place(position)?, reported_ms: position.at })
    }

    /// Takes the position of a report; an instant since the report before evaluates that one.
    pub fn observe(&mut self, rules: &Coarsener, position: Position, at_ms: i64) {
        self.track.catch_up(rules, self.position, self.reported_ms, at_ms);
        (self.position, self.reported_ms) = (position, at_ms);
    }

    /// What may be shown approximately at `now_ms`: what the worker's timer shows by then.
    pub fn at(mut self, rules: &Coarsener, now_ms: i64) -> FriendPosition {
        self.track.catch_up(rules, self.position, self.reported_ms, now_ms);
        self.shown()
    }

    /// What is shown since the last evaluation: a cell's centre and an instant.
    pub fn shown(self) -> FriendPosition {
        let CoarsePosition { cell, at_ms } = self.track.shown();
        let center = cell.center();
        FriendPosition {
            lat: center.lat_deg(),
            lon: center.lon_deg(),
            at: at_ms,
            coarse: true,
            accuracy_m: None,
            speed_mps: None,
            heading_deg: None,
        }
    }
}

fn place(position: &FriendPosition) -> Option<Position> {
    Position::new(position.lat, position.lon).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearcast_geo::Resolution;

    #[test]
    fn what_is_shown_approximately_is_a_cells_centre_by_the_users_schedule() {
        let rules = Coarsener::new(Resolution::Seven, 100.0, 300_000).unwrap();
        let place = |lat: f64| Position::new(lat, 11.0).unwrap();
        let begun = 1_760_000_000_000;
        let mut coarse = Coarse::start(&rules, 5, place(48.0), begun);
        let first = coarse.shown();
        assert!(first.coarse && first.lat != 48.0 && first.at <= begun);
        assert_eq!((first.accuracy_m, first.speed_mps, first.heading_deg), (None, None, None));

        let (moved, instant) = (begun + 1, first.at + 300_000);
        coarse.observe(&rules, place(50.0), moved);
        assert_eq!(coarse.at(&rules, instant - 1), first, "not before the next instant");
        let second = coarse.at(&rules, instant);
        assert!(second.at == instant && (second.lat - 50.0).abs() < 0.1, "the instant, not the next report, decides");

        // The cache knows as much, so that another session and a reader go on as this one would.
        let position = FriendPosition { lat: 50.0, lon: 11.0, at: moved, ..coarse.shown() };
        let last = LastReport { position, coarse: coarse.shown() };
        let mut other = Coarse::after(&last, &rules).unwrap();
        for session in [&mut coarse, &mut other] {
            session.observe(&rules, place(52.0), instant + 10_000);
            assert_eq!(session.shown(), second, "the report that came after the instant does not decide it");
        }
    }
}
