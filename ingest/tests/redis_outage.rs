//! What happens while Redis is away.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use nearcast_ingest::{Cache, CacheError, Ingest, LastSeen, Outcome, RedisConfig};
use nearcast_runtime::embedded::Embedded;
use nearcast_runtime::health::Condition;
use nearcast_runtime::kafka::Kafka;
use nearcast_runtime::lifecycle::Shutdown;
use nearcast_runtime::telemetry::Metrics;
use nearcast_schemas::codec::Codec;
use nearcast_schemas::event::{Mode, Sharing};

use support::{NOW, RedisServer, mode, place, raw, until};

fn config(server: &RedisServer) -> RedisConfig {
    RedisConfig { timeout: Duration::from_millis(500), ..support::redis_config(vec![server.url.clone()], false) }
}

fn seen(mode: Mode) -> LastSeen {
    let (position, coarse) = (place(1.0, NOW, false), Some(place(2.0, NOW, true)));
    LastSeen { position, coarse, reported: mode.sharing, mode, session: 1 }
}

async fn shown_as(cache: &dyn Cache, user: &str) -> Option<Mode> {
    cache.positions(&[user.to_owned()]).await.ok()?.remove(0).map(|seen| seen.mode)
}

#[tokio::test]
async fn a_start_without_redis_goes_on_and_recovers() {
    let mut server = RedisServer::new(false);
    let (cache, readiness) = support::redis_cache(&config(&server), &support::deployment());
    let component = readiness.component("redis");
    until("degraded", || async { component.condition() == Condition::Degraded }).await;
    assert!(readiness.is_ready(), "degraded is ready");
    let said = readiness.to_json();
    assert!(said.contains(&server.url) && said.contains("make up"), "{said}");
    let begun = Instant::now();
    let answer = cache.positions(&["alice".to_owned()]).await;
    assert!(matches!(answer, Err(CacheError::Down(_))), "{answer:?}");
    assert!(begun.elapsed() < Duration::from_millis(100), "what is down is not asked");
    cache.put_position("alice", seen(mode(Sharing::Exact, 1)));
    assert!(cache.settled(Duration::from_secs(5)).await, "a write that fails is over");

    server.start().await;
    until("ready", || async { component.condition() == Condition::Ready }).await;
    assert_eq!(shown_as(&cache, "alice").await, None, "the write was not kept");
    cache.put_position("alice", seen(mode(Sharing::Exact, 1)));
    until("alice is there", || async { shown_as(&cache, "alice").await.is_some() }).await;
}

#[tokio::test]
async fn a_restart_is_survived_and_a_pause_is_not_lost() {
    let mut server = RedisServer::new(false);
    server.start().await;
    let (cache, readiness) = support::redis_cache(&config(&server), &support::deployment());
    let component = readiness.component("redis");
    let (exact, paused) = (mode(Sharing::Exact, 1), mode(Sharing::Hidden, 2));
    cache.put_position("alice", seen(exact));
    until("alice is there", || async { shown_as(&cache, "alice").await == Some(exact) }).await;

    server.stop();
    until("degraded", || async { component.condition() == Condition::Degraded }).await;
    assert!(cache.set_mode("alice", paused).await.is_err());
    assert!(cache.erase("bob", NOW).await.is_err());
    assert!(cache.settled(Duration::from_secs(5)).await);

    // It comes back without its content, its scripts and its connections.
    server.start().await;
    until("ready", || async { component.condition() == Condition::Ready }).await;
    let mut connection = support::redis_connection(&server.url).await;
    until("the pause and the erasure are written", || {
        let mut connection = connection.clone();
        async move { redis::cmd("DBSIZE").query_async::<i64>(&mut connection).await.unwrap() == 2 }
    })
    .await;
    cache.put_position("alice", seen(exact));
    cache.put_position("bob", seen(exact));
    assert!(cache.settled(Duration::from_secs(20)).await);
    assert_eq!(shown_as(&cache, "alice").await, Some(paused));
    assert_eq!(shown_as(&cache, "bob").await, None);
    let keys: i64 = redis::cmd("DBSIZE").query_async(&mut connection).await.unwrap();
    assert_eq!(keys, 3, "alice's position has come");
}

#[tokio::test]
async fn reports_are_accepted_without_redis() {
    let metrics = Metrics::install_once().unwrap();
    let deployment = support::deployment();
    let embedded = Embedded::start(&[(format!("{}.locations", deployment.prefix), 3)]).unwrap();
    let (cache, _) = support::redis_cache(&config(&RedisServer::new(false)), &deployment);
    let kafka = Kafka::new(embedded.config());
    let ingest = Ingest::new(&support::config(), &deployment, Codec::default(), &kafka, Arc::new(cache)).unwrap();
    let checked = ingest.validate(&raw(1, 48.0, NOW), "d", None, NOW).unwrap();
    let pending = ingest.report_without_session("alice", checked, Mode::default(), None, NOW).unwrap();
    assert!(matches!(pending.await, Ok(Outcome::Published(_))));
    ingest.mode("alice", mode(Sharing::Hidden, 1), NOW).await.unwrap();
    ingest.erase("alice", NOW).await.unwrap();
    until("the loss is counted", || async {
        let text = metrics.render();
        text.lines().any(|line| {
            line.starts_with("nearcast_ingest_cache_writes_total")
                && line.contains("what=\"position\"")
                && !line.contains("written")
        })
    })
    .await;
}

#[tokio::test]
async fn a_shutdown_writes_what_waits() {
    let mut server = RedisServer::new(false);
    server.start().await;
    let deployment = support::deployment();
    let (cache, writer) = nearcast_ingest::RedisCache::new(&config(&server), &deployment).unwrap();
    for user in 0..2_000 {
        cache.put_position(&format!("u{user}"), seen(mode(Sharing::Exact, 1)));
    }
    let shutdown = Shutdown::new();
    shutdown.begin();
    let component = nearcast_runtime::health::Readiness::default().component("redis");
    writer.run(component, shutdown).await.unwrap();
    let mut connection = support::redis_connection(&server.url).await;
    let keys: i64 = redis::cmd("DBSIZE").query_async(&mut connection).await.unwrap();
    assert_eq!(keys, 4_000, "a position and a mode each");
    // Later ones are dropped and counted, and nobody waits for them.
    cache.put_position("late", seen(mode(Sharing::Exact, 1)));
    assert!(cache.settled(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn more_writes_than_the_limit_are_dropped() {
    let mut server = RedisServer::new(false);
    server.start().await;
    let limited = RedisConfig { max_waiting_writes: 10, ..config(&server) };
    let (cache, writer) = nearcast_ingest::RedisCache::new(&limited, &support::deployment()).unwrap();
    for user in 0..20 {
        cache.put_position(&format!("u{user}"), seen(mode(Sharing::Exact, 1)));
    }
    let shutdown = Shutdown::new();
    shutdown.begin();
    writer.run(nearcast_runtime::health::Readiness::default().component("redis"), shutdown).await.unwrap();
    let mut connection = support::redis_connection(&server.url).await;
    let keys: i64 = redis::cmd("DBSIZE").query_async(&mut connection).await.unwrap();
    assert_eq!(keys, 20, "a position and a mode of ten users");
}
