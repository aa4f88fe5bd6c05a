//! What every view must be, computed from the log by rereading all of it: the slow and plain way, sharing no step with
//! the engine but the rule of who may be shown.

use std::collections::{BTreeMap, BTreeSet};

use nearcast_geo::{Cell, EXIT_RATIO, Position, Resolution, straight_line_m};
use nearcast_schemas::event::{LocationEvent, LocationKind, Mode, NO_SESSION, Role, Sharing};
use nearcast_schemas::list::{Precision, VisibilityList};
use nearcast_schemas::rule::{may_show, radius_m, reported_as, sharing_at};

use crate::step::TTL_MS;

/// One record of the location log.
#[derive(Clone, Debug)]
pub struct Logged {
    pub user: String,
    pub offset: i64,
    pub append_ms: i64,
    pub event: LocationEvent,
}

/// What is known of a user from the log.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// A worker that began in between may not have read what another remembers: records of a superseded session or
    /// with an older mode are in the log's last time to live, and what supersedes them is not any more.
    pub depends: bool,
    /// Sessions with a route: the gateway's handle, and the list version that the hello named.
    pub sessions: BTreeMap<i32, i64>,
    pub mode: Option<Mode>,
    /// Where, when, and how finely it may ever be shown.
    pub position: Option<(Position, i64, Sharing)>,
    /// Every cell that the user was in since coming online, or since the last report that may never be shown.
    cells: BTreeSet<u64>,
}

impl Known {
    /// Whether the user sees strangers and is seen by them.
    pub fn takes_part(&self, now_ms: i64) -> bool {
        let mode = self.mode.unwrap_or_default();
        let (position, own) = (self.position, sharing_at(&mode, now_ms));
        mode.discoverable && position.is_some_and(|(_, _, reported)| own.max(reported) != Sharing::Hidden)
    }
}

/// What a view must say of one friend.
#[derive(Clone, Debug, PartialEq)]
pub enum Must {
    /// Not there.
    Absent,
    /// There, at this place and with this time.
    Exact(Position, i64),
    /// There, by a cell's centre.
    Coarse,
    /// Either is right: the friend is within the band, or the cell depends on the schedule.
    Free,
}

/// Rereads the log of one user up to `now_ms`.
pub fn known(log: &[Logged], user: &str, now_ms: i64) -> Known {
    let of_user = log.iter().filter(|record| record.user == user);
    let all = known_from(of_user.clone().collect(), now_ms);
    let window = known_from(of_user.filter(|record| now_ms - record.append_ms < TTL_MS).collect(), now_ms);
    let same = (&all.sessions, all.mode, all.position) == (&window.sessions, window.mode, window.position);
    Known { depends: !same, ..all }
}

fn known_from(mut records: Vec<&Logged>, now_ms: i64) -> Known {
    // Whoever was silent for the time to live is forgotten, and so is all that came before.
    let gap = |pair: &[&Logged]| pair[1].append_ms - pair[0].append_ms >= TTL_MS;
    if let Some(at) = records.windows(2).rposition(gap) {
        records.drain(..=at);
    }
    if records.last().is_none_or(|last| now_ms - last.append_ms >= TTL_MS) {
        return Known::default();
    }
    let erased = records.iter().rposition(|record| record.event.kind == LocationKind::Erase);
    let erased_offset = erased.map_or(NO_SESSION, |at| records[at].offset);
    if let Some(at) = erased {
        records.drain(..at);
    }
    Known {
        depends: false,
        sessions: sessions(&records, erased_offset, now_ms),
        mode: newest_mode(&records),
        position: positions(&records, erased_offset).last().copied().filter(|(_, at, _)| now_ms - at < TTL_MS),
        cells: positions(&records, erased_offset)
            .rsplit(|(_, _, sharing)| *sharing == Sharing::Hidden)
            .next()
            .unwrap_or_default()
            .iter()
            .map(|(position, ..)| u64::from(Cell::of(*position, Resolution::Seven)))
            .collect(),
    }
}

/// The first of the modes with the highest version.
fn newest_mode(records: &[&Logged]) -> Option<Mode> {
    records.iter().map(|record| record.event.mode).reduce(|a, b| if b.version > a.version { b } else { a })
}

/// The session of a record: its own offset in a hello.
fn session_of(record: &Logged) -> i64 {
    if record.event.kind == LocationKind::Hello { record.offset } else { record.event.session }
}

fn is_reporting(record: &Logged) -> bool {
    record.event.route.as_ref().is_some_and(|route| route.role == Role::Reporting)
}

/// All positions that counted.
fn positions(records: &[&Logged], erased: i64) -> Vec<(Position, i64, Sharing)> {
    let mut found = Vec::new();
    for (at, record) in records.iter().enumerate() {
        let moves = matches!(record.event.kind, LocationKind::Hello | LocationKind::Fix);
        let Some(fix) = record.event.fix.as_ref().filter(|_| moves) else { continue };
        let session = session_of(record);
        let newer = records[..at].iter().any(|other| is_reporting(other) && session_of(other) > session);
        let counts = if record.event.route.is_none() {
            session == NO_SESSION
        } else {
            is_reporting(record) && session > erased && !newer
        };
        if counts {
            let known = newest_mode(&records[..=at]).unwrap();
            let sharing = reported_as(&record.event.mode, &known, record.append_ms);
            found.push((Position::new(fix.lat, fix.lon).unwrap(), record.append_ms, sharing));
        }
    }
    found
}

/// Sessions with a route, after rereading all of the user's records.
fn sessions(records: &[&Logged], erased: i64, now_ms: i64) -> BTreeMap<i32, i64> {
    let waits = |session: i64| {
        let hello = records.iter().find(|record| record.event.kind == LocationKind::Hello && record.offset == session);
        hello.map_or(0, |hello| hello.event.list_version)
    };
    let mut found = BTreeMap::new();
    let of_role = |reporting: bool| {
        let routed = records.iter().filter(move |record| {
            record.event.route.is_some() && is_reporting(record) == reporting && session_of(record) > NO_SESSION
        });
        routed.copied().filter(move |record| !reporting || session_of(record) > erased)
    };
    // The one that reports: the newest, unless it left or is silent.
    if let Some(newest) = of_role(true).map(session_of).max() {
        let left = of_role(true).any(|r| session_of(r) == newest && r.event.kind == LocationKind::Leave);
        let last = of_role(true).rfind(|record| session_of(record) == newest).unwrap();
        if !left && now_ms - last.append_ms < TTL_MS {
            found.insert(last.event.route.as_ref().unwrap().handle, waits(newest));
        }
    }
    // Those that watch: replayed, because who is evicted depends on who is there.
    let mut watching: BTreeMap<i64, (i32, i64)> = BTreeMap::new();
    for record in of_role(false) {
        watching.retain(|_, (_, seen)| record.append_ms - *seen < TTL_MS);
        let session = session_of(record);
        if record.event.kind == LocationKind::Leave {
            watching.remove(&session);
        } else {
            watching.insert(session, (record.event.route.as_ref().unwrap().handle, record.append_ms));
            if watching.len() > 3 {
                watching.pop_first();
            }
        }
    }
    for (session, (handle, seen)) in watching {
        if now_ms - seen < TTL_MS {
            found.insert(handle, waits(session));
        }
    }
    found
}

/// What the viewer's view must say of each friend on the list.
pub fn view(
    viewer: &Known,
    list: &VisibilityList,
    friends: &BTreeMap<String, Known>,
    now_ms: i64,
) -> BTreeMap<String, Must> {
    let mut view = BTreeMap::new();
    for entry in &list.entries {
        // Of two entries the first counts.
        if !view.contains_key(&entry.friend) {
            let friend = &friends[&entry.friend];
            let radius_m = radius_m(list.radius_m.min(crate::world::MAX_RADIUS_M), entry.radius_m);
            if friend.depends {
                view.insert(entry.friend.clone(), Must::Free);
                continue;
            }
            let precision = match (friend.mode, friend.position) {
                (Some(mode), Some((_, _, reported))) => may_show(entry, &mode, reported, now_ms),
                _ => None,
            };
            let must = match (precision, friend.position) {
                (Some(Precision::Exact), Some((place, at, _))) => range(viewer, place, radius_m)
                    .map_or(Must::Free, |inside| if inside { Must::Exact(place, at) } else { Must::Absent }),
                (Some(Precision::Coarse), Some(_)) => coarse(viewer, friend, radius_m),
                _ => Must::Absent,
            };
            view.insert(entry.friend.clone(), must);
        }
    }
    view
}

/// Whether a place is in the viewer's range; `None` within the band.
fn range(viewer: &Known, place: Position, radius_m: Option<i32>) -> Option<bool> {
    let Some(radius_m) = radius_m.map(f64::from) else { return Some(true) };
    let Some((own, ..)) = viewer.position else { return Some(false) };
    let distance_m = straight_line_m(own, place);
    if distance_m <= radius_m {
        Some(true)
    } else if distance_m > radius_m * EXIT_RATIO {
        Some(false)
    } else {
        None
    }
}

/// Which cell is shown depends on the schedule; that it is one the user has been in does not.
fn coarse(viewer: &Known, friend: &Known, radius_m: Option<i32>) -> Must {
    let centre = |cell: &u64| Cell::try_from(*cell).unwrap().center();
    let answers: BTreeSet<_> = friend.cells.iter().map(|cell| range(viewer, centre(cell), radius_m)).collect();
    match answers.iter().copied().collect::<Vec<_>>()[..] {
        [Some(true)] => Must::Coarse,
        [Some(false)] => Must::Absent,
        _ => Must::Free,
    }
}
