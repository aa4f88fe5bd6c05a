//! Bad input gets a clear error, and nothing breaks.

use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::phone::{hello, location};
use crate::world::World;

#[tokio::test]
async fn what_is_refused_closes_nothing() {
    let mut world = World::with(|config, _| config.messages_per_s = 1_000).await;
    let (mut phone, _) = world.join("alice").await;
    for text in
        ["", "{", "[]", "null", "{}", r#"{"type":5}"#, r#"{"type":"location","n":"x"}"#, r#"{"type":"subscribe"}"#]
    {
        phone.send_raw(Message::text(text)).await;
        let error = phone.expect_error("malformed").await;
        assert_eq!(error["retry"], "never");
    }
    phone.send(json!({"type": "dance", "id": "m1"})).await;
    assert_eq!(phone.expect_error("unknown_type").await["re"], "m1");
    phone.send_raw(Message::binary(vec![1, 2, 3])).await;
    phone.expect_error("not_text").await;
    phone.send(json!({"type": "sync", "id": "x".repeat(65)})).await;
    phone.expect_error("id_invalid").await;
    phone.send(json!({"type": "subscribe", "friend": "a b"})).await;
    phone.expect_error("id_invalid").await;

    for (lat, lon) in [(90.5, 0.0), (-91.0, 0.0), (0.0, 180.5), (0.0, -181.0), (1e300, 0.0)] {
        let mut report = location(9, lat, lon);
        report["ack"] = json!(false);
        phone.send(report).await;
        let error = phone.expect_error("position_out_of_range").await;
        assert_eq!((&error["n"], &error["of"]), (&json!(9), &json!("location")));
        assert!(!error.to_string().contains("90.5") && !error.to_string().contains("180.5"));
    }
    let mut report = location(9, 1.0, 1.0);
    report["heading_deg"] = json!(361);
    phone.send(report).await;
    phone.expect_error("measure_out_of_range").await;
    let mut report = location(9, 1.0, 1.0);
    report["time"] = json!(-1);
    phone.send(report).await;
    phone.expect_error("time_out_of_range").await;
    phone.send(location(-1, 1.0, 1.0)).await;
    phone.expect_error("number_not_growing").await;
    let fix = json!({"n": 1, "lat": 1.0, "lon": 1.0, "time": 1});
    phone.send(json!({"type": "locations", "fixes": vec![fix; 501]})).await;
    phone.expect_error("too_many_fixes").await;

    phone.send(location(10, 1.0, 1.0)).await;
    assert_eq!(phone.expect("ack").await["result"], "published");
}

#[tokio::test]
async fn a_second_hello_is_refused() {
    let mut world = World::start().await;
    let (mut phone, _) = world.join("alice").await;
    let mut again = hello();
    again["id"] = json!("h2");
    phone.send(again).await;
    let error = phone.expect_error("hello_repeated").await;
    assert_eq!((&error["re"], &error["of"]), (&json!("h2"), &json!("hello")));
    phone.send(location(1, 1.0, 1.0)).await;
    phone.expect("ack").await;
}

#[tokio::test]
async fn a_hello_that_was_refused_may_be_mended() {
    let mut world = World::start().await;
    let mut phone = world.connect("alice").await;
    let mut message = hello();
    message["position"] = json!({"n": 3, "lat": 95.0, "lon": 0.0, "time": 1_700_000_000_000_i64});
    phone.send(message).await;
    let error = phone.expect_error("position_out_of_range").await;
    assert_eq!((&error["n"], &error["of"]), (&json!(3), &json!("hello")));
    phone.send(json!({"type": "hello", "device": "d 1"})).await;
    phone.expect_error("id_invalid").await;
    phone.send(json!({"type": "hello", "device": "d1", "watch": true, "position": {"n": 1, "lat": 1, "lon": 1, "time": 1}})).await;
    phone.expect_error("not_reporting").await;
    phone.send(hello()).await;
    phone.expect("welcome").await;
    world.seat("alice").await;
}

#[tokio::test]
async fn whoever_does_not_say_hello_first_has_to_go() {
    let world = World::start().await;
    let mut phone = world.connect("alice").await;
    phone.send(location(1, 1.0, 1.0)).await;
    phone.expect_bye("hello_expected", 4002).await;

    let world = World::with(|config, _| config.hello_timeout_s = 1).await;
    let mut silent = world.connect("alice").await;
    silent.expect_bye("hello_expected", 4002).await;
}

#[tokio::test]
async fn a_message_of_a_megabyte_ends_the_connection_with_a_reason() {
    let mut world = World::start().await;
    let (mut phone, _) = world.join("alice").await;
    phone.send(json!({"type": "sync", "x": "x".repeat(1 << 20)})).await;
    let bye = phone.expect_bye("too_large", 1009).await;
    assert_eq!(bye["reconnect"], false);

    // The largest that is allowed.
    let (mut phone, _) = world.join("alice").await;
    let frame = json!({"type": "dance", "x": ""}).to_string().len();
    phone.send(json!({"type": "dance", "x": "x".repeat(131_072 - frame)})).await;
    phone.expect_error("unknown_type").await;
    phone.send(json!({"type": "dance", "x": "x".repeat(131_073 - frame)})).await;
    phone.expect_bye("too_large", 1009).await;
}

#[tokio::test]
async fn too_many_messages_are_refused_one_by_one() {
    let mut world = World::with(|config, _| config.messages_per_s = 10).await;
    let (mut phone, _) = world.join("alice").await;
    for n in 1..=40 {
        phone.send(location(n, n as f64, 1.0)).await;
    }
    let (mut taken, mut refused) = (0, 0);
    for _ in 1..=40 {
        let answer = phone.next().await;
        if answer["type"] == "ack" {
            taken += 1;
            continue;
        }
        assert_eq!((&answer["code"], &answer["retry"]), (&json!("too_fast"), &json!("after")));
        assert!((1..=100).contains(&answer["retry_after_ms"].as_i64().unwrap()));
        assert!(answer["n"].as_i64().is_some_and(|n| n > 1));
        refused += 1;
    }
    // Two seconds' worth may come at once.
    assert!(taken >= 19 && refused >= 1, "{taken} taken, {refused} refused");
}

#[tokio::test]
async fn a_frame_that_is_no_utf8_ends_the_connection() {
    let mut world = World::start().await;
    let (phone, _) = world.join("alice").await;
    let mut stream = phone.into_stream();
    // A masked text frame of one byte, 0xff, with a mask of zeros.
    tokio::io::AsyncWriteExt::write_all(&mut stream, &[0x81, 0x81, 0, 0, 0, 0, 0xff]).await.unwrap();
    let mut bytes = Vec::new();
    let read = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut bytes);
    tokio::time::timeout(crate::world::PATIENCE, read).await.expect("it stays open").unwrap();
    assert_eq!(bytes, [0x88, 2, 0x03, 0xef], "a close frame with 1007");
}
