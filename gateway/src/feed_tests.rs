use super::*;
use crate::frames::{AckResult, Kind, Limits, RoleName, Sighting};
use nearcast_schemas::delivery::{FriendPosition, Stranger};
use nearcast_schemas::event::Sharing;
use proptest::prelude::*;

pub(super) const HANDLE: i32 = 5;
pub(super) const RESET_WAIT_MS: i64 = 10_000;
pub(super) const RULES: Rules = Rules { window_ms: 0, reset_wait_ms: RESET_WAIT_MS, waiting_bytes: 1 << 20 };

pub(super) fn to(epoch: i64) -> Address {
    Address { handle: HANDLE, epoch }
}

fn position(at: i64) -> FriendPosition {
    FriendPosition { lat: 0.0, lon: 0.0, at, coarse: false, accuracy_m: None, speed_mps: None, heading_deg: None }
}

fn entry(friend: &str) -> Entry {
    let sighting = Sighting { friend: friend.into(), display_name: String::new(), position: position(0) };
    Entry { sighting: Arc::new(sighting), distance_dm: 0, appended_at: 0 }
}

fn reset_entry(friend: &str) -> ResetEntry {
    ResetEntry { friend: friend.into(), display_name: String::new(), position: position(0), distance_dm: 0 }
}

fn reset(list_version: i64, part: i32, parts: i32, friends: &[&str]) -> Reset {
    let entries = friends.iter().map(|friend| reset_entry(friend)).collect();
    Reset { handle: HANDLE, list_version, part, parts, entries }
}

pub(super) fn welcome() -> Welcome {
    Welcome {
        protocol: 1,
        server_time: 0,
        user: "alice".into(),
        session: String::new(),
        role: RoleName::Reporting,
        report_interval_s: 30,
        min_move_m: 10.0,
        max_silence_s: 180,
        friend_ttl_s: 600,
        radius_m: 8_000,
        ping_every_s: 25,
        limits: Limits { message_bytes: 1, fixes: 1, messages_per_s: 1 },
        accepted: None,
    }
}

fn answer(friend: &str) -> FriendMessage {
    FriendMessage { friend: friend.into(), display_name: String::new(), position: None, re: None }
}

pub(super) fn mode(version: i64) -> Mode {
    Mode { sharing: Sharing::Hidden, until: 0, discoverable: false, version }
}

/// Joined with list 3, not welcomed.
fn joined() -> Feed {
    let mut feed = Feed::new(RULES);
    feed.join(HANDLE, 1);
    assert_eq!(feed.answered(3, mode(1)), mode(1));
    feed
}

/// Welcomed with an empty first answer, which was read.
fn welcomed() -> Feed {
    let mut feed = joined();
    feed.welcome(welcome(), Vec::new(), true, 0);
    assert_eq!(read(&mut feed), ["welcome", "[1/1?]"]);
    feed
}

/// With a reset of epoch 10 that holds `a` and `b`, which was read.
fn live() -> Feed {
    let mut feed = welcomed();
    feed.reset(10, reset(3, 1, 1, &["a", "b"]), 0, 0).unwrap();
    assert_eq!(read(&mut feed), ["[1/1 +a +b]"]);
    feed
}

/// Everything that waits, a word a message.
pub(super) fn read(feed: &mut Feed) -> Vec<String> {
    let mut words = Vec::new();
    while let Next::Message(message) = feed.next(i64::MAX) {
        words.push(match message {
            ServerMessage::Nearby(nearby) => {
                let mut inner: Vec<String> =
                    nearby.upserts.iter().map(|entry| format!("+{}", entry.friend())).collect();
                inner.extend(nearby.removals.iter().map(|gone| format!("-{}", gone.friend)));
                let inner = inner.join(" ");
                match nearby.reset {
                    Some(ResetPart { part, parts, provisional, .. }) => {
                        let provisional = if provisional { "?" } else { "" };
                        let space = if inner.is_empty() { "" } else { " " };
                        format!("[{part}/{parts}{provisional}{space}{inner}]")
                    }
                    None => inner,
                }
            }
            ServerMessage::Digest(digest) => format!("#{} {}", digest.count, digest.digest),
            ServerMessage::Strangers(strangers) => format!("{}*", strangers.strangers.len()),
            ServerMessage::Unchanged(unchanged) if unchanged.provisional => "unchanged?".into(),
            other => other.name().to_owned(),
        });
    }
    words
}

#[test]
fn deltas_wait_for_the_reset_of_their_epoch() {
    let mut feed = welcomed();
    assert_eq!(feed.upsert(to(10), entry("a")), Err(Dropped::BeforeReset));
    feed.reset(10, reset(3, 1, 1, &["a"]), 0, 0).unwrap();
    assert_eq!(feed.upsert(to(10), entry("b")), Ok(false));
    assert_eq!(feed.upsert(to(11), entry("c")), Err(Dropped::BeforeReset), "a new owner's, before its reset");
    assert_eq!(feed.upsert(Address { handle: 6, epoch: 10 }, entry("c")), Err(Dropped::UnknownHandle));
    assert_eq!(read(&mut feed), ["[1/1 +a]", "+b"]);
    feed.reset(11, reset(3, 1, 1, &[]), 0, 0).unwrap();
    assert_eq!(feed.upsert(to(10), entry("c")), Err(Dropped::BeforeReset), "the old owner's, after it");
    assert_eq!(read(&mut feed), ["[1/1]"]);
}

#[test]
fn strangers_are_a_whole_list_of_their_reset() {
    let stranger = Stranger { alias: 1, lat: 1.0, lon: 2.0, at: 3, distance_dm: 4 };
    let mut feed = welcomed();
    assert_eq!(feed.strangers(to(10), vec![stranger]), Err(Dropped::BeforeReset));
    feed.reset(10, reset(3, 1, 1, &[]), 0, 0).unwrap();
    assert_eq!(feed.strangers(to(10), vec![stranger, stranger]), Ok(false));
    assert_eq!(feed.strangers(to(10), vec![stranger]), Ok(true), "the newest replaces the older");
    assert_eq!(read(&mut feed), ["[1/1]", "1*"]);
    feed.strangers(to(10), vec![stranger]).unwrap();
    feed.reset(11, reset(3, 1, 1, &[]), 0, 0).unwrap();
    assert_eq!(feed.strangers(to(10), vec![stranger]), Err(Dropped::BeforeReset));
    assert_eq!(read(&mut feed), ["[1/1]"], "a reset empties the list, also what waits of it");
    feed.strangers(to(11), vec![stranger]).unwrap();
    feed.join(HANDLE + 1, 1);
    feed.welcome(welcome(), Vec::new(), true, 0);
    assert_eq!(read(&mut feed), ["welcome", "[1/1?]"], "another session begins without");
}

#[test]
fn nothing_is_written_before_the_welcome() {
    let mut feed = joined();
    feed.reset(10, reset(3, 1, 1, &["a"]), 0, 0).unwrap();
    feed.upsert(to(10), entry("b")).unwrap();
    assert_eq!(read(&mut feed), [""; 0]);
    feed.welcome(welcome(), vec![reset_entry("old")], true, 0);
    assert_eq!(read(&mut feed), ["welcome", "[1/1 +a]", "+b"], "the reset was faster than the first answer");
}

#[test]
fn the_first_answer_comes_in_parts_and_the_reset_replaces_it() {
    let mut feed = joined();
    let names: Vec<String> = (0..25).map(|n| format!("f{n}")).collect();
    feed.welcome(welcome(), names.iter().map(|name| reset_entry(name)).collect(), true, 0);
    let words = read(&mut feed);
    assert_eq!(words.len(), 3);
    assert!(words[1].starts_with("[1/2? +f0") && words[2] == "[2/2? +f20 +f21 +f22 +f23 +f24]", "{words:?}");

    let mut feed = joined();
    feed.welcome(welcome(), vec![reset_entry("old")], true, 0);
    feed.reset(10, reset(3, 1, 1, &["new"]), 0, 0).unwrap();
    assert_eq!(read(&mut feed), ["welcome", "[1/1 +new]"]);
}

#[test]
fn parts_of_a_reset_come_in_order() {
    let mut feed = welcomed();
    assert_eq!(feed.reset(10, reset(3, 2, 2, &["x"]), 0, 0), Err(Dropped::ResetPart));
    feed.reset(10, reset(3, 1, 3, &["a"]), 0, 0).unwrap();
    feed.upsert(to(10), entry("c")).unwrap();
    assert_eq!(feed.reset(11, reset(3, 2, 3, &["x"]), 0, 0), Err(Dropped::ResetPart));
    assert_eq!(feed.reset(10, reset(3, 3, 3, &["x"]), 0, 0), Err(Dropped::ResetPart));
    feed.reset(10, reset(3, 2, 3, &["b"]), 0, 0).unwrap();
    feed.reset(10, reset(3, 3, 3, &["d"]), 0, 0).unwrap();
    assert_eq!(feed.reset(10, reset(3, 3, 3, &["x"]), 0, 0), Err(Dropped::ResetPart));
    assert_eq!(read(&mut feed), ["[1/3 +a]", "[2/3 +b]", "[3/3 +d]", "+c"]);
}

#[test]
fn a_reset_by_an_older_list_is_not_shown_and_another_is_asked_for() {
    let mut feed = live();
    feed.applied(to(10), 4).unwrap();
    assert_eq!(feed.reset(11, reset(3, 1, 1, &["gone"]), 0, 5_000), Err(Dropped::OldList));
    assert!(!feed.take_ask(5_999));
    assert!(feed.take_ask(6_000));
    feed.reset(11, reset(4, 1, 1, &["a"]), 0, 6_100).unwrap();
    assert_eq!(read(&mut feed), ["[1/1 +a]"]);
    assert!(!feed.take_ask(i64::MAX));
}

#[test]
fn a_forgotten_friend_is_gone_until_the_worker_follows() {
    let mut feed = live();
    feed.upsert(to(10), entry("a")).unwrap();
    feed.forget(&"a".into(), 4);
    assert_eq!(read(&mut feed), ["-a"]);
    assert_eq!(feed.upsert(to(10), entry("a")), Err(Dropped::Forgotten));
    assert_eq!(feed.removal(to(10), &"a".into(), RemovalReason::NotShared, 0), Err(Dropped::Forgotten));
    assert!(!feed.friend(answer("a")));
    let digest = Digest { handle: HANDLE, count: 2, digest: 0 };
    assert_eq!(feed.digest(10, digest), Err(Dropped::Forgotten));
    feed.reset(10, reset(3, 1, 1, &["a", "b"]), 0, 0).unwrap();
    assert_eq!(read(&mut feed), ["[1/1 +b]"], "a reset by the list before");
    feed.applied(to(10), 4).unwrap();
    assert_eq!(feed.upsert(to(10), entry("a")), Ok(false), "friends again by a later list");
    assert_eq!(read(&mut feed), ["+a"]);
}

#[test]
fn a_reset_by_the_new_list_ends_forgetting() {
    let mut feed = live();
    feed.forget(&"a".into(), 4);
    feed.forget(&"b".into(), 5);
    feed.reset(10, reset(4, 1, 1, &["a", "b"]), 0, 0).unwrap();
    assert_eq!(read(&mut feed), ["[1/1 +a]"]);
    feed.forget(&"a".into(), 4);
    assert_eq!(feed.upsert(to(10), entry("a")), Ok(false), "a notice that came after the list changes nothing");
}

#[test]
fn a_notice_before_the_welcome_cleans_the_first_answer() {
    let mut feed = joined();
    feed.forget(&"a".into(), 4);
    feed.welcome(welcome(), vec![reset_entry("a"), reset_entry("b")], true, 0);
    assert_eq!(read(&mut feed), ["welcome", "[1/1? +b]"]);
}

#[test]
fn a_notice_before_the_answer_holds_where_it_is_newer_than_the_answer() {
    let mut feed = Feed::new(RULES);
    feed.join(HANDLE, 1);
    feed.forget(&"a".into(), 4);
    feed.forget(&"b".into(), 3);
    feed.set_mode(mode(2));
    assert_eq!(read(&mut feed), [""; 0]);
    assert_eq!((feed.answered(3, mode(4)), feed.answered(3, mode(1))), (mode(4), mode(2)), "the newer one");
    feed.set_mode(mode(3));
    assert_eq!(feed.take_mode(), None, "nothing is reported before the welcome");
    feed.welcome(welcome(), vec![reset_entry("a"), reset_entry("b")], true, 0);
    assert_eq!(read(&mut feed), ["welcome", "[1/1? +b]"]);
    assert_eq!(feed.take_mode(), Some(mode(3)));
}

#[test]
fn a_muted_friend_is_left_out_and_comes_back_by_a_reset() {
    let mut feed = live();
    feed.upsert(to(10), entry("a")).unwrap();
    feed.mute(&"a".into());
    feed.mute(&"a".into());
    assert_eq!(read(&mut feed), ["-a"]);
    assert_eq!(feed.upsert(to(10), entry("a")), Err(Dropped::Muted));
    feed.reset(10, reset(3, 1, 1, &["a", "b"]), 0, 0).unwrap();
    assert_eq!(read(&mut feed), ["[1/1 +b]"]);
    assert!(!feed.take_ask(0));
    feed.unmute("a", 0);
    assert!(feed.friend(answer("a")));
    assert!(feed.take_ask(0));
    assert_eq!(feed.upsert(to(10), entry("a")), Ok(false));
    assert_eq!(read(&mut feed), ["friend", "+a"]);
}

#[test]
fn a_friend_who_is_muted_and_taken_away_before_the_client_read_of_it_is_gone() {
    let mut feed = live();
    feed.mute(&"a".into());
    feed.forget(&"a".into(), 4);
    assert_eq!(read(&mut feed), ["-a"]);
}

#[test]
fn digests_leave_muted_friends_out() {
    let digest_of = |friends: &[&str]| {
        let mut sum = ViewDigest::default();
        friends.iter().for_each(|friend| sum.add(friend));
        (Digest { handle: HANDLE, count: friends.len() as i32, digest: sum.to_i64() }, sum.to_hex())
    };
    let (both, both_hex) = digest_of(&["a", "b"]);
    let (b, b_hex) = digest_of(&["b"]);
    let mut feed = live();
    feed.digest(10, both).unwrap();
    assert_eq!(read(&mut feed), [format!("#2 {both_hex}")]);
    feed.mute(&"a".into());
    assert_eq!(read(&mut feed), ["-a"]);
    assert_eq!(feed.digest(10, both), Err(Dropped::Muted), "nobody knows whether a is in the view");
    feed.upsert(to(10), entry("a")).unwrap_err();
    feed.digest(10, both).unwrap();
    assert_eq!(read(&mut feed), [format!("#1 {b_hex}")]);
    feed.removal(to(10), &"a".into(), RemovalReason::Silent, 0).unwrap_err();
    feed.digest(10, b).unwrap();
    assert_eq!(read(&mut feed), [format!("#1 {b_hex}")]);
    feed.reset(10, reset(3, 1, 1, &["a", "b"]), 0, 0).unwrap();
    feed.digest(10, both).unwrap();
    assert_eq!(read(&mut feed), ["[1/1 +b]".to_owned(), format!("#1 {b_hex}")]);
    feed.reset(10, reset(3, 1, 1, &["b"]), 0, 0).unwrap();
    feed.digest(10, b).unwrap();
    assert_eq!(read(&mut feed), ["[1/1 +b]".to_owned(), format!("#1 {b_hex}")], "the reset says that a is not in view");
}

#[test]
fn resets_are_asked_for_until_one_comes() {
    let mut feed = welcomed();
    assert_eq!(feed.ask_at(), Some(RESET_WAIT_MS));
    assert!(!feed.take_ask(RESET_WAIT_MS - 1));
    assert!(feed.take_ask(RESET_WAIT_MS));
    assert!(!feed.take_ask(2 * RESET_WAIT_MS - 1));
    assert!(feed.take_ask(2 * RESET_WAIT_MS));
    assert!(!feed.take_ask(4 * RESET_WAIT_MS - 1), "the wait grows");
    feed.reset(10, reset(3, 1, 2, &[]), 0, 0).unwrap();
    assert!(feed.ask_at().is_some(), "a part is missing");
    feed.reset(10, reset(3, 2, 2, &[]), 0, 0).unwrap();
    assert_eq!(feed.ask_at(), None);
}

#[test]
fn questions_for_a_reset_are_not_asked_twice_a_second() {
    let mut feed = live();
    feed.want_reset(20_000);
    assert!(feed.take_ask(20_000));
    feed.want_reset(20_100);
    assert!(!feed.take_ask(20_999));
    assert!(feed.take_ask(21_000));
}

#[test]
fn nothing_is_asked_before_the_welcome() {
    let mut feed = joined();
    feed.want_reset(0);
    assert!(!feed.take_ask(i64::MAX));
    assert_eq!(feed.ask_at(), None);
}

#[test]
fn the_highest_mode_is_taken_once() {
    let mut feed = live();
    feed.set_mode(mode(2));
    feed.set_mode(mode(1));
    assert_eq!(feed.take_mode(), Some(mode(2)));
    assert_eq!(feed.take_mode(), None);
}

#[test]
fn the_task_is_woken_once() {
    let mut feed = live();
    assert!(feed.wake_for_changes());
    assert!(!feed.wake_for_changes() && !feed.wake_now());
    assert!(!feed.rest(Rest::Idle), "something came while it was awake");
    feed.attend();
    assert!(feed.rest(Rest::Window));
    assert!(!feed.wake_for_changes(), "it looks by itself");
    assert!(feed.wake_now());
    feed.attend();
    assert!(feed.rest(Rest::Socket));
    for n in 0..FRAME_ENTRIES {
        feed.upsert(to(10), entry(&format!("f{n}"))).unwrap();
    }
    assert!(!feed.wake_for_changes(), "it cannot write");
    feed.attend();
    assert!(feed.rest(Rest::Window));
    assert!(feed.wake_for_changes(), "a full frame does not wait");
    feed.attend();
    assert!(feed.rest(Rest::Idle));
    assert!(feed.wake_for_changes());
}

#[test]
fn a_superseded_session_ends_and_a_stranger_does_not() {
    let mut feed = live();
    assert_eq!(feed.superseded(HANDLE + 1), Err(Dropped::UnknownHandle));
    assert_eq!(feed.ending(), None);
    feed.superseded(HANDLE).unwrap();
    feed.end(Refusal::Drain, Some(1));
    assert_eq!(feed.ending(), Some(Ending { refusal: Refusal::Superseded, reconnect_in_ms: None }));
}

#[test]
fn a_second_try_to_join_knows_nothing_of_the_first() {
    let mut feed = live();
    feed.upsert(to(10), entry("a")).unwrap();
    feed.leave();
    assert_eq!(feed.upsert(to(10), entry("a")), Err(Dropped::UnknownHandle));
    feed.join(HANDLE + 1, 1);
    feed.answered(3, mode(1));
    assert_eq!(feed.upsert(to(10), entry("a")), Err(Dropped::UnknownHandle));
    feed.welcome(welcome(), Vec::new(), false, 0);
    assert_eq!(read(&mut feed), ["welcome", "[1/1?]"]);
}

#[test]
fn names_that_metrics_and_frames_use_are_stable() {
    assert_eq!(Kind::Hello.name(), "hello");
    assert_eq!(serde_json::to_string(&AckResult::Published).unwrap(), "\"published\"");
    assert_eq!(Dropped::ALL.map(Dropped::name).len(), Dropped::ALL.len());
}

#[derive(Clone, Debug)]
enum Step {
    Upsert(u8),
    Removal(u8),
    Reset(i64, Vec<u8>),
    Applied(i64),
    Forget(u8, i64),
    Mute(u8),
    Unmute(u8),
    Read(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..6).prop_map(Step::Upsert),
        2 => (0u8..6).prop_map(Step::Removal),
        1 => (0i64..4, proptest::collection::vec(0u8..6, 0..6)).prop_map(|(ahead, friends)| Step::Reset(ahead, friends)),
        1 => (0i64..4).prop_map(Step::Applied),
        2 => (0u8..6, 0i64..4).prop_map(|(friend, ahead)| Step::Forget(friend, ahead)),
        1 => (0u8..6).prop_map(Step::Mute),
        1 => (0u8..6).prop_map(Step::Unmute),
        3 => (1u8..4).prop_map(Step::Read),
    ]
}

proptest! {
    /// Nobody who was taken away or muted is ever written, whatever waits and in whatever order things come; and what
    /// the client holds in the end is what the worker said without those.
    #[test]
    fn what_was_taken_away_is_never_written(steps in proptest::collection::vec(step(), 0..80)) {
        let mut feed = live();
        let name = |friend: u8| format!("f{friend}");
        let (mut version, mut followed) = (3, 3);
        let mut forgotten: BTreeMap<String, i64> = BTreeMap::new();
        let mut muted: std::collections::BTreeSet<String> = Default::default();
        let mut held: std::collections::BTreeSet<String> = Default::default();
        let mut truth = held.clone();
        let mut frames = Vec::new();
        for step in steps {
            match step {
                Step::Upsert(f) => {
                    if feed.upsert(to(10), entry(&name(f))).is_ok() {
                        truth.insert(name(f));
                    }
                }
                Step::Removal(f) => {
                    if feed.removal(to(10), &name(f).into(), RemovalReason::Silent, 0).is_ok() {
                        truth.remove(&name(f));
                    }
                }
                Step::Reset(ahead, friends) => {
                    followed += ahead;
                    version = version.max(followed);
                    forgotten.retain(|_, without| *without > followed);
                    let names: Vec<String> = friends.iter().map(|f| name(*f)).collect();
                    let names: Vec<&str> = names.iter().map(String::as_str).collect();
                    feed.reset(10, reset(followed, 1, 1, &names), 0, 0).unwrap();
                    truth = names
                        .into_iter()
                        .filter(|f| !forgotten.contains_key(*f) && !muted.contains(*f))
                        .map(str::to_owned)
                        .collect();
                }
                Step::Applied(ahead) => {
                    followed += ahead;
                    version = version.max(followed);
                    forgotten.retain(|_, without| *without > followed);
                    feed.applied(to(10), followed).unwrap();
                }
                Step::Forget(f, ahead) => {
                    version += ahead;
                    if version > followed {
                        forgotten.insert(name(f), version);
                        truth.remove(&name(f));
                    }
                    feed.forget(&name(f).into(), version);
                }
                Step::Mute(f) => {
                    feed.mute(&name(f).into());
                    muted.insert(name(f));
                    truth.remove(&name(f));
                }
                Step::Unmute(f) => {
                    feed.unmute(&name(f), 0);
                    muted.remove(&name(f));
                }
                Step::Read(count) => {
                    for _ in 0..count {
                        if let Next::Message(message) = feed.next(i64::MAX) {
                            frames.push(message);
                        }
                    }
                }
            }
            for message in frames.drain(..) {
                let ServerMessage::Nearby(nearby) = message else { continue };
                if nearby.reset.is_some() {
                    held.clear();
                }
                for gone in &nearby.removals {
                    held.remove(&*gone.friend);
                }
                for entry in &nearby.upserts {
                    let friend = entry.friend().to_string();
                    prop_assert!(!forgotten.contains_key(&friend), "{friend} was taken away");
                    prop_assert!(!muted.contains(&friend), "{friend} is muted");
                    held.insert(friend);
                }
            }
        }
        while let Next::Message(message) = feed.next(i64::MAX) {
            let ServerMessage::Nearby(nearby) = message else { continue };
            if nearby.reset.is_some() {
                held.clear();
            }
            for gone in nearby.removals {
                held.remove(&*gone.friend);
            }
            held.extend(nearby.upserts.iter().map(|entry| entry.friend().to_string()));
        }
        prop_assert_eq!(held, truth);
    }
}

#[test]
fn who_reads_nothing_for_long_gets_a_whole_list_in_the_end() {
    let mut feed = Feed::new(Rules { waiting_bytes: 2_000, ..RULES });
    feed.join(HANDLE, 1);
    feed.answered(3, mode(1));
    feed.welcome(welcome(), Vec::new(), true, 0);
    feed.reset(10, reset(3, 1, 1, &["a"]), 0, 0).unwrap();
    read(&mut feed);
    let outcomes = (0..20).map(|n| feed.upsert(to(10), entry(&format!("friend-{n:02}"))));
    assert_eq!(outcomes.last(), Some(Err(Dropped::BeforeReset)), "a list with holes is not told");
    assert_eq!(read(&mut feed), [""; 0], "nothing waits any more");
    assert!(feed.take_ask(0), "at once");
    feed.reset(10, reset(3, 1, 1, &["a", "b"]), 0, 0).unwrap();
    assert_eq!(read(&mut feed), ["[1/1 +a +b]"]);
    let outcomes: Vec<_> = (0..20).map(|n| feed.upsert(to(10), entry(&format!("friend-{n:02}")))).collect();
    assert_eq!(outcomes[0], Ok(false));
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Err(Dropped::Overflow)).count(), 1);
    assert_eq!(feed.ask_at(), Some(ASK_AGAIN_MS), "not sooner than a second after the last");
}
