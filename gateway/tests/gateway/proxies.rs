//! Who is there when a proxy is in between.

use nearcast_gateway::{ForwardedHeader, Networks, ProxyProtocol};
use rustls::version::TLS13;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Error as WsError;

use crate::phone::{Phone, hello};
use crate::tls::{Pair, metric, until_more, world_with};
use crate::upgrade::refusal;
use crate::world::{PATIENCE, World, token};

fn networks(text: &str) -> Networks {
    Networks::try_from(vec![text.to_owned()]).unwrap()
}

/// A header of version 2 for a client with this address.
fn header(client: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
    header.extend(client);
    header.extend([10, 0, 0, 1, 0x12, 0x67, 0x01, 0xbb]);
    header
}

/// The same from a proxy that speaks for itself.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";

async fn stream(world: &World, first: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(world.addr).await.unwrap();
    stream.write_all(first).await.unwrap();
    stream
}

/// A phone behind a proxy that writes this first.
async fn behind(world: &World, first: &[u8]) -> Result<Phone, WsError> {
    Phone::over(stream(world, first).await, &token("alice"), &[]).await
}

async fn rest(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("it stays open").unwrap();
    answer
}

#[tokio::test]
async fn a_trusted_proxys_header_names_the_client() {
    let world = World::with(|config, _| {
        config.proxy_protocol = ProxyProtocol::V2;
        config.trusted_proxies = networks("127.0.0.0/8");
        config.max_connections_per_address = 1;
    });
    let world = world.await;
    let mut first = behind(&world, &header([192, 0, 2, 1])).await.unwrap();
    first.send(hello()).await;
    first.expect("welcome").await;
    let full = Some((429, "too_many_connections".into()));
    assert_eq!(refusal(behind(&world, &header([192, 0, 2, 1])).await), full);
    let _other = behind(&world, &header([192, 0, 2, 2])).await.unwrap();
    // Health checks are the proxy's own, as many as it likes.
    let _checks = [behind(&world, LOCAL).await.unwrap(), behind(&world, LOCAL).await.unwrap()];
    // One that only looks whether somebody accepts.
    drop(stream(&world, LOCAL).await);
    // A header in the request does not count.
    let forwarded = [("forwarded", "for=192.0.2.9"), ("x-forwarded-for", "192.0.2.9")];
    let twice = Phone::over(stream(&world, &header([192, 0, 2, 1])).await, &token("alice"), &forwarded).await;
    assert_eq!(refusal(twice), full);
}

#[tokio::test]
async fn without_its_header_nobody_comes_in() {
    let world = World::with(|config, _| {
        config.proxy_protocol = ProxyProtocol::V2;
        config.trusted_proxies = networks("127.0.0.1");
        config.handshake_timeout_s = 1;
    });
    let world = world.await;
    let answer = rest(stream(&world, b"GET /v1/ws HTTP/1.1\r\nHost: h\r\n\r\n").await).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("PROXY protocol"), "{answer}");
    let answer = rest(stream(&world, b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 443\r\n").await).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    // Half a header, and no more.
    let before = metric(&world, r#"handshake_failures_total{stage="proxy",reason="timeout"}"#).await;
    assert_eq!(rest(stream(&world, &header([192, 0, 2, 1])[..20]).await).await, "");
    until_more(&world, r#"handshake_failures_total{stage="proxy",reason="timeout"}"#, before).await;
}

#[tokio::test]
async fn an_untrusted_address_cannot_pose_as_a_proxy() {
    let world = World::with(|config, _| {
        config.proxy_protocol = ProxyProtocol::V2;
        config.trusted_proxies = networks("192.0.2.0/24");
    });
    let world = world.await;
    let answer = rest(stream(&world, &header([198, 51, 100, 1])).await).await;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains(r#""code":"not_a_proxy""#), "{answer}");
}

#[tokio::test]
async fn the_header_comes_before_tls() {
    let pair = Pair::new();
    let (world, _files) = world_with(&pair, |config| {
        config.proxy_protocol = ProxyProtocol::V2;
        config.trusted_proxies = networks("127.0.0.1");
        config.max_connections_per_address = 1;
    })
    .await;
    let connect = async |client| {
        let stream = pair.over(stream(&world, &header(client)).await, &[&TLS13], &[]).await.unwrap();
        Phone::over(stream, &token("alice"), &[]).await
    };
    let _first = connect([192, 0, 2, 1]).await.unwrap();
    assert_eq!(refusal(connect([192, 0, 2, 1]).await), Some((429, "too_many_connections".into())));
    let _second = connect([192, 0, 2, 2]).await.unwrap();
}

/// A gateway behind proxies at these addresses, which takes one connection of an address.
async fn behind_http(trusted: &str, header: ForwardedHeader) -> World {
    let trusted = networks(trusted);
    World::with(|config, _| {
        config.trusted_proxies = trusted;
        config.forwarded_header = header;
        config.max_connections_per_address = 1;
    })
    .await
}

async fn forwarded(world: &World, name: &'static str, value: &str) -> Result<Phone, WsError> {
    Phone::over(stream(world, b"").await, &token("alice"), &[(name, value)]).await
}

#[tokio::test]
async fn a_trusted_proxy_names_the_client_in_the_request() {
    let full = Some((429, "too_many_connections".into()));
    for (header, name, first, same, other) in [
        (
            ForwardedHeader::Forwarded,
            "forwarded",
            "for=192.0.2.1",
            "for=192.0.2.7, for=192.0.2.1, for=127.0.0.1",
            "for=192.0.2.2",
        ),
        (
            ForwardedHeader::XForwardedFor,
            "x-forwarded-for",
            "192.0.2.1",
            "192.0.2.7, 192.0.2.1, 127.0.0.1",
            "192.0.2.2",
        ),
    ] {
        let world = behind_http("127.0.0.1", header).await;
        let first = forwarded(&world, name, first).await.unwrap();
        assert_eq!(refusal(forwarded(&world, name, same).await), full);
        let _other = forwarded(&world, name, other).await.unwrap();
        // The place is free again once the first has gone.
        first.close().await;
        let again = async { while refusal(forwarded(&world, name, same).await).is_some() {} };
        timeout(PATIENCE, again).await.expect("the place does not become free");
    }
    let world = behind_http("127.0.0.1", ForwardedHeader::Forwarded).await;
    assert_eq!(refusal(forwarded(&world, "forwarded", "for=\"").await), Some((400, "malformed".into())));
    // The header that is not configured may be the client's own.
    let _first = forwarded(&world, "x-forwarded-for", "192.0.2.1").await.unwrap();
    let _second = forwarded(&world, "x-forwarded-for", "192.0.2.1").await.unwrap();
}

#[tokio::test]
async fn what_others_say_of_themselves_is_not_believed() {
    let world = behind_http("192.0.2.0/24", ForwardedHeader::Forwarded).await;
    let _first = forwarded(&world, "forwarded", "for=198.51.100.1").await.unwrap();
    let second = forwarded(&world, "forwarded", "for=198.51.100.2").await;
    assert_eq!(refusal(second), Some((429, "too_many_connections".into())));
}
