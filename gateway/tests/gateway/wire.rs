//! A session in MessagePack, and one that goes on with the list from before.

use nearcast_schemas::digest::ListDigest;
use nearcast_schemas::event::LocationKind;
use nearcast_schemas::internal::FriendAnswer;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::api::answer;
use crate::phone::{Phone, hello, location};
use crate::worker::{entry, removal, reset, reset_part, upsert};
use crate::world::{World, token};

#[tokio::test]
async fn a_session_in_messagepack_is_one_as_any_other() {
    let mut world = World::start().await;
    world.api.befriend("alice", "bob", FriendAnswer { display_name: "Bob".into(), entry: None });
    let token = token("alice");
    let mut phone = Phone::connect_offering(world.addr, &token, "nearcast.v1.msgpack, nearcast.v1").await;

    // What cannot be read is answered in the same format, and the socket stays.
    phone.send_raw(Message::text(hello().to_string())).await;
    phone.expect_error("not_binary").await;
    phone.send_raw(Message::binary(vec![0xdf, 0xff, 0xff, 0xff, 0xff])).await;
    phone.expect_error("malformed").await;
    phone.send_raw(Message::binary(vec![0x91; 100_000])).await;
    phone.expect_error("malformed").await;
    phone.send(json!({"type": "hello", "id": "h1", "position": {"n": 5}})).await;
    let error = phone.expect_error("malformed").await;
    assert_eq!((&error["re"], &error["of"], &error["n"]), (&json!("h1"), &json!("hello"), &json!(5)));

    phone.send(hello()).await;
    let welcome = phone.expect("welcome").await;
    assert_eq!((&welcome["protocol"], &welcome["user"]), (&json!(1), &json!("alice")));
    assert_eq!(phone.nearby().await, "[1/1? ]");
    let seat = world.seat("alice").await;

    phone.send(location(1, 52.5, 13.25)).await;
    assert_eq!(phone.expect("ack").await, json!({"type": "ack", "device": "d1", "n": 1, "result": "published"}));
    let fix = world.log.next("alice", LocationKind::Fix).await.event.fix.unwrap();
    assert_eq!((fix.n, fix.lat, fix.lon), (1, 52.5, 13.25));
    phone.send(json!({"type": "subscribe", "friend": "bob", "id": "s1"})).await;
    assert_eq!(phone.expect("friend").await["re"], "s1");
    phone.send(json!({"type": "dance", "id": "x"})).await;
    assert_eq!(phone.expect_error("unknown_type").await["re"], "x");

    let mut worker = world.worker(&seat);
    worker.batch(vec![reset(&seat, 1, &["a"])]).await;
    assert_eq!(phone.nearby().await, "[1/1 +a]");
    worker.batch(vec![upsert("b", &[&seat])]).await;
    assert_eq!(phone.nearby().await, "+b");
    worker.batch(vec![removal("a", &[&seat])]).await;
    assert_eq!(phone.nearby().await, "-a");
    world.shutdown.begin();
    phone.expect_bye("drain", 4012).await;
}

#[tokio::test]
async fn a_client_that_holds_the_list_is_not_sent_it_again() {
    let mut world = World::start().await;
    let mut told = answer();
    told.nearby = vec![entry("a"), entry("b")];
    world.api.answer("alice", told);
    let mut held = ListDigest::default();
    held.add("a", "A", 1, false);
    held.add("b", "B", 1, false);
    let mut resumed = hello();
    resumed["resume"] = json!({"count": 2, "digest": held.to_hex()});
    // A worker that began to count anew would have lost batches, so that a whole list is due.
    let mut same_worker = None;
    for offer in ["nearcast.v1", "nearcast.v1.msgpack"] {
        let mut phone = Phone::connect_offering(world.addr, &token("alice"), offer).await;
        phone.send(resumed.clone()).await;
        phone.expect("welcome").await;
        let unchanged = json!({"type": "unchanged", "count": 2, "digest": held.to_hex()});
        let mut provisional = unchanged.clone();
        provisional["provisional"] = json!(true);
        assert_eq!(phone.next().await, provisional);
        let seat = world.seat("alice").await;
        let worker = same_worker.get_or_insert_with(|| world.worker(&seat));
        worker.batch(vec![reset_part(&seat, 1, 1, 2, &["a"])]).await;
        worker.batch(vec![reset_part(&seat, 1, 2, 2, &["b"]), upsert("c", &[&seat])]).await;
        assert_eq!(phone.next().await, unchanged);
        assert_eq!(phone.nearby().await, "+c");
        phone.send(json!({"type": "sync"})).await;
        world.log.next("alice", LocationKind::Presence).await;
        worker.batch(vec![reset(&seat, 1, &["a", "b"])]).await;
        assert_eq!(phone.nearby().await, "[1/1 +a +b]");
        phone.close().await;
    }
    let mut phone = world.connect("alice").await;
    resumed["resume"]["count"] = json!(3);
    phone.send(resumed).await;
    phone.expect("welcome").await;
    assert_eq!(phone.nearby().await, "[1/1? +a +b]");
    let seat = world.seat("alice").await;
    same_worker.unwrap().batch(vec![reset(&seat, 1, &["a", "c"])]).await;
    assert_eq!(phone.nearby().await, "[1/1 +a +c]");
    let metrics = world.get("/metrics").await;
    assert!(metrics.contains("nearcast_gateway_resumes_total "), "{metrics}");
    assert!(metrics.contains("nearcast_gateway_unchanged_written_total{answer=\"full\"}"), "{metrics}");
}
