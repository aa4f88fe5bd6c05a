//! One worker, on the embedded cluster and on Kafka as it is.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use nearcast_fanout::Error;
use nearcast_runtime::clock;
use nearcast_runtime::kafka::{Kafka, KafkaError};
use nearcast_schemas::delivery::{DeliveryBatch, Item, RemovalReason};
use nearcast_schemas::event::{LocationKind, NO_SESSION, Sharing};
use nearcast_schemas::list::VisibilityList;
use nearcast_schemas::topics::{CLAIM_KEY, partition_of};
use support::{INCARNATION, Stack};

fn items(batches: &[DeliveryBatch]) -> impl Iterator<Item = &Item> {
    batches.iter().flat_map(|batch| &batch.items)
}

/// From a hello to a friend who goes out of range and one who pauses.
async fn a_friends_move_reaches_the_gateways_topic(stack: Stack) {
    stack.list("alice", 1, &["bob", "carol"]).await;
    stack.hello("alice", "g0", 1, 1, 0.0).await;
    stack.fix("carol", 300.0).await;
    let worker = stack.worker("w0").await;
    let mut gateway = stack.gateway("g0");
    let (batch, reset) = gateway.reset(1, &["carol"]);
    assert_eq!((batch.worker.as_str(), batch.gateway_incarnation, batch.seq), ("w0", INCARNATION, 1));
    assert_eq!(batch.epochs.iter().map(|e| e.partition).collect::<Vec<_>>(), [partition_of(b"alice", 4)]);
    assert_eq!((reset.list_version, reset.part, reset.parts, reset.entries[0].distance_dm), (1, 1, 1, 3_000));
    worker.ready().await;

    stack.fix("bob", 7_000.0).await;
    let upsert = gateway.until("bob's position", |batches| {
        items(batches).find_map(|item| match item {
            Item::Upsert(upsert) if upsert.friend == "bob" => Some(upsert.clone()),
            _ => None,
        })
    });
    assert_eq!(
        (upsert.display_name.as_str(), upsert.viewers[0].handle, upsert.viewers[0].distance_dm),
        ("BOB", 1, 70_000)
    );
    assert!((clock::now_ms() - upsert.position.at).abs() < 60_000, "by the append time");

    stack.fix("bob", 9_000.0).await;
    let mut pause = support::event(LocationKind::Mode, NO_SESSION, None);
    pause.mode.sharing = Sharing::Hidden;
    pause.mode.version = 1;
    stack.send("carol", &pause).await;
    for (friend, reason) in [("bob", RemovalReason::OutOfRange), ("carol", RemovalReason::NotShared)] {
        gateway.until("a removal", |batches| {
            items(batches)
                .find(|item| matches!(item, Item::Removal(r) if r.friend == friend && r.reason == reason))
                .map(drop)
        });
    }
    gateway
        .until("two heartbeats", |batches| (batches.iter().filter(|b| b.items.is_empty()).count() >= 2).then_some(()));
    let seqs: Vec<_> = gateway.batches.iter().map(|batch| batch.seq).collect();
    assert_eq!(seqs, (1..=seqs.len() as i64).collect::<Vec<_>>());
    for name in ["owned_partitions", "lag_seconds", "pair_checks_total", "batches_total", "seq"] {
        worker.until("/metrics", |text| text.contains(&format!("nearcast_fanout_{name}"))).await;
    }
    worker.stop().await;
    stack.clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_friends_move_reaches_the_gateways_topic_embedded() {
    a_friends_move_reaches_the_gateways_topic(Stack::embedded(4, &["g0"]).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_friends_move_reaches_the_gateways_topic_real() {
    a_friends_move_reaches_the_gateways_topic(Stack::real(4, &["g0"]).await).await;
}

async fn what_cannot_be_decoded_becomes_a_dead_letter(stack: Stack) {
    stack.list("alice", 1, &["bob"]).await;
    stack.hello("alice", "g0", 1, 1, 0.0).await;
    let worker = stack.worker("w0").await;
    let mut gateway = stack.gateway("g0");
    gateway.reset(1, &[]);
    let offset = stack.write(&stack.topics.locations(), Some(2), b"mallory", Some(b"no avro")).await;
    let (key, value, headers) = stack.dead_letter();
    assert_eq!((&key[..], &value[..]), (&b"mallory"[..], &b"no avro"[..]));
    assert_eq!(headers["topic"], stack.topics.locations());
    assert_eq!((headers["partition"].as_str(), headers["offset"].clone()), ("2", offset.to_string()));
    assert!(headers["error"].contains("Confluent wire format"), "{headers:?}");
    // And the worker goes on.
    stack.fix("bob", 1.0).await;
    gateway.until("bob's position", |batches| items(batches).find(|item| matches!(item, Item::Upsert(_))).map(drop));
    worker.stop().await;
    stack.clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_decoded_becomes_a_dead_letter_embedded() {
    what_cannot_be_decoded_becomes_a_dead_letter(Stack::embedded(1, &["g0"]).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_decoded_becomes_a_dead_letter_real() {
    what_cannot_be_decoded_becomes_a_dead_letter(Stack::real(1, &["g0"]).await).await;
}

/// A worker that slept between assignment and claim wakes up and claims.
async fn a_stale_workers_claim_is_answered(stack: Stack) {
    stack.list("alice", 1, &["bob"]).await;
    stack.fix("bob", 10.0).await;
    stack.hello("alice", "g0", 1, 1, 0.0).await;
    let worker = stack.worker("w0").await;
    let mut gateway = stack.gateway("g0");
    let first = gateway.reset(1, &["bob"]).0.epochs[0].epoch;
    let mut bytes = Vec::new();
    stack.codec.encode_list(&VisibilityList::claim("stale", 1, clock::now_ms()), &mut bytes);
    let stale = stack.write(&stack.topics.visibility(), Some(0), CLAIM_KEY, Some(&bytes)).await;
    let second = gateway.reset(1, &["bob"]).0.epochs[0].epoch;
    assert!(first < stale && stale < second, "{first} {stale} {second}");
    worker.stop().await;
    stack.clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_workers_claim_is_answered_embedded() {
    a_stale_workers_claim_is_answered(Stack::embedded(1, &["g0"]).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_workers_claim_is_answered_real() {
    a_stale_workers_claim_is_answered(Stack::real(1, &["g0"]).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_knows_positions_and_routes_from_the_log() {
    let stack = Stack::real(2, &["g0"]).await;
    stack.list("alice", 1, &["bob", "carol"]).await;
    stack.hello("alice", "g0", 1, 1, 0.0).await;
    stack.fix("bob", 10.0).await;
    let worker = stack.worker("w0").await;
    let mut gateway = stack.gateway("g0");
    let first = gateway.reset(1, &["bob"]).0;
    worker.stop().await;
    stack.fix("carol", 5.0).await;
    let worker = stack.worker("w0").await;
    let second = gateway.reset(1, &["carol", "bob"]).0;
    assert!(second.epochs[0].epoch > first.epochs[0].epoch);
    assert!(second.worker_incarnation > first.worker_incarnation);
    worker.stop().await;
    stack.clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_without_a_topic_harms_no_other() {
    let stack = Stack::real(1, &["g0"]).await;
    stack.list("alice", 1, &["bob"]).await;
    stack.list("dave", 1, &["bob"]).await;
    stack.hello("dave", "nowhere", 9, 1, 0.0).await;
    stack.hello("alice", "g0", 1, 1, 0.0).await;
    stack.fix("bob", 10.0).await;
    let worker = stack.worker("w0").await;
    let mut gateway = stack.gateway("g0");
    gateway.reset(1, &["bob"]);
    worker.until("/metrics", |text| text.contains("nearcast_fanout_routes_dropped_total 1")).await;
    stack.fix("bob", 20.0).await;
    gateway.until("bob's position", |batches| items(batches).find(|item| matches!(item, Item::Upsert(_))).map(drop));
    worker.stop().await;
    stack.clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_partitions_end_the_worker() {
    let stack = Stack::real(1, &[]).await;
    let worker = stack.worker("w0").await;
    worker.ready().await;
    let admin: rdkafka::admin::AdminClient<rdkafka::client::DefaultClientContext> = {
        use rdkafka::config::FromClientConfig;
        let mut options = rdkafka::ClientConfig::new();
        options.set("bootstrap.servers", &support::real_config().bootstrap);
        rdkafka::admin::AdminClient::from_config(&options).unwrap()
    };
    let topic = stack.topics.locations();
    let more = rdkafka::admin::NewPartitions::new(&topic, 4);
    for result in admin.create_partitions([&more], &rdkafka::admin::AdminOptions::new()).await.unwrap() {
        result.unwrap();
    }
    let error = worker.ended().await.unwrap_err().to_string();
    assert!(error.contains("has 4 partitions, and had 3 at the start"), "{error}");
    stack.clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn says_what_is_missing_and_what_to_run() {
    let stack = Stack::real(1, &[]).await;
    let mut parts = stack.parts();
    parts.deployment.prefix = "no_such_deployment".to_owned();
    let mut kafka = support::real_config();
    kafka.startup_wait = std::time::Duration::from_millis(300);
    parts.kafka = Kafka::new(kafka.clone());
    let shutdown = nearcast_runtime::lifecycle::Shutdown::new();
    let error = nearcast_fanout::run(support::config("w"), parts.clone(), shutdown.clone()).await.unwrap_err();
    assert!(matches!(&error, Error::Kafka(KafkaError::NoTopic { .. })), "{error}");
    assert!(error.to_string().contains("nearcast topics create"), "{error}");
    kafka.bootstrap = "127.0.0.1:1".to_owned();
    parts.kafka = Kafka::new(kafka);
    let error = nearcast_fanout::run(support::config("w"), parts, shutdown).await.unwrap_err().to_string();
    assert!(error.contains("127.0.0.1:1") && error.contains("make up"), "{error}");
    stack.clean().await;
}
