//! What the server may believe about one person's position, given what the person's phone sent and was answered.

use std::collections::VecDeque;

use nearcast_geo::Position;

use super::point::Point;

/// Microseconds since 1970-01-01 UTC.
pub(crate) type Micros = i64;

/// Reports kept for recognising positions in frames after they ceased to be possible beliefs.
const KEPT: usize = 64;

/// What became of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// No answer so far, perhaps never: the log may hold it, or come to hold it.
    Open,
    /// The log holds it; the answer came then.
    Published(Micros),
    /// It changes nothing that anybody sees: thinned out, refused, or stored as a late fix.
    Void,
}

/// One report of a phone.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    /// Its number.
    pub(crate) n: i64,
    /// What it says.
    pub(crate) point: Point,
    /// The same for geometry.
    pub(crate) position: Position,
    /// When it was handed to the socket.
    pub(crate) sent: Micros,
    /// What became of it.
    pub(crate) fate: Fate,
    /// It came inside `hello`, so that more than the report's way lies between it and friends.
    pub(crate) hello: bool,
}

/// The reports of one person, oldest first.
#[derive(Default)]
pub(crate) struct Track {
    reports: VecDeque<Report>,
}

/// Every position that the server may hold of one person over a window of time, newest first.
#[derive(Default)]
pub(crate) struct Beliefs {
    /// The positions.
    pub(crate) places: Vec<(Point, Position)>,
    /// The server may hold none.
    pub(crate) nowhere: bool,
}

impl Beliefs {
    /// Whether somebody may be shown here.
    pub(crate) fn has(&self, point: Point) -> bool {
        self.places.iter().any(|&(place, _)| place == point)
    }
}

impl Track {
    /// A report is being handed to the socket. A point outside WGS84's ranges is not a report.
    pub(crate) fn sent(&mut self, n: i64, point: Point, hello: bool, at: Micros) {
        let Some(position) = point.position() else { return };
        self.reports.push_back(Report { n, point, position, sent: at, fate: Fate::Open, hello });
        // Only what a published report has long replaced may go.
        while self.reports.len() > KEPT && self.replaced_before(at - 60_000_000) {
            self.reports.pop_front();
        }
    }

    /// The answer to report `n` came. Returns when it was sent, unless it is unknown or was answered before.
    pub(crate) fn answered(&mut self, n: i64, fate: Fate) -> Option<Micros> {
        let report = self.reports.iter_mut().rev().find(|r| r.n == n)?;
        if report.fate != Fate::Open {
            return None;
        }
        report.fate = fate;
        Some(report.sent)
    }

    /// The newest report.
    pub(crate) fn last(&self) -> Option<&Report> {
        self.reports.back()
    }

    /// The newest report of this point.
    pub(crate) fn find(&self, point: Point) -> Option<&Report> {
        self.reports.iter().rev().find(|r| r.point == point)
    }

    /// What the server may have believed at any moment from `now - slack` to `now`.
    ///
    /// A report may be believed from the moment it was sent. It is certain once its answer has come, and replaces for
    /// certain everything older `slack` later. One without an answer may be believed, or not, until then. A position
    /// is gone for certain when its answer is older than `ttl` plus the slack, and may be gone from `ttl` minus the
    /// slack after it was sent.
    pub(crate) fn beliefs(&self, now: Micros, slack: Micros, ttl: Micros, beliefs: &mut Beliefs) {
        beliefs.places.clear();
        let mut may_be_gone = false;
        for report in self.reports.iter().rev() {
            let (expired, certain) = match report.fate {
                Fate::Void => continue,
                Fate::Open => (false, false),
                Fate::Published(at) => (now > at + ttl + slack, at <= now - slack),
            };
            if !expired {
                beliefs.places.push((report.point, report.position));
            }
            may_be_gone |= now + slack >= report.sent + ttl;
            if certain {
                beliefs.nowhere = may_be_gone;
                return;
            }
        }
        beliefs.nowhere = true;
    }

    /// Whether the oldest report was replaced for certain before `time`.
    fn replaced_before(&self, time: Micros) -> bool {
        self.reports.iter().skip(1).any(|r| matches!(r.fate, Fate::Published(at) if at < time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Micros = 1_000_000;
    const SLACK: Micros = 2 * S;
    const TTL: Micros = 60 * S;

    fn point(i: i32) -> Point {
        Point::of_degrees(f64::from(i) * 0.01, 0.0)
    }

    /// Reports numbered as their points; what may be believed at `now`, and whether nothing may.
    fn check(track: &Track, now: Micros, expect: &[i32], nowhere: bool) {
        let mut beliefs = Beliefs::default();
        track.beliefs(now, SLACK, TTL, &mut beliefs);
        let places: Vec<Point> = beliefs.places.iter().map(|p| p.0).collect();
        assert!(places == expect.iter().map(|&i| point(i)).collect::<Vec<_>>(), "{} places at {now}", places.len());
        assert_eq!(beliefs.nowhere, nowhere, "nowhere at {now}");
    }

    fn track(reports: &[(i64, Micros, Fate)]) -> Track {
        let mut track = Track::default();
        for &(n, sent, fate) in reports {
            track.sent(n, point(n as i32), false, sent);
            if fate != Fate::Open {
                assert_eq!(track.answered(n, fate), Some(sent));
            }
        }
        track
    }

    #[test]
    fn nothing_is_believed_of_who_sent_nothing() {
        check(&Track::default(), 0, &[], true);
    }

    #[test]
    fn a_report_is_possible_when_sent_and_certain_a_slack_after_its_answer() {
        let track = track(&[(1, 10 * S, Fate::Published(11 * S))]);
        check(&track, 10 * S, &[1], true);
        check(&track, 13 * S - 1, &[1], true);
        check(&track, 13 * S, &[1], false);
    }

    #[test]
    fn the_older_is_possible_until_a_slack_after_the_answer_to_the_newer() {
        let track = track(&[(1, 0, Fate::Published(S)), (2, 10 * S, Fate::Published(11 * S))]);
        check(&track, 12 * S, &[2, 1], false);
        check(&track, 13 * S, &[2], false);
    }

    #[test]
    fn what_was_never_answered_may_be_believed_until_something_newer_is_certain() {
        let mut track = track(&[(1, 0, Fate::Published(S)), (2, 10 * S, Fate::Open)]);
        check(&track, 50 * S, &[2, 1], false);
        track.sent(3, point(3), true, 51 * S);
        check(&track, 52 * S, &[3, 2, 1], false);
        track.answered(3, Fate::Published(52 * S));
        check(&track, 54 * S, &[3], false);
    }

    #[test]
    fn thinned_and_refused_reports_change_nothing() {
        let track = track(&[(1, 0, Fate::Published(S)), (2, 10 * S, Fate::Void)]);
        check(&track, 20 * S, &[1], false);
    }

    #[test]
    fn an_answer_counts_once() {
        let mut track = track(&[(1, 0, Fate::Published(S))]);
        assert_eq!(track.answered(1, Fate::Void), None);
        assert_eq!(track.answered(9, Fate::Void), None);
        check(&track, 5 * S, &[1], false);
    }

    #[test]
    fn a_position_ages_out() {
        let track = track(&[(1, 10 * S, Fate::Published(11 * S))]);
        check(&track, 10 * S + TTL - SLACK - 1, &[1], false);
        check(&track, 10 * S + TTL - SLACK, &[1], true);
        check(&track, 11 * S + TTL + SLACK, &[1], true);
        check(&track, 11 * S + TTL + SLACK + 1, &[], true);
    }

    #[test]
    fn an_old_certain_position_stays_possible_beside_a_new_open_one() {
        let track = track(&[(1, 0, Fate::Published(S)), (2, TTL, Fate::Open)]);
        check(&track, TTL, &[2, 1], true);
        check(&track, S + TTL + SLACK + 1, &[2], true);
    }

    #[test]
    fn memory_is_bounded_where_answers_come() {
        let mut track = Track::default();
        for n in 0..10_000 {
            track.sent(n, point(n as i32 % 1_000), false, n * 5 * S);
            track.answered(n, Fate::Published(n * 5 * S + 1));
        }
        assert!(track.reports.len() <= KEPT + 1);
        assert_eq!(track.last().map(|r| r.n), Some(9_999));
    }
}
