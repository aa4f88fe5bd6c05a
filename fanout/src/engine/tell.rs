//! What was decided, said to the sessions of viewers.

use nearcast_schemas::delivery::{FriendPosition, RemovalReason};
use nearcast_schemas::list::Precision;

use super::Engine;
use super::join::distance_dm;
use super::out::{Address, Entry, Outbox};
use super::people::Id;

/// A friend's position as it is shown to one or many viewers.
#[derive(Clone, Copy)]
pub(super) struct Shown<'a> {
    pub(super) friend: Id,
    pub(super) position: &'a FriendPosition,
}

impl Engine {
    /// What viewers are told of a friend's position.
    pub(super) fn position_shown(&self, id: Id, slot: u32, precision: Precision) -> Option<FriendPosition> {
        match precision {
            Precision::Exact => {
                let report = self.slots.report(slot, self.now_ms);
                Some(FriendPosition {
                    lat: report.lat,
                    lon: report.lon,
                    at: report.at,
                    coarse: false,
                    accuracy_m: report.accuracy_m,
                    speed_mps: report.speed_mps,
                    heading_deg: report.heading_deg,
                })
            }
            Precision::Coarse => Some(self.coarse.get(&id)?.position()),
        }
    }

    /// Calls `tell` for each session of a viewer that has its view under the partition's present epoch; returns how many
    /// there are.
    #[inline]
    pub(super) fn each_session(&self, viewer: u32, mut tell: impl FnMut(Address)) -> u64 {
        let partition = self.slots.partition(viewer);
        let Some((generation, epoch)) = self.partitions[partition].present() else { return 0 };
        let mut told = 0;
        self.slots.each_told(viewer, generation, |gateway, handle| {
            tell(Address { gateway, handle, partition: partition as i32, epoch });
            told += 1;
        });
        told
    }

    pub(super) fn tell_shown(&mut self, viewer: u32, shown: &Shown<'_>, chord_squared: Option<f32>, out: &mut Outbox) {
        let distance_dm = distance_dm(chord_squared);
        let Shown { friend, position } = *shown;
        let told = self.each_session(viewer, |to| {
            let entry = || {
                let (friend, display_name) = self.people.called(friend);
                Entry { friend, display_name, position }
            };
            out.upsert(to, friend, position.coarse, distance_dm, entry);
        });
        self.stats.upserts += told;
    }

    pub(super) fn tell_removed(&mut self, viewer: u32, friend: Id, reason: RemovalReason, out: &mut Outbox) {
        let told = self.each_session(viewer, |to| out.removal(to, friend, reason, || self.people.called(friend).0));
        match reason {
            RemovalReason::OutOfRange => self.stats.removals_out_of_range += told,
            RemovalReason::Silent => self.stats.removals_silent += told,
            RemovalReason::NotShared => self.stats.removals_not_shared += told,
        }
    }
}
