//! Whole views for sessions that are due one, and what is said to sessions beside positions.

use nearcast_schemas::delivery::{Reset, ResetEntry};

use super::Engine;
use super::join::distance_dm;
use super::out::{Address, Outbox};
use super::people::Id;
use super::session::{NO_EPOCH, ResetCause};

/// Friends in one part of a reset.
pub const PART_ENTRIES: usize = 20;

/// The slots that are still to be looked at for sessions that are due a reset.
#[derive(Debug, Default)]
pub(super) struct Scan {
    next: usize,
    left: usize,
}

impl Engine {
    /// Sends resets to the sessions of a viewer that are due one and whose list is there; returns how many.
    ///
    /// The view is decided anew with the band counted as out, and the viewer's other sessions hear what that changed.
    pub(super) fn reset_due(&mut self, id: Id, out: &mut Outbox) -> usize {
        let Some(slot) = self.people.slot(id) else { return 0 };
        let cold = self.slots.cold(slot);
        let partition = cold.partition;
        let Some(epoch) = self.partitions[partition as usize].epoch else { return 0 };
        let (version, radius_m) = self.viewers.get(&id).map_or((0, 0), |viewer| (viewer.version, viewer.radius_m));
        if !cold.sessions.iter().any(|session| session.epoch != epoch && session.waits_for <= version) {
            return 0;
        }
        let hot = self.slots.hot_mut(slot);
        hot.set_radius_m(radius_m);
        hot.set_active(true);
        self.viewer_join(id, true, &[], out);
        let view = self.view_entries(id);
        let mut sent = 0;
        let stats = &mut self.stats;
        for session in self.slots.cold_mut(slot).sessions.iter_mut() {
            if session.epoch == epoch || session.waits_for > version {
                continue;
            }
            session.epoch = epoch;
            session.waits_for = 0;
            match session.cause {
                ResetCause::Hello => stats.resets_hello += 1,
                ResetCause::Asked => stats.resets_asked += 1,
                ResetCause::Ownership => stats.resets_ownership += 1,
                ResetCause::Delivery => stats.resets_delivery += 1,
            }
            // Whatever makes the next one due says so, except a new epoch.
            session.cause = ResetCause::Ownership;
            let to = Address { gateway: session.gateway, handle: session.handle, partition, epoch };
            let parts = view.len().div_ceil(PART_ENTRIES).max(1);
            let mut rest = view.as_slice();
            for part in 1..=parts {
                let (entries, later) = rest.split_at(rest.len().min(PART_ENTRIES));
                rest = later;
                let (part, parts) = (part as i32, parts as i32);
                let list_version = version;
                let entries = entries.to_vec();
                out.reset(to, Reset { handle: session.handle, list_version, part, parts, entries });
            }
            sent += 1;
        }
        if let Some(viewer) = self.viewers.get_mut(&id) {
            viewer.told = (viewer.digest, viewer.inside);
        }
        sent
    }

    /// A viewer's view, nearest first; friends at the same distance by their ids.
    fn view_entries(&self, id: Id) -> Vec<ResetEntry> {
        let mut view = self.in_view(id);
        view.sort_by(|a, b| {
            let distance = |squared: Option<f32>| squared.unwrap_or(f32::INFINITY);
            let nearer = distance(a.2).total_cmp(&distance(b.2));
            nearer.then_with(|| self.people.name(a.0).cmp(self.people.name(b.0)))
        });
        let entry = |(friend, precision, chord_squared)| {
            let shown = self.shown(friend, precision)?;
            Some(ResetEntry {
                friend: shown.name.as_ref().into(),
                display_name: shown.display_name.as_ref().into(),
                position: shown.position,
                distance_dm: distance_dm(chord_squared),
            })
        };
        view.into_iter().filter_map(entry).collect()
    }

    /// Says to each session of a viewer that what follows obeys its present list.
    pub(super) fn tell_applied(&mut self, id: Id, out: &mut Outbox) {
        let Some(version) = self.viewers.get(&id).map(|viewer| viewer.version) else { return };
        let mut told = 0;
        self.each_session(id, |_, to| {
            out.applied(to, version);
            told += 1;
        });
        self.stats.applied += told;
    }

    pub(super) fn digest_due(&mut self, id: Id, out: &mut Outbox) {
        let Some(viewer) = self.viewers.get_mut(&id) else { return };
        let now = (viewer.digest, viewer.inside);
        if now == viewer.told {
            return;
        }
        viewer.told = now;
        let mut told = 0;
        self.each_session(id, |_, to| {
            out.digest(to, now.1, now.0.to_i64());
            told += 1;
        });
        self.stats.digests += told;
    }

    /// Goes on with the resets that a change of ownership or a lost batch made due: at most `sessions` of them, after a
    /// look at no more than `slots` slots. True while there is more to look at.
    pub fn resets(&mut self, sessions: usize, slots: usize, out: &mut Outbox) -> bool {
        out.begin();
        let mut sent = 0;
        for _ in 0..slots {
            if self.scan.left == 0 || sent >= sessions {
                break;
            }
            self.scan.left -= 1;
            self.scan.next += 1;
            if self.scan.next >= self.slots.capacity() {
                self.scan.next = 0;
            }
            let connected = self.slots.get(self.scan.next as u32).filter(|cold| !cold.sessions.is_empty());
            if let Some(id) = connected.map(|cold| cold.id) {
                sent += self.reset_due(id, out);
            }
        }
        self.scan.left > 0
    }

    /// Looks at every slot once more.
    pub(super) fn scan_again(&mut self) {
        self.scan.left = self.slots.capacity();
    }

    /// A batch for this gateway process may not have arrived: everybody there is due a reset.
    pub fn lost(&mut self, gateway: u32, out: &mut Outbox) {
        out.begin();
        for slot in 0..self.slots.capacity() as u32 {
            if self.slots.get(slot).is_none() {
                continue;
            }
            let sessions = self.slots.cold_mut(slot).sessions.iter_mut();
            for session in sessions.filter(|session| session.gateway == gateway && session.epoch != NO_EPOCH) {
                session.epoch = NO_EPOCH;
                session.cause = ResetCause::Delivery;
            }
        }
        for at in 0..self.superseded.len() {
            if self.superseded[at].session.gateway == gateway {
                self.tell_superseded(at, out);
            }
        }
        self.scan_again();
    }

    /// This gateway process is gone: nobody is routed there any more. Returns how many sessions were.
    pub fn gone(&mut self, gateway: u32) -> usize {
        let mut dropped = 0;
        for slot in 0..self.slots.capacity() as u32 {
            let Some(cold) = self.slots.get(slot) else { continue };
            let id = cold.id;
            let sessions = self.slots.cold_mut(slot).sessions.drop_if(|session| session.gateway == gateway);
            if !sessions.is_empty() {
                dropped += sessions.len();
                self.sessions_ended(id, sessions);
            }
        }
        dropped
    }
}
