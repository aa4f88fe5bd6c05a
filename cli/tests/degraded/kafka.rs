//! Kafka is away: reports wait in a bounded buffer, then are refused; sockets stay, nothing is acknowledged that is not in
//! the log.

use serde_json::{Value, json};

use crate::TURN;
use crate::broker::Broker;
use crate::cassandra::stored;
use crate::deployment::{Deployment, at};
use crate::phone::now_ms;
use crate::run::Stack;
use crate::run::socket::Socket;

/// As many reports wait for Kafka.
const WAIT: i64 = 20;

#[tokio::test(flavor = "multi_thread")]
async fn reports_wait_are_refused_and_come_while_kafka_is_silent() {
    let _turn = TURN.lock().await;
    let broker = tokio::task::spawn_blocking(Broker::start).await.unwrap();
    let stack = Stack { kafka: broker.kafka().config().bootstrap.clone(), ..Stack::new() };
    let in_flight = format!("ingest.max_in_flight={WAIT}");
    // Longer than the test keeps it away.
    let patient = ["ingest.delivery_timeout=120s", "api.delivery_timeout=3s"];
    let world = Deployment::start(stack, &[&[in_flight.as_str()], &patient[..]].concat()).await;
    let whole = &world.whole;
    world.befriend("alice", &["bob"]).await;
    let mut bob = world.phone("bob", "b", 1).await;
    let mut alice = Socket::connect(&whole.ws, &world.token("alice")).await;
    alice.send(json!({"type": "hello", "device": "a", "position": fix(1)})).await;
    alice.expect("welcome").await;
    bob.sees("alice", at(2)).await;
    report(&mut alice, 2).await;
    assert_eq!(alice.expect("ack").await["n"], 2);
    bob.sees("alice", at(4)).await;

    broker.signal("-STOP");
    for n in 3..=WAIT + 7 {
        report(&mut alice, n).await;
    }
    for n in WAIT + 3..=WAIT + 7 {
        let error = alice.expect("error").await;
        assert_eq!((&error["code"], &error["n"], &error["retry"]), (&json!("busy"), &json!(n), &json!("after")));
        assert!(error["retry_after_ms"].as_i64().unwrap() > 0, "{error}");
    }
    // Whoever comes is told to wait. Who is new would need a list in the log first.
    let mut map = Socket::connect(&whole.ws, &world.token("alice")).await;
    map.send(watch()).await;
    assert_eq!(map.expect("error").await["code"], "busy");
    let mut carol = Socket::connect(&whole.ws, &world.token("carol")).await;
    carol.send(json!({"type": "hello", "device": "c"})).await;
    assert_eq!(carol.expect("error").await["code"], "unavailable");
    // What is read is answered; a change is in the log or says that nobody knows.
    world.call("GET", "alice", "/v1/nearby", None).await.good();
    let end = world.call("DELETE", "alice", "/v1/friends/bob", None).await;
    end.refused(504, "unknown");
    for (address, ready_with_less) in [(&whole.admin, true), (&whole.api, true), (&whole.fanout, true)] {
        assert_eq!(world.until(address, "kafka", "degraded").await, ready_with_less);
    }
    for (name, labels, least) in [
        ("nearcast_gateway_refusals_total", "code=\"busy\",of=\"message\"", 6.0),
        ("nearcast_ingest_refused_total", "code=\"busy\"", 6.0),
        ("nearcast_api_failures_total", "code=\"unknown\"", 1.0),
    ] {
        assert!(world.metric(&whole.admin, name, labels).await >= least, "{name} counts");
    }
    // The socket is there, and nobody was told that a report was accepted: that comes below, each number once.
    alice.send(json!({"type": "dance"})).await;
    assert_eq!(alice.expect("error").await["code"], "unknown_type");

    broker.signal("-CONT");
    for n in 3..=WAIT + 2 {
        let ack = alice.expect("ack").await;
        assert_eq!((&ack["n"], &ack["result"]), (&json!(n), &json!("published")));
    }
    for address in [&whole.admin, &whole.api, &whole.fanout] {
        assert!(world.until(address, "kafka", "ready").await);
    }
    // Whoever was refused comes again, and the change as well.
    report(&mut alice, WAIT + 8).await;
    assert_eq!(alice.expect("ack").await["n"], WAIT + 8);
    for (user, hello) in [("alice", watch()), ("carol", json!({"type": "hello", "device": "c"}))] {
        let mut socket = Socket::connect(&whole.ws, &world.token(user)).await;
        socket.send(hello).await;
        socket.expect("welcome").await;
    }
    world.call("DELETE", "alice", "/v1/friends/bob", None).await.good();
    bob.until("alice has gone", |bob| !bob.view.contains_key("alice")).await;

    // All that was accepted is in the history, and nothing that was refused.
    let accepted: Vec<i64> = (1..=WAIT + 2).chain([WAIT + 8]).collect();
    let mut rows = stored(&world, "alice", "a", &accepted).await;
    rows.sort_unstable();
    assert_eq!(rows, accepted);
    world.whole.stop().await;
}

/// Each is far enough from the one before.
fn fix(n: i64) -> Value {
    json!({"n": n, "lat": at(n as u32 * 2), "lon": 13.4, "time": now_ms()})
}

async fn report(socket: &mut Socket, n: i64) {
    let mut report = fix(n);
    report["type"] = "location".into();
    report["ack"] = true.into();
    socket.send(report).await;
}

fn watch() -> Value {
    json!({"type": "hello", "device": "m", "watch": true})
}
