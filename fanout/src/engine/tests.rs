//! What the engine promises, scenario by scenario.

use nearcast_schemas::delivery::Item;
use nearcast_schemas::event::{LocationKind, Role, Sharing};
use nearcast_schemas::list::{Precision, VisibilityEntry};
use nearcast_schemas::topics::partition_of;

use super::LIST_KEPT_MS;
use super::script::{COARSE_PERIOD_MS, PARTITIONS, Script, TTL_MS, east, entry, mode};

/// Alice sees Bob, who is so many metres east of her; nothing of that is in what is told later.
fn alice_sees_bob(metres: f64) -> (Script, super::script::Connected, super::script::Connected) {
    let mut script = Script::owner();
    let bob = script.user("bob", &[], metres);
    let alice = script.user("alice", &["bob"], 0.0);
    assert_eq!(script.told(), ["bob: reset v1 []".to_owned(), format!("alice: reset v1 [bob {metres}]")]);
    (script, alice, bob)
}

#[test]
fn a_friend_appears_moves_and_leaves() {
    let mut script = Script::owner();
    let alice = script.user("alice", &["bob"], 0.0);
    let bob = script.user("bob", &["alice"], 9_000.0);
    assert_eq!(script.told(), ["alice: reset v1 []", "bob: reset v1 []"]);
    script.fix("bob", bob, 8_000.0);
    assert_eq!(script.told(), ["alice: bob at 8000", "bob: alice at 8000"]);
    script.fix("bob", bob, 8_150.0);
    assert_eq!(script.told(), ["alice: bob at 8150"], "within the band nobody leaves");
    script.fix("alice", alice, -100.0);
    assert_eq!(script.told(), ["bob: alice out of range", "alice: bob out of range"]);
    script.fix("alice", alice, 100.0);
    assert_eq!(script.told(), Vec::<String>::new(), "and nobody enters");
}

#[test]
fn one_viewer_leaves_and_the_other_still_sees() {
    let mut script = Script::owner();
    let bob = script.user("bob", &[], 0.0);
    let alice = script.user("alice", &["bob"], 10.0);
    script.user("carol", &["bob"], 20.0);
    script.told();
    script.fix("bob", bob, 1.0);
    let batch = script.out.take().remove(0);
    assert!(matches!(&batch.items.decode().unwrap()[..], [Item::Upsert(upsert)] if upsert.viewers.len() == 2));
    script.plain("alice", LocationKind::Leave, alice);
    script.fix("bob", bob, 0.0);
    assert_eq!(script.told(), ["carol: bob at 20"]);
}

#[test]
fn whoever_is_silent_for_the_time_to_live_disappears() {
    let (mut script, alice, bob) = alice_sees_bob(100.0);
    script.pass(TTL_MS / 2);
    script.fix("alice", alice, 0.0);
    script.plain("bob", LocationKind::Leave, bob);
    script.pass(TTL_MS / 2 - 1);
    assert_eq!(script.told(), ["alice: digest of 1"], "a lost socket changes nothing yet");
    script.pass(1);
    assert_eq!(script.told(), ["alice: bob silent"]);
    let again = script.event("bob", LocationKind::Fix, None, Some(east(50.0)));
    script.send("bob", again);
    assert_eq!(script.told(), ["alice: bob at 50"], "one report without a session is enough");
}

#[test]
fn a_viewer_without_a_recent_position_sees_nobody_within_a_radius() {
    let (mut script, alice, bob) = alice_sees_bob(100.0);
    for _ in 0..4 {
        script.pass(TTL_MS / 4);
        script.presence("alice", alice, false);
        script.fix("bob", bob, 100.0);
    }
    let told = script.told();
    assert_eq!(told[told.len() - 1], "alice: bob silent");
    script.presence("alice", alice, true);
    assert_eq!(script.told(), ["alice: reset v1 []"]);
}

#[test]
fn a_record_older_than_the_time_to_live_counts_for_nothing() {
    let (mut script, _, bob) = alice_sees_bob(100.0);
    let late = script.event("bob", LocationKind::Fix, Some(bob), Some(east(7.0)));
    script.pass(TTL_MS);
    script.told();
    script.now_ms -= TTL_MS;
    script.send("bob", late);
    script.now_ms += TTL_MS;
    assert_eq!(script.told(), Vec::<String>::new());
    assert_eq!((script.engine.stats().records_stale, script.engine.gateways().count()), (1, 0));
}

#[test]
fn late_fixes_and_unknown_records_move_nobody() {
    let (mut script, _, bob) = alice_sees_bob(100.0);
    for kind in [LocationKind::Backfill, LocationKind::Unknown, LocationKind::Presence, LocationKind::Mode] {
        let event = script.event("bob", kind, Some(bob), Some(east(50.0)));
        script.send("bob", event);
    }
    let nowhere = script.event("bob", LocationKind::Fix, Some(bob), Some((f64::NAN, 0.0)));
    script.send("bob", nowhere);
    assert_eq!(script.told(), Vec::<String>::new());
    assert_eq!(script.engine.stats().records_invalid, 1);
}

#[test]
fn a_new_list_takes_effect_and_says_so() {
    let (mut script, ..) = alice_sees_bob(100.0);
    script.user("carol", &[], 200.0);
    script.told();
    script.list("alice", 3, 8_000, vec![entry("carol"), entry("carol"), entry("alice")]);
    assert_eq!(script.told(), ["alice: bob not shared", "alice: carol at 200", "alice: applied v3"]);
    script.list("alice", 2, 8_000, vec![entry("bob")]);
    script.list("alice", 3, 8_000, vec![entry("bob")]);
    assert_eq!(script.told(), Vec::<String>::new(), "lower versions and the same one again change nothing");
    script.engine.unlist(partition_of(b"alice", PARTITIONS), "alice", &mut script.out);
    assert_eq!(script.told(), ["alice: carol not shared"]);
    script.list("alice", 1, 8_000, vec![entry("bob")]);
    assert_eq!(script.told(), ["alice: bob at 100", "alice: applied v1"], "after a deletion versions begin anew");
}

#[test]
fn lists_that_cannot_be_right_are_ignored() {
    let (mut script, ..) = alice_sees_bob(100.0);
    let elsewhere = (partition_of(b"alice", PARTITIONS) + 1) % PARTITIONS;
    let list = nearcast_schemas::list::VisibilityList::list(9, 0, 8_000, vec![]);
    script.engine.list(elsewhere, script.now_ms, "alice", &(&list).into(), &mut script.out);
    script.list("alice", 9, -1, vec![]);
    assert_eq!(script.told(), Vec::<String>::new());
    script.list("alice", 9, 8_000, vec![entry("bob"), VisibilityEntry { radius_m: -5, ..entry("carol") }, entry("")]);
    assert_eq!(script.told(), ["alice: applied v9"]);
    let stats = script.engine.stats();
    assert_eq!((stats.lists_misplaced, stats.lists_invalid, stats.entries_invalid), (1, 1, 2));
}

#[test]
fn the_least_radius_counts() {
    let (mut script, ..) = alice_sees_bob(5_000.0);
    script.list("alice", 2, 8_000, vec![VisibilityEntry { radius_m: 4_000, ..entry("bob") }]);
    assert_eq!(script.told(), ["alice: bob out of range", "alice: applied v2"]);
    script.list("alice", 3, 8_000, vec![VisibilityEntry { radius_m: 6_000, ..entry("bob") }]);
    script.list("alice", 4, 3_000, vec![entry("bob")]);
    assert_eq!(
        script.told(),
        ["alice: bob at 5000", "alice: applied v3", "alice: bob out of range", "alice: applied v4"]
    );
    script.user("far", &[], 25_000.0);
    script.told();
    script.list("alice", 5, 30_000, vec![entry("far")]);
    assert_eq!(script.told(), ["alice: applied v5"], "no radius is larger than the deployment's");
}

#[test]
fn an_entry_ends_by_itself() {
    let (mut script, ..) = alice_sees_bob(100.0);
    let expires_at = script.now_ms + 5_000;
    script.list("alice", 2, 8_000, vec![VisibilityEntry { expires_at, ..entry("bob") }]);
    script.pass(4_999);
    assert_eq!(script.told(), ["alice: bob at 100", "alice: applied v2"], "a changed entry is told again");
    script.pass(1);
    assert_eq!(script.told(), ["alice: bob not shared"]);
}

#[test]
fn a_new_name_is_told_to_everybody_who_sees_the_friend() {
    let (mut script, ..) = alice_sees_bob(100.0);
    let renamed = VisibilityEntry { display_name: "Robert".into(), ..entry("bob") };
    script.list("alice", 2, 8_000, vec![renamed.clone()]);
    assert_eq!(script.told(), ["alice: bob at 100", "alice: applied v2"]);
    script.list("alice", 3, 8_000, vec![renamed]);
    assert_eq!(script.told(), ["alice: applied v3"], "the same name again is no news");
}

#[test]
fn a_share_link_has_no_radius_and_needs_no_position() {
    let mut script = Script::owner();
    let bob = script.user("bob", &[], 0.0);
    script.list("link", 1, 0, vec![entry("bob")]);
    script.hello("link", Role::Link, 1, None);
    script.fix("bob", bob, 900_000.0);
    assert_eq!(script.told()[1..], ["link: reset v1 [bob ?]", "link: bob at ?"]);
}

#[test]
fn a_reset_waits_for_the_list_that_the_hello_names() {
    let mut script = Script::owner();
    let bob = script.user("bob", &[], 100.0);
    script.list("alice", 1, 8_000, vec![entry("bob")]);
    script.hello("alice", Role::Reporting, 2, Some(east(0.0)));
    script.fix("bob", bob, 90.0);
    assert_eq!(script.told(), ["bob: reset v1 []"]);
    script.list("alice", 2, 8_000, vec![entry("bob")]);
    assert_eq!(script.told(), ["alice: reset v2 [bob 90]"]);
}

#[test]
fn a_newer_session_supersedes_and_the_older_moves_nothing() {
    let (mut script, _, bob) = alice_sees_bob(100.0);
    let newer = script.hello("bob", Role::Reporting, 1, None);
    assert_eq!(script.told(), ["bob: superseded", "bob#2: reset v1 []"]);
    script.fix("bob", bob, 50.0);
    script.presence("bob", bob, true);
    script.plain("bob", LocationKind::Leave, bob);
    assert_eq!(script.told(), Vec::<String>::new());
    script.fix("bob", newer, 60.0);
    assert_eq!(script.told(), ["alice: bob at 60"]);
}

#[test]
fn a_hello_said_again_is_reset_again_and_not_superseded() {
    let (mut script, _, bob) = alice_sees_bob(100.0);
    let mut again = script.event("bob", LocationKind::Hello, Some(bob), None);
    again.session = nearcast_schemas::event::NO_SESSION;
    script.send("bob", again);
    assert_eq!(script.told(), ["bob: reset v1 []"]);
}

#[test]
fn watching_sessions_see_the_same_list_and_move_nobody() {
    let (mut script, _, bob) = alice_sees_bob(100.0);
    for _ in 0..3 {
        script.hello("alice", Role::Watching, 1, Some(east(-500.0)));
    }
    script.fix("bob", bob, 90.0);
    let told = script.told();
    assert_eq!(
        told[..3],
        ["alice#2: reset v1 [bob 100]", "alice#3: reset v1 [bob 100]", "alice#4: reset v1 [bob 100]"]
    );
    assert_eq!(told[3..].len(), 4);
    script.hello("alice", Role::Watching, 1, None);
    assert_eq!(script.told(), ["alice#2: superseded", "alice#5: reset v1 [bob 90]"]);
}

#[test]
fn a_reset_of_one_session_takes_the_band_from_all() {
    let (mut script, _, bob) = alice_sees_bob(8_000.0);
    script.fix("bob", bob, 8_100.0);
    assert_eq!(script.told(), ["alice: bob at 8100"]);
    script.hello("alice", Role::Watching, 1, None);
    assert_eq!(script.told(), ["alice: bob out of range", "alice#2: reset v1 []"]);
}

#[test]
fn a_pause_takes_effect_at_once_and_the_highest_version_wins() {
    let (mut script, _, bob) = alice_sees_bob(100.0);
    let before = script.event("bob", LocationKind::Fix, Some(bob), Some(east(90.0)));
    script.mode("bob", mode(Sharing::Hidden, 2));
    assert_eq!(script.told(), ["alice: bob not shared"]);
    script.send("bob", before);
    assert_eq!(script.told(), Vec::<String>::new(), "a record with an older mode shows nothing");
    script.mode("bob", mode(Sharing::Exact, 3));
    assert_eq!(script.told(), Vec::<String>::new(), "nor does it when the pause is over");
    script.fix("bob", bob, 80.0);
    assert_eq!(script.told(), ["alice: bob at 80"]);
}

#[test]
fn a_mode_ends_by_itself() {
    let (mut script, ..) = alice_sees_bob(100.0);
    let until = script.now_ms + 20_000;
    script.mode("bob", super::Mode { until, ..mode(Sharing::Hidden, 2) });
    script.pass(19_999);
    assert_eq!(script.told(), ["alice: bob not shared"]);
    script.pass(1);
    assert_eq!(script.told(), ["alice: bob at 100"]);
}

#[test]
fn the_mode_of_a_record_counts_without_a_mode_record() {
    let mut script = Script::owner();
    script.user("alice", &["bob"], 0.0);
    let mut hidden = script.event("bob", LocationKind::Fix, None, Some(east(10.0)));
    hidden.mode = mode(Sharing::Hidden, 5);
    script.send("bob", hidden);
    assert_eq!(script.told(), ["alice: reset v1 []"]);
}

#[test]
fn what_was_reported_while_hidden_is_never_shown() {
    let mut script = Script::owner();
    script.user("alice", &["bob"], 0.0);
    let bob = script.user("bob", &[], 10.0);
    script.mode("bob", mode(Sharing::Hidden, 2));
    script.told();
    script.mode("bob", mode(Sharing::Exact, 3));
    assert_eq!(script.told(), ["alice: bob at 10"], "reported before the pause");

    script.mode("bob", mode(Sharing::Hidden, 4));
    script.fix("bob", bob, 20.0);
    script.told();
    script.mode("bob", mode(Sharing::Exact, 5));
    assert_eq!(script.told(), Vec::<String>::new());
    script.fix("bob", bob, 30.0);
    assert_eq!(script.told(), ["alice: bob at 30"]);

    script.mode("bob", mode(Sharing::Coarse, 6));
    script.fix("bob", bob, 40.0);
    assert!(script.told().iter().all(|line| line.starts_with("alice: ~bob at ")));
    script.mode("bob", mode(Sharing::Exact, 7));
    assert_eq!(script.told(), Vec::<String>::new(), "nor more finely than when it was sent");
    script.fix("bob", bob, 50.0);
    assert_eq!(script.told(), ["alice: bob at 50"]);
}

#[test]
fn no_cell_follows_from_what_was_reported_while_hidden() {
    let mut script = Script::owner();
    script.user("alice", &[], 0.0);
    let bob = script.user("bob", &[], 10.0);
    script.list("alice", 2, 50_000, vec![VisibilityEntry { precision: Precision::Coarse, ..entry("bob") }]);
    script.mode("bob", mode(Sharing::Hidden, 2));
    script.fix("bob", bob, 15_000.0);
    script.pass(COARSE_PERIOD_MS);
    script.told();
    script.mode("bob", mode(Sharing::Exact, 3));
    script.pass(COARSE_PERIOD_MS / 2);
    assert_eq!(script.told(), Vec::<String>::new());
    script.fix("bob", bob, 10.0);
    let told = script.told();
    assert!(told.len() == 1 && told[0].starts_with("alice: ~bob at "), "{told:?}");
}

#[test]
fn a_coarse_friend_is_told_by_cell_and_schedule_alone() {
    let mut script = Script::owner();
    let bob = script.user("bob", &[], 0.0);
    let alice = script.user("alice", &["bob"], 0.0);
    script.told();
    script.list("alice", 2, 8_000, vec![VisibilityEntry { precision: Precision::Coarse, ..entry("bob") }]);
    let told = script.told();
    assert!(told[0].starts_with("alice: ~bob at "), "{told:?}");
    for metres in [10.0, 500.0, 1_000.0] {
        script.fix("bob", bob, metres);
    }
    assert_eq!(script.told(), Vec::<String>::new(), "reports show nothing");
    for _ in 0..COARSE_PERIOD_MS / 1_000 {
        script.pass(1_000);
    }
    let told: Vec<_> = script.told().into_iter().filter(|line| line.contains("~bob")).collect();
    assert_eq!(told.len(), 1, "one instant a period: {told:?}");
    script.fix("alice", alice, 1.0);
    script.pass(COARSE_PERIOD_MS - 1_000);
    assert_eq!(script.told(), Vec::<String>::new(), "silence is not told as presence");
}

#[test]
fn the_coarse_position_holds_no_trace_of_the_report() {
    let mut script = Script::owner();
    script.mode("bob", mode(Sharing::Coarse, 1));
    script.user("bob", &[], 3.0);
    script.user("alice", &["bob"], 0.0);
    let items: Vec<_> = script.out.take().iter().flat_map(|batch| batch.items.decode().unwrap()).collect();
    let Some(Item::Reset(reset)) = items.last() else { panic!("{items:?}") };
    let position = &reset.entries[0].position;
    assert!(position.coarse && position.accuracy_m.is_none() && position.at <= script.now_ms);
    let cell = nearcast_geo::Cell::of(
        nearcast_geo::Position::new(east(3.0).0, east(3.0).1).unwrap(),
        nearcast_geo::Resolution::Seven,
    );
    assert_eq!((position.lat, position.lon), (cell.center().lat_deg(), cell.center().lon_deg()));
}

#[test]
fn erasing_removes_position_sessions_and_all_that_came_before() {
    let (mut script, _, bob) = alice_sees_bob(100.0);
    let event = script.event("bob", LocationKind::Erase, None, None);
    script.send("bob", event);
    assert_eq!(script.told(), ["alice: bob not shared"]);
    script.fix("bob", bob, 90.0);
    assert_eq!(script.told(), Vec::<String>::new(), "the session of before is over");
    script.hello("bob", Role::Reporting, 1, Some(east(80.0)));
    assert_eq!(script.told(), ["alice: bob at 80", "bob#2: reset v1 []"]);
}

#[test]
fn what_was_read_before_owning_is_told_as_resets() {
    let mut script = Script::new();
    let alice = script.user("alice", &["bob"], 0.0);
    script.user("bob", &[], 100.0);
    script.hello("nobody", Role::Reporting, 0, None);
    script.pass(1_000);
    script.fix("alice", alice, 10.0);
    assert_eq!(script.told(), Vec::<String>::new());
    script.own(5);
    let mut told = script.told();
    told.sort();
    assert_eq!(told, ["alice: reset v1 [bob 90]", "bob: reset v1 []", "nobody: reset v0 []"]);
    script.own(9);
    assert_eq!(script.told().len(), 3, "a newer claim resets again");
    assert_eq!(script.engine.owned().len(), PARTITIONS as usize);
}

#[test]
fn a_partition_that_goes_is_silent_and_forgotten() {
    let (mut script, _, bob) = alice_sees_bob(100.0);
    script.engine.disown(partition_of(b"alice", PARTITIONS));
    script.fix("bob", bob, 90.0);
    assert_eq!(script.told(), Vec::<String>::new());
    assert_eq!(script.engine.view("alice"), None);
}

#[test]
fn a_supersession_that_nobody_owned_is_told_by_the_next_owner() {
    let mut script = Script::new();
    script.hello("alice", Role::Reporting, 0, None);
    script.hello("alice", Role::Reporting, 0, None);
    assert_eq!(script.told(), Vec::<String>::new());
    script.own(1);
    assert_eq!(script.told(), ["alice: superseded", "alice#2: reset v0 []"]);
}

#[test]
fn a_lost_batch_is_made_good_by_resets() {
    let (mut script, ..) = alice_sees_bob(100.0);
    script.engine.lost(0, &mut script.out);
    while script.engine.resets(10, 10, &mut script.out) {}
    let mut told = script.told();
    told.sort();
    assert_eq!(told, ["alice: reset v1 [bob 100]", "bob: reset v1 []"]);
    assert_eq!(script.engine.stats().resets_delivery, 2);
}

#[test]
fn a_gateway_that_is_gone_gets_nothing_more() {
    let (mut script, alice, bob) = alice_sees_bob(100.0);
    assert_eq!(script.engine.gateways().collect::<Vec<_>>(), [0]);
    assert_eq!(script.engine.gone(0), 2);
    script.engine.check().unwrap();
    assert_eq!(script.engine.gateways().count(), 0);
    script.presence("alice", alice, false);
    script.fix("bob", bob, 50.0);
    let told = script.told();
    assert_eq!(told[0], "alice: reset v1 [bob 100]", "a session that is heard of again is routed again");
}

#[test]
fn resets_come_nearest_first_twenty_to_a_part() {
    let mut script = Script::owner();
    let names: Vec<_> = (0..45).map(|at| format!("f{at:02}")).collect();
    for (at, name) in names.iter().enumerate() {
        let event = script.event(name, LocationKind::Fix, None, Some(east(4_500.0 - 100.0 * at as f64)));
        script.send(name, event);
    }
    script.user("alice", &names.iter().map(String::as_str).collect::<Vec<_>>(), 0.0);
    let told = script.told();
    assert_eq!(told.len(), 3);
    assert!(told[0].starts_with("alice: reset 1/3 v1 [f44 100, f43 200, "), "{}", told[0]);
    assert!(told[2].ends_with("f01 4400, f00 4500]"), "{}", told[2]);
}

#[test]
fn a_changed_view_is_told_by_its_digest_and_only_then() {
    let (mut script, _, bob) = alice_sees_bob(100.0);
    script.fix("bob", bob, 20_000.0);
    script.fix("bob", bob, 100.0);
    script.pass(60_000);
    let told = script.told();
    assert_eq!(told, ["alice: bob out of range", "alice: bob at 100", "alice: digest of 1"]);
    script.fix("bob", bob, 20_000.0);
    script.pass(60_000);
    assert_eq!(script.told(), ["alice: bob out of range", "alice: digest of 0"]);
    script.pass(60_000);
    assert_eq!(script.told(), Vec::<String>::new());
}

#[test]
fn memory_follows_who_is_online() {
    let (mut script, ..) = alice_sees_bob(100.0);
    script.mode("carol", super::Mode { until: script.now_ms + 90_000_000, ..mode(Sharing::Hidden, 2) });
    assert_eq!((script.engine.users(), script.engine.viewers()), (3, 2));
    script.pass(TTL_MS);
    script.engine.check().unwrap();
    assert_eq!((script.engine.users(), script.engine.viewers()), (0, 2), "lists outlive a lost socket");
    script.pass(LIST_KEPT_MS);
    script.pass(LIST_KEPT_MS);
    script.engine.check().unwrap();
    assert_eq!((script.engine.known(), script.engine.viewers()), (0, 0));
}
