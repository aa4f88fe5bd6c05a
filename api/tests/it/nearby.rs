//! Who is nearby, over REST.

use nearcast_schemas::event::{LocationKind, Sharing};
use serde_json::{Value, json};

use crate::world::{World, pluck};

#[tokio::test]
async fn friends_in_range_nearest_first() {
    let world = World::start().await;
    for friend in ["near", "nearer", "far", "silent", "coarse", "paused"] {
        world.befriend("alice", friend).await;
    }
    world.get("stranger", "/v1/me").await;
    world.put("coarse", "/v1/friends/alice/sharing", json!({"precision": "coarse"})).await;
    world.put("paused", "/v1/me/sharing", json!({"sharing": "hidden"})).await;
    let empty = world.get("alice", "/v1/nearby").await;
    assert_eq!((&empty["friends"], &empty["position_known"]), (&json!([]), &json!(false)));

    world.see("alice", 0.0, 0.0).await;
    world.see("near", 2_000.0, 0.0).await;
    world.see("nearer", 1_000.0, 0.0).await;
    world.see("far", 8_100.0, 0.0).await;
    world.see("coarse", 1.0, 3_000.0).await;
    world.see("paused", 1.0, 1.0).await;
    world.see("stranger", 1.0, 1.0).await;
    let page = world.get("alice", "/v1/nearby").await;
    assert_eq!(pluck(&page["friends"], "id"), ["nearer", "near", "coarse"]);
    assert_eq!(
        (&page["total"], &page["position_known"], &page["next_cursor"]),
        (&json!(3), &json!(true), &Value::Null)
    );
    let (nearer, coarse) = (&page["friends"][0], &page["friends"][2]);
    assert!((nearer["distance_m"].as_f64().unwrap() - 1_000.0).abs() < 1.0, "{nearer}");
    assert_eq!((&nearer["approximate"], &nearer["accuracy_m"]), (&json!(false), &json!(5.0)));
    assert_eq!((&coarse["approximate"], coarse.get("accuracy_m")), (&json!(true), None));
    // To the centre of the cell, which is less than 1.5 km from any place in it.
    assert!((coarse["distance_m"].as_f64().unwrap() - 3_000.0).abs() < 1_500.0, "{coarse}");

    world.put("alice", "/v1/me", json!({"display_name": "Alice", "radius_m": 1_500})).await;
    assert_eq!(pluck(&world.get("alice", "/v1/nearby").await["friends"], "id"), ["nearer"]);
    world.stop().await;
}

#[tokio::test]
async fn pages_of_twenty_follow_one_order() {
    let world = World::start().await;
    let friends: Vec<String> = (0..45).map(|i| format!("f{i:02}")).collect();
    world.see("alice", 0.0, 0.0).await;
    for (i, friend) in friends.iter().enumerate() {
        world.befriend("alice", friend).await;
        world.see(friend, 100.0 * i as f64, 0.0).await;
    }
    let first = world.get("alice", "/v1/nearby").await;
    assert_eq!(pluck(&first["friends"], "id"), friends[..20]);
    assert_eq!(first["total"], 45);
    let cursor = first["next_cursor"].as_str().unwrap();

    // The order stays, positions and rules are those of now.
    world.see("f20", 4_999.0, 0.0).await;
    world.see("f21", 9_000.0, 0.0).await;
    world.delete("f22", "/v1/friends/alice").await;
    world.put("f23", "/v1/me/sharing", json!({"sharing": "hidden"})).await;
    let second = world.get("alice", &format!("/v1/nearby?cursor={cursor}")).await;
    let expect: Vec<Value> =
        friends[20..40].iter().filter(|id| !["f21", "f22", "f23"].contains(&id.as_str())).map(|id| json!(id)).collect();
    assert_eq!(pluck(&second["friends"], "id"), expect);
    assert!((second["friends"][0]["distance_m"].as_f64().unwrap() - 4_999.0).abs() < 1.0);
    let cursor = second["next_cursor"].as_str().unwrap();
    let third = world.get("alice", &format!("/v1/nearby?cursor={cursor}")).await;
    assert_eq!(pluck(&third["friends"], "id"), friends[40..]);
    assert_eq!(third["next_cursor"], Value::Null);

    let small = world.get("alice", "/v1/nearby?limit=2").await;
    assert_eq!(pluck(&small["friends"], "id"), ["f00", "f01"]);
    let stolen = world.call("GET", "f00", &format!("/v1/nearby?cursor={cursor}"), None).await;
    stolen.refused("cursor_expired");
    world.stop().await;
}

#[tokio::test]
async fn reports_over_http_move_the_position() {
    let world = World::start().await;
    world.befriend("alice", "bob").await;
    let now = nearcast_runtime::clock::now_ms();
    let fix = |n: i64, lat: f64, age_ms: i64| json!({"n": n, "lat": lat, "lon": 0.0, "time": now - age_ms});
    let report = async |user: &str, fixes: Value| {
        world
            .call("POST", user, "/v1/me/locations", Some(json!({"device": "d", "clock": now, "fixes": fixes})))
            .await
            .ok()
    };
    report("alice", json!([fix(1, 0.0, 0)])).await;
    let answer = report("bob", json!([fix(1, 0.5, 600_000), fix(2, 0.01, 0), fix(3, 91.0, 0)])).await;
    assert_eq!(answer["accepted"], json!([{"n": 1, "result": "stored"}, {"n": 2, "result": "published"}]));
    assert_eq!(answer["refused"], json!([{"n": 3, "code": "position_out_of_range"}]));
    let kinds: Vec<LocationKind> = world.events_of("bob").await.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [LocationKind::Backfill, LocationKind::Fix]);
    let page = world.get("alice", "/v1/nearby").await;
    assert_eq!(pluck(&page["friends"], "id"), ["bob"]);

    // What was made before the shown position was appended does not move it back; the newest of a call counts.
    let again = report("bob", json!([fix(2, 0.5, 20_000)])).await;
    assert_eq!(again["accepted"], json!([{"n": 2, "result": "stored"}]));
    let both = report("bob", json!([fix(5, 0.01, 0), fix(4, 0.5, 0)])).await;
    assert_eq!(both["accepted"], json!([{"n": 5, "result": "published"}, {"n": 4, "result": "stored"}]));
    assert_eq!(pluck(&world.get("alice", "/v1/nearby").await["friends"], "id"), ["bob"]);

    // A report is stamped with the mode.
    world.put("bob", "/v1/me/sharing", json!({"sharing": "hidden"})).await;
    assert_eq!(pluck(&world.get("alice", "/v1/nearby").await["friends"], "id"), [] as [Value; 0]);
    report("bob", json!([fix(6, 0.01, 0)])).await;
    assert_eq!(world.events_of("bob").await.last().unwrap().mode.sharing, Sharing::Hidden);
    assert_eq!(pluck(&world.get("alice", "/v1/nearby").await["friends"], "id"), [] as [Value; 0]);
    world.stop().await;
}
