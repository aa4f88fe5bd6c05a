//! A Kafka that is away for a while, and comes back with what it had.

use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use nearcast_gateway::Config;
use nearcast_ingest::{Config as IngestConfig, MemoryCache};
use nearcast_runtime::kafka::{Kafka, KafkaConfig};
use nearcast_schemas::deployment::Deployment;
use nearcast_schemas::event::LocationKind;
use nearcast_schemas::topics::Topics;
use rdkafka::mocking::MockCluster;
use serde_json::json;
use tokio::time::Instant;

use crate::broker::Broker;
use crate::phone::{Phone, hello, location};
use crate::tls::metric;
use crate::world::{VISIBILITY_PARTITIONS, World, deployment, ingest_config};

/// A cluster of one broker. Its handle cannot change threads, so it stays on one of its own.
struct Cluster {
    bootstrap: String,
    orders: Option<mpsc::Sender<(bool, mpsc::Sender<()>)>>,
    thread: Option<JoinHandle<()>>,
}

impl Cluster {
    fn start() -> Self {
        let (orders, todo) = mpsc::channel::<(bool, mpsc::Sender<()>)>();
        let (started, start) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let cluster = MockCluster::new(1).unwrap();
            let topics = Topics::new("t");
            for (topic, partitions) in
                [(topics.locations(), 4), (topics.visibility(), VISIBILITY_PARTITIONS), (topics.gateway("g1"), 1)]
            {
                cluster.create_topic(&topic, partitions, 1).unwrap();
            }
            started.send(cluster.bootstrap_servers()).unwrap();
            for (up, done) in todo {
                if up { cluster.broker_up(1) } else { cluster.broker_down(1) }.unwrap();
                done.send(()).unwrap();
            }
        });
        Self { bootstrap: start.recv().unwrap(), orders: Some(orders), thread: Some(thread) }
    }

    /// From now on it answers, or does not.
    fn is(&self, up: bool) {
        let (done, answer) = mpsc::channel();
        self.orders.as_ref().unwrap().send((up, done)).unwrap();
        answer.recv().unwrap();
    }

    fn kafka(&self) -> Kafka {
        Kafka::new(KafkaConfig {
            bootstrap: self.bootstrap.clone(),
            embedded: true,
            startup_wait: Duration::from_secs(10),
            options: Default::default(),
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.orders = None;
        let _ = self.thread.take().unwrap().join();
    }
}

/// A gateway of which 20 records may wait for Kafka, for a minute.
async fn world(kafka: Kafka, grace_s: u32) -> World {
    let ingest = IngestConfig { max_in_flight: 20, delivery_timeout: Duration::from_secs(60), ..ingest_config() };
    let change = |config: &mut Config, _: &mut Deployment| {
        config.messages_per_s = 1_000;
        config.grace_s = grace_s;
    };
    World::on_with(kafka, deployment("t"), ingest, change, |deployment, _| Arc::new(MemoryCache::new(deployment))).await
}

/// Each report is far from the one before it.
async fn report(phone: &mut Phone, n: i64) {
    phone.send(location(n, 50.0 + n as f64 / 100.0, 13.25)).await;
}

#[tokio::test]
async fn reports_wait_for_a_kafka_that_is_gone() {
    let cluster = Cluster::start();
    reports_wait_and_sockets_stay(cluster.kafka(), |up| cluster.is(up)).await;
}

#[tokio::test]
async fn reports_wait_for_a_real_kafka_that_does_not_answer() {
    let broker = tokio::task::spawn_blocking(Broker::start).await.unwrap();
    let kafka = broker.kafka();
    let topics = Topics::new("t");
    for (topic, partitions) in [(topics.locations(), 4), (topics.visibility(), VISIBILITY_PARTITIONS)] {
        kafka.ensure_topic(&topic, partitions, &[("message.timestamp.type", "LogAppendTime".into())]).await.unwrap();
    }
    reports_wait_and_sockets_stay(kafka, |up| broker.signal(if up { "-CONT" } else { "-STOP" })).await;
}

/// What waits for Kafka is bounded, what is refused says so, and what is acknowledged is in the log.
async fn reports_wait_and_sockets_stay(kafka: Kafka, is: impl Fn(bool)) {
    const BUSY: &str = r#"nearcast_gateway_refusals_total{code="busy",of="message"}"#;
    let mut world = world(kafka, 10).await;
    let (mut alice, _) = world.join("alice").await;
    let (mut bob, _) = world.join("bob").await;
    report(&mut alice, 1).await;
    assert_eq!(alice.expect("ack").await["n"], 1);
    let before = metric(&world, BUSY).await;
    is(false);
    for n in 2..=31 {
        report(&mut alice, n).await;
    }
    for n in 22..=31 {
        let error = alice.expect_error("busy").await;
        assert_eq!((&error["n"], &error["retry"]), (&json!(n), &json!("after")));
        assert!(error["retry_after_ms"].as_i64().unwrap() > 0, "{error}");
    }
    // Whatever needs no log goes on, and whoever comes is told to wait.
    report(&mut bob, 1).await;
    assert_eq!(bob.expect_error("busy").await["n"], 1);
    bob.send(json!({"type": "subscribe", "friend": "nobody"})).await;
    bob.expect_error("not_a_friend").await;
    let mut carol = world.connect("carol").await;
    carol.send(hello()).await;
    assert_eq!(carol.expect_error("busy").await["of"], "hello");
    alice.send(json!({"type": "dance"})).await;
    alice.expect_error("unknown_type").await;
    assert!(metric(&world, BUSY).await >= before + 12.0);

    is(true);
    for n in 2..=21 {
        let ack = alice.expect("ack").await;
        assert_eq!((&ack["n"], &ack["result"]), (&json!(n), &json!("published")));
    }
    report(&mut alice, 32).await;
    assert_eq!(alice.expect("ack").await["n"], 32);
    report(&mut bob, 2).await;
    assert_eq!(bob.expect("ack").await["n"], 2);
    carol.send(hello()).await;
    carol.expect("welcome").await;
    for n in (1..=21).chain([32]) {
        assert_eq!(world.log.next("alice", LocationKind::Fix).await.event.fix.unwrap().n, n, "what was refused is not");
    }
}

#[tokio::test]
async fn a_kafka_that_is_away_does_not_hold_up_a_drain() {
    let cluster = Cluster::start();
    let mut world = world(cluster.kafka(), 3).await;
    let (mut alice, _) = world.join("alice").await;
    cluster.is(false);
    report(&mut alice, 1).await;
    alice.send(json!({"type": "dance"})).await;
    alice.expect_error("unknown_type").await;
    let begun = Instant::now();
    world.shutdown.begin();
    // The report is waited for, and not acknowledged.
    alice.expect_bye("drain", 4012).await;
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    world.ended().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(3 + 3), "{:?}", begun.elapsed());
}
