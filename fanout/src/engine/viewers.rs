//! What is known of a viewer beside the friends: one row a list, by partition.

use nearcast_schemas::digest::ViewDigest;

use super::Engine;
use super::people::Id;

/// A list is looked at this often for whether it is too old to keep; ms.
const ROUND_MS: i64 = 600_000;

/// The version of a list that nobody has published yet.
const NO_VERSION: i64 = -1;

/// The list of one viewer, without its entries, which are links.
#[derive(Clone, Copy, Debug)]
pub(super) struct Viewer {
    pub(super) id: Id,
    /// The viewer's own radius in metres; 0 for none.
    pub(super) radius_m: i32,
    pub(super) version: i64,
    /// Append time of the list's last publication, ms since the epoch.
    pub(super) listed_ms: i64,
    /// Rolls with the view.
    pub(super) digest: ViewDigest,
}

/// Goes round the lists.
#[derive(Debug, Default)]
pub(super) struct Round {
    partition: usize,
    row: usize,
    /// How far the rounds have come, ms since the epoch.
    at_ms: i64,
}

impl Engine {
    pub(super) fn viewer(&self, id: Id) -> Option<&Viewer> {
        let row = self.people.viewer(id)?;
        self.partitions[self.partition_of(id)].viewers.get(row as usize)
    }

    pub(super) fn viewer_mut(&mut self, id: Id) -> Option<&mut Viewer> {
        let row = self.people.viewer(id)?;
        let partition = self.partition_of(id);
        self.partitions[partition].viewers.get_mut(row as usize)
    }

    /// A friend came into the view of a viewer, or left it.
    pub(super) fn roll_digest(&mut self, viewer: Id, viewer_slot: u32, friend: Id, came: bool) {
        let Some(row) = self.people.viewer(viewer) else { return };
        let partition = &mut self.partitions[self.slots.partition(viewer_slot)];
        if let Some(viewer) = partition.viewers.get_mut(row as usize) {
            let friend = self.people.name(friend);
            if came { viewer.digest.add(friend) } else { viewer.digest.remove(friend) }
        }
    }

    pub(super) fn add_viewer(&mut self, id: Id, listed_ms: i64) {
        let partition = self.partition_of(id);
        let viewers = &mut self.partitions[partition].viewers;
        self.people.set_viewer(id, Some(viewers.len() as u32));
        viewers.push(Viewer { id, radius_m: 0, version: NO_VERSION, listed_ms, digest: ViewDigest::default() });
    }

    /// Forgets the row; whether there was one.
    pub(super) fn remove_viewer(&mut self, id: Id) -> bool {
        let Some(row) = self.people.viewer(id) else { return false };
        let partition = self.partition_of(id);
        self.people.set_viewer(id, None);
        let viewers = &mut self.partitions[partition].viewers;
        viewers.swap_remove(row as usize);
        if let Some(moved) = viewers.get(row as usize) {
            self.people.set_viewer(moved.id, Some(row));
        }
        true
    }

    /// The lists whose turn it is to be looked at, at the pace of a round a [`ROUND_MS`].
    pub(super) fn lists_to_look_at(&mut self) -> Vec<Id> {
        let lists = self.viewers() as i64;
        if self.round.at_ms == 0 || lists == 0 {
            self.round.at_ms = self.now_ms;
            return Vec::new();
        }
        let passed_ms = self.now_ms - self.round.at_ms;
        let count = if passed_ms >= ROUND_MS { lists } else { lists * passed_ms / ROUND_MS };
        if count == 0 {
            return Vec::new();
        }
        self.round.at_ms = if count == lists { self.now_ms } else { self.round.at_ms + count * ROUND_MS / lists };
        let mut ids = Vec::with_capacity(count as usize);
        while ids.len() < count as usize {
            let viewers = &self.partitions[self.round.partition].viewers;
            if let Some(viewer) = viewers.get(self.round.row) {
                ids.push(viewer.id);
                self.round.row += 1;
            } else {
                self.round.row = 0;
                self.round.partition = (self.round.partition + 1) % self.partitions.len();
            }
        }
        ids
    }
}
