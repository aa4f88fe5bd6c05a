//! How many may come, how quickly, and what those are told who may not.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::phone::Phone;
use crate::tls::{Pair, metric, until_more, world_with};
use crate::upgrade::refusal;
use crate::world::{PATIENCE, World, token};

/// The answer to a request for an upgrade without a token, head and body.
async fn ask(world: &World) -> String {
    let mut stream = TcpStream::connect(world.addr).await.unwrap();
    // It may be refused, and closed, before all of this is sent.
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("no answer").unwrap();
    answer
}

/// How many of so many requests were answered with this status and code.
async fn count(world: &World, asked: usize, status: &str, code: &str) -> usize {
    let mut refused = 0;
    for _ in 0..asked {
        let answer = ask(world).await;
        if answer.starts_with(&format!("HTTP/1.1 {status} ")) {
            assert!(answer.contains(&format!(r#""code":"{code}""#)), "{answer}");
            assert!(answer.contains("\r\nRetry-After: 1\r\n"), "{answer}");
            refused += 1;
        } else {
            assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
        }
    }
    refused
}

#[tokio::test]
async fn handshakes_of_one_address_have_a_rate() {
    let world = World::with(|config, _| config.handshakes_per_s_per_address = 1).await;
    let before = metric(&world, r#"nearcast_gateway_refusals_total{code="too_fast",of="upgrade"}"#).await;
    let refused = count(&world, 20, "429", "too_fast").await;
    assert!((1..=18).contains(&refused), "two at once, then one a second: {refused}");
    until_more(&world, r#"nearcast_gateway_refusals_total{code="too_fast",of="upgrade"}"#, before).await;
}

#[tokio::test]
async fn handshakes_of_everybody_have_a_rate() {
    let world = World::with(|config, _| config.handshakes_per_s = 1).await;
    let before = metric(&world, r#"nearcast_gateway_refusals_total{code="busy",of="upgrade"}"#).await;
    let refused = count(&world, 20, "503", "busy").await;
    assert!((1..=18).contains(&refused), "two at once, then one a second: {refused}");
    until_more(&world, r#"nearcast_gateway_refusals_total{code="busy",of="upgrade"}"#, before).await;
}

#[tokio::test]
async fn connections_of_one_address_have_a_limit() {
    let world = World::with(|config, _| config.max_connections_per_address = 2).await;
    let first = world.connect("alice").await;
    let _second = world.connect("alice").await;
    let before = metric(&world, r#"nearcast_gateway_refusals_total{code="too_many_connections",of="upgrade"}"#).await;
    let third = Phone::connect(world.addr, &token("bob")).await;
    assert_eq!(refusal(third), Some((429, "too_many_connections".into())));
    assert!(ask(&world).await.contains("\r\nRetry-After: 10\r\n"));
    until_more(&world, r#"nearcast_gateway_refusals_total{code="too_many_connections",of="upgrade"}"#, before).await;
    first.close().await;
    let again = async { while Phone::connect(world.addr, &token("bob")).await.is_err() {} };
    timeout(PATIENCE, again).await.expect("the place does not become free");
}

#[tokio::test]
async fn those_who_are_refused_hear_it_through_tls() {
    let pair = Pair::new();
    let (world, _files) = world_with(&pair, |config| config.max_connections = 1).await;
    let _first = Phone::over(pair.connect(&world).await.unwrap(), &token("alice"), &[]).await.unwrap();
    let second = Phone::over(pair.connect(&world).await.unwrap(), &token("bob"), &[]).await;
    assert_eq!(refusal(second), Some((503, "busy".into())));
}

#[tokio::test]
async fn a_request_that_does_not_come_is_not_waited_for() {
    let world = World::with(|config, _| config.handshake_timeout_s = 1).await;
    let before = metric(&world, r#"handshake_failures_total{stage="head",reason="timeout"}"#).await;
    let mut stream = TcpStream::connect(world.addr).await.unwrap();
    stream.write_all(b"GET /v1/ws HTTP/1.1\r\n").await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("it stays open").unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains(r#""code":"idle""#), "{answer}");
    until_more(&world, r#"handshake_failures_total{stage="head",reason="timeout"}"#, before).await;
}

#[tokio::test]
async fn what_a_connection_may_do_is_counted_by_the_code_it_hears() {
    let mut world = World::with(|config, _| {
        config.messages_per_s = 1;
        config.hello_timeout_s = 1;
    })
    .await;
    let before = metric(&world, r#"nearcast_gateway_refusals_total{code="hello_expected",of="connection"}"#).await;
    let mut silent = world.connect("bob").await;
    silent.expect_bye("hello_expected", 4002).await;
    until_more(&world, r#"nearcast_gateway_refusals_total{code="hello_expected",of="connection"}"#, before).await;

    let before = metric(&world, r#"nearcast_gateway_refusals_total{code="too_fast",of="message"}"#).await;
    let (mut phone, _) = world.join("alice").await;
    for _ in 0..4 {
        phone.send(serde_json::json!({"type": "unsubscribe", "friend": "bob"})).await;
    }
    while phone.next().await["code"] != "too_fast" {}
    until_more(&world, r#"nearcast_gateway_refusals_total{code="too_fast",of="message"}"#, before).await;
    let before = metric(&world, r#"nearcast_gateway_refusals_total{code="too_large",of="connection"}"#).await;
    let (mut phone, _) = world.join("carol").await;
    phone.send(serde_json::json!({"type": "sync", "x": "x".repeat(140_000)})).await;
    phone.expect_bye("too_large", 1009).await;
    until_more(&world, r#"nearcast_gateway_refusals_total{code="too_large",of="connection"}"#, before).await;
}
