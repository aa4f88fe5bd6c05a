//! The one rule of who may be shown to whom, shared by the engine and the API.

use crate::event::{Mode, Sharing};
use crate::list::{Precision, VisibilityEntry};

/// The mode in force at `now_ms`: one whose end has passed is exact again.
pub fn sharing_at(mode: &Mode, now_ms: i64) -> Sharing {
    if mode.until != 0 && now_ms >= mode.until { Sharing::Exact } else { mode.sharing }
}

/// How finely a report may ever be shown, whatever mode comes after it: as finely as both the mode that it carries and the
/// newest that was known when it was appended at `at_ms` allowed then. So a pause is a gap, also when it is over.
pub fn reported_as(carried: &Mode, known: &Mode, at_ms: i64) -> Sharing {
    sharing_at(carried, at_ms).max(sharing_at(known, at_ms))
}

/// How finely the friend of `entry`, who shares by `mode`, may be shown at `now_ms` by a report that may be shown
/// [as `reported`](reported_as); `None` for not at all.
///
/// The coarsest of the three wins. Range is decided elsewhere.
pub fn may_show(entry: &VisibilityEntry, mode: &Mode, reported: Sharing, now_ms: i64) -> Option<Precision> {
    shown_as(entry.precision, entry.expires_at, sharing_at(mode, now_ms).max(reported), now_ms)
}

/// [`may_show`] by its parts: an entry's precision and end (0 for none), and the coarser of the friend's mode in force at
/// `now_ms` and what the report allows.
#[inline]
pub fn shown_as(precision: Precision, expires_at: i64, sharing: Sharing, now_ms: i64) -> Option<Precision> {
    if expires_at != 0 && now_ms >= expires_at {
        return None;
    }
    match sharing {
        Sharing::Hidden => None,
        Sharing::Coarse => Some(Precision::Coarse),
        Sharing::Exact => Some(precision),
    }
}

/// The radius in metres within which a friend is shown: the least of those given, where 0 is none.
/// `None`: no radius at all, as for share links.
pub fn radius_m(viewer_radius_m: i32, entry_radius_m: i32) -> Option<i32> {
    match (viewer_radius_m, entry_radius_m) {
        (0, 0) => None,
        (0, r) | (r, 0) => Some(r),
        (a, b) => Some(a.min(b)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(precision: Precision, expires_at: i64, sharing: Sharing, until: i64, expect: Option<Precision>) {
        let entry =
            VisibilityEntry { friend: "f".into(), display_name: String::new(), precision, radius_m: 0, expires_at };
        let mode = Mode { sharing, until, discoverable: false, version: 1 };
        assert_eq!(may_show(&entry, &mode, Sharing::Exact, 1_000), expect);
        assert_eq!(may_show(&entry, &mode, Sharing::Hidden, 1_000), None);
    }

    #[test]
    fn the_coarser_of_entry_and_mode_wins() {
        check(Precision::Exact, 0, Sharing::Exact, 0, Some(Precision::Exact));
        check(Precision::Coarse, 0, Sharing::Exact, 0, Some(Precision::Coarse));
        check(Precision::Exact, 0, Sharing::Coarse, 0, Some(Precision::Coarse));
        check(Precision::Exact, 0, Sharing::Hidden, 0, None);
    }

    #[test]
    fn ends_are_exclusive() {
        check(Precision::Exact, 1_000, Sharing::Exact, 0, None);
        check(Precision::Exact, 1_001, Sharing::Exact, 0, Some(Precision::Exact));
        check(Precision::Exact, 0, Sharing::Hidden, 1_000, Some(Precision::Exact));
        check(Precision::Exact, 0, Sharing::Hidden, 1_001, None);
    }

    #[test]
    fn a_report_stays_as_coarse_as_it_was_sent() {
        let check = |carried: (Sharing, i64), known: (Sharing, i64), expect| {
            let mode = |(sharing, until)| Mode { sharing, until, discoverable: false, version: 1 };
            assert_eq!(reported_as(&mode(carried), &mode(known), 1_000), expect);
        };
        check((Sharing::Exact, 0), (Sharing::Exact, 0), Sharing::Exact);
        check((Sharing::Exact, 0), (Sharing::Hidden, 0), Sharing::Hidden);
        check((Sharing::Hidden, 0), (Sharing::Exact, 0), Sharing::Hidden);
        check((Sharing::Coarse, 0), (Sharing::Exact, 0), Sharing::Coarse);
        check((Sharing::Coarse, 1_001), (Sharing::Hidden, 1_000), Sharing::Coarse);
    }

    #[test]
    fn the_least_radius_holds() {
        assert_eq!(radius_m(8_000, 0), Some(8_000));
        assert_eq!(radius_m(8_000, 500), Some(500));
        assert_eq!(radius_m(0, 500), Some(500));
        assert_eq!(radius_m(0, 0), None);
    }
}
