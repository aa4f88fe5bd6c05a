//! What gateways ask.

use nearcast_api::store::Published;
use nearcast_schemas::internal::{FriendAnswer, HelloAnswer};
use serde_json::{Value, json};

use crate::world::World;

#[tokio::test]
async fn hello_answers_with_what_a_session_needs() {
    let world = World::start().await;
    world.befriend("alice", "bob").await;
    world.see("bob", 1_000.0, 0.0).await;
    let mode = world.put("alice", "/v1/me/sharing", json!({"sharing": "coarse"})).await;

    let answer: HelloAnswer = serde_json::from_value(world.hello("alice").await).unwrap();
    let list = world.lists_of("alice").await.pop().unwrap();
    assert_eq!((answer.list_version, answer.radius_m), (list.version, 8_000));
    assert_eq!(json!(answer.mode.version), mode["version"]);
    assert!(answer.nearby_known);
    assert!(answer.nearby.is_empty(), "where she is is not known");

    let here = json!({"user": "alice", "role": "watching", "place": {"lat": 0.0, "lon": 0.0}});
    let answer: HelloAnswer = serde_json::from_value(world.ask("/internal/v1/hello", here).await.ok()).unwrap();
    assert_eq!(answer.nearby.len(), 1);
    assert_eq!((answer.nearby[0].friend.as_str(), answer.nearby[0].position.coarse), ("bob", false));
    assert!((answer.nearby[0].distance_dm - 10_000).abs() < 10);

    world.see("alice", 500.0, 0.0).await;
    let answer: HelloAnswer = serde_json::from_value(world.hello("alice").await).unwrap();
    assert!((answer.nearby[0].distance_dm - 5_000).abs() < 10, "her last position counts");
    world.stop().await;
}

#[tokio::test]
async fn hello_publishes_what_the_log_lacks_and_no_more() {
    let world = World::start().await;
    // A new user: registered, with an empty list in the log.
    let version = world.hello("new").await["list_version"].as_i64().unwrap();
    let lists = world.lists_of("new").await;
    assert_eq!((lists.len(), lists[0].version, lists[0].entries.len()), (1, version, 0));
    world.hello("new").await;
    assert_eq!(world.lists_of("new").await.len(), 1, "it is there and fresh");

    let head = world.store.list("new").await.unwrap();
    let old = Published { at: head.published.unwrap().at - 2_700_000, ..head.published.unwrap() };
    world.store.set_published("new", old).await.unwrap();
    world.hello("new").await;
    assert_eq!(world.lists_of("new").await.len(), 2, "it was too old");

    world.befriend("new", "friend").await;
    let published = world.lists_of("new").await.len();
    let lacking =
        Published { version: world.hello("new").await["list_version"].as_i64().unwrap() - 1, at: old.at + 2_700_000 };
    world.store.set_published("new", lacking).await.unwrap();
    world.hello("new").await;
    assert_eq!(world.lists_of("new").await.len(), published + 1, "the log lacked this version");
    assert_eq!(world.get("new", "/v1/users/friend").await["friendship"], "accepted");
    world.stop().await;
}

#[tokio::test]
async fn one_friend_is_shown_at_the_distance_that_they_share() {
    let world = World::start().await;
    world.befriend("alice", "bob").await;
    world.put("bob", "/v1/me", json!({"display_name": "Bob"})).await;
    world.get("carol", "/v1/me").await;
    let ask = async |viewer: &str, friend: &str| {
        world.ask("/internal/v1/friend", json!({"viewer": viewer, "friend": friend})).await
    };
    let distance_m = async || {
        let answer: FriendAnswer = serde_json::from_value(ask("alice", "bob").await.ok()).unwrap();
        answer.entry.map(|entry| f64::from(entry.distance_dm) / 10.0)
    };
    ask("alice", "carol").await.refused("not_a_friend");
    ask("alice", "nobody").await.refused("not_a_friend");
    assert_eq!(distance_m().await, None, "silent");
    world.see("alice", 0.0, 0.0).await;
    world.see("bob", 10_000.0, 13_000.0).await;
    assert!((distance_m().await.unwrap() - 10_000.0).abs() < 10.0, "beyond her radius and within the deployment's");
    world.put("bob", "/v1/friends/alice/sharing", json!({"precision": "coarse"})).await;
    // To the centre of the cell, which is less than 1.5 km from any place in it.
    assert!((distance_m().await.unwrap() - 13_000.0).abs() < 1_500.0);
    world.put("bob", "/v1/friends/alice/sharing", json!({"precision": "exact", "within_m": 9_000})).await;
    assert_eq!(distance_m().await, None);
    world.put("bob", "/v1/friends/alice/sharing", json!({"precision": "hidden"})).await;
    assert_eq!(distance_m().await, None, "a friend who shares nothing looks silent");
    world.put("bob", "/v1/friends/alice/sharing", json!({"precision": "exact"})).await;
    world.put("bob", "/v1/me/sharing", json!({"sharing": "hidden"})).await;
    assert_eq!(distance_m().await, None);
    world.delete("bob", "/v1/friends/alice").await;
    ask("alice", "bob").await.refused("not_a_friend");
    world.stop().await;
}

#[tokio::test]
async fn gateways_have_a_key() {
    let world = World::start().await;
    let body = json!({"user": "alice", "role": "reporting", "place": null});
    for path in ["/internal/v1/hello", "/internal/v1/friend"] {
        let post = || world.http.post(format!("{}{path}", world.url)).json(&body);
        world.send(post()).await.refused("token_missing");
        for key in ["", "another key", &world.token("alice")] {
            world.send(post().bearer_auth(key)).await.refused("forbidden");
        }
    }
    let ask = async |body: Value| world.ask("/internal/v1/hello", body).await;
    ask(json!({"user": "a b", "role": "reporting", "place": null})).await.refused("id_invalid");
    ask(json!({"user": "alice", "role": "link", "place": null})).await.refused("no_such_user");
    ask(json!({"user": "link~x", "role": "watching", "place": null})).await.refused("no_such_user");
    ask(json!({"user": "link~x", "role": "link", "place": null})).await.refused("link_ended");
    ask(json!({"user": "alice", "role": "reporting", "place": {"lat": 91.0, "lon": 0.0}}))
        .await
        .refused("position_out_of_range");
    ask(json!({"role": "reporting"})).await.refused("malformed");
    world.stop().await;
}
