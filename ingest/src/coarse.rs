//! The approximate position that goes into the cache beside the exact one.

use nearcast_geo::{CoarseTrack, Coarsener, Position};
use nearcast_schemas::delivery::FriendPosition;

/// One user's approximate position over one session, or over one report without a session.
#[derive(Clone, Copy, Debug, Default)]
pub struct Coarse(Option<CoarseTrack>);

impl Coarse {
    /// Takes the position of a report and returns what may be shown approximately from now on.
    ///
    /// A session begins a track of its own, so it has to be the cache that keeps what another session showed for the
    /// same scheduled instant: instants follow from the user alone and are the same in every session.
    pub fn observe(&mut self, rules: &Coarsener, seed: u64, position: Position, at_ms: i64) -> FriendPosition {
        let track = self.0.get_or_insert_with(|| CoarseTrack::start(rules, seed, position, at_ms));
        // `None` when the next instant has not come: what was shown goes on.
        let _ = track.observe(rules, position, at_ms);
        let shown = track.shown();
        let center = shown.cell.center();
        FriendPosition {
            lat: center.lat_deg(),
            lon: center.lon_deg(),
            at: shown.at_ms,
            coarse: true,
            accuracy_m: None,
            speed_mps: None,
            heading_deg: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearcast_geo::Resolution;

    #[test]
    fn what_is_shown_approximately_is_a_cells_centre_by_the_users_schedule() {
        let rules = Coarsener::new(Resolution::Seven, 100.0, 300_000).unwrap();
        let mut coarse = Coarse::default();
        let mut observe = |lat: f64, at: i64| coarse.observe(&rules, 5, Position::new(lat, 11.0).unwrap(), at);
        let first = observe(48.0, 1_760_000_000_000);
        assert!(first.coarse && first.lat != 48.0 && first.at <= 1_760_000_000_000);
        assert_eq!((first.accuracy_m, first.speed_mps, first.heading_deg), (None, None, None));
        assert_eq!(observe(50.0, first.at + 299_999), first, "not before the next instant");
        let second = observe(50.0, first.at + 310_000);
        assert_eq!(second.at, first.at + 300_000);
        assert!((second.lat - 50.0).abs() < 0.1);
        // Another session of the user has the same instants.
        let other = Coarse::default().observe(&rules, 5, Position::new(50.0, 11.0).unwrap(), first.at + 310_000);
        assert_eq!(other.at, second.at);
    }
}
