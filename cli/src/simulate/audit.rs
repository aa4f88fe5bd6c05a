//! What each phone must see at each moment, and what it does see.
//!
//! The oracle shares no code with the server: it knows only what the phones sent and were answered, and decides with
//! the definition of distance. It takes events and time as arguments.

use std::collections::HashMap;

use nearcast_geo::straight_line_m;

use super::finding::{Example, Finding, Findings, seconds};
use super::point::Point;
use super::truth::{Beliefs, Fate, Micros, Report, Track};

/// Once in range, a friend leaves only beyond this multiple of the radius; between, either answer is right.
const BAND: f64 = 1.025;
/// A shown distance may be off by the decimetre it travels in and by the server's single precision, metres.
const DISTANCE_OFF_M: f64 = 0.25;
/// A shown distance was computed at most this long before it came.
const DISTANCE_AGE: Micros = 30_000_000;
/// The index of an id that no simulated phone has.
pub(crate) const STRANGER: u32 = u32::MAX;

/// What `welcome` promised to a viewer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Terms {
    /// Metres.
    pub(crate) radius_m: f64,
    /// A friend silent for this long disappears.
    pub(crate) ttl: Micros,
}

/// A change of the list that a phone holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Change {
    /// The list is empty now.
    Cleared,
    /// This friend is shown here.
    Put {
        /// Whom.
        friend: u32,
        /// Where.
        point: Point,
        /// How far away, metres, as the server said.
        distance_m: Option<f64>,
    },
    /// This friend is not shown any more.
    Gone {
        /// Whom.
        friend: u32,
    },
}

/// What a shown position is, for whoever measures latency.
#[derive(Debug)]
pub(crate) struct Recognised<'a> {
    /// The friend's report that says it.
    pub(crate) report: &'a Report,
    /// The friend was in the list before, elsewhere.
    pub(crate) moved: bool,
    /// The friend was not in the list before.
    pub(crate) appeared: bool,
    /// When the viewer's own last report was sent.
    pub(crate) viewer_sent: Option<Micros>,
}

/// A live socket.
struct Session {
    welcomed: Micros,
    terms: Terms,
    /// Since when parts of a reset have been missing.
    partial: Option<Micros>,
}

/// One phone's list, and what was wrong with it at the last inspection.
struct View {
    friends: Vec<u32>,
    session: Option<Session>,
    shown: HashMap<u32, Point>,
    standing: HashMap<u32, Finding>,
}

/// The audit of one run.
pub(crate) struct Audit {
    tracks: Vec<Track>,
    views: Vec<View>,
    findings: Findings,
    beliefs: Vec<Beliefs>,
    last: Option<Micros>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Must {
    See,
    NotSee,
    Either,
}

impl Audit {
    /// An audit of phones by their friends' indices.
    pub(crate) fn new(friends: &[Vec<u32>]) -> Self {
        let view = |list: &Vec<u32>| View {
            friends: list.clone(),
            session: None,
            shown: HashMap::new(),
            standing: HashMap::new(),
        };
        Self {
            tracks: friends.iter().map(|_| Track::default()).collect(),
            views: friends.iter().map(view).collect(),
            findings: Findings::default(),
            beliefs: friends.iter().map(|_| Beliefs::default()).collect(),
            last: None,
        }
    }

    /// What was found so far.
    pub(crate) fn findings(&self) -> &Findings {
        &self.findings
    }

    /// A phone hands a report to its socket.
    pub(crate) fn sent(&mut self, user: u32, n: i64, point: Point, hello: bool, at: Micros) {
        self.tracks[user as usize].sent(n, point, hello, at);
    }

    /// A phone learns what became of a report. Returns when it was sent, the first time.
    pub(crate) fn answered(&mut self, user: u32, n: i64, fate: Fate) -> Option<Micros> {
        self.tracks[user as usize].answered(n, fate)
    }

    /// A phone was welcomed; it holds nothing yet.
    pub(crate) fn welcomed(&mut self, viewer: u32, terms: Terms, at: Micros) {
        let view = &mut self.views[viewer as usize];
        view.session = Some(Session { welcomed: at, terms, partial: None });
        view.shown.clear();
        view.standing.clear();
    }

    /// A phone lost its socket: what it holds is nobody's promise.
    pub(crate) fn lost(&mut self, viewer: u32) {
        self.views[viewer as usize].session = None;
    }

    /// Whether a phone awaits further parts of a reset.
    pub(crate) fn awaits_parts(&mut self, viewer: u32, awaits: bool, at: Micros) {
        if let Some(session) = &mut self.views[viewer as usize].session {
            session.partial = awaits.then(|| session.partial.unwrap_or(at));
        }
    }

    /// A phone changed its list. Returns what a new position is, if it is any that the friend sent.
    pub(crate) fn changed(&mut self, viewer: u32, change: Change, at: Micros) -> Option<Recognised<'_>> {
        let view = &mut self.views[viewer as usize];
        let (friend, point, distance_m) = match change {
            Change::Put { friend, point, distance_m } => (friend, point, distance_m),
            Change::Gone { friend } => {
                view.shown.remove(&friend);
                return None;
            }
            Change::Cleared => {
                view.shown.clear();
                return None;
            }
        };
        let before = view.shown.insert(friend, point);
        if distance_m.is_some_and(|metres| !self.may_be_apart(viewer, point, metres, at)) {
            self.findings.distances_off += 1;
        }
        Some(Recognised {
            report: self.tracks.get(friend as usize)?.find(point)?,
            moved: before.is_some_and(|before| before != point),
            appeared: before.is_none(),
            viewer_sent: self.tracks[viewer as usize].last().map(|report| report.sent),
        })
    }

    /// Whether a viewer may be that far from a point, by any position of the viewer's lately.
    fn may_be_apart(&self, viewer: u32, point: Point, metres: f64, at: Micros) -> bool {
        let Some(position) = point.position() else { return false };
        let mut own = Beliefs::default();
        self.tracks[viewer as usize].beliefs(at, DISTANCE_AGE, i64::MAX / 4, &mut own);
        own.places.iter().any(|&(_, mine)| (straight_line_m(mine, position) - metres).abs() <= DISTANCE_OFF_M)
    }

    /// How many entries of lists are wrong now by another slack than that of the inspections. Counts nothing.
    pub(crate) fn wrong_now(&mut self, now: Micros, slack: Micros) -> usize {
        if !self.believe(now, slack) {
            return 0;
        }
        let of_view = |(viewer, view): (usize, &View)| {
            let Some((session, excused)) = view.judged_by(now, slack) else { return 0 };
            let wrong = |&&friend: &&u32| {
                let theirs = &self.beliefs[friend as usize];
                let must = must_see(&self.beliefs[viewer], theirs, session.terms.radius_m);
                found(must, view.shown.get(&friend), theirs, excused).is_some()
            };
            let strangers = view.shown.keys().filter(|friend| !view.friends.contains(friend));
            view.friends.iter().filter(wrong).count() + strangers.count()
        };
        self.views.iter().enumerate().map(of_view).sum()
    }

    /// Puts down what may be believed of everybody. Not while nobody was ever welcomed.
    fn believe(&mut self, now: Micros, slack: Micros) -> bool {
        let session = self.views.iter().find_map(|view| view.session.as_ref());
        let Some(ttl) = session.map(|session| session.terms.ttl) else { return false };
        for (track, beliefs) in self.tracks.iter().zip(&mut self.beliefs) {
            track.beliefs(now, slack, ttl, beliefs);
        }
        true
    }

    /// Compares every phone's list with what it must be, and counts the time since the last inspection by the result.
    /// `slack` is how long a change may take to be seen.
    pub(crate) fn inspect(&mut self, now: Micros, slack: Micros) {
        let lasted = self.last.map_or(0, |last| now - last);
        self.last = Some(now);
        if !self.believe(now, slack) {
            return;
        }
        for (viewer, view) in self.views.iter_mut().enumerate() {
            let Some((session, excused)) = view.judged_by(now, slack) else { continue };
            let (radius_m, welcomed) = (session.terms.radius_m, session.welcomed);
            let mine = &self.beliefs[viewer];
            let mut report = |friend: u32, found: Option<Finding>| {
                let Some(finding) = found else {
                    view.standing.remove(&friend);
                    return;
                };
                self.findings.stood(lasted, now);
                if view.standing.insert(friend, finding) != Some(finding) {
                    let since = |track: Option<&Track>| Some(seconds(now - track?.last()?.sent));
                    self.findings.begins(Example {
                        finding,
                        viewer: viewer as u32,
                        friend: (friend != STRANGER).then_some(friend),
                        at_ms: now / 1_000,
                        apart_m: self.beliefs.get(friend as usize).and_then(|theirs| apart_m(mine, theirs)),
                        friend_sent_s: since(self.tracks.get(friend as usize)),
                        viewer_sent_s: since(self.tracks.get(viewer)),
                        welcomed_s: seconds(now - welcomed),
                    });
                }
            };
            let mut in_range = 0;
            let mut known = 0;
            for &friend in &view.friends {
                let theirs = &self.beliefs[friend as usize];
                let shown = view.shown.get(&friend);
                known += usize::from(shown.is_some());
                let must = must_see(mine, theirs, radius_m);
                in_range += i64::from(must == Must::See);
                report(friend, found(must, shown, theirs, excused));
            }
            if known < view.shown.len() {
                for &friend in view.shown.keys().filter(|friend| !view.friends.contains(friend)) {
                    report(friend, Some(Finding::Wrong));
                }
            }
            self.findings.judged(lasted * view.friends.len() as i64, lasted * in_range);
        }
    }
}

impl View {
    /// The session, once its list may be judged, and whether entries may be missing because parts are to come.
    fn judged_by(&self, now: Micros, slack: Micros) -> Option<(&Session, bool)> {
        let session = self.session.as_ref().filter(|session| now - session.welcomed > slack)?;
        Some((session, session.partial.is_some_and(|since| now - since <= slack)))
    }
}

/// What is wrong with one entry.
fn found(must: Must, shown: Option<&Point>, theirs: &Beliefs, excused: bool) -> Option<Finding> {
    match (must, shown) {
        (Must::See, None) if !excused => Some(Finding::Missing),
        (Must::NotSee, Some(_)) => Some(Finding::Wrong),
        (_, Some(&point)) if !theirs.has(point) => Some(Finding::Stale),
        _ => None,
    }
}

/// Whether a viewer with these possible positions must see a friend with those.
fn must_see(mine: &Beliefs, theirs: &Beliefs, radius_m: f64) -> Must {
    let mut all_in = !mine.nowhere && !theirs.nowhere;
    let mut all_out = true;
    for &(_, a) in &mine.places {
        for &(_, b) in &theirs.places {
            let metres = straight_line_m(a, b);
            all_in &= metres <= radius_m;
            all_out &= metres > radius_m * BAND;
        }
    }
    match (all_in, all_out) {
        (_, true) => Must::NotSee,
        (true, false) => Must::See,
        (false, false) => Must::Either,
    }
}

/// The distance between the newest possible positions.
fn apart_m(mine: &Beliefs, theirs: &Beliefs) -> Option<f64> {
    Some(straight_line_m(mine.places.first()?.1, theirs.places.first()?.1).round())
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
