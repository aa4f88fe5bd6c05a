use super::tests::{HANDLE, RESET_WAIT_MS, RULES, mode, read, to, welcome};
use super::*;
use crate::frames::{Sighting, Unchanged};
use nearcast_schemas::delivery::FriendPosition;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What a client shows: by friend the time, and whether it is approximate.
type List = BTreeMap<String, (i64, bool)>;

fn list(friends: &[(&str, i64)]) -> List {
    friends.iter().map(|&(friend, at)| (friend.to_owned(), (at, false))).collect()
}

fn digest_of(list: &List) -> ListDigest {
    let mut digest = ListDigest::default();
    list.iter().for_each(|(friend, &(at, coarse))| digest.add(friend, "", at, coarse));
    digest
}

fn position(at: i64, coarse: bool) -> FriendPosition {
    FriendPosition { lat: 0.0, lon: 0.0, at, coarse, accuracy_m: None, speed_mps: None, heading_deg: None }
}

fn entries(list: &List) -> Vec<ResetEntry> {
    let entry = |(friend, &(at, coarse)): (&String, &(i64, bool))| ResetEntry {
        friend: friend.clone(),
        display_name: String::new(),
        position: position(at, coarse),
        distance_dm: 0,
    };
    list.iter().map(entry).collect()
}

fn reset(part: i32, parts: i32, friends: &[(&str, i64)]) -> Reset {
    Reset { handle: HANDLE, list_version: 3, part, parts, entries: entries(&list(friends)) }
}

fn upsert(friend: &str, at: i64, coarse: bool) -> Entry {
    let sighting = Sighting { friend: friend.into(), display_name: String::new(), position: position(at, coarse) };
    Entry { sighting: Arc::new(sighting), distance_dm: 0, appended_at: 0 }
}

/// Welcomed by this first answer, of a client that said that it holds this list.
fn resumed(held: &[(&str, i64)], first: &[(&str, i64)]) -> Feed {
    let mut feed = Feed::new(RULES);
    feed.join(HANDLE, 1);
    feed.resume(digest_of(&list(held)));
    feed.answered(3, mode(1));
    feed.welcome(welcome(), entries(&list(first)), true, 0);
    feed
}

const AB: &[(&str, i64)] = &[("a", 1), ("b", 1)];

#[test]
fn what_the_client_holds_is_not_written_again() {
    let mut feed = resumed(AB, AB);
    assert_eq!(read(&mut feed), ["welcome", "unchanged?"]);
    feed.reset(10, reset(1, 2, &[("a", 1)]), 0, 0).unwrap();
    assert_eq!(read(&mut feed), [""; 0], "whether it is the same is not known yet");
    feed.upsert(to(10), upsert("c", 1, false)).unwrap();
    assert_eq!(read(&mut feed), [""; 0], "nothing overtakes it");
    feed.reset(10, reset(2, 2, &[("b", 1)]), 0, 0).unwrap();
    assert_eq!(read(&mut feed), ["unchanged", "+c"]);
    feed.reset(11, reset(1, 1, AB), 0, 0).unwrap();
    assert_eq!(read(&mut feed), ["[1/1 +a +b]"], "it holds something else since");
}

#[test]
fn what_the_client_does_not_hold_is_written() {
    for (held, first, expect) in [
        (AB, &[("a", 1)][..], ["welcome", "[1/1? +a]", "[1/1 +a +b]"]),
        (AB, &[("a", 1), ("b", 2)], ["welcome", "[1/1? +a +b]", "[1/1 +a +b]"]),
        (&[("a", 1)], &[("a", 1)], ["welcome", "unchanged?", "[1/1 +a +b]"]),
        (AB, AB, ["welcome", "unchanged?", "unchanged"]),
        (&[], AB, ["welcome", "[1/1? +a +b]", "unchanged"]),
    ] {
        let mut feed = resumed(held, first);
        let mut words = read(&mut feed);
        feed.reset(10, reset(1, 1, AB), 0, 0).unwrap();
        words.extend(read(&mut feed));
        assert_eq!(words, expect, "{held:?} {first:?}");
    }
}

#[test]
fn a_first_answer_that_was_read_in_part_is_what_the_client_holds() {
    let many: Vec<(String, i64)> = (0..30).map(|n| (format!("f{n:02}"), 1)).collect();
    let many: Vec<(&str, i64)> = many.iter().map(|(friend, at)| (friend.as_str(), *at)).collect();
    let mut feed = resumed(&[], &many);
    assert!(matches!(feed.next(0), Next::Message(ServerMessage::Welcome(_))));
    assert!(matches!(feed.next(0), Next::Message(ServerMessage::Nearby(_))));
    feed.reset(10, reset(1, 1, &many[..20]), 0, 0).unwrap();
    assert_eq!(read(&mut feed), ["unchanged"]);
}

#[test]
fn an_unknown_first_answer_is_written() {
    let mut feed = Feed::new(RULES);
    feed.join(HANDLE, 1);
    feed.resume(ListDigest::default());
    feed.answered(3, mode(1));
    feed.welcome(welcome(), Vec::new(), false, 0);
    assert_eq!(read(&mut feed), ["welcome", "[1/1?]"], "the list is empty for another reason");
}

#[test]
fn whoever_is_taken_away_goes_at_once() {
    let mut feed = resumed(AB, AB);
    read(&mut feed);
    feed.reset(10, reset(1, 2, &[("a", 1)]), 0, 0).unwrap();
    feed.forget(&"b".into(), 4);
    assert_eq!(read(&mut feed), ["[1/2 +a]", "-b"], "not only with the rest of the reset");
    feed.reset(10, reset(2, 2, &[("b", 1)]), 0, 0).unwrap();
    assert_eq!(read(&mut feed), ["[2/2]"]);

    let mut feed = resumed(AB, AB);
    read(&mut feed);
    feed.reset(10, reset(1, 2, &[("a", 1)]), 0, 0).unwrap();
    feed.removal(to(10), &"a".into(), RemovalReason::NotShared, 0).unwrap();
    assert_eq!(read(&mut feed), ["[1/2 +a]", "-a"]);

    let mut feed = resumed(AB, AB);
    feed.forget(&"b".into(), 4);
    assert_eq!(read(&mut feed), ["welcome", "unchanged?", "-b"]);
    feed.reset(10, reset(1, 1, AB), 0, 0).unwrap();
    assert_eq!(read(&mut feed), ["[1/1 +a]"]);

    let mut feed = Feed::new(RULES);
    feed.join(HANDLE, 1);
    feed.resume(digest_of(&list(AB)));
    feed.forget(&"b".into(), 4);
    feed.answered(3, mode(1));
    feed.welcome(welcome(), entries(&list(AB)), true, 0);
    assert_eq!(read(&mut feed), ["welcome", "[1/1? +a]"], "a notice before the welcome counts");
}

#[test]
fn the_muted_are_not_compared() {
    let mut feed = resumed(AB, AB);
    feed.mute(&"b".into());
    assert_eq!(read(&mut feed), ["welcome", "unchanged?", "-b"]);
    feed.reset(10, reset(1, 1, AB), 0, 0).unwrap();
    assert_eq!(read(&mut feed), ["[1/1 +a]"]);
}

#[test]
fn whoever_asks_for_the_list_gets_it() {
    let mut feed = resumed(AB, AB);
    read(&mut feed);
    feed.want_reset(5);
    feed.reset(10, reset(1, 1, AB), 0, 5).unwrap();
    assert_eq!(read(&mut feed), ["[1/1 +a +b]"]);
}

#[test]
fn a_reset_whose_rest_does_not_come_is_kept_until_another_is_asked_for() {
    let mut feed = resumed(AB, AB);
    read(&mut feed);
    feed.reset(10, reset(1, 2, &[("a", 1)]), 0, 0).unwrap();
    assert!(!feed.take_ask(RESET_WAIT_MS - 1));
    assert_eq!(read(&mut feed), [""; 0]);
    assert!(feed.take_ask(RESET_WAIT_MS));
    assert_eq!(read(&mut feed), ["[1/2 +a]"]);

    let mut feed = resumed(AB, AB);
    read(&mut feed);
    feed.reset(10, reset(1, 3, &[("a", 1)]), 0, 0).unwrap();
    assert_eq!(feed.reset(10, reset(3, 3, &[("b", 1)]), 0, 0), Err(Dropped::ResetPart));
    assert_eq!(read(&mut feed), ["[1/3 +a]"]);
}

#[test]
fn another_reset_begins_anew() {
    let mut feed = resumed(AB, AB);
    read(&mut feed);
    feed.reset(10, reset(1, 2, &[("z", 1)]), 0, 0).unwrap();
    feed.reset(11, reset(1, 2, &[("a", 1)]), 0, 0).unwrap();
    feed.reset(11, reset(2, 2, &[("b", 1)]), 0, 0).unwrap();
    feed.digest(11, Digest { handle: HANDLE, count: 2, digest: 0 }).unwrap();
    assert_eq!(read(&mut feed), ["unchanged", "#2 0000000000000000"]);
    // Strangers belong to their reset, whichever way it is told.
    feed.strangers(to(11), vec![Stranger { alias: 1, lat: 1.0, lon: 2.0, at: 3, distance_dm: 4 }]).unwrap();
    feed.reset(12, reset(1, 1, AB), 0, 0).unwrap();
    assert_eq!(read(&mut feed), ["unchanged"]);
    feed.close(Bye::new(Refusal::Drain, None));
    assert_eq!(read(&mut feed), ["bye"]);
}

#[test]
fn another_session_says_anew_what_it_holds() {
    let mut feed = resumed(AB, AB);
    read(&mut feed);
    feed.leave();
    feed.join(HANDLE, 1);
    feed.answered(3, mode(1));
    feed.welcome(welcome(), entries(&list(AB)), true, 0);
    assert_eq!(read(&mut feed), ["welcome", "[1/1? +a +b]"]);
}

#[derive(Clone, Debug)]
enum Step {
    /// Parts of a reset of the next epoch; only so many of them come.
    Reset(Vec<List>, usize),
    /// The next part of the reset that is incomplete.
    Part,
    Upsert(u8, i64, bool),
    Removal(u8),
    Forget(u8),
    Mute(u8),
    Sync,
    Read(u8),
    Welcome,
}

fn some_list() -> impl Strategy<Value = List> {
    let friend = (0u8..3, 1i64..3, proptest::bool::weighted(0.2));
    proptest::collection::vec(friend, 0..3)
        .prop_map(|friends| friends.into_iter().map(|(f, at, coarse)| (format!("f{f}"), (at, coarse))).collect())
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (proptest::collection::vec(some_list(), 1..4), 1usize..4).prop_map(|(parts, come)| Step::Reset(parts, come)),
        4 => Just(Step::Part),
        2 => (0u8..3, 1i64..3, any::<bool>()).prop_map(|(f, at, coarse)| Step::Upsert(f, at, coarse)),
        1 => (0u8..3).prop_map(Step::Removal),
        1 => (0u8..3).prop_map(Step::Forget),
        1 => (0u8..3).prop_map(Step::Mute),
        1 => Just(Step::Sync),
        3 => (1u8..4).prop_map(Step::Read),
        2 => Just(Step::Welcome),
    ]
}

/// One client and its feed.
struct Side {
    feed: Feed,
    held: List,
}

impl Side {
    fn read(&mut self, frames: usize) {
        for _ in 0..frames {
            let Next::Message(message) = self.feed.next(i64::MAX) else { return };
            match message {
                ServerMessage::Nearby(nearby) => {
                    if nearby.reset.is_some_and(|reset| reset.part == 1) {
                        self.held.clear();
                    }
                    for gone in nearby.removals {
                        self.held.remove(&*gone.friend);
                    }
                    for entry in nearby.upserts {
                        let position = &entry.sighting.position;
                        self.held.insert(entry.friend().to_string(), (position.at, position.coarse));
                    }
                }
                ServerMessage::Unchanged(Unchanged { count, digest, .. }) => {
                    assert_eq!(ListDigest::claimed(count, &digest), Some(digest_of(&self.held)));
                }
                _ => {}
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever comes in whatever order, whoever resumes shows in the end what it would show had it not.
    #[test]
    fn a_resume_changes_nothing_in_the_end(
        before in some_list(),
        first in some_list(),
        same in any::<bool>(),
        steps in proptest::collection::vec(step(), 0..30),
    ) {
        let first = if same { before.clone() } else { first };
        let mut sides = [true, false].map(|resumes| {
            let mut feed = Feed::new(RULES);
            feed.join(HANDLE, 1);
            if resumes {
                feed.resume(digest_of(&before));
            }
            feed.answered(0, mode(1));
            Side { feed, held: before.clone() }
        });
        let (mut epoch, mut version, mut welcomed) = (10, 0, false);
        let mut coming: Option<(Vec<List>, usize)> = None;
        let name = |f: u8| Arc::<str>::from(format!("f{f}"));
        for step in steps {
            if let Step::Reset(parts, come) = &step {
                epoch += 1;
                // Often just what the client holds, cut in two.
                let mut parts = parts.clone();
                if *come == 3 {
                    let (mut low, mut high) = (sides[0].held.clone(), List::new());
                    if let Some(last) = low.pop_last() {
                        high.extend([last]);
                    }
                    parts = vec![low, high];
                }
                coming = Some((parts, 0));
            }
            for side in &mut sides {
                let feed = &mut side.feed;
                match &step {
                    Step::Reset(..) | Step::Part => {
                        if let Some((parts, done)) = &coming
                            && let Some(part) = parts.get(*done)
                        {
                            let (part_no, parts) = (*done as i32 + 1, parts.len() as i32);
                            let reset = Reset { handle: HANDLE, list_version: version, part: part_no, parts, entries: entries(part) };
                            let _ = feed.reset(epoch, reset, 0, 0);
                        }
                    }
                    Step::Upsert(f, at, coarse) => drop(feed.upsert(to(epoch), upsert(&name(*f), *at, *coarse))),
                    Step::Removal(f) => drop(feed.removal(to(epoch), &name(*f), RemovalReason::Silent, 0)),
                    Step::Forget(f) => feed.forget(&name(*f), version + 1),
                    Step::Mute(f) if welcomed => feed.mute(&name(*f)),
                    Step::Sync if welcomed => feed.want_reset(0),
                    Step::Read(frames) => side.read((*frames).into()),
                    Step::Welcome if !welcomed => feed.welcome(welcome(), entries(&first), true, 0),
                    Step::Welcome | Step::Mute(_) | Step::Sync => {}
                }
            }
            match step {
                Step::Reset(..) | Step::Part => {
                    if let Some((_, done)) = &mut coming {
                        *done += 1;
                    }
                }
                Step::Forget(_) => {
                    // Now and then the worker follows the list without the friend.
                    version += i64::from(epoch % 2 == 0);
                }
                Step::Welcome => welcomed = true,
                _ => {}
            }
        }
        if !welcomed {
            sides.iter_mut().for_each(|side| side.feed.welcome(welcome(), entries(&first), true, 0));
        }
        // What never became whole is given up.
        sides.iter_mut().for_each(|side| side.feed.want_reset(0));
        sides.iter_mut().for_each(|side| side.read(usize::MAX));
        prop_assert_eq!(&sides[0].held, &sides[1].held);
    }
}
