//! How sessions begin, report, and end.

use std::time::Duration;

use nearcast_schemas::event::{LocationKind, NO_SESSION, Role};
use nearcast_schemas::internal::{FriendAnswer, Place};
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;

use crate::phone::{Phone, hello, location};
use crate::worker::superseded;
use crate::world::{PATIENCE, World, auth, sign};

#[tokio::test]
async fn a_hello_with_a_position_is_accepted_and_asks_the_api_with_it() {
    let mut world = World::start().await;
    let mut phone = world.connect("alice").await;
    let mut message = hello();
    message["position"] = json!({"n": 7, "lat": 52.5, "lon": 13.25, "time": 1_700_000_000_000_i64, "speed_mps": 1.5});
    message["clock"] = json!(1_700_000_000_000_i64);
    phone.send(message).await;
    let welcome = phone.expect("welcome").await;
    assert_eq!(welcome["accepted"], json!({"device": "d1", "n": 7, "result": "published"}));
    assert_eq!(world.api.asked()[0].place, Some(Place { lat: 52.5, lon: 13.25 }));
    let record = world.log.next("alice", LocationKind::Hello).await;
    let fix = record.event.fix.unwrap();
    assert_eq!((fix.device.as_str(), fix.n, fix.speed_mps), ("d1", 7, Some(1.5)));
    assert_eq!((record.event.session, record.event.list_version), (NO_SESSION, 1));

    // The place in the registry is refreshed with the session once that is known.
    let sessions = world.cache.sessions("alice").await.unwrap();
    assert_eq!(sessions.len(), 1);
    assert_eq!((sessions[0].session, sessions[0].role), (record.offset, Role::Reporting));
    phone.close().await;
    world.log.next("alice", LocationKind::Leave).await;
    assert_eq!(world.cache.sessions("alice").await.unwrap(), []);
}

#[tokio::test]
async fn reports_are_acknowledged_when_they_are_in_the_log() {
    let mut world = World::start().await;
    let (mut phone, seat) = world.join("alice").await;
    let mut first = location(1, 52.5, 13.25);
    first["id"] = json!("m1");
    phone.send(first).await;
    assert_eq!(
        phone.expect("ack").await,
        json!({"type": "ack", "device": "d1", "n": 1, "result": "published", "re": "m1"})
    );
    let record = world.log.next("alice", LocationKind::Fix).await;
    assert_eq!(record.event.session, seat.session);

    phone.send(location(2, 52.500_01, 13.25)).await;
    assert_eq!(phone.expect("ack").await["result"], "thinned");
    phone.send(location(3, 52.51, 13.25)).await;
    assert_eq!(phone.expect("ack").await["result"], "published");
    let mut late = location(4, 52.52, 13.25);
    late["time"] = json!(1_699_990_000_000_i64);
    late["device"] = json!("d9");
    phone.send(late).await;
    assert_eq!(phone.expect("ack").await, json!({"type": "ack", "device": "d9", "n": 4, "result": "stored"}));
    assert_eq!(world.log.next("alice", LocationKind::Backfill).await.event.fix.unwrap().n, 4);

    // Without `ack` nothing is answered: the next answer is the next message's.
    let mut silent = location(5, 52.53, 13.25);
    silent["ack"] = json!(false);
    phone.send(silent).await;
    phone.send(location(6, 52.54, 13.25)).await;
    assert_eq!(phone.expect("ack").await["n"], 6);
}

#[tokio::test]
async fn reports_keep_their_order() {
    let mut world = World::with(|config, _| config.messages_per_s = 1_000).await;
    let (mut phone, _) = world.join("alice").await;
    for n in 1..=50 {
        phone.send(location(n, 52.0 + n as f64 / 100.0, 13.25)).await;
    }
    for n in 1..=50 {
        assert_eq!(phone.expect("ack").await["n"], n);
    }
    for n in 1..=50 {
        assert_eq!(world.log.next("alice", LocationKind::Fix).await.event.fix.unwrap().n, n);
    }
}

#[tokio::test]
async fn late_reports_come_in_one_message() {
    let mut world = World::start().await;
    let (mut phone, _) = world.join("alice").await;
    let fix = |n: i64, lat: f64| json!({"n": n, "lat": lat, "lon": 13.25, "time": 1_699_999_000_000_i64});
    let batch = json!({
        "type": "locations", "clock": 1_700_000_000_000_i64, "ack": true, "id": "b1",
        "fixes": [fix(1, 52.0), fix(2, 91.0), fix(3, 52.1)],
    });
    phone.send(batch.clone()).await;
    assert_eq!(
        phone.expect("ack").await,
        json!({"type": "ack", "device": "d1", "n": 3, "result": "stored", "count": 2,
               "refused": [{"n": 2, "code": "position_out_of_range"}], "re": "b1"})
    );
    for n in [1, 3] {
        assert_eq!(world.log.next("alice", LocationKind::Backfill).await.event.fix.unwrap().n, n);
    }
    let mut silent = batch;
    silent["ack"] = json!(false);
    phone.send(silent).await;
    let error = phone.expect_error("position_out_of_range").await;
    assert_eq!((&error["n"], &error["of"], &error["re"]), (&json!(2), &json!("locations"), &json!("b1")));
}

#[tokio::test]
async fn a_newer_reporting_session_takes_over_at_once() {
    let mut world = World::start().await;
    let (mut older, old_seat) = world.join("alice").await;
    let (mut newer, new_seat) = world.join("alice").await;
    let bye = older.expect_bye("superseded", 4009).await;
    assert_eq!(bye["reconnect"], false);
    let left = world.log.next("alice", LocationKind::Leave).await;
    assert_eq!(left.event.session, old_seat.session);
    assert!(new_seat.session > old_seat.session);
    newer.send(location(1, 52.5, 13.25)).await;
    newer.expect("ack").await;
    assert_eq!(world.log.next("alice", LocationKind::Fix).await.event.session, new_seat.session);
}

#[tokio::test]
async fn a_worker_ends_a_session_that_was_superseded_elsewhere() {
    let mut world = World::start().await;
    let (mut phone, seat) = world.join("alice").await;
    world.worker(&seat).batch(vec![superseded(&seat)]).await;
    phone.expect_bye("superseded", 4009).await;
}

#[tokio::test]
async fn three_sessions_may_watch_and_none_of_them_reports() {
    let mut world = World::start().await;
    let (mut phone, _) = world.join("alice").await;
    let (mut first, _) = world.watch("alice").await;
    let (mut second, _) = world.watch("alice").await;
    let (mut third, _) = world.watch("alice").await;
    let (mut fourth, seat) = world.watch("alice").await;
    first.expect_bye("superseded", 4009).await;
    assert_eq!(world.api.asked().last().unwrap().role, Role::Watching);
    let error = {
        fourth.send(location(5, 52.5, 13.25)).await;
        fourth.expect_error("not_reporting").await
    };
    assert_eq!((&error["n"], &error["of"], &error["retry"]), (&json!(5), &json!("location"), &json!("never")));
    phone.send(location(1, 52.5, 13.25)).await;
    phone.expect("ack").await;

    let mut worker = world.worker(&seat);
    worker.batch(vec![crate::worker::reset(&seat, 1, &["a"])]).await;
    assert_eq!(fourth.nearby().await, "[1/1 +a]");
    for map in [&mut second, &mut third] {
        map.send(json!({"type": "subscribe", "friend": "nobody"})).await;
        map.expect_error("not_a_friend").await;
    }
}

#[tokio::test]
async fn subscribe_answers_for_friends_only() {
    let mut world = World::start().await;
    world.api.befriend("alice", "bob", FriendAnswer { display_name: "Bob".into(), entry: None });
    let (mut phone, _) = world.join("alice").await;
    phone.send(json!({"type": "subscribe", "friend": "bob", "id": "s1"})).await;
    assert_eq!(
        phone.expect("friend").await,
        json!({"type": "friend", "id": "bob", "display_name": "Bob", "position": null, "re": "s1"})
    );
    phone.send(json!({"type": "subscribe", "friend": "stranger", "id": "s2"})).await;
    let error = phone.expect_error("not_a_friend").await;
    assert_eq!((&error["re"], &error["of"]), (&json!("s2"), &json!("subscribe")));
}

#[tokio::test]
async fn hello_may_be_said_again_when_the_api_is_back() {
    let mut world = World::start().await;
    world.api.down(true);
    let mut phone = world.connect("alice").await;
    let mut message = hello();
    message["id"] = json!("h1");
    phone.send(message).await;
    let error = phone.expect_error("unavailable").await;
    assert_eq!((&error["re"], &error["of"], &error["retry"]), (&json!("h1"), &json!("hello"), &json!("after")));
    assert!(error["retry_after_ms"].as_i64().unwrap() >= 2_000);
    world.api.down(false);
    phone.send(hello()).await;
    phone.expect("welcome").await;
    world.seat("alice").await;
}

#[tokio::test]
async fn a_quiet_session_says_presence() {
    let mut world = World::with(|_, deployment| {
        deployment.friend_ttl_s = 3;
        deployment.max_silence_s = 1;
        deployment.report_interval_s = 1;
        deployment.coarse_period_s = 1;
    })
    .await;
    let (_map, seat) = world.watch("alice").await;
    let presence = world.log.next("alice", LocationKind::Presence).await;
    assert!(!presence.event.reset);
    assert_eq!(presence.event.session, seat.session);
    assert_eq!(presence.event.route.unwrap().role, Role::Watching);
}

#[tokio::test]
async fn a_token_ends_while_connected() {
    let world = World::start().await;
    let token = sign(&auth(), "alice", Duration::from_secs(2));
    let mut phone = Phone::connect(world.addr, &token).await.unwrap();
    phone.send(hello()).await;
    phone.expect("welcome").await;
    phone.nearby().await;
    let code = nearcast_schemas::refusal::Refusal::TokenExpired.row().close.unwrap();
    let bye = phone.expect_bye("token_expired", code).await;
    assert_eq!(bye["reconnect"], false, "not with this token");
}

#[tokio::test]
async fn who_answers_no_ping_is_given_up() {
    let mut world = World::with(|config, _| config.ping_every_s = 1).await;
    let (phone, _) = world.join("alice").await;
    let mut bytes = Vec::new();
    timeout(PATIENCE, phone.into_stream().read_to_end(&mut bytes)).await.expect("it is not given up").unwrap();
    let contains = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    assert!(contains(&[0x89, 0]), "it was pinged");
    assert!(contains(br#""code":"idle""#) && contains(&4008_u16.to_be_bytes()));
    world.log.next("alice", LocationKind::Leave).await;
}

#[tokio::test]
async fn a_lost_socket_leaves() {
    let mut world = World::start().await;
    let (phone, seat) = world.join("alice").await;
    drop(phone.into_stream());
    assert_eq!(world.log.next("alice", LocationKind::Leave).await.event.session, seat.session);
}

#[tokio::test]
async fn a_report_that_the_log_does_not_answer_for_is_not_acknowledged() {
    let mut world = World::start().await;
    let (mut phone, _) = world.join("alice").await;
    phone.send(location(1, 52.5, 13.25)).await;
    phone.expect("ack").await;
    world.stop_kafka();
    let mut report = location(2, 52.6, 13.25);
    report["id"] = json!("m2");
    phone.send(report).await;
    let error = phone.expect_error("unknown").await;
    assert_eq!((&error["n"], &error["re"], &error["retry"]), (&json!(2), &json!("m2"), &json!("after")));
    // The connection stays: what needs no log is answered.
    phone.send(json!({"type": "dance"})).await;
    phone.expect_error("unknown_type").await;
}
