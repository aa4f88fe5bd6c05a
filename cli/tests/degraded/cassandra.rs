//! Cassandra is away: nobody new comes in and nothing is changed. Whoever is connected goes on, and the history catches up.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::TURN;
use crate::deployment::{Deployment, at, clean, moves};
use crate::phone::now_ms;
use crate::run::account::{accepted, account};
use crate::run::socket::Socket;
use crate::run::{PATIENCE, Stack};
use crate::way::{Away, Way};

#[tokio::test(flavor = "multi_thread")]
async fn live_goes_on_and_the_history_catches_up_while_cassandra_is_cut_off() {
    without_cassandra(Away::CutOff).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn live_goes_on_and_the_history_catches_up_while_cassandra_is_silent() {
    without_cassandra(Away::Silent).await;
}

async fn without_cassandra(how: Away) {
    let _turn = TURN.lock().await;
    let stack = Stack::new();
    let mut way = Way::to(&stack.cassandra).await;
    let nodes = format!("cassandra.nodes={}", way.address);
    // So that a refusal is there soon, and the sweeper looks soon.
    let world = Deployment::start(stack, &[&nodes, "api.request_timeout=2s", "api.sweep_every=1s"]).await;
    let whole = &world.whole;
    world.befriend("alice", &["bob", "carol"]).await;
    let (mut alice, mut bob) = (world.phone("alice", "a", 0).await, world.phone("bob", "b", 1).await);
    alice.sees("bob", at(1)).await;
    let ledger = NamedTempFile::new().unwrap();
    let phones = world.phones(&ledger, 25, &["--drop-rate=0", "--seed=22"]).await;

    way.close(how).await;
    moves(&mut alice, "alice", 2, &mut bob).await;
    // Whoever comes is told to come again, on the same socket; whatever needs the database is refused.
    let mut carol = Socket::connect(&whole.ws, &world.token("carol")).await;
    for _ in 0..2 {
        carol.send(hello()).await;
        let error = carol.expect("error").await;
        assert_eq!((&error["code"], &error["of"]), (&json!("unavailable"), &json!("hello")));
        assert!(error["retry"] == "after" && error["retry_after_ms"].as_i64().unwrap() > 0, "{error}");
    }
    world.call("GET", "alice", "/v1/me/history", None).await.refused(503, "unavailable");
    world.call("PUT", "alice", "/v1/me/sharing", Some(json!({"sharing": "exact"}))).await.refused(503, "unavailable");
    for (name, labels) in [
        ("nearcast_gateway_refusals_total", "code=\"unavailable\",of=\"message\""),
        ("nearcast_api_failures_total", "code=\"unavailable\""),
    ] {
        assert!(world.metric(&whole.admin, name, labels).await >= 1.0, "{name} counts");
    }
    moves(&mut alice, "alice", 3, &mut bob).await;

    // Who can do nothing without it is not ready; who can is.
    assert!(!world.until(&whole.api, "database", "not_ready").await);
    assert!(!world.until(&whole.sink, "history", "not_ready").await);
    assert!(world.until(&whole.admin, "api", "degraded").await);
    assert!(world.until(&whole.fanout, "replay", "ready").await);
    assert!(world.metric(&whole.sink, "nearcast_history_sink_store_failures_total", "").await >= 1.0);
    moves(&mut alice, "alice", 4, &mut bob).await;
    moves(&mut bob, "bob", 5, &mut alice).await;

    way.heal().await;
    assert!(world.until(&whole.api, "database", "ready").await);
    let mut carol = Socket::connect(&whole.ws, &world.token("carol")).await;
    carol.send(hello()).await;
    carol.expect("welcome").await;
    assert!(world.until(&whole.admin, "api", "ready").await);
    assert!(world.until(&whole.sink, "history", "ready").await);
    let reported = alice.acknowledged.clone();
    assert_eq!(reported.len(), 3, "one before each look at what bob sees");
    stored(&world, "alice", "a", &reported).await;

    clean(phones);
    assert!(accepted(&account(&world.whole.stack, ledger.path())) > 0);
    world.whole.stop().await;
}

fn hello() -> Value {
    json!({"type": "hello", "device": "c", "position": {"n": now_ms(), "lat": at(9), "lon": 13.4, "time": now_ms()}})
}

/// Waits until a user's history by REST has these reports of a device.
pub async fn stored(world: &Deployment, user: &str, device: &str, reports: &[i64]) -> Vec<i64> {
    let begun = Instant::now();
    loop {
        let page = world.call("GET", user, "/v1/me/history?limit=500", None).await.good();
        let rows = page["fixes"].as_array().unwrap().iter();
        let numbers: Vec<i64> =
            rows.filter(|row| row["device"] == device).map(|row| row["n"].as_i64().unwrap()).collect();
        if reports.iter().all(|n| numbers.contains(n)) {
            return numbers;
        }
        assert!(begun.elapsed() < PATIENCE, "of {reports:?} the history has {numbers:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
