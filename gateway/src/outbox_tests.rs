use super::*;
use crate::frames::Sighting;
use crate::waiting::VOID_ENTRIES;
use nearcast_schemas::delivery::FriendPosition;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn entry(friend: &str, at: i64) -> Entry {
    let position =
        FriendPosition { lat: 0.0, lon: 0.0, at, coarse: false, accuracy_m: None, speed_mps: None, heading_deg: None };
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

/// One word a message: `c` control, `f` an answer about a friend, `b` bye, `#` digest, `*` strangers, `[1/2 a b]` a reset
/// part, `+a -b` changes, `@t` a wait.
fn show(next: Next) -> String {
    match next {
        Next::Nothing => "nothing".into(),
        Next::At(at) => format!("@{at}"),
        Next::Message(ServerMessage::Digest(_)) => "#".into(),
        Next::Message(ServerMessage::Strangers(_)) => "*".into(),
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
    assert!(!outbox.strangers(StrangersMessage::default()) && outbox.strangers(StrangersMessage::default()));
    outbox.digest(digest());
    outbox.control(ServerMessage::Error(Box::new(ErrorMessage::new(Refusal::TooFast))));
    check(&mut outbox, 0, &["c", "[1/2 +a1]", "[2/2 +b1]", "*", "@20"]);
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
            if let Some(waiting) = &outbox.waiting {
                prop_assert!(waiting.order_len() <= 2 * waiting.changes_len() + VOID_ENTRIES + 1);
                prop_assert_eq!(waiting.bytes() > 0, waiting.changes_len() > 0 || waiting.parts().any(|part| !part.entries.is_empty()));
            }
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
