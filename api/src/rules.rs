//! From friendships and profiles to lists, and from lists and last positions to who is nearby. Pure.

use nearcast_geo::{Coarsener, Position, straight_line_m};
use nearcast_ingest::LastSeen;
use nearcast_schemas::delivery::{FriendPosition, ResetEntry};
use nearcast_schemas::deployment::Deployment;
use nearcast_schemas::event::Sharing;
use nearcast_schemas::ids::is_link;
use nearcast_schemas::list::{Precision, VisibilityEntry, VisibilityList};
use nearcast_schemas::rule::{may_show, radius_m};

use crate::pair::{Bond, Pair, Side};
use crate::store::{Friend, List};

/// The row of a viewer's list that follows from the pair's canonical row; `None` unless they are friends.
///
/// `viewer` is the viewer's side, `display_name` the other's.
pub fn friend_row(pair: &Pair, viewer: Side, display_name: &str) -> Option<Friend> {
    (pair.bond == Bond::Friends).then(|| Friend {
        id: pair.ids.id(viewer.other()).to_owned(),
        display_name: display_name.to_owned(),
        theirs: pair.shares(viewer.other()),
        mine: pair.shares(viewer),
        since: pair.since,
    })
}

/// What a viewer may see of this friend; `None` for nothing.
pub fn entry(friend: &Friend) -> Option<VisibilityEntry> {
    let precision = match friend.theirs.precision {
        Sharing::Exact => Precision::Exact,
        Sharing::Coarse => Precision::Coarse,
        Sharing::Hidden => return None,
    };
    Some(VisibilityEntry {
        friend: friend.id.clone(),
        display_name: friend.display_name.clone(),
        precision,
        radius_m: metres(friend.theirs.within_m),
        expires_at: friend.theirs.until,
    })
}

/// The radius that holds for a viewer, in metres: the wish, else the deployment's, at most its maximum.
pub fn viewer_radius_m(wish_m: Option<u32>, deployment: &Deployment) -> i32 {
    metres(wish_m.unwrap_or(deployment.default_radius_m).min(deployment.max_radius_m))
}

/// The record that goes into the visibility log. An entry whose time is over is left out. A share link has no radius.
pub fn visibility(viewer: &str, list: &List, deployment: &Deployment, now_ms: i64) -> VisibilityList {
    let alive = |entry: &VisibilityEntry| entry.expires_at == 0 || now_ms < entry.expires_at;
    let entries = list.friends.iter().filter_map(entry).filter(alive).collect();
    let radius_m = if is_link(viewer) { 0 } else { viewer_radius_m(list.radius_m, deployment) };
    VisibilityList::list(list.version, now_ms, radius_m, entries)
}

/// Whether the change takes something away that the viewer could see: all of it, its precision or some of its radius. An
/// earlier end takes nothing yet, and who decides knows of it long before.
pub fn takes_away(before: Option<&VisibilityEntry>, after: Option<&VisibilityEntry>) -> bool {
    let (Some(before), Some(after)) = (before, after) else { return before.is_some() };
    // 0 is no limit.
    let nearer = after.radius_m != 0 && (before.radius_m == 0 || after.radius_m < before.radius_m);
    nearer || after.precision > before.precision
}

/// Where and when a list is judged.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// In ms since the epoch.
    pub now_ms: i64,
    /// A friend silent for this long is not shown, in ms.
    pub ttl_ms: i64,
    /// Where the viewer is, if known.
    pub viewer: Option<Position>,
    /// The rules of approximate positions.
    pub coarsener: Coarsener,
}

impl Moment {
    /// The viewer's position is the one last seen, if it is not too old.
    pub fn at_last_seen(now_ms: i64, ttl_ms: i64, coarsener: Coarsener, viewer: Option<&LastSeen>) -> Self {
        let moment = Self { now_ms, ttl_ms, viewer: None, coarsener };
        let position = viewer.filter(|seen| moment.is_fresh(seen)).and_then(|seen| place(&seen.position));
        Self { viewer: position, ..moment }
    }

    fn is_fresh(&self, seen: &LastSeen) -> bool {
        self.now_ms - seen.position.at < self.ttl_ms
    }
}

/// One friend as the viewer may see them now: within `radius_m` metres of the viewer, or anywhere where that is `None`.
///
/// Whoever shares approximately is judged by the approximate position alone. The band beyond the radius counts as out.
pub fn shown(entry: &VisibilityEntry, seen: &LastSeen, moment: &Moment, radius_m: Option<i32>) -> Option<ResetEntry> {
    if !moment.is_fresh(seen) {
        return None;
    }
    let precision = may_show(entry, &seen.mode, seen.reported, moment.now_ms)?;
    let position = seen.shown(precision, &moment.coarsener, moment.now_ms)?;
    let distance_m = match moment.viewer {
        Some(viewer) => Some(straight_line_m(viewer, place(&position)?)),
        None => None,
    };
    let in_range = match (radius_m, distance_m) {
        (None, _) => true,
        (Some(radius_m), Some(distance_m)) => distance_m <= f64::from(radius_m),
        (Some(_), None) => false,
    };
    in_range.then(|| ResetEntry {
        friend: entry.friend.clone(),
        display_name: entry.display_name.clone(),
        position,
        distance_dm: distance_m.map_or(-1, |metres| (metres * 10.0).round() as i32),
    })
}

/// Who of a list is nearby, nearest first. `seen` are the last positions of the list's entries, in their order.
pub fn nearby(list: &VisibilityList, seen: &[Option<LastSeen>], moment: &Moment) -> Vec<ResetEntry> {
    let mut found: Vec<ResetEntry> = list
        .entries
        .iter()
        .zip(seen)
        .filter_map(|(entry, seen)| shown(entry, seen.as_ref()?, moment, radius_m(list.radius_m, entry.radius_m)))
        .collect();
    found.sort_by(|a, b| a.distance_dm.cmp(&b.distance_dm).then_with(|| a.friend.cmp(&b.friend)));
    found
}

fn place(position: &FriendPosition) -> Option<Position> {
    Position::new(position.lat, position.lon).ok()
}

/// Radii are checked to be at most 100 km where they come in.
fn metres(radius_m: u32) -> i32 {
    i32::try_from(radius_m).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use nearcast_geo::Resolution;
    use nearcast_schemas::event::{Mode, NO_SESSION};

    use super::*;
    use crate::pair::{PairIds, Share};

    const NOW: i64 = 1_700_000_000_000;
    const TTL: i64 = 600_000;

    fn deployment() -> Deployment {
        Deployment {
            prefix: "t".into(),
            friend_ttl_s: 600,
            default_radius_m: 8_000,
            max_radius_m: 20_000,
            max_silence_s: 180,
            min_move_m: 10.0,
            report_interval_s: 30,
            coarse_resolution: 7,
            coarse_period_s: 300,
        }
    }

    fn friend(id: &str, theirs: Share) -> Friend {
        Friend { id: id.into(), display_name: id.to_uppercase(), theirs, mine: Share::default(), since: 1 }
    }

    fn share(precision: Sharing, until: i64, within_m: u32) -> Share {
        Share { precision, until, within_m }
    }

    /// Somebody `north_m` metres north of the equator at longitude 0, and `coarse_north_m` as others may know it.
    fn seen(north_m: f64, coarse_north_m: f64, mode: Mode, age_ms: i64) -> LastSeen {
        let position = |metres: f64, coarse| FriendPosition {
            // A degree of latitude at the equator is 110 574 m long.
            lat: metres / 110_574.0,
            lon: 0.0,
            at: NOW - age_ms,
            coarse,
            accuracy_m: (!coarse).then_some(5.0),
            speed_mps: None,
            heading_deg: None,
        };
        LastSeen {
            position: position(north_m, false),
            coarse: Some(position(coarse_north_m, true)),
            reported: Sharing::Exact,
            mode,
            session: NO_SESSION,
        }
    }

    fn here() -> Moment {
        Moment { now_ms: NOW, ttl_ms: TTL, viewer: Position::new(0.0, 0.0).ok(), coarsener: coarsener() }
    }

    fn coarsener() -> Coarsener {
        Coarsener::new(Resolution::Seven, 100.0, 300_000).unwrap()
    }

    /// How far from here whoever is `north_m` metres to the north seems to be.
    fn cell_m(north_m: f64) -> f64 {
        let cell = coarsener().cell(Position::new(north_m / 110_574.0, 0.0).unwrap());
        straight_line_m(Position::new(0.0, 0.0).unwrap(), cell.center())
    }

    #[test]
    fn a_row_shows_each_side_what_the_other_shares() {
        let ids = PairIds::new("alice", "bob").unwrap();
        let coarse = share(Sharing::Coarse, 0, 500);
        let pair = Pair { bond: Bond::Friends, since: 9, high_shares: coarse, ..Pair::strangers(ids) };
        let of_alice = friend_row(&pair, Side::Low, "Bob").unwrap();
        assert_eq!((of_alice.id.as_str(), of_alice.theirs, of_alice.mine), ("bob", coarse, Share::default()));
        let of_bob = friend_row(&pair, Side::High, "Alice").unwrap();
        assert_eq!((of_bob.id.as_str(), of_bob.theirs, of_bob.mine), ("alice", Share::default(), coarse));
        for bond in [Bond::Strangers, Bond::Asked(Side::Low)] {
            assert_eq!(friend_row(&Pair { bond, ..pair.clone() }, Side::Low, "Bob"), None);
        }
    }

    #[test]
    fn a_list_holds_who_shares_now() {
        let list = List {
            version: 4,
            friends: vec![
                friend("exact", share(Sharing::Exact, 0, 0)),
                friend("coarse", share(Sharing::Coarse, NOW + 1, 500)),
                friend("hidden", share(Sharing::Hidden, 0, 0)),
                friend("over", share(Sharing::Exact, NOW, 0)),
            ],
            ..List::default()
        };
        let got = visibility("v", &list, &deployment(), NOW);
        assert_eq!((got.version, got.published_at, got.radius_m), (4, NOW, 8_000));
        let entries: Vec<_> =
            got.entries.iter().map(|e| (e.friend.as_str(), e.precision, e.radius_m, e.expires_at)).collect();
        assert_eq!(entries, [("exact", Precision::Exact, 0, 0), ("coarse", Precision::Coarse, 500, NOW + 1)]);
        assert_eq!(got.entries[0].display_name, "EXACT");
    }

    #[test]
    fn the_deployments_maximum_bounds_a_wish() {
        assert_eq!(viewer_radius_m(None, &deployment()), 8_000);
        assert_eq!(viewer_radius_m(Some(500), &deployment()), 500);
        assert_eq!(viewer_radius_m(Some(50_000), &deployment()), 20_000);
    }

    #[test]
    fn what_takes_something_away() {
        let check = |before: Share, after: Share, expect: bool| {
            let (before, after) = (entry(&friend("f", before)), entry(&friend("f", after)));
            assert_eq!(takes_away(before.as_ref(), after.as_ref()), expect, "{before:?} {after:?}");
        };
        let exact = Share::default();
        let hidden = share(Sharing::Hidden, 0, 0);
        check(exact, exact, false);
        check(exact, hidden, true);
        check(hidden, exact, false);
        check(hidden, hidden, false);
        check(exact, share(Sharing::Coarse, 0, 0), true);
        check(share(Sharing::Coarse, 0, 0), exact, false);
        check(exact, share(Sharing::Exact, 0, 500), true);
        check(share(Sharing::Exact, 0, 500), exact, false);
        check(share(Sharing::Exact, 0, 500), share(Sharing::Exact, 0, 600), false);
        check(share(Sharing::Exact, 0, 500), share(Sharing::Exact, 0, 400), true);
        check(exact, share(Sharing::Exact, NOW, 0), false);
        assert!(!takes_away(None, None));
    }

    /// Whether a friend with this entry and last position is shown, and at which distance.
    fn check(theirs: Share, seen: LastSeen, expect_m: Option<f64>) {
        let list = List { friends: vec![friend("f", theirs)], ..List::default() };
        let list = visibility("v", &list, &deployment(), NOW);
        let found = nearby(&list, &[Some(seen)], &here());
        let distance_m = found.first().map(|entry| f64::from(entry.distance_dm) / 10.0);
        assert_eq!(distance_m.is_some(), expect_m.is_some(), "{distance_m:?} {expect_m:?}");
        if let (Some(got), Some(expect)) = (distance_m, expect_m) {
            assert!((got - expect).abs() < 1.0, "{got} {expect}");
        }
    }

    #[test]
    fn range_is_the_least_radius_and_its_band_is_out() {
        let open = Mode::default();
        check(Share::default(), seen(7_990.0, 0.0, open, 0), Some(7_990.0));
        check(Share::default(), seen(8_050.0, 0.0, open, 0), None);
        check(share(Sharing::Exact, 0, 500), seen(490.0, 0.0, open, 0), Some(490.0));
        check(share(Sharing::Exact, 0, 500), seen(510.0, 0.0, open, 0), None);
        check(share(Sharing::Exact, 0, 15_000), seen(9_000.0, 0.0, open, 0), None);
    }

    #[test]
    fn who_shares_approximately_is_judged_by_the_approximate_position() {
        let coarse = share(Sharing::Coarse, 0, 0);
        check(coarse, seen(1.0, 5_000.0, Mode::default(), 0), Some(cell_m(5_000.0)));
        check(coarse, seen(1.0, 11_000.0, Mode::default(), 0), None);
        check(coarse, seen(9_000.0, 5_000.0, Mode::default(), 0), Some(cell_m(5_000.0)));
        let everybody = Mode { sharing: Sharing::Coarse, ..Mode::default() };
        check(Share::default(), seen(1.0, 5_000.0, everybody, 0), Some(cell_m(5_000.0)));
    }

    #[test]
    fn a_report_is_shown_no_more_finely_than_when_it_was_sent() {
        let (open, coarse) = (Mode::default(), share(Sharing::Coarse, 0, 0));
        let reported = |reported| LastSeen { reported, ..seen(1.0, 5_000.0, open, 0) };
        check(Share::default(), reported(Sharing::Coarse), Some(cell_m(5_000.0)));
        check(Share::default(), reported(Sharing::Hidden), None);
        check(coarse, reported(Sharing::Hidden), None);
    }

    #[test]
    fn the_instant_after_a_report_decides_the_cell() {
        let period_ms = 300_000;
        let mut seen = seen(11_000.0, 5_000.0, Mode::default(), period_ms - 1);
        if let Some(coarse) = &mut seen.coarse {
            coarse.at = NOW - period_ms;
        }
        let coarse = share(Sharing::Coarse, 0, 0);
        check(coarse, seen.clone(), None);
        let earlier = Moment { now_ms: NOW - 1, ..here() };
        let entry = entry(&friend("f", coarse)).unwrap();
        let shown = shown(&entry, &seen, &earlier, Some(8_000)).unwrap();
        assert!((f64::from(shown.distance_dm) / 10.0 - cell_m(5_000.0)).abs() < 1.0);
    }

    #[test]
    fn the_hidden_and_the_silent_are_left_out() {
        let hidden = |until| Mode { sharing: Sharing::Hidden, until, ..Mode::default() };
        check(Share::default(), seen(1.0, 1.0, hidden(0), 0), None);
        check(Share::default(), seen(1.0, 1.0, hidden(NOW), 0), Some(1.0));
        check(Share::default(), seen(1.0, 1.0, hidden(NOW + 1), 0), None);
        check(Share::default(), seen(1.0, 1.0, Mode::default(), TTL - 1), Some(1.0));
        check(Share::default(), seen(1.0, 1.0, Mode::default(), TTL), None);
    }

    #[test]
    fn nearest_first_and_by_id_at_the_same_distance() {
        let friends = ["c", "b", "a", "silent", "far"].map(|id| friend(id, Share::default())).to_vec();
        let list = visibility("v", &List { friends, ..List::default() }, &deployment(), NOW);
        let at = |metres| Some(seen(metres, metres, Mode::default(), 0));
        let positions = [at(100.0), at(50.0), at(50.0), None, at(9_000.0)];
        let ids: Vec<_> = nearby(&list, &positions, &here()).into_iter().map(|entry| entry.friend).collect();
        assert_eq!(ids, ["a", "b", "c"]);
    }

    #[test]
    fn a_viewer_without_a_position_sees_nobody_but_through_an_open_radius() {
        let moment = Moment { viewer: None, ..here() };
        let entry = entry(&friend("f", Share::default())).unwrap();
        let seen = seen(1.0, 1.0, Mode::default(), 0);
        assert_eq!(shown(&entry, &seen, &moment, Some(8_000)), None);
        assert_eq!(shown(&entry, &seen, &moment, None).unwrap().distance_dm, -1);
    }

    #[test]
    fn the_viewers_own_last_position_counts_within_the_ttl() {
        let own = |age| {
            let seen = seen(1.0, 1.0, Mode::default(), age);
            Moment::at_last_seen(NOW, TTL, coarsener(), Some(&seen)).viewer
        };
        assert!(own(TTL - 1).is_some());
        assert!(own(TTL).is_none());
        assert!(Moment::at_last_seen(NOW, TTL, coarsener(), None).viewer.is_none());
    }
}
