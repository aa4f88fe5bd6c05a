//! Whole views for sessions that are due one, and what is said to sessions beside positions.

use nearcast_schemas::delivery::{Reset, ResetEntry};

use super::Engine;
use super::join::{Walk, distance_dm};
use super::links::Says;
use super::out::{Address, Outbox};
use super::people::Id;
use super::session::{NO_GENERATION, ResetCause, Session};

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
        let partition = self.slots.partition(slot);
        let Some((generation, epoch)) = self.partitions[partition].present() else { return 0 };
        if !self.slots.is_due(slot, generation) {
            return 0;
        }
        let (version, radius_m) = self.viewer(id).map_or((0, 0), |viewer| (viewer.version, viewer.radius_m));
        let sessions = self.slots.sessions(slot, self.now_ms);
        if !sessions.iter().any(|session| session.generation != generation && session.waits_for <= version) {
            return 0;
        }
        let hot = self.slots.hot_mut(slot);
        hot.set_radius_m(radius_m);
        hot.set_active(true);
        self.join(id, Walk { viewer: true, strict: true, ..Walk::NONE }, out);
        let view = self.view_entries(id);
        let mut sent = 0;
        let stats = &mut self.stats;
        let mut sessions = self.slots.sessions(slot, self.now_ms);
        for session in sessions.iter_mut() {
            if session.generation == generation || session.waits_for > version {
                continue;
            }
            session.generation = generation;
            session.waits_for = 0;
            match session.cause {
                ResetCause::Hello => stats.resets_hello += 1,
                ResetCause::Asked => stats.resets_asked += 1,
                ResetCause::Ownership => stats.resets_ownership += 1,
                ResetCause::Delivery => stats.resets_delivery += 1,
            }
            // Whatever makes the next one due says so, except a new epoch.
            session.cause = ResetCause::Ownership;
            let to = Address { gateway: session.gateway, handle: session.handle, partition: partition as i32, epoch };
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
        self.slots.set_sessions(slot, sessions);
        self.strangers_after_reset(id, out);
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
            let position = self.position_shown(friend, self.people.slot(friend)?, precision)?;
            Some(ResetEntry {
                friend: self.people.name(friend).to_owned(),
                display_name: self.people.display_name(friend).to_owned(),
                position,
                distance_dm: distance_dm(chord_squared),
            })
        };
        view.into_iter().filter_map(entry).collect()
    }

    /// Says to each session of a viewer that what follows obeys its present list.
    pub(super) fn tell_applied(&mut self, id: Id, out: &mut Outbox) {
        let (Some(version), Some(slot)) = (self.viewer(id).map(|viewer| viewer.version), self.people.slot(id)) else {
            return;
        };
        self.stats.applied += self.each_session(slot, |to| out.applied(to, version));
    }

    pub(super) fn digest_due(&mut self, id: Id, out: &mut Outbox) {
        let (Some(digest), Some(slot)) = (self.viewer(id).map(|viewer| viewer.digest), self.people.slot(id)) else {
            return;
        };
        let count = self.people.online(id).iter().filter(|link| link.says(Says::InView)).count();
        self.stats.digests += self.each_session(slot, |to| out.digest(to, count, digest.to_i64()));
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
            let slot = self.scan.next as u32;
            if self.slots.hot(slot).is_connected() {
                sent += self.reset_due(self.slots.id(slot), out);
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
            if !self.slots.hot(slot).is_connected() {
                continue;
            }
            let mut sessions = self.slots.sessions(slot, self.now_ms);
            let there = |session: &&mut Session| session.gateway == gateway && session.generation != NO_GENERATION;
            let mut any = false;
            for session in sessions.iter_mut().filter(there) {
                session.generation = NO_GENERATION;
                session.cause = ResetCause::Delivery;
                any = true;
            }
            if any {
                self.slots.set_sessions(slot, sessions);
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
            if !self.slots.hot(slot).is_connected() {
                continue;
            }
            let mut sessions = self.slots.sessions(slot, self.now_ms);
            let ended = sessions.drop_if(|session| session.gateway == gateway);
            if !ended.is_empty() {
                dropped += ended.len();
                self.slots.set_sessions(slot, sessions);
                self.sessions_ended(slot, ended);
            }
        }
        dropped
    }
}
