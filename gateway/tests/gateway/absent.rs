//! What a gateway says when something is not there.

use std::sync::Arc;
use std::time::Duration;

use nearcast_gateway::{Error, Parts, run, run_on};
use nearcast_ingest::MemoryCache;
use nearcast_runtime::embedded::Embedded;
use nearcast_runtime::health::Readiness;
use nearcast_runtime::kafka::{Kafka, KafkaConfig};
use nearcast_runtime::lifecycle::Shutdown;
use tokio::net::TcpListener;

use crate::phone::location;
use crate::world::{World, config, deployment, redis_at};

fn parts(kafka: Kafka) -> Parts {
    let deployment = deployment("t");
    let cache = Arc::new(MemoryCache::new(&deployment));
    crate::world::parts(kafka, deployment, cache, Readiness::default())
}

fn kafka_at(bootstrap: String, embedded: bool) -> Kafka {
    let startup_wait = Duration::from_secs(1);
    Kafka::new(KafkaConfig { bootstrap, embedded, startup_wait, options: Default::default() })
}

#[tokio::test]
async fn without_kafka_it_says_where_it_looked_and_what_to_run() {
    // Bound, but nobody answers there.
    let deaf = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = deaf.local_addr().unwrap();
    let kafka = kafka_at(address.to_string(), false);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = run_on(listener, config("http://127.0.0.1:1"), parts(kafka), Shutdown::new()).await.unwrap_err();
    let said = error.to_string();
    assert!(said.contains(&address.to_string()) && said.contains("make up"), "{said}");
}

#[tokio::test]
async fn without_redis_it_says_so_and_serves() {
    let closed = "redis://127.0.0.1:1";
    let mut world = World::with_cache(|_, _| (), |d, readiness| redis_at(closed.to_owned(), d, readiness)).await;
    let (mut phone, _) = world.join("alice").await;
    phone.send(location(1, 52.5, 13.25)).await;
    assert_eq!(phone.expect("ack").await["result"], "published");
    let said = world.until_readyz(r#""cache":{"state":"degraded""#).await;
    assert!(said.starts_with("HTTP/1.1 200") && said.contains(r#""ready":true"#), "{said}");
    assert!(said.contains(closed) && said.contains("`make up`"), "{said}");
}

#[tokio::test]
async fn taken_addresses_are_named() {
    let cluster = Embedded::start(&[("t.visibility".into(), 1), ("t.gateway.g1".into(), 1)]).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let mut config = config("http://127.0.0.1:1");
    config.listen = address;
    let parts = parts(kafka_at(cluster.config().bootstrap, true));
    let error = run(config.clone(), parts.clone(), Shutdown::new()).await.unwrap_err();
    assert!(matches!(error, Error::Listen { .. }) && error.to_string().contains("gateway.listen"), "{error}");

    config.listen = ([127, 0, 0, 1], 0).into();
    config.admin_listen = address;
    let error = run(config.clone(), parts.clone(), Shutdown::new()).await.unwrap_err();
    assert!(error.to_string().contains("admin_listen"), "{error}");

    config.id = "no.dots".into();
    let error = run(config, parts, Shutdown::new()).await.unwrap_err();
    assert_eq!(error.to_string(), "gateway.id must be 1 to 32 letters, digits, _ or -");
}
