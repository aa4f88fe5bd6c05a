//! Signing out: who is told, and which tokens are taken afterwards.

use std::sync::Arc;
use std::time::Duration;

use nearcast_api::MemoryStore;
use nearcast_ingest::MemoryCache;
use nearcast_schemas::notice::Notice;
use serde_json::json;

use crate::world::{Answer, GATEWAYS, World, config, deployment, until};

async fn with(world: &World, method: &str, path: &str, token: &str) -> Answer {
    world.send(world.http.request(method.parse().unwrap(), format!("{}{path}", world.url)).bearer_auth(token)).await
}

#[tokio::test]
async fn a_sign_out_reaches_every_gateway_and_ends_older_tokens() {
    let world = World::start().await;
    world.befriend("alice", "bob").await;
    for (at, gateway) in GATEWAYS.into_iter().enumerate() {
        world.connect("alice", gateway, 1 + at as i32).await;
    }
    let old = world.token("alice");
    let answer = with(&world, "POST", "/v1/me/sign-out", &old).await.ok();
    let (at, from) = (answer["signed_out_at"].as_i64().unwrap(), answer["tokens_from"].as_i64().unwrap());
    assert_eq!(from, at / 1_000 + 1);
    for gateway in GATEWAYS {
        assert_eq!(world.notices(gateway).await.pop(), Some(Notice::signed_out("alice", at)), "{gateway}");
    }

    with(&world, "GET", "/v1/me", &old).await.refused("signed_out");
    let hello = async |issued_at: Option<i64>| {
        let question = json!({"user": "alice", "role": "reporting", "issued_at": issued_at, "place": null});
        world.ask("/internal/v1/hello", question).await
    };
    hello(Some(from - 1)).await.refused("signed_out");
    hello(None).await.refused("signed_out");
    hello(Some(from)).await.ok();
    with(&world, "GET", "/v1/me", &world.token("bob")).await.ok();

    // A token of the next second is one of a new sign-in.
    until("the second is over", async || nearcast_runtime::clock::now_ms() / 1_000 >= from).await;
    let new = world.token("alice");
    with(&world, "GET", "/v1/me", &new).await.ok();

    // Whoever got no answer asks again: the same happens again, and the new sign-in stays.
    let again = with(&world, "POST", "/v1/me/sign-out", &old).await.ok();
    assert_eq!(again, answer);
    assert_eq!(world.notices("g1").await.len(), 2);
    with(&world, "GET", "/v1/me", &new).await.ok();
    let newer = with(&world, "POST", "/v1/me/sign-out", &new).await.ok();
    assert!(newer["signed_out_at"].as_i64() > Some(at));
    with(&world, "GET", "/v1/me", &new).await.refused("signed_out");
    world.stop().await;
}

#[tokio::test]
async fn another_instance_knows_it() {
    let cache = Arc::new(MemoryCache::new(&deployment()));
    let world = World::with(config(), Arc::new(MemoryStore::default()), cache).await;
    let twin = world.twin(config()).await;
    let old = world.token("alice");
    with(&world, "POST", "/v1/me/sign-out", &old).await.ok();
    with(&twin, "GET", "/v1/me", &old).await.refused("signed_out");
    twin.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn a_token_in_the_url_is_refused_and_not_taken() {
    let world = World::start().await;
    let token = world.token("alice");
    for name in ["token", "access_token"] {
        let url = format!("{}/v1/me?{name}={token}", world.url);
        world.send(world.http.get(&url)).await.refused("token_in_url");
        let answer = world.send(world.http.get(&url).bearer_auth(&token)).await;
        answer.refused("token_in_url");
        assert!(!answer.json.to_string().contains(&token));
    }
    world.stop().await;
}

#[tokio::test]
async fn a_token_is_valid_for_no_longer_than_a_sign_out_is_remembered() {
    let world = World::start().await;
    let mut long = crate::world::auth();
    long.max_life_s = u32::MAX;
    let signer = nearcast_runtime::auth::Signer::new(&long).unwrap();
    let token = signer.sign("alice", Duration::from_secs(31 * 86_400), &[]).unwrap();
    with(&world, "GET", "/v1/me", &token).await.refused("token_lifetime");
    world.stop().await;
}
