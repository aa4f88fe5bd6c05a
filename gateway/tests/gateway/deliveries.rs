//! What reaches a phone, and what does not.

use nearcast_schemas::event::LocationKind;
use serde_json::json;

use crate::api::answer;
use crate::phone::{Phone, hello};
use crate::tls::metric;
use crate::worker::{applied, digest, entry, removal, reset, reset_part, strangers, superseded, upsert, upsert_at};
use crate::world::{World, token};

#[tokio::test]
async fn from_hello_to_changes() {
    let mut world = World::start().await;
    let mut told = answer();
    told.nearby = vec![entry("bob"), entry("eve")];
    world.api.answer("alice", told);
    let mut phone = world.connect("alice").await;
    phone.send(hello()).await;

    let welcome = phone.expect("welcome").await;
    assert_eq!(welcome["protocol"], 1);
    assert_eq!(welcome["user"], "alice");
    assert_eq!(welcome["role"], "reporting");
    assert_eq!(welcome["radius_m"], 8_000);
    assert_eq!(welcome["limits"], json!({"message_bytes": 131_072, "fixes": 500, "messages_per_s": 20}));
    assert!(welcome["server_time"].as_i64().unwrap() > 1_700_000_000_000);
    assert!(welcome.get("accepted").is_none());
    let first = phone.expect("nearby").await;
    assert_eq!(first["reset"], json!({"part": 1, "parts": 1, "provisional": true}));
    assert_eq!(
        first["upserts"][0],
        json!({"id": "bob", "display_name": "BOB", "lat": 52.5, "lon": 13.25, "distance_m": 1234.5, "at": 1, "accuracy_m": 4.5})
    );

    let seat = world.seat("alice").await;
    let mut worker = world.worker(&seat);
    worker.batch(vec![upsert("early", &[&seat])]).await;
    worker.batch(vec![reset_part(&seat, 1, 1, 2, &["bob"]), reset_part(&seat, 1, 2, 2, &["zoe"])]).await;
    assert_eq!(phone.nearby().await, "[1/2 +bob]", "and nothing of what came before the reset");
    assert_eq!(phone.nearby().await, "[2/2 +zoe]");
    worker.batch(vec![upsert("carol", &[&seat])]).await;
    assert_eq!(phone.nearby().await, "+carol");
    worker.batch(vec![removal("bob", &[&seat])]).await;
    let message = phone.expect("nearby").await;
    assert_eq!(message["removals"], json!([{"id": "bob", "reason": "out_of_range"}]));
    let (item, hex) = digest(&seat, &["carol", "zoe"]);
    worker.batch(vec![item]).await;
    assert_eq!(phone.expect("digest").await, json!({"type": "digest", "count": 2, "digest": hex}));
}

#[tokio::test]
async fn a_first_answer_without_the_cache_says_so() {
    let world = World::start().await;
    let mut told = answer();
    told.nearby_known = false;
    world.api.answer("alice", told);
    let mut phone = world.connect("alice").await;
    phone.send(hello()).await;
    phone.expect("welcome").await;
    let first = phone.expect("nearby").await;
    assert_eq!(first["reset"], json!({"part": 1, "parts": 1, "provisional": true, "known": false}));
}

#[tokio::test]
async fn a_lower_epoch_and_another_incarnation_are_dropped() {
    let mut world = World::start().await;
    let (mut phone, seat) = world.join("alice").await;
    let mut old = world.worker(&seat);
    old.batch(vec![reset(&seat, 1, &["a"])]).await;
    assert_eq!(phone.nearby().await, "[1/1 +a]");

    let mut new = old.successor("w2");
    new.batch(vec![upsert("early", &[&seat])]).await;
    old.batch(vec![upsert("late", &[&seat]), reset(&seat, 1, &["late"]), superseded(&seat)]).await;
    new.batch(vec![reset(&seat, 1, &["b"])]).await;
    assert_eq!(phone.nearby().await, "[1/1 +b]");
    old.batch(vec![upsert("late", &[&seat])]).await;

    let mut foreign = old.successor("w3");
    foreign.gateway_incarnation -= 1;
    foreign.epoch = 1_000;
    foreign.batch(vec![reset(&seat, 1, &["foreign"]), superseded(&seat)]).await;
    new.batch(vec![upsert("c", &[&seat])]).await;
    assert_eq!(phone.nearby().await, "+c", "the foreign epoch raised nothing");
}

#[tokio::test]
async fn strangers_come_as_whole_lists_after_the_reset() {
    let mut world = World::start().await;
    let (mut phone, seat) = world.join("alice").await;
    let mut worker = world.worker(&seat);
    worker.batch(vec![strangers(&seat, &[7])]).await;
    worker.batch(vec![reset(&seat, 1, &["bob"]), strangers(&seat, &[-1, 2])]).await;
    assert_eq!(phone.nearby().await, "[1/1 +bob]", "and no strangers before it");
    let stranger = |alias: &str| json!({"alias": alias, "lat": 52.5, "lon": 13.25, "distance_m": 2431.0, "at": 3, "approximate": true});
    assert_eq!(
        phone.expect("strangers").await,
        json!({"type": "strangers", "strangers": [stranger("ffffffffffffffff"), stranger("0000000000000002")]})
    );
    worker.batch(vec![strangers(&seat, &[])]).await;
    assert_eq!(phone.expect("strangers").await["strangers"], json!([]));
    let mut new = worker.successor("w2");
    new.batch(vec![reset(&seat, 1, &["bob"])]).await;
    worker.batch(vec![strangers(&seat, &[8])]).await;
    new.batch(vec![strangers(&seat, &[9])]).await;
    assert_eq!(phone.nearby().await, "[1/1 +bob]");
    assert_eq!(phone.expect("strangers").await["strangers"], json!([stranger("0000000000000009")]));
}

#[tokio::test]
async fn a_record_that_is_none_is_passed_over() {
    let mut world = World::start().await;
    let (mut phone, seat) = world.join("alice").await;
    let mut worker = world.worker(&seat);
    worker.write(b"not a record").await;
    worker.write(&[0, 0, 0, 0, 3, 255]).await;
    worker.write(&[]).await;
    worker.batch(vec![reset(&seat, 1, &["a"])]).await;
    assert_eq!(phone.nearby().await, "[1/1 +a]");
}

#[tokio::test]
async fn a_gap_is_followed_by_a_question() {
    let mut world = World::start().await;
    let (mut phone, seat) = world.join("alice").await;
    let mut worker = world.worker(&seat);
    worker.batch(vec![reset(&seat, 1, &["a"])]).await;
    assert_eq!(phone.nearby().await, "[1/1 +a]");
    worker.seq += 1;
    worker.batch(vec![upsert("b", &[&seat])]).await;
    assert_eq!(phone.nearby().await, "+b", "what comes after the gap is shown");
    let asked = world.log.next("alice", LocationKind::Presence).await;
    assert!(asked.event.reset);
    assert_eq!(asked.event.session, seat.session);
    worker.batch(vec![reset(&seat, 1, &["b"])]).await;
    assert_eq!(phone.nearby().await, "[1/1 +b]");
}

#[tokio::test]
async fn sync_asks_for_a_reset() {
    let mut world = World::start().await;
    let (mut phone, seat) = world.join("alice").await;
    let mut worker = world.worker(&seat);
    worker.batch(vec![reset(&seat, 1, &["a"])]).await;
    assert_eq!(phone.nearby().await, "[1/1 +a]");
    phone.send(json!({"type": "sync"})).await;
    let asked = world.log.next("alice", LocationKind::Presence).await;
    assert!(asked.event.reset);
    assert_eq!(asked.event.route.unwrap().handle, seat.handle);
    worker.batch(vec![reset(&seat, 1, &["a"])]).await;
    assert_eq!(phone.nearby().await, "[1/1 +a]");
}

#[tokio::test]
async fn a_reset_that_does_not_come_is_asked_for() {
    let mut world = World::with(|config, _| config.reset_wait_s = 1).await;
    let (_phone, seat) = world.join("alice").await;
    let asked = world.log.next("alice", LocationKind::Presence).await;
    assert!(asked.event.reset);
    assert_eq!(asked.event.session, seat.session);
}

#[tokio::test]
async fn one_position_reaches_two_viewers_and_only_one_after_the_other_left() {
    let mut world = World::start().await;
    let (alice, alices) = world.join("alice").await;
    let (mut bob, bobs) = world.join("bob").await;
    let mut worker = world.worker(&alices);
    worker.batch(vec![reset(&alices, 1, &[]), reset(&bobs, 1, &[])]).await;
    let mut alice = alice;
    assert_eq!((alice.nearby().await, bob.nearby().await), ("[1/1 ]".to_owned(), "[1/1 ]".to_owned()));
    worker.batch(vec![upsert("eve", &[&alices, &bobs])]).await;
    assert_eq!((alice.nearby().await, bob.nearby().await), ("+eve".to_owned(), "+eve".to_owned()));
    alice.close().await;
    world.log.next("alice", LocationKind::Leave).await;
    worker.batch(vec![upsert("mallory", &[&alices, &bobs])]).await;
    assert_eq!(bob.nearby().await, "+mallory");
}

#[tokio::test]
async fn updates_within_the_window_become_one_frame_and_the_newest_wins() {
    let mut world = World::with(|config, _| config.coalesce_ms = 500).await;
    let (mut phone, seat) = world.join("alice").await;
    let mut worker = world.worker(&seat);
    worker.batch(vec![reset(&seat, 1, &[])]).await;
    assert_eq!(phone.nearby().await, "[1/1 ]");
    let (a, b) = (upsert("a", &[&seat]), upsert("b", &[&seat]));
    worker.batch(vec![a.clone(), b, a, removal("b", &[&seat])]).await;
    assert_eq!(phone.nearby().await, "+a -b");
}

#[tokio::test]
async fn muted_friends_stay_away_until_subscribed_again() {
    let mut world = World::start().await;
    world.api.befriend(
        "alice",
        "bob",
        nearcast_schemas::internal::FriendAnswer { display_name: "Bob".into(), entry: Some(entry("bob")) },
    );
    let (mut phone, seat) = world.join("alice").await;
    let mut worker = world.worker(&seat);
    worker.batch(vec![reset(&seat, 1, &["bob", "eve"])]).await;
    assert_eq!(phone.nearby().await, "[1/1 +bob +eve]");
    phone.send(json!({"type": "unsubscribe", "friend": "bob"})).await;
    let message = phone.expect("nearby").await;
    assert_eq!(message["removals"], json!([{"id": "bob", "reason": "muted"}]));

    let (item, _) = digest(&seat, &["bob", "eve"]);
    let (_, without) = digest(&seat, &["eve"]);
    worker.batch(vec![upsert("bob", &[&seat]), item.clone()]).await;
    assert_eq!(phone.expect("digest").await["digest"], json!(without), "what the client holds");
    worker.batch(vec![reset(&seat, 1, &["bob", "eve"])]).await;
    assert_eq!(phone.nearby().await, "[1/1 +eve]");

    phone.send(json!({"type": "subscribe", "friend": "bob", "id": "s1"})).await;
    let message = phone.expect("friend").await;
    assert_eq!(
        (&message["id"], &message["display_name"], &message["re"]),
        (&json!("bob"), &json!("Bob"), &json!("s1"))
    );
    assert_eq!(message["position"]["distance_m"], 1234.5);
    assert!(world.log.next("alice", LocationKind::Presence).await.event.reset);
    worker.batch(vec![applied(&seat, 1), reset(&seat, 1, &["bob", "eve"])]).await;
    assert_eq!(phone.nearby().await, "[1/1 +bob +eve]");
}

#[tokio::test]
async fn a_phone_that_reads_slowly_gets_the_newest_and_holds_nobody_back() {
    const FRIENDS: usize = 50;
    const ROUNDS: i64 = 200;
    let mut world = World::start().await;
    let mut slow = Phone::connect_narrow(world.addr, &token("alice")).await;
    slow.send(hello()).await;
    slow.expect("welcome").await;
    slow.nearby().await;
    let slow_seat = world.seat("alice").await;
    let (mut quick, quick_seat) = world.join("bob").await;
    let mut worker = world.worker(&slow_seat);
    worker.batch(vec![reset(&slow_seat, 1, &[]), reset(&quick_seat, 1, &[])]).await;
    quick.nearby().await;

    let names: Vec<String> = (0..FRIENDS).map(|n| format!("friend{n}")).collect();
    for round in 1..=ROUNDS {
        let mut items: Vec<_> = names.iter().map(|name| upsert_at(name, round, &[&slow_seat])).collect();
        items.push(upsert_at("bell", round, &[&quick_seat]));
        worker.batch(items).await;
        // The other phone hears of each round although nobody reads at the first.
        assert_eq!(quick.expect("nearby").await["upserts"][0]["at"], round);
    }

    assert_eq!(slow.nearby().await, "[1/1 ]");
    let (mut last, mut read) = (std::collections::BTreeMap::new(), 0);
    while last.len() < FRIENDS || last.values().any(|at| *at < ROUNDS) {
        let message = slow.expect("nearby").await;
        for entry in message["upserts"].as_array().unwrap() {
            read += 1;
            last.insert(entry["id"].as_str().unwrap().to_owned(), entry["at"].as_i64().unwrap());
        }
    }
    let sent = FRIENDS * usize::try_from(ROUNDS).unwrap();
    assert!(read < sent / 2, "{read} of {sent} updates were written, so they waited somewhere");
}

#[tokio::test]
async fn a_phone_that_reads_nothing_is_given_up_in_the_end() {
    const CLOSED: &str = r#"nearcast_gateway_refusals_total{code="slow",of="connection"}"#;
    let mut world = World::with(|config, _| config.slow_after_s = 1).await;
    let mut deaf = Phone::connect_narrow(world.addr, &token("alice")).await;
    deaf.send(hello()).await;
    deaf.expect("welcome").await;
    deaf.nearby().await;
    let deaf_seat = world.seat("alice").await;
    let (mut quick, quick_seat) = world.join("bob").await;
    let mut worker = world.worker(&deaf_seat);
    worker.batch(vec![reset(&deaf_seat, 1, &[]), reset(&quick_seat, 1, &[])]).await;
    quick.nearby().await;
    let before = metric(&world, CLOSED).await;
    let names: Vec<String> = (0..50).map(|n| format!("friend{n}")).collect();
    let mut round = 0;
    // It is closed only once its system takes nothing more.
    while metric(&world, CLOSED).await <= before {
        round += 1;
        let mut items: Vec<_> = names.iter().map(|name| upsert_at(name, round, &[&deaf_seat])).collect();
        items.push(upsert_at("bell", round, &[&quick_seat]));
        worker.batch(items).await;
        assert_eq!(quick.expect("nearby").await["upserts"][0]["at"], round);
    }
}
