//! Whom owned viewers may see: their lists, forward, and the reverse index from friend to viewers.
//!
//! A friendship is a [`Link`] of four bytes in the viewer's list and another in the friend's index. Both say whether
//! the friend is in the viewer's view, so that either walk decides a pair without a look at the other.

use nearcast_schemas::codec::{VisibilityEntryRef, VisibilityListRef};
use nearcast_schemas::delivery::RemovalReason;
use nearcast_schemas::digest::ViewDigest;
use nearcast_schemas::ids::check_id;
use nearcast_schemas::list::Precision;
use rustc_hash::FxHashMap;

use super::Engine;
use super::join::Refresh;
use super::out::Outbox;
use super::people::Id;
use super::slots::MAX_RADIUS_M;
use super::timers::Due;

/// A list of an offline viewer is kept this long after it was appended, ms: the API publishes a list again that is
/// older than an hour.
pub const LIST_KEPT_MS: i64 = 2 * 3_600_000;

/// No timer runs longer than this, ms: it holds a reference to its user.
pub(super) const LONGEST_TIMER_MS: i64 = 3_600_000;

/// The version of a list that nobody has published yet.
const NO_VERSION: i64 = -1;

/// One end of a friendship: the other end's number and what the walk needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link(u32);

const INSIDE: u32 = 1;
const SPECIAL: u32 = 2;

impl Link {
    pub(super) fn new(id: Id, special: bool) -> Self {
        Self(id.number() << 2 | if special { SPECIAL } else { 0 })
    }

    #[inline]
    pub(super) fn id(self) -> Id {
        Id::new(self.0 >> 2)
    }

    /// The friend is in the viewer's view.
    #[inline]
    pub(super) fn is_inside(self) -> bool {
        self.0 & INSIDE != 0
    }

    pub(super) fn set_inside(&mut self, inside: bool) {
        self.0 = self.0 & !INSIDE | u32::from(inside);
    }

    /// The entry has rules of its own.
    #[inline]
    pub(super) fn is_special(self) -> bool {
        self.0 & SPECIAL != 0
    }

    fn set_special(&mut self, special: bool) {
        self.0 = self.0 & !SPECIAL | if special { SPECIAL } else { 0 };
    }
}

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

/// The list and the view of one viewer.
pub(super) struct Viewer {
    pub(super) version: i64,
    /// The viewer's own radius in metres; 0 for none.
    pub(super) radius_m: i32,
    /// Append time of the list's last publication, ms since the epoch.
    pub(super) listed_ms: i64,
    /// By the friend's number.
    pub(super) friends: Vec<Link>,
    pub(super) special: FxHashMap<Id, Special>,
    pub(super) digest: ViewDigest,
    pub(super) inside: u32,
    /// The digest and count that the sessions know.
    pub(super) told: (ViewDigest, u32),
    /// The time of the one timer that counts, ms since the epoch.
    timer_ms: i64,
}

impl Viewer {
    fn new(listed_ms: i64) -> Self {
        Self {
            version: NO_VERSION,
            radius_m: 0,
            listed_ms,
            friends: Vec::new(),
            special: FxHashMap::default(),
            digest: ViewDigest::default(),
            inside: 0,
            told: (ViewDigest::default(), 0),
            timer_ms: 0,
        }
    }

    pub(super) fn position_of(&self, friend: Id) -> Option<usize> {
        self.friends.binary_search_by_key(&friend, |link| link.id()).ok()
    }

    fn next_expiry_ms(&self, now_ms: i64) -> Option<i64> {
        self.special.values().map(|special| special.expires_at).filter(|&at| at > now_ms).min()
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
        if self.partition_of_name(viewer) != partition {
            self.stats.lists_misplaced += 1;
            return;
        }
        if list.radius_m < 0 || check_id(viewer).is_err() {
            self.stats.lists_invalid += 1;
            return;
        }
        let id = self.viewer_named(viewer, partition, append_ms);
        let Some(known) = self.viewers.get_mut(&id) else { return };
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
                    self.friend_join(friend, Refresh::All, RemovalReason::Silent, out);
                }
            }
            return;
        }
        self.replace_list(id, list, out);
        self.arm_list(id);
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
        if !self.partitions[partition as usize].viewers.contains(&id) {
            return;
        }
        self.stats.lists += 1;
        self.drop_list(id, out);
    }

    fn viewer_named(&mut self, name: &str, partition: i32, append_ms: i64) -> Id {
        if let Some(id) = self.people.find(name)
            && self.viewers.contains_key(&id)
        {
            return id;
        }
        let id = self.people.acquire_named(name);
        self.viewers.insert(id, Viewer::new(append_ms));
        let partition = &mut self.partitions[partition as usize];
        partition.viewers.insert(id);
        if partition.epoch.is_none()
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
        for entry in list.entries() {
            if entry.radius_m < 0 || check_id(entry.friend).is_err() {
                self.stats.entries_invalid += 1;
                continue;
            }
            let friend = self.people.acquire_named(entry.friend);
            if self.people.set_display_name(friend, entry.display_name, list.published_at) {
                renamed.push(friend);
            }
            wanted.push((friend, Special::of(&entry)));
        }
        // The first of two entries counts. Nobody is on their own list.
        wanted.sort_by_key(|(friend, _)| *friend);
        wanted.dedup_by(|later, first| {
            let again = later.0 == first.0;
            if again {
                self.people.release(later.0);
            }
            again
        });
        wanted.retain(|(friend, _)| {
            if *friend == id {
                self.people.release(id);
            }
            *friend != id
        });
        let mut refresh = Vec::new();
        self.swap_entries(id, wanted, &mut refresh, out);
        let Some(viewer) = self.viewers.get_mut(&id) else { return };
        viewer.version = list.version;
        viewer.radius_m = list.radius_m.min(self.settings.max_radius_m);
        let radius_m = viewer.radius_m;
        if let Some(slot) = self.people.slot(id) {
            self.slots.hot_mut(slot).set_radius_m(radius_m);
            self.viewer_join(id, false, &refresh, out);
        }
        // A name belongs to the friend: everybody who sees the friend is told, whoever's list said it first.
        for friend in renamed {
            self.friend_join(friend, Refresh::All, RemovalReason::Silent, out);
        }
    }

    /// Walks the old and the new entries side by side. `refresh` gets the friends whose entry is another than before: the
    /// gateway may have been told to drop them until the list is in force, so they are sent again.
    fn swap_entries(&mut self, id: Id, wanted: Vec<(Id, Option<Special>)>, refresh: &mut Vec<Id>, out: &mut Outbox) {
        let Some(viewer) = self.viewers.get_mut(&id) else { return };
        let old = std::mem::take(&mut viewer.friends);
        let mut old_special = std::mem::take(&mut viewer.special);
        let mut friends = Vec::with_capacity(wanted.len());
        let mut special = FxHashMap::default();
        let mut gone = Vec::new();
        let mut old = old.into_iter().peekable();
        for (friend, rules) in wanted {
            while let Some(link) = old.next_if(|link| link.id() < friend) {
                gone.push(link);
            }
            let mut link = Link::new(friend, rules.is_some());
            let before = old_special.remove(&friend);
            let mut changed = false;
            if let Some(known) = old.next_if(|known| known.id() == friend) {
                changed = before != rules;
                link.set_inside(known.is_inside());
                if known.is_special() != link.is_special()
                    && let Some(back) = self.people.watchers_mut(friend).iter_mut().find(|back| back.id() == id)
                {
                    back.set_special(link.is_special());
                }
                // The entry keeps the reference that it had.
                self.people.release(friend);
            } else {
                self.people.watchers_mut(friend).push(Link::new(id, rules.is_some()));
            }
            let (was_coarse, is_coarse) = (Special::is_coarse(before.as_ref()), Special::is_coarse(rules.as_ref()));
            if changed || was_coarse != is_coarse {
                refresh.push(friend);
            }
            if was_coarse != is_coarse {
                let count = self.people.coarse_entries_mut(friend);
                *count = *count + u32::from(is_coarse) - u32::from(was_coarse);
            }
            if let Some(rules) = rules {
                special.insert(friend, rules);
            }
            friends.push(link);
        }
        gone.extend(old);
        for link in &gone {
            if link.is_inside() {
                self.tell_removed(id, link.id(), RemovalReason::NotShared, out);
            }
            self.people.watchers_mut(link.id()).retain(|back| back.id() != id);
            if Special::is_coarse(old_special.get(&link.id())) {
                *self.people.coarse_entries_mut(link.id()) -= 1;
            }
        }
        if let Some(viewer) = self.viewers.get_mut(&id) {
            viewer.friends = friends;
            viewer.special = special;
            for link in gone.iter().filter(|link| link.is_inside()) {
                viewer.digest.remove(self.people.name(link.id()));
                viewer.inside -= 1;
            }
        }
        if gone.iter().any(|link| link.is_inside()) {
            self.arm_digest(id);
        }
        for link in gone {
            self.people.release(link.id());
        }
        for friend in refresh.iter() {
            self.ensure_coarse(*friend);
        }
    }

    /// Forgets a viewer's list; its view becomes empty.
    pub(super) fn drop_list(&mut self, id: Id, out: &mut Outbox) {
        self.swap_entries(id, Vec::new(), &mut Vec::new(), out);
        if self.viewers.remove(&id).is_some() {
            let partition = self.partition_of(id);
            self.partitions[partition as usize].viewers.remove(&id);
            if let Some(slot) = self.people.slot(id) {
                self.slots.hot_mut(slot).set_radius_m(0);
            }
            self.people.release(id);
        }
    }

    /// Forgets many lists at once without a word to their viewers, who belong to somebody else from now on.
    pub(super) fn drop_lists(&mut self, ids: impl IntoIterator<Item = Id>) {
        let mut friends = Vec::new();
        let mut viewers = Vec::new();
        for id in ids {
            let Some(viewer) = self.viewers.remove(&id) else { continue };
            if let Some(slot) = self.people.slot(id) {
                let slot = self.slots.hot_mut(slot);
                slot.set_active(false);
                slot.set_radius_m(0);
            }
            for (friend, special) in &viewer.special {
                if special.precision == Precision::Coarse {
                    *self.people.coarse_entries_mut(*friend) -= 1;
                }
            }
            friends.extend(viewer.friends.iter().map(|link| link.id()));
            viewers.push(id);
        }
        // Each index is walked once, however many of its viewers go.
        let mut indexes = friends.clone();
        indexes.sort_unstable();
        indexes.dedup();
        for friend in indexes {
            self.people.watchers_mut(friend).retain(|back| self.viewers.contains_key(&back.id()));
        }
        for id in friends.into_iter().chain(viewers) {
            self.people.release(id);
        }
    }

    /// Looks at the list again when its next entry expires, or it may be too old to keep.
    fn arm_list(&mut self, id: Id) {
        let Some(viewer) = self.viewers.get_mut(&id) else { return };
        let kept_until = viewer.listed_ms + LIST_KEPT_MS;
        let next = viewer.next_expiry_ms(self.now_ms).map_or(kept_until, |expiry| expiry.min(kept_until));
        let at_ms = next.clamp(self.now_ms + 1, self.now_ms + LONGEST_TIMER_MS);
        viewer.timer_ms = at_ms;
        self.arm(at_ms, Due::List { viewer: id, at_ms });
    }

    pub(super) fn list_due(&mut self, id: Id, at_ms: i64, out: &mut Outbox) {
        let Some(viewer) = self.viewers.get(&id) else { return };
        if viewer.timer_ms != at_ms {
            return;
        }
        let offline = self.people.slot(id).is_none_or(|slot| self.slots.cold(slot).sessions.is_empty());
        if offline && viewer.listed_ms + LIST_KEPT_MS <= self.now_ms {
            self.stats.lists_evicted += 1;
            self.drop_list(id, out);
            return;
        }
        self.viewer_join(id, false, &[], out);
        self.arm_list(id);
    }
}
