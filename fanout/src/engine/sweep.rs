//! What happens by time alone: silences, ends of modes and entries, coarse instants, digests.

use nearcast_schemas::delivery::RemovalReason;

use super::Engine;
use super::join::Refresh;
use super::lists::LONGEST_TIMER_MS;
use super::out::Outbox;
use super::people::{Id, NO_SLOT, Single};
use super::session::Session;
use super::timers::Due;

impl Engine {
    /// It is `now_ms` (ms since the epoch, by the broker's clock): does what is due by then. Time never goes back.
    pub fn sweep(&mut self, now_ms: i64, out: &mut Outbox) {
        self.now_ms = self.now_ms.max(now_ms);
        while let Some(due) = self.timers.take_due(self.now_ms) {
            for due in due {
                out.begin();
                match due {
                    Due::User(timer, id) => {
                        self.people.stop_timer(id, timer);
                        match timer {
                            Single::Ttl => self.ttl_due(id, out),
                            Single::Coarse => self.coarse_due(id, out),
                            Single::Digest => self.digest_due(id, out),
                        }
                    }
                    Due::Mode { user, at_ms } => self.mode_due(user, at_ms, out),
                    Due::List { viewer, at_ms } => self.list_due(viewer, at_ms, out),
                }
                self.people.release(due.id());
            }
        }
        self.forget_superseded();
    }

    /// Lets go of what is older than the time to live: the position, sessions, and in the end the slot.
    fn ttl_due(&mut self, id: Id, out: &mut Outbox) {
        let Some(slot) = self.people.slot(id) else { return };
        let oldest = self.now_ms - self.settings.ttl_ms;
        if self.slots.hot(slot).place().is_some() && self.slots.cold(slot).report.at <= oldest {
            self.lose_position(id, slot, RemovalReason::Silent, out);
        }
        let ended = self.slots.cold_mut(slot).sessions.drop_if(|session| session.seen_ms <= oldest);
        self.sessions_ended(id, ended);
        let cold = self.slots.cold(slot);
        if cold.last_record_ms <= oldest {
            self.free_slot(id, slot);
            return;
        }
        let position = self.slots.hot(slot).place().map(|_| cold.report.at);
        let next = [Some(cold.last_record_ms), position, cold.sessions.oldest_seen_ms()];
        if let Some(next) = next.into_iter().flatten().min() {
            self.arm_ttl(next + self.settings.ttl_ms, id);
        }
    }

    /// Nobody sees the user any more, and the user sees nobody within a radius.
    pub(super) fn lose_position(&mut self, id: Id, slot: u32, reason: RemovalReason, out: &mut Outbox) {
        self.slots.hot_mut(slot).set_place(None);
        self.end_coarse(id, slot);
        self.friend_join(id, Refresh::All, reason, out);
        self.viewer_join(id, false, &[], out);
    }

    /// Sessions have lost their routes.
    pub(super) fn sessions_ended(&mut self, id: Id, ended: Vec<Session>) {
        if ended.is_empty() {
            return;
        }
        for session in ended {
            *self.gateways.sessions_mut(session.gateway) -= 1;
        }
        let nobody = self.people.slot(id).is_none_or(|slot| self.slots.cold(slot).sessions.is_empty());
        if nobody {
            self.deactivate(id);
        }
    }

    fn free_slot(&mut self, id: Id, slot: u32) {
        debug_assert!(!self.slots.hot(slot).is_active() || self.slots.cold(slot).sessions.is_empty());
        self.deactivate(id);
        self.slots.remove(slot);
        self.people.set_slot(id, NO_SLOT);
        self.people.release(id);
    }

    /// Looks at the mode again when it ends.
    pub(super) fn arm_mode(&mut self, id: Id, slot: u32) {
        let now_ms = self.now_ms;
        let cold = self.slots.cold_mut(slot);
        if cold.mode.until <= now_ms {
            return;
        }
        let at_ms = cold.mode.until.min(now_ms + LONGEST_TIMER_MS);
        cold.mode_timer_ms = at_ms;
        self.arm(at_ms, Due::Mode { user: id, at_ms });
    }

    fn mode_due(&mut self, id: Id, at_ms: i64, out: &mut Outbox) {
        let Some(slot) = self.people.slot(id) else { return };
        let cold = self.slots.cold(slot);
        if cold.mode_timer_ms != at_ms {
            return;
        }
        if cold.mode.until > self.now_ms {
            self.arm_mode(id, slot);
            return;
        }
        self.share(slot);
        self.friend_join(id, Refresh::All, RemovalReason::Silent, out);
    }
}
