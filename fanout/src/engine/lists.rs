//! Whom owned viewers may see: their lists.
//!
//! An entry becomes a link at both ends, or a word more in the links that there are if the friend sees the viewer too. An
//! entry with rules of its own has them in a map beside, and both ends say that there are some.

use nearcast_schemas::codec::{VisibilityEntryRef, VisibilityListRef};
use nearcast_schemas::delivery::RemovalReason;
use nearcast_schemas::ids::check_id;
use nearcast_schemas::list::Precision;

use super::Engine;
use super::batch::LINKS_AHEAD;
use super::join::{Refresh, Walk};
use super::links::Says;
use super::out::Outbox;
use super::people::{Id, hash_of};
use super::slots::MAX_RADIUS_M;
use super::timers::Due;
use super::viewers::Viewer;

/// A list of an offline viewer is kept this long after it was appended, ms: the API publishes a list again that is
/// older than an hour.
pub const LIST_KEPT_MS: i64 = 2 * 3_600_000;

/// No timer runs longer than this, ms: one that is not of use any more takes its room until then.
pub(super) const LONGEST_TIMER_MS: i64 = 3_600_000;

/// What an entry says beside the friend's name, where it says anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Special {
    pub(super) precision: Precision,
    /// Metres; 0 for none.
    pub(super) radius_m: i32,
    /// ms since the epoch; 0 for no end.
    pub(super) expires_at: i64,
}

impl Special {
    fn of(entry: &VisibilityEntryRef<'_>) -> Option<Self> {
        let special = Self {
            precision: entry.precision,
            radius_m: entry.radius_m.min(MAX_RADIUS_M),
            expires_at: entry.expires_at,
        };
        let plain = Self { precision: Precision::Exact, radius_m: 0, expires_at: 0 };
        (special != plain).then_some(special)
    }

    fn is_coarse(this: Option<&Self>) -> bool {
        this.is_some_and(|special| special.precision == Precision::Coarse)
    }
}

impl Engine {
    /// Takes a viewer's list, read from `partition` of the visibility topic and appended at `append_ms`.
    ///
    /// The partition is one that this worker reads because it owns it or will own it; before it does, nothing is decided
    /// for its viewers. Lists with a lower version than the known one, in another partition than the viewer's, or with a
    /// negative radius are ignored and counted.
    pub fn list(
        &mut self,
        partition: i32,
        append_ms: i64,
        viewer: &str,
        list: &VisibilityListRef<'_>,
        out: &mut Outbox,
    ) {
        out.begin();
        self.now_ms = self.now_ms.max(append_ms);
        self.stats.lists += 1;
        if self.partition_of_name(viewer) != partition as usize {
            self.stats.lists_misplaced += 1;
            return;
        }
        if list.radius_m < 0 || check_id(viewer).is_err() {
            self.stats.lists_invalid += 1;
            return;
        }
        let id = self.viewer_named(viewer, partition, append_ms);
        let Some(known) = self.viewer_mut(id) else { return };
        if list.version < known.version {
            self.stats.lists_stale += 1;
            return;
        }
        known.listed_ms = append_ms;
        if list.version == known.version {
            // Published again: only what friends are called may be new.
            for entry in list.entries() {
                if let Some(friend) = self.people.find(entry.friend)
                    && self.people.set_display_name(friend, entry.display_name, list.published_at)
                {
                    self.friend_join(friend, Refresh::All, out);
                }
            }
            return;
        }
        self.replace_list(id, list, out);
        self.arm_expiry(id);
        let owned = self.partitions[partition as usize].epoch.is_some();
        if owned {
            self.tell_applied(id, out);
            self.reset_due(id, out);
        }
    }

    /// The viewer has no list any more: its record was deleted.
    pub fn unlist(&mut self, partition: i32, viewer: &str, out: &mut Outbox) {
        out.begin();
        let Some(id) = self.people.find(viewer) else { return };
        if self.people.viewer(id).is_none() || self.partition_of(id) != partition as usize {
            return;
        }
        self.stats.lists += 1;
        self.drop_list(id, out);
    }

    fn viewer_named(&mut self, name: &str, partition: i32, append_ms: i64) -> Id {
        let id = self.people.named(name);
        if self.people.viewer(id).is_some() {
            return id;
        }
        self.add_viewer(id, append_ms);
        if self.partitions[partition as usize].epoch.is_none()
            && let Some(slot) = self.people.slot(id)
        {
            // Left over from a time when the partition was owned.
            self.slots.hot_mut(slot).set_active(false);
        }
        id
    }

    /// Puts the list's entries in the place of the old ones and decides every pair of an active viewer anew.
    fn replace_list(&mut self, id: Id, list: &VisibilityListRef<'_>, out: &mut Outbox) {
        let mut wanted: Vec<(Id, Option<Special>)> = Vec::with_capacity(list.entries().len());
        let mut renamed = Vec::new();
        let hashes = self.load_entries(list);
        for (entry, hash) in list.entries().zip(hashes) {
            if entry.radius_m < 0 || check_id(entry.friend).is_err() {
                self.stats.entries_invalid += 1;
                continue;
            }
            let friend = self.people.named_hashed(hash, entry.friend);
            if self.people.set_display_name(friend, entry.display_name, list.published_at) {
                renamed.push(friend);
            }
            wanted.push((friend, Special::of(&entry)));
        }
        // The first of two entries counts. Nobody is on their own list.
        wanted.sort_by_key(|(friend, _)| *friend);
        wanted.dedup_by_key(|(friend, _)| *friend);
        wanted.retain(|(friend, _)| *friend != id);
        let mut again = Vec::new();
        self.swap_entries(id, wanted, &mut again, out);
        self.part_from_friends(id, out);
        let max_radius_m = self.settings.max_radius_m;
        let Some(viewer) = self.viewer_mut(id) else { return };
        viewer.version = list.version;
        viewer.radius_m = list.radius_m.min(max_radius_m);
        let radius_m = viewer.radius_m;
        if let Some(slot) = self.people.slot(id) {
            self.slots.hot_mut(slot).set_radius_m(radius_m);
            self.join(id, Walk { viewer: true, again: &again, ..Walk::NONE }, out);
        }
        // A name belongs to the friend: everybody who sees the friend is told, whoever's list said it first.
        for friend in renamed {
            self.friend_join(friend, Refresh::All, out);
        }
    }

    /// The hashes of the friends' names, after a hint for all that the entries will read, step by step.
    fn load_entries(&self, list: &VisibilityListRef<'_>) -> Vec<u64> {
        let mut hashes = Vec::with_capacity(list.entries().len());
        for entry in list.entries() {
            let hash = hash_of(entry.friend);
            self.people.prefetch_index(hash);
            hashes.push(hash);
        }
        if hashes.len() <= LINKS_AHEAD {
            let guessed: Vec<_> = hashes.iter().filter_map(|&hash| self.people.guess(hash)).collect();
            for &id in &guessed {
                self.people.prefetch_row(id);
            }
            for &id in &guessed {
                self.people.prefetch_display(id);
            }
        }
        hashes
    }

    /// The viewer's entries, by the friends' numbers.
    fn entries(&self, id: Id) -> Vec<Entry> {
        let (links, online) = self.people.links_split(id);
        let entries = links.iter().enumerate().filter(|(_, link)| link.says(Says::Sees)).map(|(at, link)| {
            let is_online = at < online;
            let friend = if is_online { self.slots.id(link.slot()) } else { link.id() };
            Entry { friend, special: link.says(Says::Special), inside: is_online && link.says(Says::InView) }
        });
        let mut entries: Vec<_> = entries.collect();
        entries.sort_unstable_by_key(|entry| entry.friend);
        entries
    }

    /// Walks the old and the new entries side by side. `again` gets the friends whose entry is another than before: the
    /// gateway may have been told to drop them until the list is in force, so they are sent again.
    fn swap_entries(&mut self, id: Id, wanted: Vec<(Id, Option<Special>)>, again: &mut Vec<Id>, out: &mut Outbox) {
        let mut old = self.entries(id).into_iter().peekable();
        let (mut gone, mut added, mut ruled) = (Vec::new(), Vec::new(), Vec::new());
        for (friend, rules) in wanted {
            while let Some(entry) = old.next_if(|entry| entry.friend < friend) {
                gone.push(entry);
            }
            let known = old.next_if(|entry| entry.friend == friend);
            let before = known.filter(|entry| entry.special).and_then(|_| self.special.get(&(id, friend)).copied());
            let (was_coarse, is_coarse) = (Special::is_coarse(before.as_ref()), Special::is_coarse(rules.as_ref()));
            if known.is_none() {
                added.push(friend);
            }
            if known.is_some() && before != rules || was_coarse != is_coarse {
                again.push(friend);
            }
            if before != rules {
                ruled.push((friend, rules));
            }
        }
        gone.extend(old);
        let slot = self.people.slot(id);
        for entry in &gone {
            if let Some(slot) = slot.filter(|_| entry.inside) {
                self.tell_removed(slot, entry.friend, RemovalReason::NotShared, out);
                self.roll_digest(id, slot, entry.friend, false);
            }
            if entry.special {
                self.set_special(id, entry.friend, None);
            }
            self.people.unfriend(id, entry.friend);
        }
        if gone.iter().any(|entry| entry.inside) {
            self.arm_digest(id);
        }
        self.people.befriend(id, &added);
        for (friend, rules) in ruled {
            self.set_special(id, friend, rules);
        }
        for entry in gone {
            self.people.release(entry.friend);
        }
        for friend in again.iter() {
            self.ensure_coarse(*friend);
        }
    }

    /// Lets an entry have these rules of its own, or none.
    fn set_special(&mut self, viewer: Id, friend: Id, rules: Option<Special>) {
        let before = match rules {
            Some(rules) => self.special.insert((viewer, friend), rules),
            None => self.special.remove(&(viewer, friend)),
        };
        let (was_coarse, is_coarse) = (Special::is_coarse(before.as_ref()), Special::is_coarse(rules.as_ref()));
        if was_coarse != is_coarse {
            self.people.count_coarse(friend, is_coarse);
        }
        let is_special = rules.is_some() || self.special.contains_key(&(friend, viewer));
        self.people.set(viewer, friend, Says::Special, is_special);
    }

    /// Forgets a viewer's list; its view becomes empty, and no strangers are shown, for nothing tells them from friends.
    pub(super) fn drop_list(&mut self, id: Id, out: &mut Outbox) {
        self.swap_entries(id, Vec::new(), &mut Vec::new(), out);
        self.end_strangers(id, out);
        self.expiries.remove(&id);
        if self.remove_viewer(id) {
            if let Some(slot) = self.people.slot(id) {
                self.slots.hot_mut(slot).set_radius_m(0);
            }
            self.people.release(id);
        }
    }

    /// Forgets many lists at once without a word to their viewers, who belong to somebody else from now on.
    pub(super) fn drop_lists(&mut self, viewers: Vec<Viewer>) {
        for Viewer { id, .. } in viewers {
            if let Some(slot) = self.people.slot(id) {
                let slot = self.slots.hot_mut(slot);
                slot.set_active(false);
                slot.set_radius_m(0);
            }
            for entry in self.entries(id) {
                if entry.special {
                    self.set_special(id, entry.friend, None);
                }
                self.people.unfriend(id, entry.friend);
                self.people.release(entry.friend);
            }
            self.expiries.remove(&id);
            self.people.set_viewer(id, None);
            self.people.release(id);
        }
    }

    /// Looks at the list again when its next entry expires.
    fn arm_expiry(&mut self, id: Id) {
        let special = self.entries(id).into_iter().filter(|entry| entry.special);
        let ends = special.filter_map(|entry| Some(self.special.get(&(id, entry.friend))?.expires_at));
        let Some(next) = ends.filter(|&at_ms| at_ms > self.now_ms).min() else {
            self.expiries.remove(&id);
            return;
        };
        let at_ms = next.min(self.now_ms + LONGEST_TIMER_MS);
        self.expiries.insert(id, at_ms);
        self.timers.add(at_ms, Due::List(id));
    }

    pub(super) fn expiry_due(&mut self, id: Id, at_ms: i64, out: &mut Outbox) {
        if self.expiries.get(&id) == Some(&at_ms) {
            self.viewer_join(id, out);
            self.arm_expiry(id);
        }
    }

    /// Forgets the lists of viewers who are offline that are too old to keep, as far as their turn has come.
    pub(super) fn age_lists(&mut self, out: &mut Outbox) {
        for id in self.lists_to_look_at() {
            let offline = self.people.slot(id).is_none_or(|slot| !self.slots.hot(slot).is_connected());
            let Some(viewer) = self.viewer(id).filter(|_| offline) else { continue };
            if viewer.listed_ms + LIST_KEPT_MS <= self.now_ms {
                out.begin();
                self.stats.lists_evicted += 1;
                self.drop_list(id, out);
            }
        }
    }
}

/// An entry of a list, as the links have it.
#[derive(Clone, Copy)]
struct Entry {
    friend: Id,
    /// One of the two entries for each other has rules of its own.
    special: bool,
    /// The friend is in the viewer's view.
    inside: bool,
}
