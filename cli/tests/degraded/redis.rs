//! Redis is away: no last positions, no registry of sessions, no sign-outs. All else goes on.

use serde_json::json;
use tempfile::NamedTempFile;

use crate::TURN;
use crate::deployment::{Deployment, at, clean, moves};
use crate::phone::now_ms;
use crate::run::Stack;
use crate::run::account::{accepted, account};
use crate::run::socket::Socket;
use crate::way::{Away, Way};

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_from_the_worker_while_redis_is_cut_off() {
    without_redis(Away::CutOff).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_from_the_worker_while_redis_is_silent() {
    without_redis(Away::Silent).await;
}

async fn without_redis(how: Away) {
    let _turn = TURN.lock().await;
    let stack = Stack::new();
    let mut way = Way::to(stack.redis.trim_start_matches("redis://")).await;
    let world = Deployment::start(stack, &[&format!("redis.nodes=redis://{}", way.address)]).await;
    let whole = &world.whole;
    world.befriend("alice", &["bob", "carol", "dave", "erin"]).await;
    let (mut alice, mut bob) = (world.phone("alice", "a", 0).await, world.phone("bob", "b", 1).await);
    alice.sees("bob", at(1)).await;
    let ledger = NamedTempFile::new().unwrap();
    // They lose their sockets now and then, and come back without Redis.
    let phones = world.phones(&ledger, 25, &["--drop-rate=2", "--seed=21"]).await;

    way.close(how).await;
    // At once, before anybody knows that it is away, and after.
    let carols = world.token("carol");
    let mut carol = says_hello(&world, &carols, "c").await;
    let first = carol.expect("nearby").await;
    assert_eq!(first["reset"]["provisional"], true, "{first}");
    assert_eq!((&first["reset"]["known"], &first["upserts"]), (&json!(false), &json!([])), "it says so: {first}");
    sees_alice(&mut carol).await;
    moves(&mut alice, "alice", 2, &mut bob).await;
    for address in [&whole.admin, &whole.api] {
        assert!(world.until(address, "cache", "degraded").await, "with less, and ready");
    }
    for (address, component) in [(&whole.fanout, "replay"), (&whole.sink, "history")] {
        assert!(world.until(address, component, "ready").await, "who needs no Redis says nothing of it");
    }
    assert_eq!(world.metric(&whole.admin, "nearcast_ingest_cache_up", "").await, 0.0);
    moves(&mut alice, "alice", 3, &mut bob).await;
    moves(&mut bob, "bob", 4, &mut alice).await;
    let mut dave = says_hello(&world, &world.token("dave"), "d").await;
    assert_eq!(dave.expect("nearby").await["reset"]["known"], false);
    sees_alice(&mut dave).await;

    // What Redis alone knows is refused and not made up.
    world.call("GET", "alice", "/v1/nearby", None).await.refused(503, "unavailable");
    world.call("POST", "carol", "/v1/me/sign-out", None).await.refused(503, "unavailable");
    for (name, labels) in [
        ("nearcast_api_failures_total", "code=\"unavailable\""),
        ("nearcast_api_first_answers_unknown_total", ""),
        ("nearcast_api_sign_outs_unknown_total", ""),
        ("nearcast_gateway_registry_errors_total", ""),
    ] {
        assert!(world.metric(&whole.admin, name, labels).await >= 2.0, "{name} counts");
    }
    // A pause and the end of a friendship reach live sessions by the log alone.
    world.call("PUT", "alice", "/v1/me/sharing", Some(json!({"sharing": "hidden"}))).await.good();
    bob.until("alice has gone", |bob| !bob.view.contains_key("alice")).await;
    world.call("PUT", "alice", "/v1/me/sharing", Some(json!({"sharing": "exact"}))).await.good();
    moves(&mut alice, "alice", 5, &mut bob).await;
    world.call("DELETE", "alice", "/v1/friends/erin", None).await.good();
    assert!(world.metric(&whole.api, "nearcast_api_registry_unknown_total", "").await >= 1.0);

    way.heal().await;
    for address in [&whole.admin, &whole.api] {
        assert!(world.until(address, "cache", "ready").await);
    }
    assert_eq!(world.metric(&whole.admin, "nearcast_ingest_cache_up", "").await, 1.0);
    moves(&mut alice, "alice", 6, &mut bob).await;
    // The first answer knows again, and so does the REST API, once positions have come.
    let nearby = async || world.call("GET", "bob", "/v1/nearby", None).await.good()["friends"].clone();
    while nearby().await.as_array().unwrap().iter().all(|friend| friend["id"] != "alice") {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let mut map = says_hello(&world, &world.token("dave"), "e").await;
    let first = map.expect("nearby").await;
    assert_eq!(first["reset"]["provisional"], true, "{first}");
    assert!(first["reset"]["known"] != false && first["upserts"][0]["id"] == "alice", "{first}");
    // A session that began while Redis was away is found by a sign-out, or finds it.
    world.call("POST", "carol", "/v1/me/sign-out", None).await.good();
    assert_eq!(carol.expect("bye").await["code"], "signed_out");
    carol.closed().await;

    clean(phones);
    assert!(accepted(&account(&world.whole.stack, ledger.path())) > 0);
    world.whole.stop().await;
}

async fn says_hello(world: &Deployment, token: &str, device: &str) -> Socket {
    let mut socket = Socket::connect(&world.whole.ws, token).await;
    let position = json!({"n": now_ms(), "lat": at(9), "lon": 13.4, "time": now_ms()});
    socket.send(json!({"type": "hello", "device": device, "clock": now_ms(), "position": position})).await;
    socket.expect("welcome").await;
    socket
}

/// The worker's own list, which replaces the first answer.
async fn sees_alice(socket: &mut Socket) {
    let list = socket.expect("nearby").await;
    assert!(list["reset"]["part"] == 1 && list["reset"]["provisional"] != true, "{list}");
    assert!(list["upserts"].as_array().unwrap().iter().any(|friend| friend["id"] == "alice"), "{list}");
}
