//! Which viewers are decided for: those of the partitions that this worker owns.

use std::collections::VecDeque;

use super::Engine;
use super::links::Says;
use super::out::{Address, Outbox};
use super::people::Id;
use super::session::{NO_GENERATION, Session};
use super::viewers::Viewer;

/// One partition of the visibility topic.
#[derive(Default)]
pub(super) struct Partition {
    /// Offset of this worker's claim, while it owns the partition.
    pub(super) epoch: Option<i64>,
    /// Grows with each new epoch. Sessions remember it for the epoch, which is longer.
    pub(super) generation: u16,
    /// The epoch of the generation.
    of_generation: i64,
    /// Viewers whose lists were read from it.
    pub(super) viewers: Vec<Viewer>,
}

impl Partition {
    /// The generation and the epoch under which views are sent at present.
    #[inline]
    pub(super) fn present(&self) -> Option<(u16, i64)> {
        self.epoch.map(|epoch| (self.generation, epoch))
    }

    fn begin(&mut self, epoch: i64) {
        self.epoch = Some(epoch);
        if self.generation == NO_GENERATION || self.of_generation != epoch {
            // A session would have to sleep through 65 535 claims to be taken for one that knows its view.
            self.generation = self.generation.checked_add(1).unwrap_or(1);
            self.of_generation = epoch;
        }
    }
}

/// A session that a newer one took the place of. Remembered for a time to live, because the owner at the time may not
/// have come to say it.
pub(super) struct SupersededSession {
    pub(super) partition: usize,
    pub(super) session: Session,
    /// ms since the epoch.
    pub(super) at_ms: i64,
}

pub(super) type SupersededSessions = VecDeque<SupersededSession>;

impl Engine {
    /// This worker owns the partition from now on, by the claim at offset `epoch`; all its lists up to there were given
    /// to [`Engine::list`]. Also for a newer claim to a partition that it owns. [`Engine::resets`] sends the resets.
    pub fn own(&mut self, partition: i32, epoch: i64, out: &mut Outbox) {
        out.begin();
        let Some(row) = self.partitions.get_mut(partition as usize) else { return };
        row.begin(epoch);
        for at in 0..self.superseded.len() {
            if self.superseded[at].partition == partition as usize {
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
        self.forget_strangers_of(partition as usize);
    }

    /// Nobody listens: the view is empty until the next reset decides it anew.
    pub(super) fn deactivate(&mut self, id: Id, slot: u32) {
        if !self.slots.hot(slot).is_active() {
            return;
        }
        self.slots.hot_mut(slot).set_active(false);
        for at in 0..self.people.online(id).len() {
            let link = self.people.online(id)[at];
            if link.says(Says::InView) {
                let friend = self.slots.id(link.slot());
                self.people.set_at(id, at, friend, Says::InView, false);
                self.roll_digest(id, slot, friend, false);
            }
        }
    }

    /// A session lost its place to a newer one.
    pub(super) fn supersede(&mut self, partition: usize, session: Session, out: &mut Outbox) {
        self.stats.superseded += 1;
        self.superseded.push_back(SupersededSession { partition, session, at_ms: self.now_ms });
        self.tell_superseded(self.superseded.len() - 1, out);
    }

    pub(super) fn tell_superseded(&mut self, at: usize, out: &mut Outbox) {
        let SupersededSession { partition, session, .. } = &self.superseded[at];
        if let Some(epoch) = self.partitions[*partition].epoch {
            let (gateway, handle, partition) = (session.gateway, session.handle, *partition as i32);
            out.superseded(Address { gateway, handle, partition, epoch });
        }
    }

    pub(super) fn forget_superseded(&mut self) {
        let until = self.now_ms - self.settings.ttl_ms;
        while self.superseded.pop_front_if(|session| session.at_ms <= until).is_some() {
            self.superseded_gone += 1;
        }
    }
}
