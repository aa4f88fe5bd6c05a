//! What the API says is obeyed at once.

use nearcast_schemas::event::{LocationKind, Mode, Sharing};
use nearcast_schemas::internal::FriendAnswer;
use nearcast_schemas::notice::Notice;
use serde_json::json;

use crate::phone::location;
use crate::worker::{applied, reset, upsert};
use crate::world::World;

#[tokio::test]
async fn a_forgotten_friend_is_dropped_from_what_waits_and_from_what_comes() {
    let mut world = World::with(|config, _| config.coalesce_ms = 1_000).await;
    world.api.befriend("alice", "bob", FriendAnswer { display_name: "Bob".into(), entry: None });
    let (mut phone, seat) = world.join("alice").await;
    let mut worker = world.worker(&seat);
    worker.batch(vec![reset(&seat, 1, &["bob"])]).await;
    assert_eq!(phone.nearby().await, "[1/1 +bob]");

    // All within one window: bob's position waits when the notice comes.
    worker.batch(vec![upsert("bob", &[&seat])]).await;
    worker.notice(Notice::forget("alice", "bob", 2)).await;
    worker.batch(vec![upsert("bob", &[&seat]), upsert("carol", &[&seat])]).await;
    let message = phone.expect("nearby").await;
    assert_eq!(message["removals"], json!([{"id": "bob", "reason": "not_shared"}]));
    assert_eq!(message["upserts"].as_array().unwrap().len(), 1);

    phone.send(json!({"type": "subscribe", "friend": "bob"})).await;
    phone.expect_error("not_a_friend").await;
    worker.batch(vec![reset(&seat, 1, &["bob", "carol"])]).await;
    assert_eq!(phone.nearby().await, "[1/1 +carol]", "a reset by the list before");
    worker.batch(vec![applied(&seat, 2), upsert("bob", &[&seat])]).await;
    assert_eq!(phone.nearby().await, "+bob", "friends again by a later list");
}

#[tokio::test]
async fn reports_are_stamped_with_the_new_mode() {
    let mut world = World::start().await;
    let (mut phone, seat) = world.join("alice").await;
    let mut worker = world.worker(&seat);
    phone.send(location(1, 52.5, 13.25)).await;
    phone.expect("ack").await;
    assert_eq!(world.log.next("alice", LocationKind::Fix).await.event.mode, Mode::default());

    let mode = Mode { sharing: Sharing::Hidden, until: 0, discoverable: false, version: 3 };
    worker.notice(Notice::mode("alice", mode)).await;
    // A notice has no answer: what follows it in the topic shows that it was taken.
    worker.batch(vec![reset(&seat, 1, &[])]).await;
    assert_eq!(phone.nearby().await, "[1/1 ]");
    phone.send(location(2, 52.5, 13.25)).await;
    assert_eq!(phone.expect("ack").await["result"], "published", "a new mode ends thinning");
    assert_eq!(world.log.next("alice", LocationKind::Fix).await.event.mode, mode);
}

#[tokio::test]
async fn a_closed_user_is_signed_out_everywhere() {
    let mut world = World::start().await;
    let (mut phone, seat) = world.join("alice").await;
    let (mut map, _) = world.watch("alice").await;
    let (mut other, others) = world.join("bob").await;
    let mut worker = world.worker(&seat);
    worker.notice(Notice::close("alice", "signed_out")).await;
    let bye = phone.expect_bye("signed_out", 4010).await;
    assert_eq!(bye["reconnect"], false);
    map.expect_bye("signed_out", 4010).await;
    worker.batch(vec![reset(&others, 1, &[])]).await;
    assert_eq!(other.nearby().await, "[1/1 ]");
}
