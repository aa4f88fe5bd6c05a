//! Which viewers are decided for: those of the partitions that this worker owns.

use std::collections::VecDeque;

use rustc_hash::FxHashSet;

use super::Engine;
use super::out::{Address, Outbox};
use super::people::Id;
use super::session::Session;

/// One partition of the visibility topic.
#[derive(Default)]
pub(super) struct Partition {
    /// Offset of this worker's claim, while it owns the partition.
    pub(super) epoch: Option<i64>,
    /// Viewers whose lists were read from it.
    pub(super) viewers: FxHashSet<Id>,
}

/// A session that a newer one took the place of. Remembered for a time to live, because the owner at the time may not
/// have come to say it.
pub(super) struct SupersededSession {
    pub(super) partition: i32,
    pub(super) session: Session,
    /// ms since the epoch.
    at_ms: i64,
}

pub(super) type SupersededSessions = VecDeque<SupersededSession>;

impl Engine {
    /// This worker owns the partition from now on, by the claim at offset `epoch`; all its lists up to there were given
    /// to [`Engine::list`]. Also for a newer claim to a partition that it owns. [`Engine::resets`] sends the resets.
    pub fn own(&mut self, partition: i32, epoch: i64, out: &mut Outbox) {
        out.begin();
        let Some(row) = self.partitions.get_mut(partition as usize) else { return };
        row.epoch = Some(epoch);
        for at in 0..self.superseded.len() {
            if self.superseded[at].partition == partition {
                self.tell_superseded(at, out);
            }
        }
        self.scan_again();
    }

    /// The partition is somebody else's, or will be: its lists are forgotten, and nothing is decided for its viewers.
    pub fn disown(&mut self, partition: i32) {
        let Some(row) = self.partitions.get_mut(partition as usize) else { return };
        row.epoch = None;
        let viewers = std::mem::take(&mut row.viewers);
        self.drop_lists(viewers);
    }

    /// Nobody listens: the view is empty until the next reset decides it anew.
    pub(super) fn deactivate(&mut self, id: Id) {
        if let Some(slot) = self.people.slot(id) {
            self.slots.hot_mut(slot).set_active(false);
        }
        let Some(viewer) = self.viewers.get_mut(&id) else { return };
        if viewer.inside == 0 {
            return;
        }
        viewer.inside = 0;
        viewer.digest = Default::default();
        for link in viewer.friends.iter_mut().filter(|link| link.is_inside()) {
            link.set_inside(false);
            if let Some(back) = self.people.watchers_mut(link.id()).iter_mut().find(|back| back.id() == id) {
                back.set_inside(false);
            }
        }
    }

    /// A session lost its place to a newer one.
    pub(super) fn supersede(&mut self, partition: i32, session: Session, out: &mut Outbox) {
        self.stats.superseded += 1;
        self.superseded.push_back(SupersededSession { partition, session, at_ms: self.now_ms });
        self.tell_superseded(self.superseded.len() - 1, out);
    }

    pub(super) fn tell_superseded(&mut self, at: usize, out: &mut Outbox) {
        let SupersededSession { partition, session, .. } = &self.superseded[at];
        if let Some(epoch) = self.partitions[*partition as usize].epoch {
            let to = Address { gateway: session.gateway, handle: session.handle, partition: *partition, epoch };
            out.superseded(to);
        }
    }

    pub(super) fn forget_superseded(&mut self) {
        let until = self.now_ms - self.settings.ttl_ms;
        while self.superseded.pop_front_if(|session| session.at_ms <= until).is_some() {}
    }
}
