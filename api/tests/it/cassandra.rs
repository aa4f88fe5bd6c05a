//! The store's contract, and the service's life, in real Cassandra.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{FutureExt, join_all};
use nearcast_api::{Config, CqlStore, MIGRATIONS, Store};
use nearcast_ingest::MemoryCache;
use nearcast_runtime::cql::{self, CqlConfig};

use crate::world::{World, config, deployment};
use crate::{life, lists, races, store, sweep};

/// One keyspace for everything, because a change of schema takes Cassandra a second.
#[tokio::test]
async fn cassandra_keeps_the_contract() {
    let keyspace = format!("t{:016x}", rand::random::<u64>());
    let node = std::env::var("NEARCAST_TEST_CASSANDRA").unwrap_or_else(|_| "127.0.0.1:29042".to_owned());
    let config = CqlConfig {
        nodes: vec![node],
        keyspace: keyspace.clone(),
        replication_factor: 1,
        datacenter: None,
        startup_wait: Duration::from_secs(5),
        username: None,
        password: None,
    };
    let session = match cql::connect(&config).await {
        Ok(session) => session,
        Err(error) => panic!("{error}: run `make up`"),
    };
    let missing = CqlStore::new(Arc::clone(&session)).await;
    assert!(missing.is_err(), "no tables yet");
    cql::migrate(&session, &keyspace, 1, "api", MIGRATIONS).await.unwrap();
    cql::check(&session, &keyspace, "api", MIGRATIONS).await.unwrap();
    let store: Arc<dyn Store> = Arc::new(CqlStore::new(Arc::clone(&session)).await.unwrap());

    let mut failed = join_all(store::CONTRACT.iter().map(async |(name, check)| {
        let done = tokio::spawn(check(Arc::clone(&store))).await;
        done.is_err().then_some(*name)
    }))
    .await;
    let lived = AssertUnwindSafe(service(Arc::clone(&store))).catch_unwind().await;
    failed.push(lived.is_err().then_some("the service lives"));

    session.query_unpaged(format!("DROP KEYSPACE {keyspace}"), &[]).await.unwrap();
    let failed: Vec<_> = failed.into_iter().flatten().collect();
    assert!(failed.is_empty(), "failed: {failed:?}");
}

async fn service(store: Arc<dyn Store>) {
    let world = async |config| World::with(config, Arc::clone(&store), Arc::new(MemoryCache::new(&deployment()))).await;
    // The sweepers meddle with what is under way.
    let meddling = Config { settle_after: Duration::from_secs(1), ..config() };
    let one = world(meddling.clone()).await;
    let two = one.twin(meddling).await;
    races::agree_after_a_storm(&one, &two).await;
    two.stop().await;
    one.stop().await;

    let world = world(config()).await;
    life::whole_life(&world).await;
    life::opposite_requests(&world).await;
    lists::follows_every_change(&world).await;
    sweep::finishes_what_a_crash_left(&world).await;
    world.stop().await;
}
