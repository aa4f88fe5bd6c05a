//! What is known of a user who is online: 16 bytes that pair checks read, 16 that say where a viewer is told of hits, and
//! a row of the rest that the user's own records read.

use bytemuck::{Pod, Zeroable};
use nearcast_geo::Ecef;
use nearcast_schemas::event::{Mode, Sharing};
use rustc_hash::FxHashMap;

use super::array::Array;
use super::cold::{Cold, ModeKept, Report};
use super::links::{Link, Says};
use super::people::Id;
use super::prefetch::prefetch;
use super::session::{NO_GENERATION, Session, Sessions};

const POSITION: u32 = 1;
const ACTIVE: u32 = 1 << 1;
const COARSE: u32 = 1 << 2;
const SHARING_SHIFT: u32 = 3;
const SHARING_MASK: u32 = 3 << SHARING_SHIFT;
const ROUTED: u32 = 1 << 5;
const WATCHED: u32 = 1 << 6;
const RADIUS_SHIFT: u32 = 8;

/// Largest radius that a slot holds, in metres.
pub(super) const MAX_RADIUS_M: i32 = (1 << 24) - 1;

/// All that deciding a pair needs of either end: four slots a cache line.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Slot {
    x: i32,
    y: i32,
    z: i32,
    /// Flags below, the viewer's radius in metres above.
    state: u32,
}

impl Slot {
    pub(super) const EMPTY: Self = Self { x: 0, y: 0, z: 0, state: 0 };

    /// The last position within the time to live.
    #[inline]
    pub(super) fn place(self) -> Option<Ecef> {
        (self.state & POSITION != 0).then_some(self.last_place())
    }

    /// The same where it is known that there is one.
    #[inline(always)]
    pub(super) fn last_place(self) -> Ecef {
        Ecef { x: self.x, y: self.y, z: self.z }
    }

    /// There is a position, and it may be shown exactly.
    #[inline(always)]
    pub(super) fn is_plain(self) -> bool {
        self.state & (POSITION | SHARING_MASK) == POSITION
    }

    pub(super) fn set_place(&mut self, place: Option<Ecef>) {
        self.state &= !POSITION;
        if let Some(place) = place {
            (self.x, self.y, self.z) = (place.x, place.y, place.z);
            self.state |= POSITION;
        }
    }

    /// A viewer whose view is kept: owned, connected and given a reset.
    #[inline]
    pub(super) fn is_active(self) -> bool {
        self.state & ACTIVE != 0
    }

    pub(super) fn set_active(&mut self, active: bool) {
        self.set(ACTIVE, active);
    }

    /// The user has a coarse position.
    #[inline]
    pub(super) fn is_coarse(self) -> bool {
        self.state & COARSE != 0
    }

    pub(super) fn set_coarse(&mut self, coarse: bool) {
        self.set(COARSE, coarse);
    }

    /// How finely the user's position may be shown at present: the coarser of the mode with its end applied and of what
    /// the report allows.
    #[inline]
    pub(super) fn sharing(self) -> Sharing {
        match (self.state & SHARING_MASK) >> SHARING_SHIFT {
            0 => Sharing::Exact,
            1 => Sharing::Coarse,
            _ => Sharing::Hidden,
        }
    }

    pub(super) fn set_sharing(&mut self, sharing: Sharing) {
        let bits = match sharing {
            Sharing::Exact => 0,
            Sharing::Coarse => 1,
            Sharing::Hidden => 2,
        };
        self.state = self.state & !SHARING_MASK | bits << SHARING_SHIFT;
    }

    /// The viewer's own radius in metres; 0 for none.
    #[inline]
    pub(super) fn radius_m(self) -> i32 {
        (self.state >> RADIUS_SHIFT) as i32
    }

    /// `radius_m` is 0 to [`MAX_RADIUS_M`].
    pub(super) fn set_radius_m(&mut self, radius_m: i32) {
        debug_assert!((0..=MAX_RADIUS_M).contains(&radius_m));
        self.state = self.state & ((1 << RADIUS_SHIFT) - 1) | (radius_m as u32) << RADIUS_SHIFT;
    }

    /// The user has a reporting session.
    fn is_routed(self) -> bool {
        self.state & ROUTED != 0
    }

    /// The user has watching sessions.
    fn is_watched(self) -> bool {
        self.state & WATCHED != 0
    }

    /// The user has a session.
    pub(super) fn is_connected(self) -> bool {
        self.state & (ROUTED | WATCHED) != 0
    }

    fn set(&mut self, flag: u32, on: bool) {
        if on {
            self.state |= flag;
        } else {
            self.state &= !flag;
        }
    }
}

/// Where the reporting session of a viewer is told, and whose the slot is.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
struct Route {
    id: u32,
    gateway: u32,
    handle: i32,
    generation: u16,
    /// Partition of the visibility topic that the user belongs to as a viewer.
    partition: u16,
}

/// Words of the row.
const COLD_WORDS: usize = size_of::<Cold>() / 4;

/// The number of no user: the slot is free.
const NOBODY: u32 = u32::MAX;

/// The slots. A slot belongs to one user while the user is online.
#[derive(Default)]
pub(super) struct Slots {
    hot: Array<Slot>,
    routes: Array<Route>,
    cold: Array<Cold>,
    free: Vec<u32>,
    /// Modes of those who ever changed it.
    modes: FxHashMap<u32, ModeKept>,
    /// Watching sessions of those who have any.
    watching: FxHashMap<u32, Vec<Session>>,
    /// List versions that the resets of reporting sessions wait for.
    waits: FxHashMap<u32, i64>,
}

impl Slots {
    /// Slots, free ones included.
    pub(super) fn capacity(&self) -> usize {
        self.hot.len()
    }

    /// Slots in use.
    pub(super) fn len(&self) -> usize {
        self.hot.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, id: Id, partition: usize, append_ms: i64) -> u32 {
        // There are at most 65 535 partitions.
        let partition = partition as u16;
        let route = Route { id: id.number(), gateway: 0, handle: 0, generation: NO_GENERATION, partition };
        let cold = Cold::new(append_ms);
        if let Some(slot) = self.free.pop() {
            self.hot.as_mut_slice()[slot as usize] = Slot::EMPTY;
            self.routes.as_mut_slice()[slot as usize] = route;
            self.cold.as_mut_slice()[slot as usize] = cold;
            return slot;
        }
        assert!(self.hot.len() < super::links::SLOTS as usize - 1, "more than 2^27 users online");
        self.hot.push(Slot::EMPTY);
        self.routes.push(route);
        self.cold.push(cold);
        (self.hot.len() - 1) as u32
    }

    pub(super) fn remove(&mut self, slot: u32) {
        self.hot.as_mut_slice()[slot as usize] = Slot::EMPTY;
        self.routes.as_mut_slice()[slot as usize].id = NOBODY;
        self.modes.remove(&slot);
        self.watching.remove(&slot);
        self.waits.remove(&slot);
        self.free.push(slot);
    }

    /// What pair checks read, by slot.
    #[inline(always)]
    pub(super) fn all_hot(&self) -> &[Slot] {
        self.hot.as_slice()
    }

    #[inline]
    pub(super) fn hot(&self, slot: u32) -> Slot {
        self.hot.as_slice()[slot as usize]
    }

    #[inline]
    pub(super) fn hot_mut(&mut self, slot: u32) -> &mut Slot {
        &mut self.hot.as_mut_slice()[slot as usize]
    }

    #[inline]
    pub(super) fn cold(&self, slot: u32) -> &Cold {
        &self.cold.as_slice()[slot as usize]
    }

    pub(super) fn cold_mut(&mut self, slot: u32) -> &mut Cold {
        &mut self.cold.as_mut_slice()[slot as usize]
    }

    /// Whose the slot is, which is in use.
    #[inline]
    pub(super) fn id(&self, slot: u32) -> Id {
        Id::new(self.routes.as_slice()[slot as usize].id)
    }

    #[inline]
    pub(super) fn partition(&self, slot: u32) -> usize {
        usize::from(self.routes.as_slice()[slot as usize].partition)
    }

    /// Whether the slot is somebody's.
    pub(super) fn is_used(&self, slot: u32) -> bool {
        self.routes.as_slice()[slot as usize].id != NOBODY
    }

    /// The slots in use.
    pub(super) fn used(&self) -> impl Iterator<Item = u32> {
        let routes = self.routes.as_slice().iter().enumerate();
        routes.filter(|(_, route)| route.id != NOBODY).map(|(slot, _)| slot as u32)
    }

    /// The last report; as long as the slot has a position.
    pub(super) fn report(&self, slot: u32, now_ms: i64) -> Report {
        self.cold(slot).report(now_ms)
    }

    /// The newest mode that was seen; `None` before the first record.
    pub(super) fn mode(&self, slot: u32) -> Option<Mode> {
        self.cold(slot).mode().map(|kept| if kept { self.modes[&slot].mode } else { Mode::default() })
    }

    pub(super) fn set_mode(&mut self, slot: u32, mode: Mode) {
        let kept = mode != Mode::default();
        if kept {
            self.modes.insert(slot, ModeKept { mode, timer_ms: 0 });
        } else {
            self.modes.remove(&slot);
        }
        self.cold_mut(slot).set_mode(kept);
    }

    /// The time of the one timer of the mode's end that counts, ms since the epoch; where the mode is not the default.
    pub(super) fn mode_timer_mut(&mut self, slot: u32) -> Option<&mut i64> {
        self.modes.get_mut(&slot).map(|kept| &mut kept.timer_ms)
    }

    /// The sessions of a user, to be put back after a change by [`Slots::set_sessions`].
    pub(super) fn sessions(&self, slot: u32, now_ms: i64) -> Sessions {
        let (hot, cold, route) = (self.hot(slot), self.cold(slot), self.routes.as_slice()[slot as usize]);
        let reporting = hot.is_routed().then(|| Session {
            hello: cold.latest(),
            gateway: route.gateway,
            handle: route.handle,
            seen_ms: cold.seen_ms(now_ms),
            waits_for: if cold.waits() { self.waits[&slot] } else { 0 },
            generation: route.generation,
            cause: cold.cause(),
        });
        let watching = if hot.is_watched() { self.watching[&slot].clone() } else { Vec::new() };
        Sessions { latest: cold.latest(), left: cold.left(), reporting, watching }
    }

    pub(super) fn set_sessions(&mut self, slot: u32, sessions: Sessions) {
        let hot = self.hot_mut(slot);
        let was_watched = hot.is_watched();
        hot.set(ROUTED, sessions.reporting.is_some());
        hot.set(WATCHED, !sessions.watching.is_empty());
        let waits_for = sessions.reporting.map_or(0, |session| session.waits_for);
        let cold = self.cold_mut(slot);
        let waited = cold.waits();
        cold.set_latest(sessions.latest, sessions.left);
        cold.set_waits(waits_for > 0);
        if let Some(session) = sessions.reporting {
            debug_assert_eq!(session.hello, sessions.latest);
            cold.set_seen(session.seen_ms, session.cause);
            let route = &mut self.routes.as_mut_slice()[slot as usize];
            (route.gateway, route.handle, route.generation) = (session.gateway, session.handle, session.generation);
        }
        if waits_for > 0 {
            self.waits.insert(slot, waits_for);
        } else if waited {
            self.waits.remove(&slot);
            // At a start many wait, and later few.
            if self.waits.len() * 8 < self.waits.capacity() {
                self.waits.shrink_to(self.waits.len() * 2);
            }
        }
        if !sessions.watching.is_empty() {
            self.watching.insert(slot, sessions.watching);
        } else if was_watched {
            self.watching.remove(&slot);
        }
    }

    /// A record of the session that reports came, if this is the one: it was seen. What most records say.
    pub(super) fn seen(&mut self, slot: u32, session: i64, at_ms: i64) -> bool {
        let known = self.hot(slot).is_routed() && self.cold(slot).latest() == session;
        if known {
            self.cold_mut(slot).set_seen_ms(at_ms);
        }
        known
    }

    /// Whether there is a session that was not sent its view under this generation.
    #[inline]
    pub(super) fn is_due(&self, slot: u32, generation: u16) -> bool {
        let hot = self.hot(slot);
        hot.is_routed() && self.routes.as_slice()[slot as usize].generation != generation
            || hot.is_watched() && self.watching[&slot].iter().any(|session| session.generation != generation)
    }

    /// Calls `tell` with gateway and handle of each session that was sent its view under this generation.
    #[inline]
    pub(super) fn each_told(&self, slot: u32, generation: u16, mut tell: impl FnMut(u32, i32)) {
        let hot = self.hot(slot);
        let route = self.routes.as_slice()[slot as usize];
        if hot.is_routed() && route.generation == generation {
            tell(route.gateway, route.handle);
        }
        if hot.is_watched() {
            for session in self.watching[&slot].iter().filter(|session| session.generation == generation) {
                tell(session.gateway, session.handle);
            }
        }
    }

    /// Begins to load what a record of the user reads.
    #[inline]
    pub(super) fn prefetch_own(&self, slot: u32) {
        prefetch(self.hot.as_slice(), slot as usize);
        prefetch(self.routes.as_slice(), slot as usize);
        let rows: &[[u32; COLD_WORDS]] = bytemuck::cast_slice(self.cold.as_slice());
        prefetch(rows, slot as usize);
        // The row may lie across two lines.
        let words: &[u32] = bytemuck::cast_slice(self.cold.as_slice());
        prefetch(words, slot as usize * COLD_WORDS + COLD_WORDS - 1);
    }

    /// Begins to load what deciding a pair reads of the other end, and the session of a viewer who sees the user already
    /// and will be told.
    #[inline(always)]
    pub(super) fn prefetch_other(&self, link: Link) {
        prefetch(self.hot.as_slice(), link.slot() as usize);
        if link.says(Says::Shown) {
            prefetch(self.routes.as_slice(), link.slot() as usize);
        }
    }

    /// The next slot in the user's list of the wheel.
    pub(super) fn next_mut(&mut self, slot: u32) -> &mut u32 {
        &mut self.cold_mut(slot).next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hits_read_is_sixteen_bytes() {
        assert_eq!((size_of::<Slot>(), size_of::<Route>()), (16, 16));
    }

    #[test]
    fn the_parts_of_the_state_do_not_touch_each_other() {
        let mut slot = Slot::EMPTY;
        slot.set_radius_m(MAX_RADIUS_M);
        slot.set_sharing(Sharing::Hidden);
        slot.set_active(true);
        slot.set_place(Some(Ecef { x: 1, y: 2, z: 3 }));
        assert_eq!((slot.radius_m(), slot.sharing()), (MAX_RADIUS_M, Sharing::Hidden));
        assert!(slot.is_active() && !slot.is_coarse() && slot.place().is_some());
        slot.set_radius_m(8_000);
        slot.set_sharing(Sharing::Coarse);
        slot.set_place(None);
        slot.set_coarse(true);
        slot.set_active(false);
        assert_eq!((slot.radius_m(), slot.sharing()), (8_000, Sharing::Coarse));
        assert!(!slot.is_active() && slot.is_coarse() && slot.place().is_none());
    }
}
