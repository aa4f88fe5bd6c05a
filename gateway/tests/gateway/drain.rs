//! How a gateway goes away.

use nearcast_schemas::event::LocationKind;
use serde_json::json;
use tokio::net::TcpStream;

use crate::phone::{hello, location};
use crate::world::World;

#[tokio::test]
async fn clients_are_told_to_go_elsewhere_and_reports_are_finished() {
    let mut world = World::start().await;
    let (mut phone, seat) = world.join("alice").await;
    let (mut map, _) = world.watch("alice").await;
    let mut silent = world.connect("bob").await;
    let ready = world.get("/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    let metrics = world.get("/metrics").await;
    assert!(metrics.contains("nearcast_gateway_sessions{role=\"reporting\"}"), "{metrics}");
    assert!(!metrics.contains("alice"));

    phone.send(location(1, 52.5, 13.25)).await;
    phone.expect("ack").await;
    world.shutdown.begin();
    let bye = phone.expect_bye("drain", 4012).await;
    assert_eq!((&bye["reconnect"], &bye["retry"]), (&json!(true), &json!("after")));
    assert!((0..=1_000).contains(&bye["reconnect_in_ms"].as_i64().unwrap()));
    map.expect_bye("drain", 4012).await;
    silent.expect_bye("drain", 4012).await;
    let left = world.log.find("the phone's leave", |record| {
        record.event.kind == LocationKind::Leave && record.event.session == seat.session
    });
    left.await;
    let addr = world.addr;
    world.ended().await.unwrap();
    assert!(TcpStream::connect(addr).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_gateway_without_clients_ends_at_once() {
    let mut world = World::start().await;
    let (phone, _) = world.join("alice").await;
    phone.close().await;
    world.log.next("alice", LocationKind::Leave).await;
    world.shutdown.begin();
    world.ended().await.unwrap();
}

#[tokio::test]
async fn a_gateway_that_is_still_starting_ends() {
    let world = World::start().await;
    world.shutdown.begin();
    world.ended().await.unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_answer_does_not_hold_it_up() {
    let mut world = World::start().await;
    let mut phone = world.connect("alice").await;
    phone.send(hello()).await;
    world.seat("alice").await;
    let stream = phone.into_stream();
    world.shutdown.begin();
    world.ended().await.unwrap();
    drop(stream);
}
