//! Before a connection is a WebSocket.

use std::time::Duration;

use nearcast_runtime::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

use crate::phone::Phone;
use crate::world::{PATIENCE, World, auth, sign, token};

const HOUR: Duration = Duration::from_secs(3_600);

/// Status and code of a connection that is refused; none when it is let in.
async fn try_token(world: &World, token: &str) -> Option<(u16, String)> {
    refusal(Phone::connect(world.addr, token).await)
}

/// Status and code of an upgrade that was refused; none of one that was not.
pub fn refusal<S>(upgrade: Result<Phone<S>, WsError>) -> Option<(u16, String)> {
    match upgrade {
        Ok(_) => None,
        Err(WsError::Http(response)) => {
            let body = response.body().clone().unwrap_or_default();
            let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert!(!problem["message"].as_str().unwrap().is_empty());
            Some((response.status().as_u16(), problem["code"].as_str().unwrap().to_owned()))
        }
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn tokens_of_others_are_refused_with_the_reason() {
    let world = World::start().await;
    assert_eq!(try_token(&world, &token("alice")).await, None);
    let mut other = auth();
    other.audience = "elsewhere".into();
    assert_eq!(try_token(&world, &sign(&other, "alice", HOUR)).await, Some((401, "token_audience".into())));
    let mut other = auth();
    other.hs256_secret = Some(Secret::new("another secret of at least 32 bytes"));
    assert_eq!(try_token(&world, &sign(&other, "alice", HOUR)).await, Some((401, "token_signature".into())));
    assert_eq!(try_token(&world, "nonsense").await, Some((401, "token_malformed".into())));
    assert_eq!(try_token(&world, &token("a b")).await, Some((401, "token_subject".into())));

    let short = sign(&auth(), "alice", Duration::from_secs(1));
    let deadline = Instant::now() + PATIENCE;
    while try_token(&world, &short).await != Some((401, "token_expired".into())) {
        assert!(Instant::now() < deadline, "the token does not expire");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_browser_names_its_token_in_a_subprotocol() {
    let world = World::start().await;
    let mut request = format!("ws://{}/v1/ws", world.addr).into_client_request().unwrap();
    let offer = format!("nearcast.v1, bearer.{}", token("alice"));
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_str(&offer).unwrap());
    let stream = TcpStream::connect(world.addr).await.unwrap();
    let (_, response) = client_async(request, stream).await.unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "nearcast.v1");
}

/// The whole answer to a plain request.
async fn ask(world: &World, request: &str) -> String {
    let mut stream = TcpStream::connect(world.addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("no answer").unwrap();
    answer
}

#[tokio::test]
async fn plain_requests_are_answered_with_json() {
    let world = World::start().await;
    let answer = ask(&world, "GET /v1/ws HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 426 Upgrade Required\r\n"), "{answer}");
    assert!(answer.contains("Content-Type: application/json\r\n") && answer.contains("Upgrade: websocket\r\n"));
    assert!(answer.contains(r#""code":"upgrade_required""#));
    let answer = ask(&world, "GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains(r#""code":"no_such_path""#), "{answer}");
    let answer = ask(&world, "POST /v1/ws HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}").await;
    assert!(answer.starts_with("HTTP/1.1 405 ") && answer.contains(r#""code":"method_not_allowed""#), "{answer}");
}

#[tokio::test]
async fn connections_beyond_the_limit_are_told_so() {
    let world = World::with(|config, _| config.max_connections = 1).await;
    let first = world.connect("alice").await;
    assert_eq!(try_token(&world, &token("bob")).await, Some((503, "busy".into())));
    first.close().await;
    let deadline = Instant::now() + PATIENCE;
    while try_token(&world, &token("bob")).await.is_some() {
        assert!(Instant::now() < deadline, "the place does not become free");
        tokio::task::yield_now().await;
    }
}
