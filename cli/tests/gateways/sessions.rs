//! One user at both gateways: which session goes on, and that one whose time is over harms nobody.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::deployment::Deployment;
use crate::phone::{Phone, is_at, now_ms};
use crate::run::PATIENCE;

/// Bob is here at first; everybody is within two kilometres.
const BOB: f64 = 52.52;

pub async fn play(deployment: &mut Deployment) {
    one_goes_on(deployment).await;
    an_operator_is_impatient(deployment).await;
}

async fn one_goes_on(deployment: &Deployment) {
    let (alice, bob) = (deployment.token("alice"), deployment.token("bob"));
    befriend(deployment, &alice, &bob).await;
    let [first, second] = [deployment.ws(0), deployment.ws(1)];
    let mut bobs = Phone::reporting(second, &bob, "bobs", BOB).await;

    // A newer session that reports ends the one before it, which is elsewhere.
    let mut older = Phone::reporting(first, &alice, "older", 52.521).await;
    older.sees("bob", BOB).await;
    bobs.sees("alice", 52.521).await;
    let mut newer = Phone::reporting(second, &alice, "newer", 52.522).await;
    newer.sees("bob", BOB).await;
    older.is_superseded().await;
    bobs.sees("alice", 52.522).await;

    // The oldest of four that watch ends, wherever it is, and nobody else.
    let mut maps = [
        Phone::watching(first, &alice, "map-1").await,
        Phone::watching(second, &alice, "map-2").await,
        Phone::watching(first, &alice, "map-3").await,
        Phone::watching(second, &alice, "map-4").await,
    ];
    let [oldest, others @ ..] = &mut maps;
    oldest.is_superseded().await;
    bobs.moves_to(BOB + 0.001).await;
    for phone in others.iter_mut().chain([&mut newer]) {
        phone.sees("bob", BOB + 0.001).await;
    }
    newer.moves_to(52.523).await;
    bobs.sees("alice", 52.523).await;
    let mut newest = Phone::reporting(first, &alice, "newest", 52.524).await;
    newer.is_superseded().await;
    bobs.moves_to(BOB + 0.002).await;
    for phone in others.iter_mut().chain([&mut newest]) {
        phone.sees("bob", BOB + 0.002).await;
    }
    bobs.sees("alice", 52.524).await;

    // A gateway that sleeps, and wakes up with frames of a session that was superseded meanwhile. As the worker sleeps longer,
    // the gateway does not know, and takes them all.
    deployment.signal_worker("-STOP");
    deployment.signal(0, "-STOP");
    let mut late = Vec::new();
    for step in 1..=10 {
        late.push(newest.report(52.53 + f64::from(step) / 1_000.0).await);
    }
    let mut last = Phone::welcomed(second, &alice, "last", 52.525).await;
    deployment.signal(0, "-CONT");
    newest.until("the acknowledgements", |phone| late.iter().all(|n| phone.acknowledged.contains(n))).await;
    deployment.signal_worker("-CONT");
    newest.is_superseded().await;
    last.sees("bob", BOB + 0.002).await;
    bobs.sees("alice", 52.525).await;
    // They are history, and nothing more.
    until_in_history(deployment, &alice, &late).await;
    last.moves_to(52.526).await;
    bobs.sees("alice", 52.526).await;
    assert!(bobs.shown.iter().all(|(_, lat)| *lat < 52.53), "a late frame moved the position: {:?}", bobs.shown);
    let nearby = get(deployment, &bob, "/v1/nearby").await;
    assert!(is_at(nearby["friends"][0]["lat"].as_f64().unwrap(), 52.526), "{nearby}");
    bobs.moves_to(BOB + 0.003).await;
    for phone in others.iter_mut().chain([&mut last]) {
        phone.sees("bob", BOB + 0.003).await;
    }
}

/// A second signal ends a gateway that would drain for minutes; until then it takes nobody new, and serves whom it has.
async fn an_operator_is_impatient(deployment: &mut Deployment) {
    deployment.stop_gateway(0);
    // The four of them are told to go within 200 seconds.
    let patient = ["gateway.drain_spread_ms=600000".to_owned(), "gateway.grace_s=600".to_owned()];
    deployment.start_gateway_with(0, &patient).await;
    let mut phones = Vec::new();
    for user in ["u1", "u2", "u3", "u4"] {
        phones.push(Phone::reporting(deployment.ws(0), &deployment.token(user), "phone", BOB).await);
    }
    deployment.signal(0, "-TERM");
    deployment.until_draining(0).await;
    let closed = async { while TcpStream::connect(deployment.ws(0)).await.is_ok() {} };
    timeout(PATIENCE, closed).await.expect("it takes nobody new");
    let mut served = 0;
    for phone in &mut phones {
        let n = phone.report(BOB + 0.01).await;
        phone.until("the acknowledgement", |phone| phone.bye.is_some() || phone.acknowledged.contains(&n)).await;
        served += usize::from(phone.bye.is_none());
    }
    assert!(served > 0, "it serves those who are there");
    deployment.signal(0, "-TERM");
    let ended = deployment.ended(0);
    assert_eq!(ended.code, 130, "{}", ended.log);
    assert!(ended.took < Duration::from_secs(5), "{:?}", ended.took);
    deployment.start_gateway(0).await;
}

async fn befriend(deployment: &Deployment, alice: &str, bob: &str) {
    let http = reqwest::Client::new();
    let url = |path: &str| format!("http://{}{path}", deployment.api);
    for (token, name) in [(alice, "Alice"), (bob, "Bob")] {
        let profile = http.put(url("/v1/me")).bearer_auth(token).json(&json!({"display_name": name}));
        profile.send().await.unwrap().error_for_status().unwrap();
    }
    for (token, path) in [(alice, "/v1/friends/bob/request"), (bob, "/v1/friends/alice/accept")] {
        http.post(url(path)).bearer_auth(token).send().await.unwrap().error_for_status().unwrap();
    }
}

async fn get(deployment: &Deployment, token: &str, path: &str) -> Value {
    let asked = reqwest::Client::new().get(format!("http://{}{path}", deployment.api)).bearer_auth(token);
    asked.send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
}

/// Waits until the user's history holds reports with these numbers.
async fn until_in_history(deployment: &Deployment, token: &str, numbers: &[i64]) {
    let begun = std::time::Instant::now();
    loop {
        let (from, to) = (now_ms() - 600_000, now_ms() + 60_000);
        let history = get(deployment, token, &format!("/v1/me/history?from={from}&to={to}&limit=1000")).await;
        let found: Vec<i64> = history["fixes"].as_array().unwrap().iter().filter_map(|fix| fix["n"].as_i64()).collect();
        if numbers.iter().all(|n| found.contains(n)) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{numbers:?} in {history}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
