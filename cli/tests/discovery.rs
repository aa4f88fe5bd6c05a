//! Discovery on the real servers: from the switch in the REST API to the message on a stranger's socket.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod run;

use futures_util::{SinkExt, StreamExt};
use run::whole::Whole;
use run::{PATIENCE, Stack, good, strs, until_body};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// A user with a profile.
struct User {
    api: String,
    ws: String,
    token: String,
}

impl User {
    async fn new(stack: &Stack, name: &str, api: &str, ws: &str) -> Self {
        let token = good(&strs(&stack.args(&["token", "--sub", name]))).trim().to_owned();
        let user = Self { api: format!("http://{api}"), ws: format!("ws://{ws}/v1/ws"), token };
        user.put("/v1/me", json!({"display_name": name})).await;
        user
    }

    async fn put(&self, path: &str, body: Value) -> Value {
        let request = reqwest::Client::new().put(format!("{}{path}", self.api)).bearer_auth(&self.token);
        let answer = request.json(&body).send().await.unwrap();
        let status = answer.status();
        let body = answer.text().await.unwrap();
        assert!(status.is_success(), "{path}: {status} {body}");
        serde_json::from_str(&body).unwrap()
    }

    async fn discoverable(&self, on: bool) {
        let now = self.put("/v1/me/sharing", json!({"sharing": "exact", "discoverable": on})).await;
        assert_eq!(now["discoverable"], on);
    }

    async fn connect(&self, lat: f64, lon: f64) -> Phone {
        let mut request = self.ws.as_str().into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {}", self.token).parse().unwrap());
        let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
        let hello = json!({"type": "hello", "device": "d", "clock": now,
                           "position": {"n": 1, "lat": lat, "lon": lon, "time": now}});
        socket.send(Message::text(hello.to_string())).await.unwrap();
        Phone(socket)
    }
}

struct Phone(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Phone {
    /// The next list of strangers that has so many on it.
    async fn strangers(&mut self, count: usize) -> Vec<Value> {
        let list = async {
            loop {
                let message = self.0.next().await.expect("the socket stays").unwrap();
                let Message::Text(text) = message else { continue };
                let message: Value = serde_json::from_str(&text).unwrap();
                assert!(!["error", "bye"].contains(&message["type"].as_str().unwrap()), "{message}");
                if message["type"] == "strangers" && message["strangers"].as_array().unwrap().len() == count {
                    return message["strangers"].as_array().unwrap().clone();
                }
            }
        };
        timeout(PATIENCE, list).await.unwrap_or_else(|_| panic!("no list of {count} strangers came"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_who_opted_in_see_each_other_until_one_opts_out() {
    let whole = Whole::start(&[
        // Sockets are open at the end; nobody is spared a rush by waiting.
        "gateway.drain_spread_ms=0",
        // So that a newcomer is seen soon.
        "deployment.coarse_period_s=2",
    ])
    .await;
    let Whole { stack, ws, admin, api, fanout, .. } = &whole;
    let alice = User::new(stack, "alice", api, ws).await;
    let bob = User::new(stack, "bob", api, ws).await;
    alice.discoverable(true).await;
    let mut alices = alice.connect(52.5163, 13.3777).await;
    // Bob opts in while he is connected: the switch alone brings both onto each other's list.
    let mut bobs = bob.connect(52.5170, 13.3790).await;
    bob.discoverable(true).await;

    let seen = bobs.strangers(1).await;
    let entry = seen[0].as_object().unwrap();
    let mut fields: Vec<_> = entry.keys().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["alias", "approximate", "at", "distance_m", "lat", "lon"], "and nothing else");
    assert_ne!((entry["lat"].as_f64(), entry["lon"].as_f64()), (Some(52.5163), Some(13.3777)));
    assert_eq!(entry["at"].as_i64().unwrap() % 2_000, 0);
    let seen_back = alices.strangers(1).await;
    assert_ne!(seen_back[0]["alias"], seen[0]["alias"]);

    bob.discoverable(false).await;
    assert!(alices.strangers(0).await.is_empty() && bobs.strangers(0).await.is_empty());
    until_body(&format!("http://{fanout}/metrics"), "nearcast_fanout_discoverable_users 1").await;
    let metrics = until_body(&format!("http://{admin}/metrics"), "type=\"strangers\"").await;
    assert!(metrics.contains("nearcast_gateway_frames_total{type=\"strangers\"}"), "{metrics}");

    whole.stop().await;
}
