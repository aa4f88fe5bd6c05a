//! What a crash left, and lists that grow old.

use nearcast_api::pair::{Pair, PairIds, Side, Step};
use nearcast_api::store::{Published, SHARDS, Work, minute_of};
use nearcast_runtime::clock::now_ms;
use nearcast_schemas::event::{LocationKind, Mode, Sharing};
use nearcast_schemas::notice::Notice;
use serde_json::json;

use crate::store::someone;
use crate::world::{World, pluck, until};

#[tokio::test]
async fn the_sweeper_finishes_what_a_crash_left() {
    let world = World::start().await;
    finishes_what_a_crash_left(&world).await;
    world.stop().await;
}

/// Only the canonical rows were written, and the work that was scheduled before.
pub async fn finishes_what_a_crash_left(world: &World) {
    let (alice, bob) = (&someone(), &someone());
    for user in [alice, bob] {
        world.get(user, "/v1/me").await;
    }
    let ids = PairIds::new(alice, bob).unwrap();
    let asked = Pair::strangers(ids.clone()).after(Side::Low, Step::Request, now_ms()).unwrap().unwrap();
    let friends = asked.after(Side::High, Step::Accept, now_ms()).unwrap().unwrap();
    world.store.schedule(now_ms(), &Work::Pair(ids.clone())).await.unwrap();
    assert!(world.store.set_pair(&friends, 0).await.unwrap());
    // The sweeper may have come between the two: the work is there again.
    world.store.schedule(now_ms(), &Work::Pair(ids.clone())).await.unwrap();
    let listed = async |viewer: &str, friends: &[&String]| {
        let Some(list) = world.lists_of(viewer).await.pop() else { return false };
        list.entries.iter().map(|entry| &entry.friend).eq(friends.iter().copied())
    };
    until("friends are in the log", async || listed(alice, &[bob]).await && listed(bob, &[alice]).await).await;
    assert_eq!(pluck(&world.get(alice, "/v1/friends").await["friends"], "id"), [json!(bob)]);

    world.connect(alice, "g1", 1).await;
    let parted = friends.after(Side::Low, Step::Remove, now_ms()).unwrap().unwrap();
    assert!(world.store.set_pair(&parted, friends.version).await.unwrap());
    world.store.schedule(now_ms(), &Work::Pair(ids)).await.unwrap();
    until("they are gone from the log", async || listed(alice, &[]).await && listed(bob, &[]).await).await;
    let version = world.lists_of(alice).await.pop().unwrap().version;
    until("the gateway was told", async || world.notices("g1").await.contains(&Notice::forget(alice, bob, version)))
        .await;

    let mode = Mode { sharing: Sharing::Hidden, until: 0, discoverable: false, version: now_ms() };
    assert!(world.store.set_mode(alice, 0, &mode).await.unwrap());
    world.store.schedule(now_ms(), &Work::Mode(alice.clone())).await.unwrap();
    until("the mode is in the log", async || {
        world.events_of(alice).await.iter().any(|event| event.kind == LocationKind::Mode && event.mode == mode)
    })
    .await;
    until("the gateway knows the mode", async || world.notices("g1").await.contains(&Notice::mode(alice, mode))).await;
}

#[tokio::test]
async fn a_profile_that_changed_reaches_the_friends() {
    let world = World::start().await;
    world.befriend("alice", "bob").await;
    let before = world.store.user("bob").await.unwrap().unwrap().profile;
    let after = nearcast_api::store::Profile { display_name: "Bob".into(), radius_m: Some(77), ..before.clone() };
    assert!(world.store.set_profile("bob", &before, &after).await.unwrap());
    world.store.schedule(now_ms(), &Work::Profile("bob".into())).await.unwrap();
    until("the name", async || world.lists_of("alice").await.pop().unwrap().entries[0].display_name == "Bob").await;
    until("the radius", async || world.lists_of("bob").await.pop().unwrap().radius_m == 77).await;
    world.stop().await;
}

#[tokio::test]
async fn old_lists_of_live_viewers_are_published_again() {
    let world = World::start().await;
    for viewer in ["live", "fresh", "away"] {
        world.hello(viewer).await;
    }
    for viewer in ["live", "fresh"] {
        world.connect(viewer, "g1", 1).await;
    }
    for viewer in ["live", "away"] {
        world.store.set_published(viewer, Published { version: 0, at: now_ms() - 3_600_000 }).await.unwrap();
    }
    let mut ids = Vec::new();
    for viewer in ["live", "fresh", "away"] {
        ids.push(world.store.schedule(now_ms(), &Work::Refresh(viewer.into())).await.unwrap());
    }
    until("all are attended to", async || {
        let mut left = Vec::new();
        for id in &ids {
            left.extend(world.store.due(id.shard, id.minute).await.unwrap().into_iter().filter(|due| due.id == *id));
        }
        left.is_empty()
    })
    .await;
    for (viewer, expect) in [("live", 2), ("fresh", 1), ("away", 1)] {
        assert_eq!(world.lists_of(viewer).await.len(), expect, "{viewer}");
    }
    world.stop().await;
}

#[tokio::test]
async fn every_change_strikes_off_its_work() {
    let world = World::start().await;
    world.befriend("alice", "bob").await;
    world.put("alice", "/v1/me/sharing", json!({"sharing": "coarse"})).await;
    world.put("alice", "/v1/me", json!({"display_name": "Alice", "radius_m": 10})).await;
    let refused = world.call("PUT", "alice", "/v1/friends/carol/sharing", Some(json!({"precision": "exact"}))).await;
    refused.refused("not_a_friend");
    until("only refreshes are left", async || {
        let mut left = Vec::new();
        for shard in 0..SHARDS {
            for minute in minute_of(now_ms())..=minute_of(now_ms()) + 60 {
                left.extend(world.store.due(shard, minute).await.unwrap());
            }
        }
        assert!(left.len() > 1, "each list is published again some time");
        left.iter().all(|due| matches!(due.work, Some(Work::Refresh(_))))
    })
    .await;
    world.stop().await;
}
