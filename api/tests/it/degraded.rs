//! With less than all parts.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nearcast_api::MemoryStore;
use nearcast_ingest::{Cache, CacheError, LastSeen, Session};
use nearcast_schemas::event::Mode;
use serde_json::json;

use crate::world::{World, config, until};

/// A cache that answers nothing.
#[derive(Debug)]
struct Down;

fn down<T>() -> Result<T, CacheError> {
    Err(CacheError::Down("for the test".into()))
}

#[async_trait]
impl Cache for Down {
    fn put_position(&self, _: &str, _: LastSeen) {}

    async fn positions(&self, _: &[String]) -> Result<Vec<Option<LastSeen>>, CacheError> {
        down()
    }

    async fn set_mode(&self, _: &str, _: Mode) -> Result<(), CacheError> {
        down()
    }

    async fn register(&self, _: &str, _: &Session) -> Result<(), CacheError> {
        down()
    }

    fn refresh(&self, _: &str, _: &Session) {}

    fn unregister(&self, _: &str, _: &Session) {}

    async fn sessions(&self, _: &str) -> Result<Vec<Session>, CacheError> {
        down()
    }

    async fn erase(&self, _: &str, _: i64) -> Result<(), CacheError> {
        down()
    }

    async fn sign_out(&self, _: &str, _: i64, _: Duration) -> Result<(), CacheError> {
        down()
    }

    async fn signed_out(&self, _: &str) -> Result<Option<i64>, CacheError> {
        down()
    }

    async fn put_page(&self, _: &str, _: &[u8], _: Duration) -> Result<(), CacheError> {
        down()
    }

    async fn get_page(&self, _: &str) -> Result<Option<Vec<u8>>, CacheError> {
        down()
    }

    async fn settled(&self, _: Duration) -> bool {
        true
    }
}

#[tokio::test]
async fn without_a_cache_everything_but_positions_works() {
    let world = World::with(config(), Arc::new(MemoryStore::default()), Arc::new(Down)).await;
    world.befriend("alice", "bob").await;
    world.call("GET", "alice", "/v1/nearby", None).await.refused("unavailable");
    // A sign-out that nobody would remember is none.
    world.call("POST", "alice", "/v1/me/sign-out", None).await.refused("unavailable");
    let ready = async || world.send(world.http.get(format!("{}/readyz", world.url))).await;
    until("ready, with less", async || ready().await.json["components"]["cache"]["state"] == "degraded").await;
    until("ready", async || ready().await.status == 200).await;
    let hello = world.hello("alice").await;
    assert_eq!((&hello["nearby_known"], &hello["nearby"]), (&json!(false), &json!([])));
    assert_eq!(hello["list_version"], json!(world.lists_of("alice").await.pop().unwrap().version));
    world.put("alice", "/v1/me/sharing", json!({"sharing": "hidden"})).await;
    world.put("alice", "/v1/friends/bob/sharing", json!({"precision": "hidden"})).await;
    world.delete("alice", "/v1/friends/bob").await;
    assert_eq!(world.listed("bob").await, [] as [String; 0]);
    world.stop().await;
}

#[tokio::test]
async fn ready_when_kafka_and_the_database_answer() {
    let world = World::start().await;
    let ready = async || world.send(world.http.get(format!("{}/readyz", world.url))).await;
    until("ready", async || ready().await.status == 200).await;
    let components = ready().await.json["components"].clone();
    for component in ["kafka", "database", "cache"] {
        assert_eq!(components[component]["state"], "ready");
    }
    let metrics = world.http.get(format!("{}/metrics", world.url)).send().await.unwrap().text().await.unwrap();
    assert!(
        metrics.contains("nearcast_api_requests_total{route=\"/readyz\",method=\"GET\",status=\"200\"}"),
        "{metrics}"
    );
    assert_eq!(world.http.get(format!("{}/healthz", world.url)).send().await.unwrap().status(), 200);
    world.stop().await;
}

#[tokio::test]
async fn metrics_name_routes_and_no_ids() {
    let world = World::start().await;
    world.get("alice", "/v1/me").await;
    world.get("alice", "/v1/users/alice").await;
    world.call("GET", "alice", "/v1/secret-of-alice", None).await.refused("no_such_path");
    let metrics = world.http.get(format!("{}/metrics", world.url)).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("route=\"/v1/users/{id}\""), "{metrics}");
    assert!(!metrics.contains("alice"), "{metrics}");
    world.stop().await;
}
