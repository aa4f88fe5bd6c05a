//! What ends live sessions, on the real servers: signing out, and taking a share link back. From the call to the end of
//! the socket, and what a token or a key from before is worth.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod run;

use std::time::{Duration, Instant};

use nearcast_runtime::clock::now_ms;
use run::socket::Socket;
use run::whole::Whole;
use run::{good, strs};
use serde_json::{Value, json};

/// Every service in one process.
struct Deployment(Whole);

impl Deployment {
    async fn start() -> Self {
        // Sockets are open at the end; nobody is spared a rush by waiting.
        Self(Whole::start(&["gateway.drain_spread_ms=0"]).await)
    }

    async fn connect(&self, token: &str) -> Socket {
        Socket::connect(&self.0.ws, token).await
    }

    fn token(&self, user: &str) -> String {
        good(&strs(&self.0.stack.args(&["token", "--sub", user]))).trim().to_owned()
    }

    fn call(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        reqwest::Client::new().request(method.parse().unwrap(), format!("http://{}{path}", self.0.api))
    }

    /// Ends it well; none of these secrets was logged.
    async fn stop(self, secrets: &[&str]) {
        let log = self.0.stop().await;
        for secret in secrets {
            assert!(!log.contains(secret), "{log}");
        }
    }
}

async fn json_of(call: reqwest::RequestBuilder) -> Value {
    call.send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
}

fn hello() -> Value {
    json!({"type": "hello", "device": "d"})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_out_closes_live_sockets_within_a_second() {
    let world = Deployment::start().await;
    let token = |user: &str| world.token(user);
    let old = token("alice");
    let (mut phone, mut map) = (world.connect(&old).await, world.connect(&old).await);
    phone.send(hello()).await;
    map.send(json!({"type": "hello", "device": "m", "watch": true})).await;
    phone.expect("welcome").await;
    map.expect("welcome").await;
    let mut bobs = world.connect(&token("bob")).await;
    bobs.send(hello()).await;
    bobs.expect("welcome").await;

    let sign_out = world.call("POST", "/v1/me/sign-out").bearer_auth(&old);
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
    let mut again = world.connect(&old).await;
    again.send(hello()).await;
    assert_eq!(again.expect("error").await["code"], "signed_out");
    again.send(json!({"type": "auth", "token": old})).await;
    assert_eq!(again.expect("error").await["code"], "signed_out");
    while now_ms() / 1_000 < from {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    again.send(json!({"type": "auth", "token": token("alice")})).await;
    again.expect("authed").await;
    again.send(hello()).await;
    again.expect("welcome").await;
    bobs.send(json!({"type": "sync"})).await;
    bobs.expect("nearby").await;

    world.stop(&[&old]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_link_shows_one_person_live_until_it_is_taken_back() {
    let world = Deployment::start().await;
    let alices = world.token("alice");
    let wanted = json!({"precision": "exact", "until": now_ms() + 3_600_000});
    let link = json_of(world.call("POST", "/v1/links").bearer_auth(&alices).json(&wanted)).await;
    let key = json!({"key": link["key"]});
    let opened = json_of(world.call("POST", "/v1/links/open").json(&key)).await;
    assert_eq!(opened["user"]["id"], "alice");
    let token = opened["token"].as_str().unwrap();

    let mut phone = world.connect(&alices).await;
    let at = |n: i64, lat: f64| json!({"n": n, "lat": lat, "lon": 13.0, "time": now_ms()});
    let mut said = hello();
    said["position"] = at(1, 52.0);
    phone.send(said).await;
    phone.expect("welcome").await;

    // Somebody far away, of whom nobody knows where.
    let mut page = world.connect(token).await;
    page.send(hello()).await;
    let welcome = page.expect("welcome").await;
    assert_eq!((&welcome["role"], &welcome["radius_m"]), (&json!("link"), &json!(0)));
    let shown = async |page: &mut Socket, lat: f64| loop {
        let nearby = page.expect("nearby").await;
        let Some(upsert) = nearby["upserts"].as_array().and_then(|upserts| upserts.first()) else { continue };
        assert_eq!((&upsert["id"], &upsert["distance_m"]), (&json!("alice"), &Value::Null), "{nearby}");
        if (upsert["lat"].as_f64().unwrap() - lat).abs() < 1e-5 {
            return;
        }
    };
    shown(&mut page, 52.0).await;
    for (n, lat) in [(2, 52.01), (3, 53.0)] {
        let mut report = at(n, lat);
        report["type"] = json!("location");
        phone.send(report).await;
        shown(&mut page, lat).await;
    }
    // It shows, and takes nothing.
    let mut report = at(1, 0.0);
    report["type"] = json!("location");
    page.send(report).await;
    assert_eq!(page.expect("error").await["code"], "not_reporting");
    let again = json_of(world.call("POST", "/v1/links/open").json(&key)).await;
    page.send(json!({"type": "auth", "token": again["token"]})).await;
    page.expect("authed").await;

    let path = format!("/v1/links/{}", link["id"].as_str().unwrap());
    let begun = Instant::now();
    let removed = tokio::spawn(world.call("DELETE", &path).bearer_auth(&alices).send());
    let bye = page.expect("bye").await;
    let took = begun.elapsed();
    assert_eq!((&bye["code"], &bye["reconnect"]), (&json!("link_ended"), &json!(false)));
    assert!(took < Duration::from_secs(1), "the link's socket was closed after {took:?}");
    page.closed().await;
    assert_eq!(removed.await.unwrap().unwrap().status(), 204);
    // The token is still good for a socket, and for no session.
    let mut late = world.connect(token).await;
    late.send(hello()).await;
    assert_eq!(late.expect("error").await["code"], "link_ended");
    let refused = world.call("POST", "/v1/links/open").json(&key).send().await.unwrap();
    assert_eq!(refused.status(), 410);
    phone.send(json!({"type": "sync"})).await;
    phone.expect("nearby").await;
    let secret = link["key"].as_str().unwrap().split_once('.').unwrap().1;
    world.stop(&[&alices, token, secret]).await;
}
