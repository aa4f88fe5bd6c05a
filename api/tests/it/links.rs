//! Share links: who sees whom through them, until when, and what is left of them.

use nearcast_api::links::viewer;
use nearcast_api::store::{Head, Read, Work};
use nearcast_runtime::auth::Verifier;
use nearcast_runtime::clock::now_ms;
use nearcast_schemas::internal::HelloAnswer;
use nearcast_schemas::list::Precision;
use nearcast_schemas::notice::{Notice, NoticeKind};
use serde_json::{Value, json};

use crate::world::{Answer, World, auth, until};

const HOUR_MS: i64 = 3_600_000;

/// A link of alice's: its answer.
async fn make(world: &World, precision: &str, until: i64) -> Answer {
    world.call("POST", "alice", "/v1/links", Some(json!({"precision": precision, "until": until}))).await
}

async fn made(world: &World, until: i64) -> (String, Value) {
    let answer = make(world, "exact", until).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    (viewer(answer.json["id"].as_str().unwrap()), answer.json)
}

async fn open(world: &World, key: &Value) -> Answer {
    world.send(world.http.post(format!("{}/v1/links/open", world.url)).json(&json!({"key": key}))).await
}

async fn hello(world: &World, viewer: &str) -> Answer {
    world.ask("/internal/v1/hello", json!({"user": viewer, "role": "link", "place": null})).await
}

#[tokio::test]
async fn whoever_has_the_key_sees_one_person_at_any_distance() {
    let world = World::start().await;
    world.befriend("alice", "bob").await;
    world.put("alice", "/v1/me", json!({"display_name": "Alice"})).await;
    world.see("alice", 900_000.0, 0.0).await;
    let until = now_ms() + HOUR_MS;
    let (viewer, link) = made(&world, until).await;

    let opened = open(&world, &link["key"]).await.ok();
    assert_eq!((opened["until"].as_i64(), opened["precision"].as_str()), (Some(until), Some("exact")));
    assert_eq!(opened["user"], json!({"id": "alice", "display_name": "Alice", "picture_url": null}));
    let token = opened["token"].as_str().unwrap();
    let claims = Verifier::new(&auth()).unwrap().check(token).unwrap();
    assert_eq!((claims.sub.as_str(), claims.of_link), (viewer.as_str(), true));
    assert_eq!(claims.exp * 1_000, opened["token_until"].as_i64().unwrap());
    assert!((claims.exp * 1_000 - now_ms() - 900_000).abs() < 10_000, "15 minutes");

    let answer: HelloAnswer = serde_json::from_value(hello(&world, &viewer).await.ok()).unwrap();
    let list = world.lists_of(&viewer).await.pop().unwrap();
    assert_eq!((answer.list_version, answer.radius_m, list.radius_m), (list.version, 0, 0));
    assert_eq!((answer.nearby.len(), answer.nearby[0].friend.as_str()), (1, "alice"));
    assert_eq!((answer.nearby[0].display_name.as_str(), answer.nearby[0].distance_dm), ("Alice", -1));
    let entry = &list.entries[0];
    assert_eq!((entry.precision, entry.radius_m, entry.expires_at), (Precision::Exact, 0, until));

    // The token is for gateways alone, and the key is told once.
    let with_token = world.http.get(format!("{}/v1/nearby", world.url)).bearer_auth(token);
    world.send(with_token).await.refused("forbidden");
    let listed = world.get("alice", "/v1/links").await;
    assert_eq!(
        listed,
        json!({"links": [{
            "id": link["id"], "precision": "exact", "created_at": link["created_at"], "until": until
        }]})
    );
    assert_eq!(world.get("bob", "/v1/links").await, json!({"links": []}));

    // What alice shares with everybody holds for links, and her new name.
    world.put("alice", "/v1/me/sharing", json!({"sharing": "hidden"})).await;
    world.see("alice", 900_000.0, 0.0).await;
    let answer: HelloAnswer = serde_json::from_value(hello(&world, &viewer).await.ok()).unwrap();
    assert!(answer.nearby.is_empty());
    world.put("alice", "/v1/me", json!({"display_name": "Alicia"})).await;
    crate::world::until("the link's list has the name", async || {
        world.lists_of(&viewer).await.pop().unwrap().entries[0].display_name == "Alicia"
    })
    .await;
    world.stop().await;
}

#[tokio::test]
async fn a_link_that_is_taken_back_shows_nothing_more() {
    let world = World::start().await;
    let (viewer, link) = made(&world, now_ms() + HOUR_MS).await;
    world.see("alice", 0.0, 0.0).await;
    world.connect(&viewer, "g1", 7).await;
    let id = link["id"].as_str().unwrap();
    world.delete("bob", &format!("/v1/links/{id}")).await;
    open(&world, &link["key"]).await.ok();

    world.delete("alice", &format!("/v1/links/{id}")).await;
    let last = world.lists_of(&viewer).await.pop().unwrap();
    assert!(last.entries.is_empty());
    let notices = world.notices("g1").await;
    assert_eq!(notices, [Notice::forget(&viewer, "alice", last.version), Notice::close(&viewer, "link_ended")]);
    open(&world, &link["key"]).await.refused("link_ended");
    hello(&world, &viewer).await.refused("link_ended");
    assert_eq!(world.get("alice", "/v1/links").await, json!({"links": []}));
    assert_eq!(world.store.head(&viewer, Read::Settled).await.unwrap(), Head::default(), "nothing is left of it");
    for again in [id, "no-link-of-anybody", "~"] {
        world.delete("alice", &format!("/v1/links/{again}")).await;
    }
    world.stop().await;
}

#[tokio::test]
async fn a_link_ends_by_itself() {
    let world = World::start().await;
    let ends = now_ms() + 700;
    let (viewer, link) = made(&world, ends).await;
    world.connect(&viewer, "g1", 7).await;
    until("its sessions are told", async || {
        world.notices("g1").await.iter().any(|notice| notice.kind == NoticeKind::Close && notice.user == viewer)
    })
    .await;
    assert!(now_ms() >= ends);
    open(&world, &link["key"]).await.refused("link_ended");
    hello(&world, &viewer).await.refused("link_ended");
    assert!(world.lists_of(&viewer).await.pop().unwrap().entries.is_empty());
    until("nothing is left of it", async || world.store.head(&viewer, Read::Settled).await.unwrap() == Head::default())
        .await;
    world.stop().await;
}

#[tokio::test]
async fn an_instance_that_died_in_between_is_finished_by_another() {
    let world = World::start().await;
    let (viewer, link) = made(&world, now_ms() + HOUR_MS).await;
    // As far as somebody came who wanted to take it back.
    world.store.schedule(now_ms() + 100, &Work::Link(viewer.clone())).await.unwrap();
    world.store.remove_link("alice", &viewer).await.unwrap();
    open(&world, &link["key"]).await.refused("link_ended");
    until("the log has it", async || world.lists_of(&viewer).await.pop().unwrap().entries.is_empty()).await;
    world.stop().await;
}

#[tokio::test]
async fn what_is_no_link_is_refused() {
    let world = World::start().await;
    let now = now_ms();
    for (precision, until) in
        [("hidden", now + HOUR_MS), ("exact", now - 1), ("coarse", now + 8 * 24 * HOUR_MS), ("exact", i64::MAX)]
    {
        make(&world, precision, until).await.refused("parameter_invalid");
    }
    make(&world, "finer", now + HOUR_MS).await.refused("malformed");
    let (_, link) = made(&world, now + HOUR_MS).await;
    let key = link["key"].as_str().unwrap();
    let other = made(&world, now + HOUR_MS).await.1;
    let (name, secret) = key.split_once('.').unwrap();
    let others = other["key"].as_str().unwrap();
    let mixed = format!("{}.{secret}", others.split_once('.').unwrap().0);
    for bad in ["", "x", name, &format!("{name}."), &format!("{name}.{}", "A".repeat(secret.len())), &mixed] {
        open(&world, &json!(bad)).await.refused("link_ended");
    }
    for _ in 2..20 {
        made(&world, now + HOUR_MS).await;
    }
    make(&world, "coarse", now + HOUR_MS).await.refused("too_many_links");
    world.delete("alice", &format!("/v1/links/{name}")).await;
    made(&world, now + HOUR_MS).await;
    world.stop().await;
}
