//! Changes at the same time, by several instances.

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};
use nearcast_api::pair::{Bond, PairIds};
use nearcast_api::rules::{entry, friend_row};
use nearcast_api::store::Read;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use crate::store::someone;
use crate::world::{World, config, until};

#[tokio::test]
async fn a_storm_of_two_instances_ends_in_agreement() {
    let world = World::start().await;
    let twin = world.twin(config()).await;
    agree_after_a_storm(&world, &twin).await;
    twin.stop().await;
    world.stop().await;
}

/// Four users take random steps at two instances. When all is quiet, everything that is derived agrees with the
/// canonical rows.
pub async fn agree_after_a_storm(world: &World, twin: &World) {
    let seed = rand::random();
    eprintln!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let users: Vec<String> = (0..4).map(|_| someone()).collect();
    for user in &users {
        world.get(user, "/v1/me").await;
    }
    let steps: Vec<_> = (0..120)
        .map(|_| {
            let at = if random.random() { world } else { twin };
            let me = random.random_range(0..users.len());
            let other = (me + random.random_range(1..users.len())) % users.len();
            (at, &users[me], &users[other], random.random_range(0..6))
        })
        .collect();
    let steps = stream::iter(steps).map(async |(at, me, other, kind)| {
        let path = format!("/v1/friends/{other}");
        let answer = match kind {
            0 | 1 => at.call("POST", me, &format!("{path}/request"), None).await,
            2 => at.call("POST", me, &format!("{path}/accept"), None).await,
            3 => at.call("DELETE", me, &path, None).await,
            4 => at.call("PUT", me, &format!("{path}/sharing"), Some(json!({"precision": "hidden"}))).await,
            _ => {
                let name = json!({"display_name": someone()});
                at.call("PUT", me, "/v1/me", Some(name)).await
            }
        };
        // `unavailable`: too many changed one row at once. The sweeper finishes what was begun.
        assert!([200, 204, 403, 404, 503].contains(&answer.status), "{answer:?}");
    });
    steps.buffer_unordered(12).collect::<Vec<()>>().await;

    for user in &users {
        until("what is derived agrees", async || agrees(world, &users, user).await).await;
    }
}

async fn agrees(world: &World, users: &[String], viewer: &str) -> bool {
    let mut rows = Vec::new();
    for other in users.iter().filter(|other| *other != viewer) {
        let ids = PairIds::new(viewer, other).unwrap();
        let pair = world.store.pair(&ids, Read::Settled).await.unwrap();
        let name = world.store.user(other).await.unwrap().unwrap().profile.display_name;
        rows.extend(friend_row(&pair, ids.side_of(viewer), &name));
        let waiting = join_all([("incoming", other), ("outgoing", other)].map(async |(state, other)| {
            let page = world.get(viewer, &format!("/v1/friends?state={state}")).await;
            page["friends"].as_array().unwrap().iter().any(|item| item["id"] == *other.as_str())
        }))
        .await;
        let asked = matches!(pair.bond, Bond::Asked(_));
        if waiting.iter().filter(|waits| **waits).count() != usize::from(asked) {
            return false;
        }
    }
    rows.sort_by(|a, b| a.id.cmp(&b.id));
    let list = world.store.list(viewer).await.unwrap();
    let head = world.store.head(viewer, Read::Settled).await.unwrap();
    let in_store = list.friends == rows && head.friends as usize == rows.len();
    let Some(last) = world.lists_of(viewer).await.pop() else { return rows.is_empty() };
    in_store && last.version == head.version && last.entries == rows.iter().filter_map(entry).collect::<Vec<_>>()
}

#[tokio::test]
async fn many_new_friends_at_once_are_all_on_the_list() {
    let world = World::start().await;
    let others: Vec<String> = (0..40).map(|i| format!("f{i:02}")).collect();
    join_all(others.iter().map(|other| world.befriend("alice", other))).await;
    assert_eq!(world.listed("alice").await, others);
    let versions: Vec<i64> = world.lists_of("alice").await.iter().map(|list| list.version).collect();
    assert!(versions.is_sorted(), "{versions:?}");
    world.stop().await;
}

#[tokio::test]
async fn a_client_that_hangs_up_leaves_nothing_half_done() {
    let world = World::start().await;
    for user in ["alice", "bob"] {
        world.get(user, "/v1/me").await;
    }
    world.post("alice", "/v1/friends/bob/request").await;
    let accept = world.call("POST", "bob", "/v1/friends/alice/accept", None);
    // Whether it hung up before or after the request was read: once the friendship is made, all follows.
    let _ = tokio::time::timeout(std::time::Duration::from_millis(3), accept).await;
    until("all of it or nothing", async || {
        let ids = PairIds::new("alice", "bob").unwrap();
        let made = world.store.pair(&ids, Read::Settled).await.unwrap().bond == Bond::Friends;
        let mut on_lists = 0;
        for viewer in ["alice", "bob"] {
            on_lists += usize::from(world.lists_of(viewer).await.last().is_some_and(|list| list.entries.len() == 1));
        }
        on_lists == if made { 2 } else { 0 }
    })
    .await;
    world.stop().await;
}
