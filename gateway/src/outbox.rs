//! What waits to be written to one socket: a map by friend, so that a newer position replaces the older and a slow
//! phone grows no memory and holds nobody back.
//!
//! Order of writing: control messages, then the parts of a reset or the word that it changes nothing, then strangers,
//! then changes, then the digest. Times are ms of any clock that does not go back.
//!
//! Where it is known what the client holds, a reset waits until its last part is here, and everything behind it with it:
//! then it is written, or `unchanged` in its place.

use std::collections::VecDeque;
use std::sync::Arc;

use nearcast_schemas::digest::ListDigest;
use nearcast_schemas::refusal::Refusal;

use crate::frames::{
    Bye, DigestMessage, Entry, ErrorMessage, FriendMessage, Gone, GoneReason, Kind, Nearby, ResetPart, ServerMessage,
    StrangersMessage, Unchanged,
};
use crate::waiting::{Part, Waiting};

/// Most friends in one frame.
pub const FRAME_ENTRIES: usize = 20;

/// What is to be done now.
#[derive(Debug, PartialEq)]
pub enum Next {
    /// Write this.
    Message(ServerMessage),
    /// Nothing before this time.
    At(i64),
    /// Nothing.
    Nothing,
}

/// The queue of one socket. While nothing waits it holds no memory besides itself.
#[derive(Debug)]
pub struct Outbox {
    /// Changes within this time of the last ones become one frame; ms.
    window_ms: i64,
    control: VecDeque<ServerMessage>,
    waiting: Option<Box<Waiting>>,
    /// What the client holds once it has read everything that was written, where it says what it holds and nothing but
    /// whole lists was written since.
    client_holds: Option<ListDigest>,
    /// The last part of the reset is not here, and it is to be compared.
    gathering: bool,
    /// When changes were written last.
    written_at: Option<i64>,
    held: bool,
    closed: bool,
}

impl Outbox {
    /// An empty queue whose changes are gathered for `window_ms` unless the client was idle.
    pub fn new(window_ms: i64) -> Self {
        Self {
            window_ms,
            control: VecDeque::new(),
            waiting: None,
            client_holds: None,
            gathering: false,
            written_at: None,
            held: false,
            closed: false,
        }
    }

    /// Control messages that wait. Whoever reads from the client stops reading while there are many, so that they stay
    /// bounded.
    pub fn control_len(&self) -> usize {
        self.control.len()
    }

    /// About how much memory takes what waits about friends and strangers; bytes.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| waiting.bytes())
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.control.is_empty() && self.waiting.is_none()
    }

    /// Whether lists, changes and digests wait for something; control messages never do.
    pub fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// What the client says that it holds. None: it does not say, and is not told `unchanged`.
    pub fn resume(&mut self, client_holds: Option<ListDigest>) {
        self.client_holds = client_holds;
        self.gathering = false;
    }

    /// Whether everything but control messages waits for the last part of a reset.
    pub fn is_gathering(&self) -> bool {
        self.gathering
    }

    /// Friends with a change that waits.
    pub fn changes_len(&self) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| waiting.changes_len())
    }

    /// Queues an answer.
    pub fn control(&mut self, message: ServerMessage) {
        if !self.closed {
            self.control.push_back(message);
        }
    }

    /// Queues a friend's position; true when it replaces one that nobody saw.
    pub fn upsert(&mut self, entry: Entry) -> bool {
        self.waiting().is_some_and(|waiting| waiting.upsert(entry))
    }

    /// Queues a friend's going; true when it replaces something that nobody saw. It is written even if the friend's
    /// coming was not: the client may hold the friend from before.
    pub fn removal(&mut self, gone: Gone) -> bool {
        if self.gathering {
            // Whoever is gone is not kept waiting for the rest of a reset.
            self.resume(None);
        }
        self.waiting().is_some_and(|waiting| waiting.removal(gone))
    }

    /// Queues one part of a whole list. The first part voids whatever waits about friends and strangers.
    pub fn reset_part(&mut self, part: ResetPart, entries: Vec<Entry>) {
        if part.part == 1 {
            self.drop_data();
        }
        let Some(waiting) = self.waiting() else { return };
        waiting.push_part(part, entries);
        self.compare(part);
    }

    /// Once a reset is here as a whole: it need not be written where the client holds just that.
    fn compare(&mut self, ResetPart { part, parts, provisional, known }: ResetPart) {
        let Some(client_holds) = self.client_holds else { return };
        self.gathering = part < parts;
        if self.gathering {
            return;
        }
        let Some(waiting) = &mut self.waiting else { return };
        let mut list = ListDigest::default();
        waiting.parts().for_each(|part| add(&mut list, &part.entries));
        if known && list == client_holds {
            waiting.drop_parts();
            waiting.unchanged = Some(Unchanged { provisional, count: list.count(), digest: list.to_hex() });
        }
    }

    /// Queues the strangers near; true when they replace some that nobody saw.
    pub fn strangers(&mut self, strangers: StrangersMessage) -> bool {
        self.waiting().is_some_and(|waiting| waiting.strangers.replace(strangers).is_some())
    }

    /// Queues a digest, which is dropped when anything newer comes before it is written.
    pub fn digest(&mut self, digest: DigestMessage) {
        if let Some(waiting) = self.waiting() {
            waiting.digest = Some(digest);
        }
    }

    /// Drops everything that waits about a friend, and queues the removal. An answer to `subscribe` becomes a refusal if
    /// the friend no longer shares.
    pub fn forget(&mut self, friend: &Arc<str>, reason: GoneReason) {
        for message in &mut self.control {
            if let ServerMessage::Friend(answer) = message
                && reason == GoneReason::NotShared
                && answer.friend == *friend
            {
                let FriendMessage { re, .. } = &mut **answer;
                let refused =
                    ErrorMessage { re: re.take(), of: Some(Kind::Subscribe), ..ErrorMessage::new(Refusal::NotAFriend) };
                *message = ServerMessage::Error(Box::new(refused));
            }
        }
        if let Some(waiting) = &mut self.waiting {
            waiting.forget(friend);
        }
        self.removal(Gone { friend: friend.clone(), reason, appended_at: 0 });
    }

    /// Drops whatever waits about friends, queues the farewell, and takes nothing more.
    pub fn close(&mut self, bye: Bye) {
        if !self.closed {
            self.drop_data();
            self.control.push_back(ServerMessage::Bye(Box::new(bye)));
            self.closed = true;
        }
    }

    /// Whether the farewell has been queued.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Takes what is to be written now.
    pub fn next(&mut self, now: i64) -> Next {
        if let Some(message) = self.control.pop_front() {
            if self.control.is_empty() {
                self.control = VecDeque::new();
            }
            return Next::Message(message);
        }
        if self.held || self.gathering {
            return Next::Nothing;
        }
        let next = self.next_waiting(now);
        if self.waiting.as_ref().is_some_and(|waiting| waiting.is_empty()) {
            self.waiting = None;
        }
        next
    }

    fn next_waiting(&mut self, now: i64) -> Next {
        let Some(waiting) = &mut self.waiting else { return Next::Nothing };
        if let Some(unchanged) = waiting.unchanged.take() {
            return Next::Message(ServerMessage::Unchanged(unchanged));
        }
        if let Some(Part { part, entries }) = waiting.take_part() {
            self.written_at = Some(now);
            if let Some(client_holds) = &mut self.client_holds {
                if part.part == 1 {
                    *client_holds = ListDigest::default();
                }
                add(client_holds, &entries);
            }
            let nearby = Nearby { reset: Some(part), upserts: entries, removals: Vec::new() };
            return Next::Message(ServerMessage::Nearby(nearby));
        }
        // Few, and who is gone is gone at once.
        if let Some(strangers) = waiting.strangers.take() {
            return Next::Message(ServerMessage::Strangers(strangers));
        }
        if waiting.changes_len() > 0 {
            // A full frame gains nothing by waiting.
            if waiting.changes_len() < FRAME_ENTRIES
                && let Some(due) = self.written_at.map(|at| at.saturating_add(self.window_ms))
                && due > now
            {
                return Next::At(due);
            }
            self.written_at = Some(now);
            self.client_holds = None;
            return Next::Message(ServerMessage::Nearby(waiting.take_changes()));
        }
        match waiting.digest.take() {
            Some(digest) => Next::Message(ServerMessage::Digest(digest)),
            None => Next::Nothing,
        }
    }

    /// Drops whatever waits about friends and strangers.
    pub fn drop_data(&mut self) {
        self.waiting = None;
        self.gathering = false;
    }

    /// Where data may wait: none once the box is closed.
    fn waiting(&mut self) -> Option<&mut Waiting> {
        if self.closed { None } else { Some(self.waiting.get_or_insert_default()) }
    }
}

fn add(list: &mut ListDigest, entries: &[Entry]) {
    for Entry { sighting, .. } in entries {
        list.add(&sighting.friend, &sighting.display_name, sighting.position.at, sighting.position.coarse);
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
