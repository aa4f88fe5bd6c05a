//! Lists in the log, and notices to gateways, by the time that a change is answered.

use std::cell::Cell;

use nearcast_schemas::event::{LocationKind, Sharing};
use nearcast_schemas::list::Precision;
use nearcast_schemas::notice::{Notice, NoticeKind};
use serde_json::{Value, json};

use crate::store::someone;
use crate::world::{World, until};

#[tokio::test]
async fn the_log_follows_every_change() {
    let world = World::start().await;
    follows_every_change(&world).await;
    world.stop().await;
}

pub async fn follows_every_change(world: &World) {
    let (alice, bob) = (&someone(), &someone());
    world.befriend(alice, bob).await;
    let first = world.lists_of(alice).await.pop().unwrap();
    assert_eq!((first.entries.len(), first.radius_m), (1, 8_000));
    let entry = &first.entries[0];
    assert_eq!((entry.friend.as_str(), entry.precision, entry.radius_m), (bob.as_str(), Precision::Exact, 0));
    assert_eq!(world.listed(bob).await, [alice.as_str()]);
    let version = Cell::new(first.version);
    let grown = async |what: &str| {
        let list = world.lists_of(alice).await.pop().unwrap();
        assert!(list.version > version.get(), "{what}");
        version.set(list.version);
        list
    };

    let sharing = format!("/v1/friends/{alice}/sharing");
    world.put(bob, &sharing, json!({"precision": "coarse", "within_m": 700})).await;
    let list = grown("what is shared").await;
    assert_eq!((list.entries[0].precision, list.entries[0].radius_m), (Precision::Coarse, 700));
    world.put(bob, &sharing, json!({"precision": "hidden"})).await;
    assert_eq!(grown("nothing is shared").await.entries.len(), 0);
    world.put(bob, &sharing, json!({"precision": "exact"})).await;
    assert_eq!(grown("it is shared again").await.entries.len(), 1);

    world.put(alice, "/v1/me", json!({"display_name": alice, "radius_m": 900})).await;
    assert_eq!(grown("the viewer's radius").await.radius_m, 900);
    world.put(alice, "/v1/me", json!({"display_name": alice, "radius_m": 900})).await;
    assert_eq!(world.lists_of(alice).await.pop().unwrap().version, version.get(), "nothing has changed");

    world.put(bob, "/v1/me", json!({"display_name": "Bobby"})).await;
    until("the friend's name", async || world.lists_of(alice).await.pop().unwrap().entries[0].display_name == "Bobby")
        .await;
    grown("the friend's name").await;

    world.delete(alice, &format!("/v1/friends/{bob}")).await;
    assert_eq!(grown("they part").await.entries.len(), 0);
    assert_eq!(world.listed(bob).await, [] as [String; 0]);

    let versions: Vec<i64> = world.lists_of(alice).await.iter().map(|list| list.version).collect();
    assert!(versions.is_sorted(), "{versions:?}");
    let changes = world.store.rule_changes(alice, 0).await.unwrap();
    assert_eq!(changes.last().unwrap().version, version.get(), "every change can be undone");
    assert!(
        changes
            .windows(2)
            .all(|two| two[0].after == two[1].before || two[1].friend.is_none() || two[0].friend.is_none())
    );
}

#[tokio::test]
async fn what_is_taken_away_is_told_before_the_answer() {
    let world = World::start().await;
    world.befriend("alice", "bob").await;
    world.connect("alice", "g1", 1).await;
    world.connect("alice", "g2", 2).await;
    world.connect("alice", "g2", 3).await;

    let mut told = 0;
    // Every gateway of Alice is told once, by the time of the answer, with the version that the log has.
    let mut check = async |expect: usize, what: &str| {
        let version = world.lists_of("alice").await.pop().unwrap().version;
        for gateway in ["g1", "g2"] {
            let notices = world.notices(gateway).await;
            assert_eq!(notices.len(), told + expect, "{what} {gateway}");
            if expect > 0 {
                assert_eq!(notices.last(), Some(&Notice::forget("alice", "bob", version)), "{what}");
            }
        }
        told += expect;
    };
    let share = async |body: Value| world.put("bob", "/v1/friends/alice/sharing", body).await;
    share(json!({"precision": "coarse"})).await;
    check(1, "less exact").await;
    share(json!({"precision": "exact"})).await;
    check(0, "more exact").await;
    share(json!({"precision": "exact", "within_m": 500})).await;
    check(1, "less far").await;
    share(json!({"precision": "exact"})).await;
    check(0, "further").await;
    share(json!({"precision": "hidden"})).await;
    check(1, "nothing").await;
    share(json!({"precision": "exact"})).await;
    check(0, "again").await;
    world.delete("alice", "/v1/friends/bob").await;
    check(1, "parted by the viewer").await;
    world.delete("alice", "/v1/friends/bob").await;
    check(0, "parted before").await;
    world.befriend("alice", "bob").await;
    world.delete("bob", "/v1/friends/alice").await;
    check(1, "parted by the friend").await;
    world.stop().await;
}

/// On real Kafka, because the embedded one makes every topic that somebody writes to.
#[tokio::test]
async fn a_gateway_without_a_topic_holds_nobody_up() {
    let world = World::on_real_kafka().await;
    world.befriend("alice", "bob").await;
    world.connect("alice", "gone", 1).await;
    world.connect("alice", "g1", 2).await;
    world.delete("bob", "/v1/friends/alice").await;
    let version = world.lists_of("alice").await.pop().unwrap().version;
    assert_eq!(world.notices("g1").await, [Notice::forget("alice", "bob", version)]);
    assert_eq!(world.listed("alice").await, [] as [String; 0]);
    world.delete_topics().await;
    world.stop().await;
}

#[tokio::test]
async fn a_mode_reaches_log_cache_and_gateways_before_the_answer() {
    let world = World::start().await;
    world.connect("alice", "g1", 1).await;
    let now = world.get("alice", "/v1/me/sharing").await;
    assert_eq!(now, json!({"sharing": "exact", "until": null, "discoverable": false, "version": 0}));
    world.see("alice", 0.0, 0.0).await;

    let ends = nearcast_runtime::clock::now_ms() + 3_600_000;
    let hidden =
        world.put("alice", "/v1/me/sharing", json!({"sharing": "hidden", "until": ends, "discoverable": true})).await;
    assert_eq!(
        (&hidden["sharing"], &hidden["until"], &hidden["discoverable"]),
        (&json!("hidden"), &json!(ends), &json!(true))
    );
    let version = hidden["version"].as_i64().unwrap();
    assert!(version > 0);
    let events = world.events_of("alice").await;
    let event = events.last().unwrap();
    assert_eq!((event.kind, event.mode.sharing, event.mode.version), (LocationKind::Mode, Sharing::Hidden, version));
    let notice = world.notices("g1").await.pop().unwrap();
    assert_eq!((notice.kind, notice.mode), (NoticeKind::Mode, Some(event.mode)));
    let seen = world.cache.positions(&["alice".into()]).await.unwrap();
    assert_eq!(seen[0].as_ref().unwrap().mode, event.mode);
    assert_eq!(world.get("alice", "/v1/me/sharing").await, hidden);

    let exact = world.put("alice", "/v1/me/sharing", json!({"sharing": "exact"})).await;
    assert!(exact["version"].as_i64().unwrap() > version);
    assert_eq!(exact["discoverable"], true, "left as it is");
    assert_eq!(world.notices("g1").await.len(), 2);
    world.stop().await;
}
