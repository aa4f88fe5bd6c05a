//! Limits that end a connection, or keep one out, are counted by what the client hears.

use crate::phone::Phone;
use crate::tls::{metric, until_more};
use crate::upgrade::refusal;
use crate::world::{World, token};

#[tokio::test]
async fn more_connections_than_the_process_takes() {
    const BUSY: &str = r#"nearcast_gateway_refusals_total{code="busy",of="upgrade"}"#;
    let world = World::with(|config, _| config.max_connections = 1).await;
    let first = world.connect("alice").await;
    let before = metric(&world, BUSY).await;
    assert_eq!(refusal(Phone::connect(world.addr, &token("bob")).await), Some((503, "busy".into())));
    until_more(&world, BUSY, before).await;
    first.close().await;
    while Phone::connect(world.addr, &token("bob")).await.is_err() {}
}

#[tokio::test]
async fn who_answers_no_ping() {
    const IDLE: &str = r#"nearcast_gateway_refusals_total{code="idle",of="connection"}"#;
    let mut world = World::with(|config, _| config.ping_every_s = 1).await;
    let before = metric(&world, IDLE).await;
    let (phone, _) = world.join("alice").await;
    let _stream = phone.into_stream();
    until_more(&world, IDLE, before).await;
}

#[tokio::test]
async fn who_comes_while_the_gateway_drains() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    const DRAIN: &str = r#"nearcast_gateway_refusals_total{code="drain",of="upgrade"}"#;
    // Somebody holds the drain up, so that the count can be asked for.
    let mut world = World::with(|config, _| (config.drain_spread_ms, config.grace_s) = (0, 60)).await;
    let held = world.api.hold("alice");
    let mut phone = world.connect("alice").await;
    phone.send(crate::phone::hello()).await;
    held.asked().await;
    let mut half = tokio::net::TcpStream::connect(world.addr).await.unwrap();
    half.write_all(b"GET /v1/ws HTTP/1.1\r\n").await.unwrap();
    // Whoever is served after it shows that it was accepted.
    world.join("bob").await;
    let before = metric(&world, DRAIN).await;
    world.shutdown.begin();
    let mut answer = String::new();
    half.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains(r#""code":"drain""#), "{answer}");
    until_more(&world, DRAIN, before).await;
    held.go();
    phone.expect("welcome").await;
    phone.expect_bye("drain", 4012).await;
    world.ended().await.unwrap();
}
