//! Signing out on the real servers: from the call to the end of the live socket, and what a token from before is worth.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod run;

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use run::{PATIENCE, Running, Stack, free, good, strs, until_body};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

struct Phone(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Phone {
    async fn connect(ws: &str, token: &str) -> Self {
        let mut request = format!("ws://{ws}/v1/ws").into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        Self(tokio_tungstenite::connect_async(request).await.unwrap().0)
    }

    async fn send(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    /// The next message of this type.
    async fn expect(&mut self, kind: &str) -> Value {
        let message = async {
            loop {
                let message = self.0.next().await.expect("the socket stays").unwrap();
                let Message::Text(text) = message else { continue };
                let message: Value = serde_json::from_str(&text).unwrap();
                if message["type"] == kind {
                    return message;
                }
            }
        };
        timeout(PATIENCE, message).await.unwrap_or_else(|_| panic!("no {kind} came"))
    }

    /// The end of the connection.
    async fn closed(&mut self) {
        let end = async { while self.0.next().await.is_some_and(|message| message.is_ok()) {} };
        timeout(PATIENCE, end).await.expect("it is not closed");
    }
}

fn hello() -> Value {
    json!({"type": "hello", "device": "d"})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_out_closes_live_sockets_within_a_second() {
    let stack = Stack::new();
    let (ws, admin, api, fanout, sink) = (free(), free(), free(), free(), free());
    let mut args = stack.args(&["all"]);
    for set in [
        format!("gateway.listen={ws}"),
        format!("gateway.admin_listen={admin}"),
        format!("gateway.api_url=http://{api}"),
        format!("api.listen={api}"),
        format!("fanout.admin_listen={fanout}"),
        format!("history_sink.admin_listen={sink}"),
        // Sockets are open at the end; nobody is spared a rush by waiting.
        "gateway.drain_spread_ms=0".to_owned(),
    ] {
        args.extend(["--set".to_owned(), set]);
    }
    let service = Running::start(&strs(&args));
    for address in [&admin, &api, &fanout, &sink] {
        until_body(&format!("http://{address}/readyz"), "\"ready\":true").await;
    }
    let token = |user: &str| good(&strs(&stack.args(&["token", "--sub", user]))).trim().to_owned();
    let old = token("alice");
    let (mut phone, mut map) = (Phone::connect(&ws, &old).await, Phone::connect(&ws, &old).await);
    phone.send(hello()).await;
    map.send(json!({"type": "hello", "device": "m", "watch": true})).await;
    phone.expect("welcome").await;
    map.expect("welcome").await;
    let mut bobs = Phone::connect(&ws, &token("bob")).await;
    bobs.send(hello()).await;
    bobs.expect("welcome").await;

    let sign_out = reqwest::Client::new().post(format!("http://{api}/v1/me/sign-out")).bearer_auth(&old);
    let begun = Instant::now();
    let answer = tokio::spawn(sign_out.send());
    for one in [&mut phone, &mut map] {
        let bye = one.expect("bye").await;
        assert_eq!((&bye["code"], &bye["reconnect"]), (&json!("signed_out"), &json!(false)));
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(1), "the sockets were closed after {took:?}");
    phone.closed().await;
    let answer: Value = answer.await.unwrap().unwrap().error_for_status().unwrap().json().await.unwrap();
    let from = answer["tokens_from"].as_i64().unwrap();

    // The old token opens no session, until a new one of the next second takes its place on the same socket.
    let mut again = Phone::connect(&ws, &old).await;
    again.send(hello()).await;
    assert_eq!(again.expect("error").await["code"], "signed_out");
    again.send(json!({"type": "auth", "token": old})).await;
    assert_eq!(again.expect("error").await["code"], "signed_out");
    let now_s = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    while now_s() < from {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    again.send(json!({"type": "auth", "token": token("alice")})).await;
    again.expect("authed").await;
    again.send(hello()).await;
    again.expect("welcome").await;
    bobs.send(json!({"type": "sync"})).await;
    bobs.expect("nearby").await;

    let (code, log) = service.stop();
    assert_eq!(code, 0, "{log}");
    assert!(!log.contains(&old), "{log}");
    stack.clean().await;
}
