//! The join of positions with friend lists, without I/O and without a clock.
//!
//! The engine is given every record of the locations, of whichever partition, and the lists of the partitions that its
//! worker owns or is about to own. It keeps a slot for everybody who is online, and for each owned viewer with a
//! connected session the set of friends in view. What it decides goes into an [`Outbox`].
//!
//! Each pair of a viewer and a friend is decided here and nowhere else, in the order of the calls. Time is the broker's,
//! in ms since the epoch, given with each record and by [`Engine::sweep`].
//!
//! Invariant: a view is a function of the records of the last time to live, the lists, and the time, the band of the
//! radius aside. So a worker that starts computes it again and asks nobody.

mod coarse;
mod gateways;
mod inspect;
mod join;
mod lists;
mod out;
mod ownership;
mod people;
mod reset;
#[cfg(test)]
mod script;
mod session;
mod slots;
mod stats;
mod sweep;
#[cfg(test)]
mod tests;
mod timers;

use nearcast_geo::{Coarsener, Ecef, Position};
use nearcast_schemas::codec::{FixRef, LocationEventRef, RouteRef};
use nearcast_schemas::delivery::RemovalReason;
use nearcast_schemas::event::{LocationKind, Mode, Sharing};
use nearcast_schemas::ids::check_id;
use nearcast_schemas::rule;
use nearcast_schemas::topics::partition_of;
use rustc_hash::FxHashMap;

use coarse::Coarse;
use gateways::Gateways;
use join::{Refresh, Verdict};
use lists::Viewer;
use ownership::{Partition, SupersededSessions};
use people::{Id, People};
use reset::Scan;
use session::{NO_EPOCH, Session, Sessions};
use slots::{Cold, Report, Slots};
use timers::Timers;

pub use inspect::{Broken, Seen};
pub use lists::LIST_KEPT_MS;
pub use out::{BATCH_BYTES, Batch, Outbox};
pub use reset::PART_ENTRIES;
pub use session::{MAX_WATCHING, ResetCause};
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
    /// Partitions of the visibility topic.
    pub visibility_partitions: i32,
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
    /// Everybody whose list was read and not forgotten.
    viewers: FxHashMap<Id, Viewer>,
    partitions: Vec<Partition>,
    coarse: FxHashMap<Id, Coarse>,
    gateways: Gateways,
    timers: Timers,
    superseded: SupersededSessions,
    scan: Scan,
    stats: Stats,
    /// Room for one walk's changes.
    changes: Vec<(Id, bool, Verdict)>,
}

impl Engine {
    /// An engine that knows nobody and owns nothing.
    pub fn new(settings: Settings) -> Self {
        let partitions = usize::try_from(settings.visibility_partitions).unwrap_or(0).max(1);
        Self {
            settings,
            now_ms: 0,
            people: People::default(),
            slots: Slots::default(),
            viewers: FxHashMap::default(),
            partitions: std::iter::repeat_with(Partition::default).take(partitions).collect(),
            coarse: FxHashMap::default(),
            gateways: Gateways::default(),
            timers: Timers::default(),
            superseded: SupersededSessions::default(),
            scan: Scan::default(),
            stats: Stats::default(),
            changes: Vec::new(),
        }
    }

    /// Takes one record of the locations: those of one user in the order of the log.
    pub fn location(&mut self, at: Stamp, user: &str, event: &LocationEventRef<'_>, out: &mut Outbox) {
        out.begin();
        self.now_ms = self.now_ms.max(at.append_ms);
        self.stats.records += 1;
        match event.kind {
            LocationKind::Unknown => self.stats.records_unknown += 1,
            LocationKind::Backfill => self.stats.records_for_history += 1,
            // A worker that starts now would not read it.
            _ if at.append_ms + self.settings.ttl_ms <= self.now_ms => self.stats.records_stale += 1,
            _ if check_id(user).is_err() => self.stats.records_invalid += 1,
            LocationKind::Erase => self.erase(at, user, event.mode, out),
            _ => self.report(at, user, event, out),
        }
    }

    fn report(&mut self, at: Stamp, user: &str, event: &LocationEventRef<'_>, out: &mut Outbox) {
        let (id, slot) = self.online(user, at.append_ms);
        self.take_mode(id, slot, event.mode);
        let moves = self.take_session(id, slot, at, event, out);
        let fix = event.fix.as_ref().filter(|_| moves && matches!(event.kind, LocationKind::Hello | LocationKind::Fix));
        if fix.is_some() {
            // What an instant that is past has to say, it says of the report before this one.
            self.coarse_due(id, out);
        }
        let moved = fix.is_some_and(|fix| self.take_fix(id, slot, at, fix, &event.mode));
        let shares_anew = self.share(slot);
        // Whoever had no coarse position has one now: its watchers are told whatever else is new.
        let refresh = if self.ensure_coarse(id) || shares_anew { Refresh::All } else { Refresh::Exact };
        if moved || refresh == Refresh::All {
            self.friend_join(id, refresh, RemovalReason::Silent, out);
        }
        if moved {
            self.viewer_join(id, false, &[], out);
        }
        self.reset_due(id, out);
    }

    /// The user's number and slot; a new slot for whoever comes online.
    fn online(&mut self, user: &str, append_ms: i64) -> (Id, u32) {
        if let Some(id) = self.people.find(user)
            && let Some(slot) = self.people.slot(id)
        {
            let cold = self.slots.cold_mut(slot);
            cold.last_record_ms = cold.last_record_ms.max(append_ms);
            return (id, slot);
        }
        let id = self.people.acquire_named(user);
        let slot = self.slots.insert(Cold {
            id,
            partition: self.partition_of_name(user),
            last_record_ms: append_ms,
            report: Report::NONE,
            // Below every version that is written, so that the first record's mode counts.
            mode: Mode { version: i64::MIN, ..Mode::default() },
            mode_timer_ms: 0,
            sessions: Sessions::default(),
        });
        self.people.set_slot(id, slot);
        if let Some(viewer) = self.viewers.get(&id) {
            self.slots.hot_mut(slot).set_radius_m(viewer.radius_m);
        }
        self.arm_ttl(append_ms + self.settings.ttl_ms, id);
        (id, slot)
    }

    /// Takes a mode unless a higher version is known.
    fn take_mode(&mut self, id: Id, slot: u32, mode: Mode) {
        let cold = self.slots.cold_mut(slot);
        if mode.version > cold.mode.version {
            cold.mode = mode;
            cold.mode_timer_ms = 0;
            self.arm_mode(id, slot);
        }
    }

    /// Lets mode and report have their effect; whether the position may be shown otherwise now.
    fn share(&mut self, slot: u32) -> bool {
        let cold = self.slots.cold(slot);
        let sharing = rule::sharing_at(&cold.mode, self.now_ms).max(cold.report.sharing);
        let hot = self.slots.hot_mut(slot);
        let changed = hot.sharing() != sharing;
        hot.set_sharing(sharing);
        changed
    }

    /// Takes what a record says of its session; whether the record may move the position.
    fn take_session(&mut self, id: Id, slot: u32, at: Stamp, event: &LocationEventRef<'_>, out: &mut Outbox) -> bool {
        let has_session = event.kind == LocationKind::Hello || event.session >= 0;
        let Some(route) = event.route.as_ref().filter(|_| has_session) else {
            let moves = self.slots.cold(slot).sessions.seen_without_route(event.session);
            self.stats.records_superseded += u64::from(!moves);
            return moves;
        };
        if event.kind == LocationKind::Leave {
            let left = self.slots.cold_mut(slot).sessions.leave(route.role, event.session);
            self.sessions_ended(id, left.into_iter().collect());
            return false;
        }
        let session = self.session_of(at, event, route);
        let cold = self.slots.cold_mut(slot);
        let partition = cold.partition;
        let turn = cold.sessions.seen(route.role, session);
        if event.reset {
            // It asks for a reset: whatever it was sent before counts for nothing.
            for known in cold.sessions.iter_mut().filter(|known| known.hello == session.hello) {
                known.epoch = NO_EPOCH;
                known.cause = ResetCause::Asked;
            }
        }
        if turn.appeared {
            *self.gateways.sessions_mut(session.gateway) += 1;
        }
        if let Some(replaced) = turn.replaced {
            *self.gateways.sessions_mut(replaced.gateway) -= 1;
            if !replaced.is_same_socket(&session) {
                self.supersede(partition, replaced, out);
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
            epoch: NO_EPOCH,
            cause: if begins { ResetCause::Hello } else { ResetCause::Ownership },
        }
    }

    /// Takes a position that came with this mode; whether it counts.
    fn take_fix(&mut self, id: Id, slot: u32, at: Stamp, fix: &FixRef<'_>, carried: &Mode) -> bool {
        let Ok(position) = Position::new(fix.lat, fix.lon) else {
            self.stats.records_invalid += 1;
            return false;
        };
        let cold = self.slots.cold_mut(slot);
        let sharing = rule::reported_as(carried, &cold.mode, at.append_ms);
        cold.report = Report {
            lat: position.lat_deg(),
            lon: position.lon_deg(),
            at: at.append_ms,
            accuracy_m: fix.accuracy_m,
            speed_mps: fix.speed_mps,
            heading_deg: fix.heading_deg,
            sharing,
        };
        self.slots.hot_mut(slot).set_place(Some(Ecef::from(position)));
        if sharing == Sharing::Hidden {
            self.end_coarse(id, slot);
        }
        self.arm_ttl(at.append_ms + self.settings.ttl_ms, id);
        true
    }

    /// Nothing of before this record counts any more: no position, no session.
    fn erase(&mut self, at: Stamp, user: &str, mode: Mode, out: &mut Outbox) {
        let (id, slot) = self.online(user, at.append_ms);
        self.lose_position(id, slot, RemovalReason::NotShared, out);
        let ended = self.slots.cold_mut(slot).sessions.erase(at.offset);
        self.sessions_ended(id, ended);
        let cold = self.slots.cold_mut(slot);
        cold.mode = mode;
        cold.mode_timer_ms = 0;
        cold.report = Report::NONE;
        self.arm_mode(id, slot);
        self.share(slot);
    }

    fn partition_of_name(&self, user: &str) -> i32 {
        // At least one and few: a number of partitions fits an i32.
        partition_of(user.as_bytes(), self.partitions.len() as i32)
    }

    fn partition_of(&self, id: Id) -> i32 {
        self.partition_of_name(self.people.name(id))
    }
}
