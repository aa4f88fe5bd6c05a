//! What discovery promises, scenario by scenario.

use std::collections::BTreeMap;

use nearcast_geo::{Position, Resolution};
use nearcast_schemas::delivery::Item;
use nearcast_schemas::event::{LocationKind, Mode, Role};
use nearcast_schemas::topics::partition_of;

use super::super::script::{COARSE_PERIOD_MS, Connected, PARTITIONS, Script, TTL_MS, entry, mode};
use super::*;

/// The centre of a cell so many steps from the middle of the scripts.
fn cell(steps: u32, nth: usize) -> Cell {
    Cell::of(Position::new(0.0, 0.0).unwrap(), Resolution::Seven).ring(steps)[nth]
}

fn at(cell: Cell) -> Option<(f64, f64)> {
    let center = cell.center();
    Some((center.lat_deg(), center.lon_deg()))
}

/// Whom strangers may see.
fn open(version: i64) -> Mode {
    Mode { discoverable: true, ..mode(Sharing::Exact, version) }
}

/// Somebody without friends who opted in, connected.
fn join(script: &mut Script, name: &str, cell: Cell) -> Connected {
    script.mode(name, open(1));
    script.list(name, 1, 8_000, vec![]);
    script.hello(name, Role::Reporting, 1, at(cell))
}

fn report(script: &mut Script, name: &str, session: Connected, cell: Cell) {
    let event = script.event(name, LocationKind::Fix, Some(session), at(cell));
    script.send(name, event);
}

/// What was told about strangers.
fn told(script: &mut Script) -> Vec<String> {
    script.told().into_iter().filter(|line| line.contains(": strangers ")).collect()
}

/// Alice and Bob opted in, are neighbours by their cells, and see each other.
fn neighbours() -> (Script, Connected, Connected) {
    let mut script = Script::owner();
    let alice = join(&mut script, "alice", cell(0, 0));
    let bob = join(&mut script, "bob", cell(1, 0));
    let said = told(&mut script);
    assert!(matches!(&said[..], [one] if one.starts_with("bob: strangers [alice 2")), "{said:?}");
    script.pass(COARSE_PERIOD_MS);
    let said = told(&mut script);
    assert!(said.iter().any(|line| line.starts_with("alice: strangers [bob 2")), "{said:?}");
    (script, alice, bob)
}

#[test]
fn whoever_has_not_opted_in_neither_sees_nor_is_seen() {
    let mut script = Script::owner();
    join(&mut script, "alice", cell(0, 0));
    script.list("carol", 1, 8_000, vec![]);
    let carol = script.hello("carol", Role::Reporting, 1, at(cell(0, 0)));
    script.mode("dave", Mode { sharing: Sharing::Hidden, ..open(1) });
    script.list("dave", 1, 8_000, vec![]);
    script.hello("dave", Role::Reporting, 1, at(cell(0, 0)));
    script.pass(COARSE_PERIOD_MS);
    report(&mut script, "carol", carol, cell(1, 0));
    script.pass(COARSE_PERIOD_MS - 1);
    assert_eq!(told(&mut script), Vec::<String>::new());
    assert_eq!(script.engine.discoverable(), 1);
}

#[test]
fn without_a_list_nobody_is_shown() {
    let (mut script, alice, bob) = neighbours();
    script.engine.unlist(partition_of(b"alice", PARTITIONS), "alice", &mut script.out);
    assert_eq!(told(&mut script), ["alice: strangers []"]);
    script.pass(COARSE_PERIOD_MS);
    assert!(!told(&mut script).iter().any(|line| line.starts_with("alice")));
    script.list("alice", 2, 8_000, vec![]);
    report(&mut script, "alice", alice, cell(0, 0));
    report(&mut script, "bob", bob, cell(1, 0));
    script.pass(COARSE_PERIOD_MS);
    assert!(told(&mut script).iter().any(|line| line.starts_with("alice: strangers [bob 2")));
}

#[test]
fn newcomers_appear_at_the_viewers_instants_however_often_it_asks() {
    let mut script = Script::owner();
    let alice = join(&mut script, "alice", cell(0, 0));
    join(&mut script, "bob", cell(0, 0));
    assert_eq!(told(&mut script), ["bob: strangers [alice 0]"]);
    script.presence("alice", alice, true);
    script.plain("alice", LocationKind::Leave, alice);
    script.hello("alice", Role::Reporting, 1, None);
    assert_eq!(told(&mut script), Vec::<String>::new());
    let mut seen_at = Vec::new();
    for second in 1..=COARSE_PERIOD_MS / 1_000 {
        script.pass(1_000);
        if told(&mut script).iter().any(|line| line == "alice#2: strangers [bob 0]") {
            seen_at.push(second);
        }
    }
    assert_eq!(seen_at.len(), 1);
}

#[test]
fn a_reset_says_the_list_again() {
    let (mut script, alice, _) = neighbours();
    script.hello("alice", Role::Watching, 1, None);
    let said = told(&mut script);
    assert!(said.iter().any(|line| line.starts_with("alice#2: strangers [bob")), "{said:?}");
    script.presence("alice", alice, true);
    let said = script.told();
    let reset = said.iter().position(|line| line == "alice: reset v1 []").unwrap();
    let strangers = said.iter().position(|line| line.starts_with("alice: strangers [bob")).unwrap();
    assert!(reset < strangers, "{said:?}");
    script.own(2);
    assert_eq!(told(&mut script).len(), 3, "every session, after a takeover");
    for partition in 0..super::super::script::PARTITIONS {
        script.engine.disown(partition);
    }
    script.mode("bob", mode(Sharing::Exact, 2));
    script.pass(COARSE_PERIOD_MS);
    assert_eq!(told(&mut script), Vec::<String>::new(), "nobody's viewers are told nothing");
}

/// Bob does something, upon which neither sees the other.
fn check_parting(what: &str, part: impl FnOnce(&mut Script, Connected)) {
    let (mut script, _, bob) = neighbours();
    part(&mut script, bob);
    let mut said = told(&mut script);
    said.sort();
    assert_eq!(said, ["alice: strangers []", "bob: strangers []"], "{what}");
    assert!(script.engine.strangers("bob").is_none_or(|near| near.is_empty()), "{what}");
}

#[test]
fn whoever_stops_taking_part_is_off_all_lists_at_once() {
    check_parting("off", |script, _| script.mode("bob", mode(Sharing::Exact, 2)));
    check_parting("paused", |script, _| script.mode("bob", Mode { sharing: Sharing::Hidden, ..open(2) }));
    check_parting("erased", |script, _| {
        let event = script.event("bob", LocationKind::Erase, None, None);
        script.send("bob", event);
    });
    check_parting("a report that may never be shown", |script, bob| {
        let mut event = script.event("bob", LocationKind::Fix, Some(bob), at(cell(1, 0)));
        event.mode.sharing = Sharing::Hidden;
        script.send("bob", event);
    });
    check_parting("a friend of Bob's", |script, _| script.list("bob", 2, 8_000, vec![entry("alice")]));
    check_parting("Bob is Alice's friend", |script, _| script.list("alice", 2, 8_000, vec![entry("bob")]));
}

#[test]
fn the_silent_disappear() {
    let (mut script, alice, _) = neighbours();
    report(&mut script, "alice", alice, cell(0, 0));
    script.told();
    script.pass(TTL_MS - COARSE_PERIOD_MS);
    let said = told(&mut script);
    assert_eq!(said[said.len() - 2..], ["bob: strangers []", "alice: strangers []"]);
    assert_eq!(script.engine.discoverable(), 1);
}

#[test]
fn a_pause_that_ends_brings_both_back() {
    let (mut script, ..) = neighbours();
    let until = script.now_ms + 1_000;
    script.mode("bob", Mode { sharing: Sharing::Hidden, until, ..open(2) });
    told(&mut script);
    script.pass(1_000);
    let said = told(&mut script);
    assert!(matches!(&said[..], [one] if one.starts_with("bob: strangers [alice")), "{said:?}");
}

#[test]
fn the_nearest_are_shown_within_the_radius_in_rings() {
    let mut script = Script::owner();
    for (name, cell) in [("far", cell(3, 4)), ("near", cell(1, 2)), ("here", cell(0, 0)), ("next", cell(2, 5))] {
        join(&mut script, name, cell);
    }
    script.told();
    join(&mut script, "alice", cell(0, 0));
    let names = |script: &Script, viewer: &str| script.engine.strangers(viewer).unwrap();
    assert_eq!(names(&script, "alice"), ["here", "near", "next"], "three are the most");
    for (name, radius_m, expect) in [("bob", 1, &["near"][..]), ("carol", 3_000, &["near", "next"])] {
        script.mode(name, open(1));
        script.list(name, 1, radius_m, vec![entry("here"), entry("alice"), entry("bob")]);
        script.hello(name, Role::Reporting, 1, at(cell(0, 0)));
        assert_eq!(names(&script, name), expect, "{radius_m}");
    }
}

#[test]
fn a_stranger_is_a_cell_and_a_name_for_one() {
    let mut script = Script::owner();
    let home = cell(0, 0);
    let center = home.center();
    let aside = Some((center.lat_deg() + 0.002, center.lon_deg() - 0.003));
    script.mode("bob", open(1));
    script.list("bob", 1, 8_000, vec![]);
    script.hello("bob", Role::Reporting, 1, aside);
    script.told();
    let mut aliases = Vec::new();
    for name in ["alice", "carol"] {
        script.mode(name, open(1));
        script.list(name, 1, 8_000, vec![entry("alice")]);
        script.hello(name, Role::Reporting, 1, aside);
        let items = script.out.take().into_iter().flat_map(|batch| batch.items.decode().unwrap());
        let lists = items.filter_map(|item| if let Item::Strangers(list) = item { Some(list.entries) } else { None });
        let lists: Vec<_> = lists.collect();
        let [list] = &lists[..] else { panic!("{name} is told once") };
        let [stranger] = list[..] else { panic!("of Bob alone") };
        assert_eq!((stranger.lat, stranger.lon, stranger.distance_dm), (center.lat_deg(), center.lon_deg(), 0));
        assert_eq!(stranger.at % COARSE_PERIOD_MS, 0, "nobody's schedule shows");
        assert!(stranger.at <= script.now_ms && stranger.at > script.now_ms - 2 * COARSE_PERIOD_MS);
        aliases.push(stranger.alias);
    }
    assert_ne!(aliases[0], aliases[1]);
    assert_ne!(AliasKey([1, 2]).alias("a", "b"), AliasKey([1, 3]).alias("a", "b"));
    assert_eq!(format!("{:?}", AliasKey([1, 2])), "AliasKey(…)");
}

#[test]
fn in_a_crowd_everybody_is_shown_to_some() {
    let mut script = Script::owner();
    let names: Vec<_> = (0..100).map(|n| format!("user-{n}")).collect();
    for name in &names {
        join(&mut script, name, cell(0, 0));
    }
    script.pass(COARSE_PERIOD_MS);
    let lists = |script: &Script| -> BTreeMap<String, Vec<String>> {
        names.iter().map(|name| (name.clone(), script.engine.strangers(name).unwrap())).collect()
    };
    let before = lists(&script);
    let mut shown = BTreeMap::<&String, u32>::new();
    for stranger in before.values().flatten() {
        *shown.entry(stranger).or_default() += 1;
    }
    assert!(before.values().all(|list| list.len() == 3));
    assert!(shown.len() > 80 && shown.values().all(|&times| times < 15), "{shown:?}");
    script.told();
    script.pass(COARSE_PERIOD_MS - 1);
    assert_eq!(lists(&script), before, "the same ones each time");
}

#[test]
fn without_discovery_nobody_takes_part() {
    let mut script = Script::owner();
    script.engine.settings.discovery_max = 0;
    join(&mut script, "alice", cell(0, 0));
    join(&mut script, "bob", cell(0, 0));
    script.pass(COARSE_PERIOD_MS);
    assert_eq!((told(&mut script), script.engine.discoverable()), (Vec::new(), 0));
}
