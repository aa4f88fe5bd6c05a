//! Clients leave a gateway that goes away one after the other, and what they began is finished.

use std::time::Duration;

use futures_util::future::join_all;
use nearcast_schemas::event::LocationKind;
use serde_json::json;
use tokio::time::Instant;

use crate::phone::{hello, location};
use crate::world::World;

#[tokio::test]
async fn each_is_served_until_its_turn_and_the_turns_are_spread() {
    const PHONES: usize = 20;
    let mut world = World::with(|config, _| config.drain_spread_ms = 3_000).await;
    let mut phones = Vec::new();
    for index in 0..PHONES {
        let user = format!("u{index}");
        let (phone, _) = world.join(&user).await;
        phones.push((user, phone));
    }
    let begun = Instant::now();
    world.shutdown.begin();
    let left = phones.into_iter().map(async |(user, mut phone)| {
        phone.send(location(1, 52.5, 13.25)).await;
        let first = phone.next().await;
        let acknowledged = first["type"] == "ack";
        let bye = if acknowledged { phone.next().await } else { first };
        // Whoever was served until its turn need not wait.
        assert_eq!((&bye["code"], &bye["reconnect_in_ms"]), (&json!("drain"), &json!(0)), "{bye}");
        let at = begun.elapsed();
        assert_eq!(phone.closed().await, 4012);
        (user, acknowledged, at)
    });
    let left = join_all(left).await;
    let at = |(.., at): &(String, bool, Duration)| *at;
    let (first, last) = (left.iter().map(at).min().unwrap(), left.iter().map(at).max().unwrap());
    assert!(last - first > Duration::from_millis(500) && last < Duration::from_secs(6), "{first:?} to {last:?}");
    let acknowledged: Vec<_> = left.iter().filter(|(_, acknowledged, _)| *acknowledged).collect();
    assert!(!acknowledged.is_empty(), "somebody's turn came later than its report");
    for (user, ..) in acknowledged {
        world.log.next(user, LocationKind::Fix).await;
    }
    for index in 0..PHONES {
        world.log.next(&format!("u{index}"), LocationKind::Leave).await;
    }
    world.ended().await.unwrap();
}

#[tokio::test]
async fn where_the_grace_is_short_clients_are_told_when_to_come_back() {
    let mut world = World::with(|config, _| (config.drain_spread_ms, config.grace_s) = (600_000, 1)).await;
    let (mut phone, _) = world.join("alice").await;
    let mut silent = world.connect("bob").await;
    let begun = Instant::now();
    world.shutdown.begin();
    let mut waits = Vec::new();
    for phone in [&mut phone, &mut silent] {
        waits.push(phone.expect_bye("drain", 4012).await["reconnect_in_ms"].as_i64().unwrap());
    }
    assert!(waits.iter().all(|wait| (0..=600_000).contains(wait)) && waits.iter().sum::<i64>() > 1_000, "{waits:?}");
    world.ended().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_hello_half_way_is_finished() {
    let mut world = World::with(|config, _| config.drain_spread_ms = 0).await;
    let held = world.api.hold("alice");
    let mut phone = world.connect("alice").await;
    let mut said = hello();
    said["clock"] = json!(1_700_000_000_000_i64);
    said["position"] = json!({"n": 1, "lat": 52.5, "lon": 13.25, "time": 1_700_000_000_000_i64});
    phone.send(said).await;
    held.asked().await;
    world.shutdown.begin();
    world.until_readyz("draining").await;
    held.go();
    assert_eq!(phone.expect("welcome").await["accepted"]["n"], 1);
    phone.expect_bye("drain", 4012).await;
    let hello = world.log.next("alice", LocationKind::Hello).await;
    assert_eq!(hello.event.fix.unwrap().n, 1);
    assert_eq!(world.log.next("alice", LocationKind::Leave).await.event.session, hello.offset);
    world.ended().await.unwrap();
}
