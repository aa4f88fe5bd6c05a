//! What flows to one session: which deliveries count, which friends are left out, and what waits to be written.
//!
//! Deltas count once a reset of their epoch has come, and only while it is the last reset's. What a notice takes away is
//! dropped at once and stays away until the worker follows a list without it. Times are ms of any clock that does not go
//! back.

use std::collections::BTreeMap;
use std::sync::Arc;

use nearcast_schemas::delivery::{Digest, RemovalReason, Reset, ResetEntry, Stranger};
use nearcast_schemas::digest::{ListDigest, ViewDigest};
use nearcast_schemas::event::Mode;
use nearcast_schemas::refusal::Refusal;

use crate::epochs::Dropped;
use crate::frames::{
    Bye, DigestMessage, Entry, FriendMessage, Gone, GoneReason, ResetPart, ServerMessage, StrangersMessage, Welcome,
};
use crate::outbox::{FRAME_ENTRIES, Next, Outbox};

/// Version of a list that no notice is older than, until the viewer's own is known.
const NO_LIST: i64 = i64::MIN;
/// Between two questions for a reset there is at least this time; ms.
const ASK_AGAIN_MS: i64 = 1_000;
/// The time between two questions that stay without a reset grows up to this; ms.
const ASK_LATEST_MS: i64 = 60_000;

/// Whom a delivery is for, and under which epoch it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The session.
    pub handle: i32,
    /// Of the owner of the viewer's partition.
    pub epoch: i64,
}

/// Why the connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// What the client is told.
    pub refusal: Refusal,
    /// When the client may come back, in ms from then.
    pub reconnect_in_ms: Option<i64>,
}

/// What holds for every feed of a gateway; times in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Changes are gathered for this time unless the client was idle.
    pub window_ms: i64,
    /// A reset that does not come within this time is asked for again.
    pub reset_wait_ms: i64,
    /// When what waits to be written takes more memory than this, it is dropped, and a whole list asked for.
    pub waiting_bytes: usize,
}

/// Whether the connection's task has to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wake {
    Resting(Rest),
    /// It has been woken.
    Woken,
}

/// What the connection's task waits for besides news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Nothing else.
    Idle,
    /// The end of the window: it looks for changes then.
    Window,
    /// The socket, which takes nothing more now: it looks for changes when it does.
    Socket,
}

#[derive(Debug)]
struct Coming {
    epoch: i64,
    next: i32,
    parts: i32,
}

#[derive(Debug)]
struct Joined {
    handle: i32,
    partition: i32,
    list_version: i64,
    welcomed: bool,
    /// Epoch of the last reset.
    live: Option<i64>,
    /// The reset of which parts are missing.
    coming: Option<Coming>,
    /// Friends whom the viewer no longer sees, and the list without them.
    forgotten: BTreeMap<Arc<str>, i64>,
    /// Muted friends, and whether they are in the worker's view, where that is known.
    muted: BTreeMap<Arc<str>, Option<bool>>,
    ask_at: Option<i64>,
    asked_at: Option<i64>,
    ask_wait_ms: i64,
}

/// The flow to one session.
#[derive(Debug)]
pub struct Feed {
    outbox: Outbox,
    rules: Rules,
    joined: Option<Joined>,
    mode: Option<Mode>,
    ending: Option<Ending>,
    issued_at: Option<i64>,
    wake: Wake,
    /// Something came for the task that it has not attended to.
    urgent: bool,
}

impl Feed {
    /// For a socket whose session has not begun.
    pub fn new(rules: Rules) -> Self {
        Self {
            outbox: Outbox::new(rules.window_ms),
            rules,
            joined: None,
            mode: None,
            ending: None,
            issued_at: None,
            wake: Wake::Resting(Rest::Idle),
            urgent: false,
        }
    }

    /// The session gets its handle: from now on notices and deliveries may come, and are held back until the welcome.
    pub fn join(&mut self, handle: i32, partition: i32) {
        self.outbox.drop_data();
        self.outbox.resume(None);
        self.outbox.hold(true);
        self.joined = Some(Joined {
            handle,
            partition,
            list_version: NO_LIST,
            welcomed: false,
            live: None,
            coming: None,
            forgotten: BTreeMap::new(),
            muted: BTreeMap::new(),
            ask_at: None,
            asked_at: None,
            ask_wait_ms: self.rules.reset_wait_ms,
        });
    }

    /// The client says what it holds from before; a whole list that is just that is not written again.
    pub fn resume(&mut self, client_holds: ListDigest) {
        self.outbox.resume(Some(client_holds));
    }

    /// The API has answered by this version of the viewer's list. What notices took away by a later one stays away.
    /// Returns how the user shares: as the answer says, unless a notice said something newer meanwhile.
    pub fn answered(&mut self, list_version: i64, mode: Mode) -> Mode {
        if let Some(joined) = &mut self.joined {
            joined.follows(list_version);
        }
        self.mode.filter(|noticed| noticed.version > mode.version).unwrap_or(mode)
    }

    /// The session did not come about, or is over: its handle means nothing any more.
    pub fn leave(&mut self) {
        self.outbox.drop_data();
        self.joined = None;
        self.mode = None;
    }

    /// The log has the session's hello: the welcome goes out, and the first answer unless the worker's reset is here.
    pub fn welcome(&mut self, welcome: Welcome, nearby: Vec<ResetEntry>, known: bool, now: i64) {
        self.outbox.control(ServerMessage::Welcome(Box::new(welcome)));
        self.outbox.hold(false);
        let Some(joined) = &mut self.joined else { return };
        joined.welcomed = true;
        if joined.live.is_none() {
            joined.ask_at = Some(now.saturating_add(joined.ask_wait_ms));
            let entries: Vec<Entry> = nearby
                .into_iter()
                .map(|entry| Entry::of_reset(entry, 0))
                .filter(|entry| !joined.forgotten.contains_key(entry.friend()))
                .collect();
            let parts = i32::try_from(entries.len().div_ceil(FRAME_ENTRIES).max(1)).unwrap_or(i32::MAX);
            let mut entries = entries.into_iter();
            for part in 1..=parts {
                let head = ResetPart { part, parts, provisional: true, known };
                self.outbox.reset_part(head, entries.by_ref().take(FRAME_ENTRIES).collect());
            }
        }
    }

    /// The viewer's partition, once the session has a handle.
    pub fn partition_of(&self, handle: i32) -> Option<i32> {
        self.joined.as_ref().filter(|joined| joined.handle == handle).map(|joined| joined.partition)
    }

    /// A friend's position. Ok(true): it replaces one that the client never saw.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn upsert(&mut self, to: Address, entry: Entry) -> Result<bool, Dropped> {
        let joined = Self::live(&mut self.joined, to)?;
        if let Some(in_view) = joined.muted.get_mut(entry.friend()) {
            *in_view = Some(true);
            return Err(Dropped::Muted);
        }
        if joined.forgotten.contains_key(entry.friend()) {
            return Err(Dropped::Forgotten);
        }
        let conflated = self.outbox.upsert(entry);
        self.bounded().map(|()| conflated)
    }

    /// A friend left the view. Ok(true): it replaces something that the client never saw.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn removal(
        &mut self,
        to: Address,
        friend: &Arc<str>,
        reason: RemovalReason,
        appended_at: i64,
    ) -> Result<bool, Dropped> {
        let joined = Self::live(&mut self.joined, to)?;
        if let Some(in_view) = joined.muted.get_mut(friend) {
            *in_view = Some(false);
            return Err(Dropped::Muted);
        }
        if joined.forgotten.contains_key(friend) {
            return Err(Dropped::Forgotten);
        }
        let conflated = self.outbox.removal(Gone { friend: friend.clone(), reason: reason.into(), appended_at });
        self.bounded().map(|()| conflated)
    }

    /// A part of a whole view. Where it cannot be used another one is asked for.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn reset(&mut self, epoch: i64, reset: Reset, appended_at: i64, now: i64) -> Result<(), Dropped> {
        let Reset { handle, list_version, part, parts, entries } = reset;
        let joined = Self::joined(&mut self.joined, handle)?;
        if list_version < joined.list_version {
            joined.coming = None;
            self.outbox.resume(None);
            joined.want_reset(now.saturating_add(ASK_AGAIN_MS));
            return Err(Dropped::OldList);
        }
        let expected = joined
            .coming
            .as_ref()
            .is_some_and(|coming| coming.epoch == epoch && coming.parts == parts && coming.next == part);
        if part != 1 && !expected {
            self.outbox.resume(None);
            joined.want_reset(now.saturating_add(ASK_AGAIN_MS));
            return Err(Dropped::ResetPart);
        }
        if part == 1 {
            joined.live = Some(epoch);
            joined.muted.values_mut().for_each(|in_view| *in_view = Some(false));
        }
        joined.follows(list_version);
        if part < parts {
            joined.coming = Some(Coming { epoch, next: part + 1, parts });
        } else {
            joined.coming = None;
            joined.ask_at = None;
            joined.ask_wait_ms = self.rules.reset_wait_ms;
        }
        let mut shown = Vec::with_capacity(entries.len());
        for entry in entries {
            let entry = Entry::of_reset(entry, appended_at);
            if let Some(in_view) = joined.muted.get_mut(entry.friend()) {
                *in_view = Some(true);
            } else if !joined.forgotten.contains_key(entry.friend()) {
                shown.push(entry);
            }
        }
        self.outbox.reset_part(ResetPart { part, parts, provisional: false, known: true }, shown);
        self.bounded()
    }

    /// Where more waits than may, nothing waits any more, and the session is told nothing before another whole list.
    fn bounded(&mut self) -> Result<(), Dropped> {
        if self.outbox.waiting_bytes() <= self.rules.waiting_bytes {
            return Ok(());
        }
        self.outbox.drop_data();
        self.outbox.resume(None);
        if let Some(joined) = &mut self.joined {
            (joined.live, joined.coming) = (None, None);
            joined.want_reset(i64::MIN);
        }
        Err(Dropped::Overflow)
    }

    /// The worker follows this version of the viewer's list from here on.
    ///
    /// # Errors
    /// Why it does not count.
    pub fn applied(&mut self, to: Address, list_version: i64) -> Result<(), Dropped> {
        Self::live(&mut self.joined, to)?.follows(list_version);
        Ok(())
    }

    /// What the worker's view is at this point. Without the muted friends in it, it is what the client should hold.
    ///
    /// # Errors
    /// Why it does not count: also while it is not known whether a muted friend is in the view, and while the worker's
    /// view still holds somebody who was taken away here.
    pub fn digest(&mut self, epoch: i64, digest: Digest) -> Result<(), Dropped> {
        let joined = Self::live(&mut self.joined, Address { handle: digest.handle, epoch })?;
        if !joined.forgotten.is_empty() {
            return Err(Dropped::Forgotten);
        }
        if joined.coming.is_some() {
            return Err(Dropped::BeforeReset);
        }
        let mut count = digest.count;
        let mut sum = ViewDigest::from_i64(digest.digest);
        for (friend, in_view) in &joined.muted {
            if in_view.ok_or(Dropped::Muted)? {
                count = count.saturating_sub(1);
                sum.remove(friend);
            }
        }
        self.outbox.digest(DigestMessage { count, digest: sum.to_hex() });
        Ok(())
    }

    /// All strangers near. Ok(true): they replace some that the client never saw.
    ///
    /// # Errors
    /// Why they do not count.
    pub fn strangers(&mut self, to: Address, strangers: Vec<Stranger>) -> Result<bool, Dropped> {
        Self::live(&mut self.joined, to)?;
        Ok(self.outbox.strangers(StrangersMessage { strangers }))
    }

    /// A newer session took this one's place at the worker.
    ///
    /// # Errors
    /// When the handle is another session's.
    pub fn superseded(&mut self, handle: i32) -> Result<(), Dropped> {
        Self::joined(&mut self.joined, handle)?;
        self.end(Refusal::Superseded, None);
        Ok(())
    }

    /// The viewer no longer sees this friend, as the list of this version says. Nothing to do where the worker follows
    /// that list already.
    pub fn forget(&mut self, friend: &Arc<str>, list_version: i64) {
        let Some(joined) = &mut self.joined else { return };
        if joined.list_version >= list_version {
            return;
        }
        let known = joined.forgotten.entry(friend.clone()).or_insert(list_version);
        *known = list_version.max(*known);
        // Also a muted one: the removal for the mute may not be written yet.
        self.outbox.forget(friend, GoneReason::NotShared);
    }

    /// The session wants to see no more of this friend.
    pub fn mute(&mut self, friend: &Arc<str>) {
        let Some(joined) = &mut self.joined else { return };
        if !joined.muted.contains_key(friend) {
            joined.muted.insert(friend.clone(), None);
            self.outbox.forget(friend, GoneReason::Muted);
        }
    }

    /// The session wants to see this friend again, who comes back by a reset.
    pub fn unmute(&mut self, friend: &str, now: i64) {
        let Some(joined) = &mut self.joined else { return };
        if joined.muted.remove(friend).is_some() {
            joined.want_reset(now);
        }
    }

    /// Queues the API's answer to `subscribe`. False when the friend was taken away meanwhile: then nothing is queued.
    pub fn friend(&mut self, answer: FriendMessage) -> bool {
        let allowed = self.joined.as_ref().is_some_and(|joined| !joined.forgotten.contains_key(&answer.friend));
        if allowed {
            self.outbox.control(ServerMessage::Friend(Box::new(answer)));
        }
        allowed
    }

    /// Muted friends.
    pub fn muted_len(&self) -> usize {
        self.joined.as_ref().map_or(0, |joined| joined.muted.len())
    }

    /// The session should get a reset: the client asked, or something may be missing. So the client need not hold what
    /// it said.
    pub fn want_reset(&mut self, now: i64) {
        self.outbox.resume(None);
        if let Some(joined) = &mut self.joined {
            joined.want_reset(now);
        }
    }

    /// Whether a reset is to be asked for now. If none comes, this is true again after some time, which grows.
    pub fn take_ask(&mut self, now: i64) -> bool {
        let Some(joined) = &mut self.joined else { return false };
        if !joined.welcomed || joined.ask_at.is_none_or(|at| at > now) {
            return false;
        }
        if self.outbox.is_gathering() {
            // The rest of it does not come: nothing is kept waiting for it any longer.
            self.outbox.resume(None);
        }
        joined.asked_at = Some(now);
        joined.ask_at = Some(now.saturating_add(joined.ask_wait_ms));
        joined.ask_wait_ms = joined.ask_wait_ms.saturating_mul(2).min(ASK_LATEST_MS);
        true
    }

    /// When [`Feed::take_ask`] may become true.
    pub fn ask_at(&self) -> Option<i64> {
        self.joined.as_ref().filter(|joined| joined.welcomed).and_then(|joined| joined.ask_at)
    }

    /// The user shares by this mode from now on.
    pub fn set_mode(&mut self, mode: Mode) {
        if self.mode.is_none_or(|known| known.version < mode.version) {
            self.mode = Some(mode);
        }
    }

    /// The mode to stamp reports with from now on, if it has changed. None before the welcome: nothing is reported then,
    /// and a change is kept.
    pub fn take_mode(&mut self) -> Option<Mode> {
        if self.joined.as_ref().is_some_and(|joined| joined.welcomed) { self.mode.take() } else { None }
    }

    /// The connection is to end. The first reason stays.
    pub fn end(&mut self, refusal: Refusal, reconnect_in_ms: Option<i64>) {
        self.ending.get_or_insert(Ending { refusal, reconnect_in_ms });
    }

    /// The connection goes on with a token that was issued at this time, in seconds since the epoch, if it says so.
    pub fn set_issued_at(&mut self, issued_at: Option<i64>) {
        self.issued_at = issued_at;
    }

    /// When the connection's token was issued.
    pub fn issued_at(&self) -> Option<i64> {
        self.issued_at
    }

    /// Why the connection is to end, if it is.
    pub fn ending(&self) -> Option<Ending> {
        self.ending
    }

    /// Queues the farewell; nothing else is written after it.
    pub fn close(&mut self, bye: Bye) {
        self.outbox.close(bye);
    }

    /// Queues an answer.
    pub fn control(&mut self, message: ServerMessage) {
        self.outbox.control(message);
    }

    /// Answers that wait.
    pub fn control_len(&self) -> usize {
        self.outbox.control_len()
    }

    /// Takes what is to be written now.
    pub fn next(&mut self, now: i64) -> Next {
        self.outbox.next(now)
    }

    /// The task looks at everything now.
    pub fn attend(&mut self) {
        self.wake = Wake::Woken;
        self.urgent = false;
    }

    /// The task will sleep. False when it has to look again first.
    pub fn rest(&mut self, rest: Rest) -> bool {
        if !self.urgent {
            self.wake = Wake::Resting(rest);
        }
        !self.urgent
    }

    /// Friends with a change that waits.
    #[cfg(test)]
    pub fn changes_len(&self) -> usize {
        self.outbox.changes_len()
    }

    /// After changes: whether the task has to be woken for them.
    pub fn wake_for_changes(&mut self) -> bool {
        let needed = match self.wake {
            Wake::Woken | Wake::Resting(Rest::Socket) => false,
            // A full frame does not wait.
            Wake::Resting(Rest::Window) => self.outbox.changes_len() >= FRAME_ENTRIES,
            Wake::Resting(Rest::Idle) => true,
        };
        if needed {
            self.wake = Wake::Woken;
        }
        needed
    }

    /// After anything else: whether the task has to be woken for it.
    pub fn wake_now(&mut self) -> bool {
        self.urgent = true;
        std::mem::replace(&mut self.wake, Wake::Woken) != Wake::Woken
    }

    fn joined(joined: &mut Option<Joined>, handle: i32) -> Result<&mut Joined, Dropped> {
        joined.as_mut().filter(|joined| joined.handle == handle).ok_or(Dropped::UnknownHandle)
    }

    fn live(joined: &mut Option<Joined>, to: Address) -> Result<&mut Joined, Dropped> {
        let joined = Self::joined(joined, to.handle)?;
        if joined.live == Some(to.epoch) { Ok(joined) } else { Err(Dropped::BeforeReset) }
    }
}

impl Joined {
    fn follows(&mut self, list_version: i64) {
        self.list_version = self.list_version.max(list_version);
        self.forgotten.retain(|_, without| *without > list_version);
    }

    fn want_reset(&mut self, at: i64) {
        let at = self.asked_at.map_or(at, |asked| at.max(asked.saturating_add(ASK_AGAIN_MS)));
        self.ask_at = Some(self.ask_at.map_or(at, |sooner| sooner.min(at)));
    }
}

#[cfg(test)]
#[path = "feed_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "resume_tests.rs"]
mod resume_tests;
