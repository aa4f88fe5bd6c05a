//! What waits to be written to one socket: a map by friend, so that a newer position replaces the older and a slow
//! phone grows no memory and holds nobody back.
//!
//! Order of writing: control messages, then the parts of a reset, then changes, then the digest. Times are ms of any
//! clock that does not go back.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use nearcast_schemas::refusal::Refusal;

use crate::frames::{
    Bye, DigestMessage, Entry, ErrorMessage, FriendMessage, Gone, GoneReason, Kind, Nearby, ResetPart, ServerMessage,
};

/// Most friends in one frame.
pub const FRAME_ENTRIES: usize = 20;

/// Emptied maps that once held more than this give their memory back.
const KEPT_CAPACITY: usize = 64;

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

#[derive(Debug)]
enum Change {
    Upsert(Entry),
    Removal(Gone),
}

#[derive(Debug)]
struct Part {
    part: ResetPart,
    entries: Vec<Entry>,
}

/// The queue of one socket.
#[derive(Debug)]
pub struct Outbox {
    /// Changes within this time of the last ones become one frame; ms.
    window_ms: i64,
    control: VecDeque<ServerMessage>,
    parts: VecDeque<Part>,
    changes: HashMap<Arc<str>, (u64, Change)>,
    /// Friends in the order of their first pending change; an entry whose stamp is not the change's is void.
    order: VecDeque<(u64, Arc<str>)>,
    stamp: u64,
    digest: Option<DigestMessage>,
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
            parts: VecDeque::new(),
            changes: HashMap::new(),
            order: VecDeque::new(),
            stamp: 0,
            digest: None,
            written_at: None,
            held: false,
            closed: false,
        }
    }

    /// Control messages that wait. Whoever reads from the client stops reading while there are many, so that the queue
    /// stays bounded: everything else in it is bounded by the number of friends.
    pub fn control_len(&self) -> usize {
        self.control.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.control.is_empty() && self.parts.is_empty() && self.changes.is_empty() && self.digest.is_none()
    }

    /// Whether lists, changes and digests wait for something; control messages never do.
    pub fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// Friends with a change that waits.
    pub fn changes_len(&self) -> usize {
        self.changes.len()
    }

    /// Queues an answer.
    pub fn control(&mut self, message: ServerMessage) {
        if !self.closed {
            self.control.push_back(message);
        }
    }

    /// Queues a friend's position; true when it replaces one that nobody saw.
    pub fn upsert(&mut self, entry: Entry) -> bool {
        self.change(entry.friend().clone(), Change::Upsert(entry))
    }

    /// Queues a friend's going; true when it replaces something that nobody saw. It is written even if the friend's
    /// coming was not: the client may hold the friend from before.
    pub fn removal(&mut self, gone: Gone) -> bool {
        self.change(gone.friend.clone(), Change::Removal(gone))
    }

    /// Queues one part of a whole list. The first part voids whatever waits about friends.
    pub fn reset_part(&mut self, part: ResetPart, entries: Vec<Entry>) {
        if self.closed {
            return;
        }
        if part.part == 1 {
            self.drop_data();
        }
        for entry in &entries {
            // The part was decided later than the change, and is written earlier.
            self.changes.remove(entry.friend());
        }
        self.digest = None;
        self.parts.push_back(Part { part, entries });
        self.tidy();
    }

    /// Queues a digest, which is dropped when anything newer comes before it is written.
    pub fn digest(&mut self, digest: DigestMessage) {
        if !self.closed {
            self.digest = Some(digest);
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
        for part in &mut self.parts {
            part.entries.retain(|entry| entry.friend() != friend);
        }
        self.changes.remove(friend);
        self.tidy();
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
            return Next::Message(message);
        }
        if self.held {
            return Next::Nothing;
        }
        if let Some(Part { part, entries }) = self.parts.pop_front() {
            self.written_at = Some(now);
            let nearby = Nearby { reset: Some(part), upserts: entries, removals: Vec::new() };
            return Next::Message(ServerMessage::Nearby(nearby));
        }
        if !self.changes.is_empty() {
            // A full frame gains nothing by waiting.
            if self.changes.len() < FRAME_ENTRIES
                && let Some(due) = self.written_at.map(|at| at.saturating_add(self.window_ms))
                && due > now
            {
                return Next::At(due);
            }
            self.written_at = Some(now);
            return Next::Message(ServerMessage::Nearby(self.take_changes()));
        }
        match self.digest.take() {
            Some(digest) => Next::Message(ServerMessage::Digest(digest)),
            None => Next::Nothing,
        }
    }

    fn change(&mut self, friend: Arc<str>, change: Change) -> bool {
        if self.closed {
            return false;
        }
        self.digest = None;
        if let Some((_, waiting)) = self.changes.get_mut(&friend) {
            *waiting = change;
            return true;
        }
        self.stamp += 1;
        self.order.push_back((self.stamp, friend.clone()));
        self.changes.insert(friend, (self.stamp, change));
        self.tidy();
        false
    }

    fn take_changes(&mut self) -> Nearby {
        let mut nearby = Nearby::default();
        while nearby.upserts.len() + nearby.removals.len() < FRAME_ENTRIES {
            let Some((stamp, friend)) = self.order.pop_front() else { break };
            if self.changes.get(&friend).is_none_or(|(current, _)| *current != stamp) {
                continue;
            }
            match self.changes.remove(&friend) {
                Some((_, Change::Upsert(entry))) => nearby.upserts.push(entry),
                Some((_, Change::Removal(gone))) => nearby.removals.push(gone),
                None => {}
            }
        }
        self.tidy();
        nearby
    }

    /// Drops whatever waits about friends.
    pub fn drop_data(&mut self) {
        self.parts.clear();
        self.changes.clear();
        self.digest = None;
        self.tidy();
    }

    /// Keeps void entries of the order in proportion, and gives memory back once nothing waits.
    fn tidy(&mut self) {
        if self.changes.is_empty() {
            self.order.clear();
            if self.changes.capacity() > KEPT_CAPACITY {
                self.changes.shrink_to_fit();
                self.order.shrink_to_fit();
            }
        } else if self.order.len() > 2 * self.changes.len() + KEPT_CAPACITY {
            let changes = &self.changes;
            self.order.retain(|(stamp, friend)| changes.get(friend).is_some_and(|(current, _)| current == stamp));
        }
        if self.parts.is_empty() && self.parts.capacity() > KEPT_CAPACITY {
            self.parts.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::Sighting;
    use nearcast_schemas::delivery::FriendPosition;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn entry(friend: &str, at: i64) -> Entry {
        let position = FriendPosition {
            lat: 0.0,
            lon: 0.0,
            at,
            coarse: false,
            accuracy_m: None,
            speed_mps: None,
            heading_deg: None,
        };
        let sighting = Sighting { friend: friend.into(), display_name: String::new(), position };
        Entry { sighting: Arc::new(sighting), distance_dm: 0, appended_at: 0 }
    }

    fn gone(friend: &str) -> Gone {
        Gone { friend: friend.into(), reason: GoneReason::Silent, appended_at: 0 }
    }

    fn part(part: i32, parts: i32) -> ResetPart {
        ResetPart { part, parts, provisional: false, known: true }
    }

    fn digest() -> DigestMessage {
        DigestMessage { count: 0, digest: String::new() }
    }

    fn answer(friend: &str) -> ServerMessage {
        ServerMessage::Friend(Box::new(FriendMessage {
            friend: friend.into(),
            display_name: String::new(),
            position: None,
            re: Some("m1".into()),
        }))
    }

    /// One word a message: `c` control, `f` an answer about a friend, `b` bye, `#` digest, `[1/2 a b]` a reset part,
    /// `+a -b` changes, `@t` a wait.
    fn show(next: Next) -> String {
        match next {
            Next::Nothing => "nothing".into(),
            Next::At(at) => format!("@{at}"),
            Next::Message(ServerMessage::Digest(_)) => "#".into(),
            Next::Message(ServerMessage::Bye(_)) => "b".into(),
            Next::Message(ServerMessage::Friend(_)) => "f".into(),
            Next::Message(ServerMessage::Nearby(nearby)) => {
                let mut words: Vec<String> =
                    nearby.upserts.iter().map(|e| format!("+{}{}", e.friend(), e.sighting.position.at)).collect();
                words.extend(nearby.removals.iter().map(|gone| format!("-{}", gone.friend)));
                match nearby.reset {
                    Some(part) => format!("[{}/{} {}]", part.part, part.parts, words.join(" ")),
                    None => words.join(" "),
                }
            }
            Next::Message(_) => "c".into(),
        }
    }

    fn check(outbox: &mut Outbox, now: i64, expect: &[&str]) {
        for expect in expect {
            assert_eq!(show(outbox.next(now)), *expect);
        }
    }

    #[test]
    fn the_newest_wins_and_keeps_its_place() {
        let mut outbox = Outbox::new(20);
        assert!(!outbox.upsert(entry("a", 1)));
        assert!(!outbox.upsert(entry("b", 1)));
        assert!(outbox.upsert(entry("a", 2)));
        assert!(!outbox.removal(gone("c")));
        assert!(outbox.removal(gone("b")));
        check(&mut outbox, 0, &["+a2 -b -c", "nothing"]);
    }

    #[test]
    fn an_idle_client_gets_its_first_change_at_once_and_the_next_gathered() {
        let mut outbox = Outbox::new(20);
        outbox.upsert(entry("a", 1));
        check(&mut outbox, 100, &["+a1", "nothing"]);
        outbox.upsert(entry("a", 2));
        check(&mut outbox, 105, &["@120"]);
        outbox.upsert(entry("b", 2));
        check(&mut outbox, 119, &["@120"]);
        check(&mut outbox, 120, &["+a2 +b2", "nothing"]);
    }

    #[test]
    fn twenty_to_a_frame_and_a_full_frame_does_not_wait() {
        let mut outbox = Outbox::new(20);
        for n in 0..45 {
            outbox.upsert(entry(&format!("f{n}-"), 1));
        }
        for expect in [20, 20] {
            match outbox.next(0) {
                Next::Message(ServerMessage::Nearby(nearby)) => assert_eq!(nearby.upserts.len(), expect),
                other => panic!("{other:?}"),
            }
        }
        check(&mut outbox, 0, &["@20"]);
        check(&mut outbox, 20, &["+f40-1 +f41-1 +f42-1 +f43-1 +f44-1", "nothing"]);
    }

    #[test]
    fn control_comes_first_then_resets_then_changes_then_the_digest() {
        let mut outbox = Outbox::new(20);
        outbox.reset_part(part(1, 2), vec![entry("a", 1)]);
        outbox.reset_part(part(2, 2), vec![entry("b", 1)]);
        outbox.upsert(entry("c", 1));
        outbox.digest(digest());
        outbox.control(ServerMessage::Error(Box::new(ErrorMessage::new(Refusal::TooFast))));
        check(&mut outbox, 0, &["c", "[1/2 +a1]", "[2/2 +b1]", "@20"]);
        check(&mut outbox, 20, &["+c1", "#", "nothing"]);
    }

    #[test]
    fn a_reset_voids_what_was_before_it() {
        let mut outbox = Outbox::new(20);
        outbox.reset_part(part(1, 1), vec![entry("a", 1)]);
        outbox.upsert(entry("b", 1));
        outbox.digest(digest());
        outbox.reset_part(part(1, 2), vec![entry("c", 1)]);
        outbox.upsert(entry("d", 1));
        outbox.removal(gone("e"));
        outbox.reset_part(part(2, 2), vec![entry("d", 2), entry("e", 2)]);
        check(&mut outbox, 0, &["[1/2 +c1]", "[2/2 +d2 +e2]", "nothing"]);
    }

    #[test]
    fn lists_may_be_held_back() {
        let mut outbox = Outbox::new(20);
        outbox.hold(true);
        outbox.reset_part(part(1, 1), vec![entry("a", 1)]);
        outbox.control(answer("a"));
        check(&mut outbox, 0, &["f", "nothing"]);
        outbox.hold(false);
        check(&mut outbox, 0, &["[1/1 +a1]", "nothing"]);
    }

    #[test]
    fn a_digest_is_dropped_by_anything_newer() {
        let changes: [fn(&mut Outbox); 4] = [
            |o| assert!(!o.upsert(entry("a", 1))),
            |o| assert!(!o.removal(gone("a"))),
            |o| o.forget(&"a".into(), GoneReason::Muted),
            |o| o.reset_part(part(1, 1), vec![]),
        ];
        for change in changes {
            let mut outbox = Outbox::new(20);
            outbox.digest(digest());
            change(&mut outbox);
            while let Next::Message(message) = outbox.next(0) {
                assert_eq!(message.name(), "nearby");
            }
        }
    }

    #[test]
    fn forgetting_drops_every_mention() {
        let mut outbox = Outbox::new(20);
        outbox.control(answer("a"));
        outbox.control(answer("b"));
        outbox.reset_part(part(1, 1), vec![entry("a", 1), entry("b", 1)]);
        outbox.upsert(entry("a", 2));
        outbox.forget(&"a".into(), GoneReason::NotShared);
        match outbox.next(0) {
            Next::Message(ServerMessage::Error(error)) => {
                assert_eq!((error.code, error.re.as_deref()), (Refusal::NotAFriend, Some("m1")));
            }
            other => panic!("{other:?}"),
        }
        check(&mut outbox, 0, &["f", "[1/1 +b1]"]);
        check(&mut outbox, 20, &["-a", "nothing"]);

        outbox.control(answer("a"));
        outbox.forget(&"a".into(), GoneReason::Muted);
        check(&mut outbox, 40, &["f", "-a", "nothing"]);
    }

    #[test]
    fn a_closed_box_says_goodbye_and_nothing_else() {
        let mut outbox = Outbox::new(20);
        outbox.control(ServerMessage::Error(Box::new(ErrorMessage::new(Refusal::TooFast))));
        outbox.upsert(entry("a", 1));
        outbox.close(Bye::new(Refusal::Drain, None));
        outbox.close(Bye::new(Refusal::Idle, None));
        outbox.upsert(entry("a", 2));
        outbox.reset_part(part(1, 1), vec![entry("a", 1)]);
        outbox.control(answer("a"));
        outbox.digest(digest());
        check(&mut outbox, 0, &["c", "b", "nothing"]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Upsert(u8),
        Removal(u8),
        Reset(Vec<Vec<u8>>),
        Forget(u8),
        Read(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0u8..30).prop_map(Step::Upsert),
            2 => (0u8..30).prop_map(Step::Removal),
            1 => proptest::collection::vec(proptest::collection::vec(0u8..30, 0..5), 1..4).prop_map(Step::Reset),
            1 => (0u8..30).prop_map(Step::Forget),
            3 => (1u8..4).prop_map(Step::Read),
        ]
    }

    /// What a client holds after a frame.
    fn apply(held: &mut BTreeMap<String, i64>, message: ServerMessage) {
        let ServerMessage::Nearby(nearby) = message else { return };
        if nearby.reset.is_some_and(|reset| reset.part == 1) {
            held.clear();
        }
        for gone in nearby.removals {
            held.remove(&*gone.friend);
        }
        for entry in nearby.upserts {
            held.insert(entry.friend().to_string(), entry.sighting.position.at);
        }
    }

    proptest! {
        /// However slowly the client reads, in the end it holds what it would hold had it read everything at once.
        #[test]
        fn conflation_changes_nothing_in_the_end(steps in proptest::collection::vec(step(), 0..60)) {
            let mut outbox = Outbox::new(20);
            let (mut truth, mut held) = (BTreeMap::new(), BTreeMap::new());
            let mut now = 0;
            for (at, step) in (1..).zip(steps) {
                let name = |friend: u8| format!("f{friend}");
                match step {
                    Step::Upsert(f) => {
                        outbox.upsert(entry(&name(f), at));
                        truth.insert(name(f), at);
                    }
                    Step::Removal(f) => {
                        outbox.removal(gone(&name(f)));
                        truth.remove(&name(f));
                    }
                    Step::Reset(parts) => {
                        truth.clear();
                        let count = parts.len() as i32;
                        for (number, friends) in (1..).zip(parts) {
                            truth.extend(friends.iter().map(|f| (name(*f), at)));
                            let entries = friends.iter().map(|f| entry(&name(*f), at)).collect();
                            outbox.reset_part(part(number, count), entries);
                        }
                    }
                    Step::Forget(f) => {
                        outbox.forget(&name(f).into(), GoneReason::NotShared);
                        truth.remove(&name(f));
                    }
                    Step::Read(frames) => {
                        for _ in 0..frames {
                            now += 20;
                            if let Next::Message(message) = outbox.next(now) {
                                apply(&mut held, message);
                            }
                        }
                    }
                }
                prop_assert!(outbox.order.len() <= 2 * outbox.changes.len() + KEPT_CAPACITY + 1);
            }
            loop {
                now += 20;
                let Next::Message(message) = outbox.next(now) else { break };
                apply(&mut held, message);
            }
            prop_assert!(outbox.is_empty());
            prop_assert_eq!(held, truth);
        }
    }
}
