//! What friendships cost the database. `cargo run -p nearcast-api --example friendships` measures the time.

use std::sync::Arc;

use nearcast_api::MemoryStore;
use nearcast_ingest::MemoryCache;

use crate::counted::{BY_THE_CLOCK, Counted, by_consensus};
use crate::world::{World, config, deployment};

#[tokio::test]
async fn a_step_costs_the_changes_that_follow_from_it() {
    let store = Arc::new(Counted::new(Arc::new(MemoryStore::default())));
    let world = World::with(config(), store.clone(), Arc::new(MemoryCache::new(&deployment()))).await;
    for user in ["alice", "bob"] {
        world.get(user, "/v1/me").await;
    }
    // One of the pair's row, and where they are or were friends one of each list.
    for (method, user, path, most) in [
        ("POST", "alice", "/v1/friends/bob/request", 1),
        ("DELETE", "bob", "/v1/friends/alice", 1),
        ("POST", "alice", "/v1/friends/bob/request", 1),
        ("POST", "bob", "/v1/friends/alice/accept", 3),
        // Said again: both lists are settled before it is said that nothing is to be done.
        ("POST", "bob", "/v1/friends/alice/accept", 2),
        ("DELETE", "bob", "/v1/friends/alice", 3),
    ] {
        store.take();
        assert!(world.call(method, user, path, None).await.status < 300);
        let asked = store.take();
        assert_eq!(by_consensus(&asked), most, "{method} {path}: {asked:?}");
        let questions: u64 = asked.iter().filter(|(name, _)| !BY_THE_CLOCK.contains(name)).map(|(_, (n, _))| n).sum();
        assert!(questions <= 30, "{method} {path}: {asked:?}");
    }
    world.stop().await;
}
