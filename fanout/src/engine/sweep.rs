//! What happens by time alone: silences, ends of modes and entries, coarse instants, digests.

use nearcast_schemas::delivery::RemovalReason;

use super::Engine;
use super::join::{Refresh, Walk};
use super::lists::LONGEST_TIMER_MS;
use super::out::Outbox;
use super::people::{Id, Single};
use super::session::Session;
use super::timers::Due;

impl Engine {
    /// It is `now_ms` (ms since the epoch, by the broker's clock): does what is due by then. Time never goes back.
    pub fn sweep(&mut self, now_ms: i64, out: &mut Outbox) {
        self.now_ms = self.now_ms.max(now_ms);
        let mut silent = self.silences().into_iter().peekable();
        loop {
            let timer_ms = self.timers.first_ms().filter(|&at_ms| at_ms <= self.now_ms);
            if let Some((_, slot)) = silent.next_if(|&(at_ms, _)| timer_ms.is_none_or(|timer_ms| at_ms <= timer_ms)) {
                out.begin();
                self.ttl_due(slot, out);
                continue;
            }
            let Some(at_ms) = timer_ms else { break };
            for due in self.timers.take_first() {
                out.begin();
                match due {
                    Due::User(timer, id) => {
                        self.people.stop_timer(id, timer);
                        match timer {
                            Single::Coarse => {
                                self.coarse_due(id, out);
                                self.strangers_due(id, out);
                            }
                            Single::Digest => self.digest_due(id, out),
                        }
                        self.people.release(id);
                    }
                    Due::Mode(id) => self.mode_due(id, at_ms, out),
                    Due::List(id) => self.expiry_due(id, at_ms, out),
                }
            }
        }
        self.age_lists(out);
        self.forget_superseded();
    }

    /// The slots of which something is too old by now, in the order in which it became so.
    fn silences(&mut self) -> Vec<(i64, u32)> {
        let mut due = Vec::new();
        for slot in self.wheel.take(&mut self.slots, self.now_ms) {
            let at_ms = self.silent_at(slot);
            if at_ms <= self.now_ms {
                due.push((at_ms, slot));
            } else {
                self.wheel.add(&mut self.slots, slot, at_ms, self.now_ms);
            }
        }
        due.sort_unstable();
        due
    }

    /// When the first of what a slot holds is older than the time to live, ms since the epoch.
    pub(super) fn silent_at(&self, slot: u32) -> i64 {
        let (hot, cold) = (self.slots.hot(slot), self.slots.cold(slot));
        let position = hot.place().map(|_| cold.at_ms(self.now_ms));
        let session = if hot.is_connected() { self.slots.sessions(slot, self.now_ms).oldest_seen_ms() } else { None };
        let oldest = [position, session].into_iter().flatten().fold(cold.last_record_ms(self.now_ms), i64::min);
        oldest + self.settings.ttl_ms
    }

    /// Lets go of what is older than the time to live: the position, sessions, and in the end the slot.
    fn ttl_due(&mut self, slot: u32, out: &mut Outbox) {
        let id = self.slots.id(slot);
        let oldest = self.now_ms - self.settings.ttl_ms;
        self.let_go(slot, oldest, out);
        if self.slots.cold(slot).last_record_ms(self.now_ms) <= oldest {
            self.free_slot(id, slot);
        } else {
            let at_ms = self.silent_at(slot);
            self.wheel.add(&mut self.slots, slot, at_ms, self.now_ms);
        }
    }

    /// Lets go of the position and of sessions that are as old as `oldest`, ms since the epoch.
    pub(super) fn let_go(&mut self, slot: u32, oldest: i64, out: &mut Outbox) {
        let id = self.slots.id(slot);
        if self.slots.hot(slot).place().is_some() && self.slots.cold(slot).at_ms(self.now_ms) <= oldest {
            self.lose_position(id, slot, RemovalReason::Silent, out);
        }
        if self.slots.hot(slot).is_connected() {
            let mut sessions = self.slots.sessions(slot, self.now_ms);
            let ended = sessions.drop_if(|session| session.seen_ms <= oldest);
            self.slots.set_sessions(slot, sessions);
            self.sessions_ended(slot, ended);
        }
    }

    /// Nobody sees the user any more, and the user sees nobody within a radius.
    pub(super) fn lose_position(&mut self, id: Id, slot: u32, gone: RemovalReason, out: &mut Outbox) {
        self.slots.hot_mut(slot).set_place(None);
        self.end_coarse(id, slot, out);
        self.join(id, Walk { friend: Some(Refresh::All), gone, viewer: true, ..Walk::NONE }, out);
    }

    /// Sessions have lost their routes.
    pub(super) fn sessions_ended(&mut self, slot: u32, ended: Vec<Session>) {
        if ended.is_empty() {
            return;
        }
        for session in ended {
            *self.gateways.sessions_mut(session.gateway) -= 1;
        }
        if !self.slots.hot(slot).is_connected() {
            self.deactivate(self.slots.id(slot), slot);
        }
    }

    fn free_slot(&mut self, id: Id, slot: u32) {
        debug_assert!(!self.slots.hot(slot).is_connected());
        self.deactivate(id, slot);
        let Self { people, slots, .. } = self;
        people.go_offline(id, slot, |slot| slots.id(slot));
        slots.remove(slot);
        people.release(id);
    }

    /// Looks at the mode again when it ends.
    pub(super) fn arm_mode(&mut self, id: Id, slot: u32) {
        let Some(mode) = self.slots.mode(slot).filter(|mode| mode.until > self.now_ms) else { return };
        let at_ms = mode.until.min(self.now_ms + LONGEST_TIMER_MS);
        if let Some(timer_ms) = self.slots.mode_timer_mut(slot) {
            *timer_ms = at_ms;
            self.timers.add(at_ms, Due::Mode(id));
        }
    }

    fn mode_due(&mut self, id: Id, at_ms: i64, out: &mut Outbox) {
        let Some(slot) = self.people.slot(id) else { return };
        if self.slots.mode_timer_mut(slot).copied() != Some(at_ms) {
            return;
        }
        if self.slots.mode(slot).is_some_and(|mode| mode.until > self.now_ms) {
            self.arm_mode(id, slot);
            return;
        }
        self.share(slot);
        self.friend_join(id, Refresh::All, out);
        self.discover(id, out);
    }
}
