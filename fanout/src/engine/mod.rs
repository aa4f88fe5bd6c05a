//! The join of positions with friend lists, without I/O and without a clock.
//!
//! The engine is given every record of the locations, of whichever partition, and the lists of the partitions that its
//! worker owns or is about to own. It keeps a slot for everybody who is online, and for each owned viewer with a
//! connected session the set of friends in view. What it decides goes into an [`Outbox`].
//!
//! Each pair of a viewer and a friend is decided here and nowhere else, in the order of the calls. Time is the broker's,
//! in ms since the epoch, given with each record and by [`Engine::sweep`].
//!
//! The parts, by what costs time and memory at ten million users:
//! - [`people`]: names to numbers. [`friends`]: for each user one block of [`links`], four bytes for both directions.
//!   Links to those who are online come first and hold slots, so that a pair costs one read at random: the slot.
//! - [`slots`]: what is known of those who are online, apart by who reads it: 16 bytes that pair checks read, 16 that
//!   hits read, a row of 52 ([`cold`]) that the user's own records read.
//! - [`join`]: one walk over a user's links decides both directions. [`batch`] begins to load what the next records' walks
//!   will read.
//! - [`discovery`]: opted-in strangers near, by the cells of coarse positions ([`crowd`]).
//! - What few users have, such as entries with rules of their own, modes, watching sessions and coarse positions, lies in
//!   maps beside, behind a bit that says so.
//! - [`timers`]: a wheel that runs through the slots' rows for silences, and an ordered map for the rest.
//! - [`saved`]: what came from the locations, copied out as [`rows`](mod@rows) while records go on coming, and taken in
//!   by an engine that begins.
//! - The large arrays lie in huge pages ([`array`]); lists in segments that are cleaned ([`blocks`]).
//!
//! Invariant: a view is a function of the records of the last time to live, the lists, and the time, the band of the
//! radius aside. So a worker that starts computes it again and asks nobody.

mod array;
mod batch;
mod blocks;
mod coarse;
mod cold;
mod crowd;
mod discovery;
mod friends;
mod gateways;
mod index;
mod inspect;
mod join;
mod links;
mod lists;
mod out;
mod ownership;
mod people;
mod prefetch;
mod reset;
mod rows;
mod saved;
#[cfg(test)]
mod script;
mod session;
mod slots;
mod stats;
mod sweep;
mod tell;
#[cfg(test)]
mod tests;
mod texts;
mod timers;
mod viewers;

use nearcast_geo::{Coarsener, Ecef, Position};
use nearcast_schemas::codec::{FixRef, LocationEventRef, RouteRef};
use nearcast_schemas::delivery::RemovalReason;
use nearcast_schemas::event::{LocationKind, Mode, Role, Sharing};
use nearcast_schemas::ids::check_id;
use nearcast_schemas::rule;
use nearcast_schemas::topics::partition_of;
use rustc_hash::FxHashMap;

use batch::Ahead;
use coarse::Coarse;
use cold::Report;
use crowd::Crowd;
use gateways::Gateways;
use join::{Changes, Refresh, Walk};
use lists::Special;
use ownership::{Partition, SupersededSessions};
use people::{Id, People};
use reset::Scan;
use saved::Marks;
use session::{NO_GENERATION, Session};
use slots::Slots;
use timers::{Timers, Wheel};
use viewers::Round;

pub use batch::Located;
pub use discovery::AliasKey;
pub use inspect::{Broken, Seen};
pub use lists::LIST_KEPT_MS;
pub use out::{BATCH_BYTES, Batch, Outbox};
pub use reset::PART_ENTRIES;
pub use rows::{BadRow, Row, SavedCell, SavedReport, SavedSession, SavedSuperseded, SavedUser, rows};
pub use saved::Copied;
pub use session::ResetCause;
pub use stats::Stats;

/// What the engine decides by.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// A position, a session and the memory of a user live this long after the last record; ms.
    pub ttl_ms: i64,
    /// No radius of a viewer is larger; metres.
    pub max_radius_m: i32,
    /// The rules of coarse positions.
    pub coarsener: Coarsener,
    /// Their period, the same as in the rules; ms.
    pub coarse_period_ms: i64,
    /// A changed view is told by its digest after this; ms.
    pub digest_every_ms: i64,
    /// Partitions of the visibility topic, 1 to 65 535.
    pub visibility_partitions: i32,
    /// Strangers that a viewer is shown at the most; 0 for no discovery.
    pub discovery_max: usize,
    /// Drawn at random by each process.
    pub alias_key: AliasKey,
}

/// Where a location record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Its offset in the user's partition.
    pub offset: i64,
    /// When the broker appended it, ms since the epoch.
    pub append_ms: i64,
}

/// The join. See the module.
pub struct Engine {
    settings: Settings,
    now_ms: i64,
    people: People,
    slots: Slots,
    partitions: Vec<Partition>,
    /// The rules of entries that have some, by viewer and friend.
    special: FxHashMap<(Id, Id), Special>,
    /// The time of the one timer of a list's next expiry that counts, ms since the epoch.
    expiries: FxHashMap<Id, i64>,
    coarse: FxHashMap<Id, Coarse>,
    crowd: Crowd,
    gateways: Gateways,
    timers: Timers,
    wheel: Wheel,
    round: Round,
    superseded: SupersededSessions,
    /// How many of them were forgotten.
    superseded_gone: u64,
    marks: Marks,
    scan: Scan,
    stats: Stats,
    changes: Changes,
    ahead: Vec<Ahead>,
    /// The user of a coming record, whose friends the next walk loads.
    coming: Option<Id>,
}

impl Engine {
    /// An engine that knows nobody and owns nothing.
    pub fn new(settings: Settings) -> Self {
        let partitions = usize::try_from(settings.visibility_partitions).unwrap_or(0).max(1);
        assert!(partitions <= usize::from(u16::MAX), "more than 65 535 partitions");
        Self {
            settings,
            now_ms: 0,
            people: People::default(),
            slots: Slots::default(),
            partitions: std::iter::repeat_with(Partition::default).take(partitions).collect(),
            special: FxHashMap::default(),
            expiries: FxHashMap::default(),
            coarse: FxHashMap::default(),
            crowd: Crowd::default(),
            gateways: Gateways::default(),
            timers: Timers::default(),
            wheel: Wheel::default(),
            round: Round::default(),
            superseded: SupersededSessions::default(),
            superseded_gone: 0,
            marks: Marks::default(),
            scan: Scan::default(),
            stats: Stats::default(),
            changes: Changes::default(),
            ahead: Vec::new(),
            coming: None,
        }
    }

    /// Takes one record of the locations: those of one user in the order of the log.
    pub fn location(&mut self, at: Stamp, user: &str, event: &LocationEventRef<'_>, out: &mut Outbox) {
        self.take(at, user, Ahead::of(user), event, out);
    }

    /// The same, given what is known ahead.
    fn take(&mut self, at: Stamp, user: &str, ahead: Ahead, event: &LocationEventRef<'_>, out: &mut Outbox) {
        out.begin();
        self.now_ms = self.now_ms.max(at.append_ms);
        self.stats.records += 1;
        match event.kind {
            LocationKind::Unknown => self.stats.records_unknown += 1,
            LocationKind::Backfill => self.stats.records_for_history += 1,
            // A worker that starts now would not read it.
            _ if at.append_ms + self.settings.ttl_ms <= self.now_ms => self.stats.records_stale += 1,
            _ if check_id(user).is_err() => self.stats.records_invalid += 1,
            _ if !self.marks.is_empty() && self.is_saved(at, user, ahead, event.mode, out) => {
                self.stats.records_saved += 1
            }
            LocationKind::Erase => self.erase(at, user, ahead, event.mode, out),
            _ => self.report(at, user, ahead, event, out),
        }
    }

    fn report(&mut self, at: Stamp, user: &str, ahead: Ahead, event: &LocationEventRef<'_>, out: &mut Outbox) {
        let (id, slot) = self.online(user, ahead, at.append_ms);
        self.take_mode(id, slot, event.mode);
        let moves = self.take_session(slot, at, event, out);
        let fix = event.fix.as_ref().filter(|_| moves && matches!(event.kind, LocationKind::Hello | LocationKind::Fix));
        if fix.is_some() {
            // What an instant that is past has to say, it says of the report before this one.
            self.coarse_due(id, out);
        }
        let moved = fix.is_some_and(|fix| self.take_fix(id, slot, at, fix, &event.mode, out));
        let shares_anew = self.share(slot);
        // Whoever had no coarse position has one now: its watchers are told whatever else is new.
        let refresh = if self.ensure_coarse(id) || shares_anew { Refresh::All } else { Refresh::Exact };
        if moved || refresh == Refresh::All {
            self.join(id, Walk { friend: Some(refresh), viewer: moved, ..Walk::NONE }, out);
        }
        self.discover(id, out);
        self.reset_due(id, out);
    }

    /// The user's number and slot; a new slot for whoever comes online.
    fn online(&mut self, user: &str, ahead: Ahead, append_ms: i64) -> (Id, u32) {
        if let Some(id) = self.people.find_ahead(ahead, user)
            && let Some(slot) = self.people.slot(id)
        {
            let now_ms = self.now_ms;
            self.slots.cold_mut(slot).set_last_record(append_ms, now_ms);
            return (id, slot);
        }
        let id = self.people.named(user);
        let slot = self.slots.insert(id, self.partition_of_name(user), append_ms);
        self.marks.clear(slot);
        self.people.come_online(id, slot);
        if let Some(radius_m) = self.viewer(id).map(|viewer| viewer.radius_m) {
            self.slots.hot_mut(slot).set_radius_m(radius_m);
        }
        self.wheel.add(&mut self.slots, slot, append_ms + self.settings.ttl_ms, self.now_ms);
        (id, slot)
    }

    /// Takes a mode unless a higher version is known.
    fn take_mode(&mut self, id: Id, slot: u32, mode: Mode) {
        if self.slots.mode(slot).is_none_or(|known| mode.version > known.version) {
            self.slots.set_mode(slot, mode);
            self.arm_mode(id, slot);
        }
    }

    /// Lets mode and report have their effect; whether the position may be shown otherwise now.
    fn share(&mut self, slot: u32) -> bool {
        let mode = self.slots.mode(slot).unwrap_or_default();
        let sharing = rule::sharing_at(&mode, self.now_ms).max(self.slots.cold(slot).reported_as());
        let hot = self.slots.hot_mut(slot);
        let changed = hot.sharing() != sharing;
        hot.set_sharing(sharing);
        changed
    }

    /// Takes what a record says of its session; whether the record may move the position.
    fn take_session(&mut self, slot: u32, at: Stamp, event: &LocationEventRef<'_>, out: &mut Outbox) -> bool {
        let has_session = event.kind == LocationKind::Hello || event.session >= 0;
        let Some(route) = event.route.as_ref().filter(|_| has_session) else {
            let moves = self.slots.sessions(slot, self.now_ms).seen_without_route(event.session);
            self.stats.records_superseded += u64::from(!moves);
            return moves;
        };
        let is_usual = !matches!(event.kind, LocationKind::Hello | LocationKind::Leave) && !event.reset;
        if is_usual && route.role == Role::Reporting && self.slots.seen(slot, event.session, at.append_ms) {
            return true;
        }
        let mut sessions = self.slots.sessions(slot, self.now_ms);
        if event.kind == LocationKind::Leave {
            let left = sessions.leave(route.role, event.session);
            self.slots.set_sessions(slot, sessions);
            self.sessions_ended(slot, left.into_iter().collect());
            return false;
        }
        let session = self.session_of(at, event, route);
        let turn = sessions.seen(route.role, session);
        if event.reset {
            // It asks for a reset: whatever it was sent before counts for nothing.
            for known in sessions.iter_mut().filter(|known| known.hello == session.hello) {
                known.generation = NO_GENERATION;
                known.cause = ResetCause::Asked;
            }
        }
        self.slots.set_sessions(slot, sessions);
        if turn.appeared {
            *self.gateways.sessions_mut(session.gateway) += 1;
        }
        if let Some(replaced) = turn.replaced {
            *self.gateways.sessions_mut(replaced.gateway) -= 1;
            if !replaced.is_same_socket(&session) {
                self.supersede(self.slots.partition(slot), replaced, out);
            }
        }
        self.stats.records_superseded += u64::from(turn.ignored);
        turn.moves
    }

    fn session_of(&mut self, at: Stamp, event: &LocationEventRef<'_>, route: &RouteRef<'_>) -> Session {
        let begins = event.kind == LocationKind::Hello;
        Session {
            hello: if begins { at.offset } else { event.session },
            gateway: self.gateways.number(&route.gateway, route.incarnation),
            handle: route.handle,
            seen_ms: at.append_ms,
            waits_for: if begins { event.list_version } else { 0 },
            generation: NO_GENERATION,
            cause: if begins { ResetCause::Hello } else { ResetCause::Ownership },
        }
    }

    /// Takes a position that came with this mode; whether it counts.
    fn take_fix(&mut self, id: Id, slot: u32, at: Stamp, fix: &FixRef<'_>, carried: &Mode, out: &mut Outbox) -> bool {
        let Ok(position) = Position::new(fix.lat, fix.lon) else {
            self.stats.records_invalid += 1;
            return false;
        };
        self.stats.joined += 1;
        let known = self.slots.mode(slot).unwrap_or_default();
        let sharing = rule::reported_as(carried, &known, at.append_ms);
        self.slots.cold_mut(slot).set_report(&Report {
            lat: position.lat_deg(),
            lon: position.lon_deg(),
            at: at.append_ms,
            accuracy_m: fix.accuracy_m,
            speed_mps: fix.speed_mps,
            heading_deg: fix.heading_deg,
            sharing,
        });
        self.slots.hot_mut(slot).set_place(Some(Ecef::from(position)));
        if sharing == Sharing::Hidden {
            self.end_coarse(id, slot, out);
        }
        true
    }

    /// Nothing of before this record counts any more: no position, no session.
    fn erase(&mut self, at: Stamp, user: &str, ahead: Ahead, mode: Mode, out: &mut Outbox) {
        let (id, slot) = self.online(user, ahead, at.append_ms);
        self.lose_position(id, slot, RemovalReason::NotShared, out);
        let mut sessions = self.slots.sessions(slot, self.now_ms);
        let ended = sessions.erase(at.offset);
        self.slots.set_sessions(slot, sessions);
        self.sessions_ended(slot, ended);
        self.slots.set_mode(slot, mode);
        self.slots.cold_mut(slot).set_report(&Report::NONE);
        self.arm_mode(id, slot);
        self.share(slot);
    }

    fn partition_of_name(&self, user: &str) -> usize {
        // At least one and few: a number of partitions fits an i32, and none of them is negative.
        partition_of(user.as_bytes(), self.partitions.len() as i32) as usize
    }

    fn partition_of(&self, id: Id) -> usize {
        self.partition_of_name(self.people.name(id))
    }
}
