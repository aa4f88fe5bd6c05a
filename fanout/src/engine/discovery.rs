//! Discovery: opted-in strangers near, by their cells.
//!
//! Who takes part sees and is seen: the newest mode says so, the position may be shown at least approximately, and there
//! is a coarse one. A viewer is told of the nearest others who take part and are no friends, whole lists only, by the
//! centres of cells, its own included: moving about within a cell tells nothing, and neither does anybody's place in one.
//!
//! A list is computed at the instants of the viewer's own schedule, or when there is none yet, and holds in between,
//! however often the viewer asks or connects: who asks often must not learn when others are evaluated. Whoever
//! stops taking part, or becomes a friend, is off all lists at once.
//!
//! Friends are those of whom this worker has a link: the viewer's own list, and the lists of others as far as they are
//! here.

use std::hash::{Hash, Hasher};

use nearcast_geo::{Cell, Ecef, chord_squared};
use nearcast_schemas::delivery::Stranger;
use nearcast_schemas::event::Sharing;
use siphasher::sip::SipHasher24;

use super::Engine;
use super::crowd::{Near, Told};
use super::join::distance_dm;
use super::out::Outbox;
use super::people::Id;

/// Candidates looked at for one list.
const CANDIDATES: usize = 1_000;
/// Rings of cells looked at, the viewer's own aside: 100 km at the usual resolution.
const MAX_RINGS: u32 = 42;

/// The secret behind aliases; drawn at random by each process, so that an alias means nothing after it.
#[derive(Clone, Copy)]
pub struct AliasKey(pub [u64; 2]);

impl std::fmt::Debug for AliasKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AliasKey(…)")
    }
}

impl AliasKey {
    /// The name of a stranger for one viewer.
    pub(super) fn alias(self, viewer: &str, stranger: &str) -> u64 {
        self.hash((viewer, stranger))
    }

    fn hash(self, parts: impl Hash) -> u64 {
        let mut hasher = SipHasher24::new_with_keys(self.0[0], self.0[1]);
        parts.hash(&mut hasher);
        hasher.finish()
    }
}

impl Engine {
    /// Whether the user wants to take part, by the newest mode.
    pub(super) fn is_discoverable(&self, slot: u32) -> bool {
        self.settings.discovery_max > 0 && self.slots.mode(slot).is_some_and(|mode| mode.discoverable)
    }

    /// Lets the user take part, or no longer, as mode, report and coarse position say by now.
    pub(super) fn discover(&mut self, id: Id, out: &mut Outbox) {
        let Some(slot) = self.people.slot(id) else { return };
        let hot = self.slots.hot(slot);
        // Whose coarse position ended has left by then.
        if !hot.is_coarse() {
            return;
        }
        let takes_part = self.is_discoverable(slot) && hot.sharing() != Sharing::Hidden;
        let cell = self.coarse.get(&id).filter(|_| takes_part).map(|coarse| coarse.shown().cell);
        match (self.crowd.cell(id), cell) {
            (Some(_), None) => self.leave_crowd(id, out),
            (Some(before), Some(now)) if before != now => self.crowd.put(id, now),
            (None, Some(cell)) => {
                self.crowd.put(id, cell);
                self.list_strangers(id, out);
            }
            _ => {}
        }
    }

    /// The user is no stranger to anybody any more, and is shown none.
    pub(super) fn leave_crowd(&mut self, id: Id, out: &mut Outbox) {
        let Some((had_list, viewers)) = self.crowd.leave(id) else { return };
        if had_list {
            self.tell_strangers(id, out);
        }
        for viewer in viewers {
            self.tell_strangers(viewer, out);
        }
    }

    /// An instant of the user's schedule has come.
    pub(super) fn strangers_due(&mut self, id: Id, out: &mut Outbox) {
        self.discover(id, out);
        if self.is_shown_strangers(id) {
            self.list_strangers(id, out);
        } else {
            self.crowd.forget(id);
        }
    }

    /// Sessions of a viewer were sent a reset, by which they forgot all strangers.
    pub(super) fn strangers_after_reset(&mut self, id: Id, out: &mut Outbox) {
        if self.crowd.cell(id).is_none() {
            return;
        }
        let holds = self.crowd.told(id).is_some_and(|told| self.now_ms < told.until_ms);
        let told = !holds && self.list_strangers(id, out);
        if !told && self.crowd.told(id).is_some_and(|told| !told.near.is_empty()) {
            self.tell_strangers(id, out);
        }
    }

    /// Takes friends off the lists of strangers: the viewer's own, and those that the viewer is on.
    pub(super) fn part_from_friends(&mut self, id: Id, out: &mut Outbox) {
        if self.crowd.cell(id).is_none() {
            return;
        }
        let own = self.crowd.told(id).into_iter().flat_map(|told| &told.near).map(|near| (id, near.stranger));
        let others = self.crowd.viewers(id).iter().map(|&viewer| (viewer, id));
        let friends: Vec<_> = own.chain(others).filter(|&(viewer, other)| self.are_linked(viewer, other)).collect();
        let mut changed: Vec<_> = friends
            .into_iter()
            .filter_map(|(viewer, stranger)| self.crowd.part(viewer, stranger).then_some(viewer))
            .collect();
        changed.sort_unstable();
        changed.dedup();
        for viewer in changed {
            self.tell_strangers(viewer, out);
        }
    }

    /// The viewer is shown no strangers any more.
    pub(super) fn end_strangers(&mut self, id: Id, out: &mut Outbox) {
        if self.crowd.forget(id) {
            self.tell_strangers(id, out);
        }
    }

    /// The viewers of a partition are somebody else's from now on.
    pub(super) fn forget_strangers_of(&mut self, partition: usize) {
        let listed = self.crowd.listed().map(|(viewer, _)| viewer);
        let theirs: Vec<_> = listed.filter(|&viewer| self.partition_of(viewer) == partition).collect();
        for viewer in theirs {
            self.crowd.forget(viewer);
        }
    }

    /// Whether the user takes part, is a viewer of this worker who has a list, and listens.
    fn is_shown_strangers(&self, id: Id) -> bool {
        let Some(slot) = self.people.slot(id) else { return false };
        let owned = self.partitions[self.slots.partition(slot)].epoch.is_some();
        owned && self.slots.hot(slot).is_active() && self.viewer(id).is_some() && self.crowd.cell(id).is_some()
    }

    /// Computes a viewer's list anew and tells it if it says something else; whether it did.
    fn list_strangers(&mut self, id: Id, out: &mut Outbox) -> bool {
        if !self.is_shown_strangers(id) {
            return false;
        }
        let (Some(cell), Some(coarse)) = (self.crowd.cell(id), self.coarse.get(&id)) else { return false };
        let until_ms = self.next_instant(coarse.track());
        let near = self.nearest_strangers(id, cell);
        let news = self.crowd.tell(id, Told { near, until_ms });
        if news {
            self.tell_strangers(id, out);
        }
        news
    }

    /// The nearest of those who take part and are no friends, ring by ring. Those who are equally far are chosen by a
    /// keyed hash, so that everybody of a crowd is shown to somebody, and nobody to all.
    fn nearest_strangers(&self, viewer: Id, own: Cell) -> Vec<Near> {
        let (max, key) = (self.settings.discovery_max, self.settings.alias_key);
        let name = self.people.name(viewer);
        let own_place = Ecef::from(own.center());
        let mut near = Vec::new();
        let mut looked = 0;
        'rings: for steps in 0..=self.rings(viewer, own) {
            for cell in own.ring(steps) {
                let there = self.crowd.of(cell);
                if there.is_empty() {
                    continue;
                }
                let distance_dm = distance_dm(Some(chord_squared(own_place, Ecef::from(cell.center()))));
                // A place among them that moves little when they become more or fewer.
                let first = ((u128::from(key.hash((name, u64::from(cell)))) * there.len() as u128) >> 64) as usize;
                let mut taken = 0;
                for &stranger in there[first..].iter().chain(&there[..first]) {
                    if taken == max {
                        break;
                    }
                    if looked == CANDIDATES {
                        break 'rings;
                    }
                    looked += 1;
                    if stranger == viewer || self.are_linked(viewer, stranger) {
                        continue;
                    }
                    let alias = key.alias(name, self.people.name(stranger));
                    let at_ms = self.coarse.get(&stranger).map_or(0, |coarse| self.blurred(coarse.shown().at_ms));
                    near.push(Near { stranger, alias, cell, at_ms, distance_dm });
                    taken += 1;
                }
            }
            if near.len() >= max {
                break;
            }
        }
        near.sort_unstable_by_key(|near| (near.distance_dm, near.alias));
        near.truncate(max);
        near
    }

    /// The viewer's radius in rings of cells.
    fn rings(&self, viewer: Id, own: Cell) -> u32 {
        let max_m = self.settings.max_radius_m;
        let radius_m = self.viewer(viewer).map_or(0, |viewer| viewer.radius_m);
        let radius_m = if radius_m == 0 { max_m } else { radius_m.min(max_m) };
        // Between the centres of two neighbours.
        let step_m = own.resolution().edge_length_m() * 3_f64.sqrt();
        (f64::from(radius_m) / step_m).ceil().min(f64::from(MAX_RINGS)) as u32
    }

    /// An instant of somebody's schedule without what tells the schedule: it is the user's own, and an observer would
    /// know the user again by it.
    fn blurred(&self, at_ms: i64) -> i64 {
        at_ms - at_ms.rem_euclid(self.settings.coarse_period_ms)
    }

    fn are_linked(&self, a: Id, b: Id) -> bool {
        self.people.position(a, b).is_some()
    }

    /// Says a viewer's list to all of its sessions that know its view.
    fn tell_strangers(&mut self, viewer: Id, out: &mut Outbox) {
        let Some(slot) = self.people.slot(viewer) else { return };
        let near = self.crowd.told(viewer).map_or(&[][..], |told| told.near.as_slice());
        let entry = |near: &Near| {
            let center = near.cell.center();
            Stranger {
                alias: near.alias.cast_signed(),
                lat: center.lat_deg(),
                lon: center.lon_deg(),
                at: near.at_ms,
                distance_dm: near.distance_dm,
            }
        };
        let entries: Vec<_> = near.iter().map(entry).collect();
        self.stats.strangers += self.each_session(slot, |to| out.strangers(to, entries.clone()));
    }
}

#[cfg(test)]
#[path = "discovery_tests.rs"]
mod tests;
