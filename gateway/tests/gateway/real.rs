//! The same on a real Kafka and a real Redis.

use std::sync::Arc;
use std::time::Duration;

use nearcast_ingest::Cache;
use nearcast_runtime::health::Readiness;
use nearcast_runtime::kafka::{Kafka, KafkaConfig};
use nearcast_runtime::lifecycle::Shutdown;
use nearcast_schemas::deployment::Deployment;
use nearcast_schemas::event::LocationKind;
use nearcast_schemas::topics::Topics;
use serde_json::json;

use crate::phone::location;
use crate::worker::{reset, upsert};
use crate::world::{World, deployment, redis_at};

fn at(variable: &str, default: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| default.to_owned())
}

async fn kafka() -> Kafka {
    let kafka = Kafka::new(KafkaConfig {
        bootstrap: at("NEARCAST_TEST_KAFKA", "127.0.0.1:29092"),
        embedded: false,
        startup_wait: Duration::from_secs(5),
        options: Default::default(),
    });
    if let Err(error) = kafka.wait_until_up(&Readiness::default().component("kafka")).await {
        panic!("{error}: run `make up`");
    }
    kafka
}

fn redis(deployment: &Deployment, readiness: &Readiness) -> Arc<dyn Cache> {
    redis_at(at("NEARCAST_TEST_REDIS", "redis://127.0.0.1:26379"), deployment, readiness)
}

fn random_deployment() -> Deployment {
    deployment(&format!("t{:016x}", rand::random::<u64>()))
}

#[tokio::test]
async fn from_hello_to_leave() {
    let (kafka, deployment) = (kafka().await, random_deployment());
    let topics = Topics::new(&deployment.prefix);
    for (name, partitions) in [(topics.locations(), 4), (topics.visibility(), crate::world::VISIBILITY_PARTITIONS)] {
        kafka.ensure_topic(&name, partitions, &[("message.timestamp.type", "LogAppendTime".into())]).await.unwrap();
    }
    let mut world = World::on(kafka.clone(), deployment, |_, _| (), redis).await;
    let (mut phone, seat) = world.join("alice").await;
    world.until_readyz(r#""cache":{"state":"ready"}"#).await;
    let sessions = world.cache.sessions("alice").await.unwrap_or_else(|error| panic!("{error}: run `make up`"));
    assert_eq!((sessions[0].gateway.as_str(), sessions[0].handle), ("g1", seat.handle));

    let mut worker = world.worker(&seat);
    worker.batch(vec![reset(&seat, 1, &["bob"])]).await;
    assert_eq!(phone.nearby().await, "[1/1 +bob]");
    worker.batch(vec![upsert("eve", &[&seat])]).await;
    assert_eq!(phone.nearby().await, "+eve");
    phone.send(location(1, 52.5, 13.25)).await;
    assert_eq!(phone.expect("ack").await["result"], "published");
    assert_eq!(world.log.next("alice", LocationKind::Fix).await.event.session, seat.session);

    world.shutdown.begin();
    assert_eq!(phone.expect_bye("drain", 4012).await["reconnect"], json!(true));
    world.log.next("alice", LocationKind::Leave).await;
    assert!(world.cache.settled(Duration::from_secs(20)).await);
    assert_eq!(world.cache.sessions("alice").await.unwrap(), []);
    let own = topics.gateway("g1");
    assert_eq!(kafka.partition_count(&own).await.unwrap(), Some(1), "the gateway made its topic");
    world.ended().await.unwrap();
    for topic in [topics.locations(), topics.visibility(), own] {
        kafka.delete_topic(&topic).await.unwrap();
    }
}

#[tokio::test]
async fn a_gateway_whose_topic_is_deleted_ends() {
    let (kafka, deployment) = (kafka().await, random_deployment());
    let topics = Topics::new(&deployment.prefix);
    for (name, partitions) in [(topics.locations(), 1), (topics.visibility(), crate::world::VISIBILITY_PARTITIONS)] {
        kafka.ensure_topic(&name, partitions, &[("message.timestamp.type", "LogAppendTime".into())]).await.unwrap();
    }
    let world = World::on(kafka.clone(), deployment, |_, _| (), redis).await;
    world.until_readyz(r#""gateway":{"state":"ready"}"#).await;
    let own = topics.gateway("g1");
    kafka.delete_topic(&own).await.unwrap();
    let error = world.ended().await.unwrap_err().to_string();
    assert!(error.contains(&own), "{error}");
    for topic in [topics.locations(), topics.visibility()] {
        kafka.delete_topic(&topic).await.unwrap();
    }
}

#[tokio::test]
async fn without_topics_it_says_how_to_make_them() {
    let mut config = kafka().await.config().clone();
    config.startup_wait = Duration::from_secs(1);
    let (kafka, deployment) = (Kafka::new(config), random_deployment());
    let readiness = Readiness::default();
    let cache = redis(&deployment, &readiness);
    let parts = crate::world::parts(kafka, deployment.clone(), cache, readiness);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = crate::world::config("http://127.0.0.1:1");
    let error = nearcast_gateway::run_on(listener, config, parts, Shutdown::new()).await.unwrap_err();
    let said = error.to_string();
    assert!(said.contains(&Topics::new(&deployment.prefix).visibility()) && said.contains("nearcast topics"), "{said}");
}
