//! Users and friends over REST.

use futures_util::future::join_all;
use nearcast_runtime::clock::now_ms;
use serde_json::{Value, json};

use crate::store::someone;
use crate::world::{World, pluck, until};

#[tokio::test]
async fn friends_are_made_and_parted() {
    let world = World::start().await;
    whole_life(&world).await;
    world.stop().await;
}

pub async fn whole_life(world: &World) {
    let (alice, bob) = (&someone(), &someone());
    let me = world.get(alice, "/v1/me").await;
    assert_eq!((&me["id"], &me["display_name"]), (&json!(alice), &json!(alice)), "registered by the first call");
    assert_eq!((&me["radius_m"], &me["picture_url"]), (&json!(8_000), &Value::Null));
    let profile = json!({"display_name": " Alice ", "picture_url": "https://example.com/a.png", "radius_m": 500});
    let me = world.put(alice, "/v1/me", profile).await;
    assert_eq!((&me["display_name"], &me["radius_m"]), (&json!("Alice"), &json!(500)));
    assert_eq!(world.get(alice, "/v1/me").await, me);
    world.put(bob, "/v1/me", json!({"display_name": "Bob"})).await;

    let friendship = async |me: &str, other: &str| world.get(me, &format!("/v1/users/{other}")).await;
    assert_eq!(friendship(bob, alice).await["friendship"], "none");
    assert_eq!(friendship(alice, alice).await["friendship"], "oneself");
    let request = format!("/v1/friends/{bob}/request");
    for _ in 0..2 {
        assert_eq!(world.post(alice, &request).await["state"], "outgoing");
    }
    let seen = friendship(bob, alice).await;
    assert_eq!((&seen["friendship"], &seen["display_name"]), (&json!("incoming"), &json!("Alice")));
    assert_eq!(seen["picture_url"], "https://example.com/a.png");
    assert!(seen.get("radius_m").is_none(), "one's radius is one's own");

    let ids = async |me: &str, state: &str| {
        let page = world.get(me, &format!("/v1/friends?state={state}")).await;
        assert_eq!(page["next_cursor"], Value::Null);
        pluck(&page["friends"], "id")
    };
    assert_eq!(ids(bob, "incoming").await, [json!(alice)]);
    assert_eq!(ids(alice, "outgoing").await, [json!(bob)]);
    assert_eq!(ids(alice, "accepted").await, [] as [Value; 0]);
    for _ in 0..2 {
        assert_eq!(world.post(bob, &format!("/v1/friends/{alice}/accept")).await["state"], "accepted");
    }
    assert_eq!(world.post(alice, &request).await["state"], "accepted", "asking a friend changes nothing");
    for (me, other, name) in [(alice, bob, "Bob"), (bob, alice, "Alice")] {
        assert_eq!(ids(me, "incoming").await, [] as [Value; 0]);
        assert_eq!(ids(me, "outgoing").await, [] as [Value; 0]);
        let page = world.get(me, "/v1/friends").await;
        assert_eq!(pluck(&page["friends"], "id"), [json!(other)]);
        let friend = &page["friends"][0];
        assert_eq!(friend["display_name"], name);
        assert_eq!(friend["sharing"], json!({"precision": "exact", "until": null, "within_m": null}));
        assert!(friend["since"].as_i64().is_some_and(|since| since > 0));
    }

    let until = nearcast_runtime::clock::now_ms() + 3_600_000;
    let share = json!({"precision": "coarse", "until": until, "within_m": 300});
    assert_eq!(world.put(alice, &format!("/v1/friends/{bob}/sharing"), share.clone()).await, share);
    assert_eq!(world.get(alice, "/v1/friends").await["friends"][0]["sharing"], share);
    let of_bob = &world.get(bob, "/v1/friends").await["friends"][0];
    assert_eq!(of_bob["sharing"]["precision"], "exact", "what the other shares is not told");

    world.delete(bob, &format!("/v1/friends/{alice}")).await;
    world.delete(bob, &format!("/v1/friends/{alice}")).await;
    for (me, other) in [(alice, bob), (bob, alice)] {
        assert_eq!(ids(me, "accepted").await, [] as [Value; 0]);
        assert_eq!(friendship(me, other).await["friendship"], "none");
    }

    // Declined, and cancelled.
    for (asker, ender, other) in [(alice, bob, alice), (alice, alice, bob)] {
        world.post(asker, &request).await;
        world.delete(ender, &format!("/v1/friends/{other}")).await;
        assert_eq!(ids(bob, "incoming").await, [] as [Value; 0]);
        assert_eq!(ids(alice, "outgoing").await, [] as [Value; 0]);
    }
}

#[tokio::test]
async fn the_friends_list_shows_the_sharing_in_force() {
    let world = World::start().await;
    world.befriend("alice", "bob").await;
    let sharing = async || world.get("alice", "/v1/friends").await["friends"][0]["sharing"].clone();
    let share = async |until: i64| {
        let body = json!({"precision": "coarse", "until": until, "within_m": 700});
        assert_eq!(world.put("alice", "/v1/friends/bob/sharing", body.clone()).await, body);
        body
    };
    let body = share(now_ms() + 3_600_000).await;
    assert_eq!(sharing().await, body);
    let ends = now_ms() + 500;
    share(ends).await;
    let nothing = json!({"precision": "hidden", "until": null, "within_m": null});
    until("the sharing has ended", async || sharing().await == nothing).await;
    assert!(now_ms() >= ends);
    world.stop().await;
}

#[tokio::test]
async fn concurrent_opposite_requests_become_a_friendship() {
    let world = World::start().await;
    opposite_requests(&world).await;
    world.stop().await;
}

pub async fn opposite_requests(world: &World) {
    let pairs: Vec<(String, String)> = (0..8).map(|_| (someone(), someone())).collect();
    join_all(pairs.iter().map(async |(a, b)| {
        tokio::join!(world.get(a, "/v1/me"), world.get(b, "/v1/me"));
        let (path_a, path_b) = (format!("/v1/friends/{b}/request"), format!("/v1/friends/{a}/request"));
        let (first, second) = tokio::join!(world.post(a, &path_a), world.post(b, &path_b));
        let states = [&first["state"], &second["state"]];
        assert!(states.contains(&&json!("accepted")), "{states:?}");
        for (me, other) in [(a, b), (b, a)] {
            assert_eq!(pluck(&world.get(me, "/v1/friends").await["friends"], "id"), [json!(other)]);
            assert_eq!(world.listed(me).await, [other.as_str()]);
            for state in ["incoming", "outgoing"] {
                let page = world.get(me, &format!("/v1/friends?state={state}")).await;
                assert_eq!(pluck(&page["friends"], "id"), [] as [Value; 0]);
            }
        }
    }))
    .await;
}

#[tokio::test]
async fn friends_come_by_page() {
    let world = World::start().await;
    let mut others: Vec<String> = (0..7).map(|_| someone()).collect();
    for other in &others {
        world.befriend("alice", other).await;
    }
    others.sort();
    let (mut found, mut path) = (Vec::new(), "/v1/friends?limit=3".to_owned());
    for expect in [3, 3, 1] {
        let page = world.get("alice", &path).await;
        let ids = pluck(&page["friends"], "id");
        assert_eq!(ids.len(), expect);
        found.extend(ids);
        path = format!("/v1/friends?limit=3&cursor={}", page["next_cursor"].as_str().unwrap_or("none"));
    }
    assert!(path.ends_with("none"));
    assert_eq!(found, others.iter().map(|id| json!(id)).collect::<Vec<_>>());
    world.stop().await;
}

#[tokio::test]
async fn ids_of_every_kind_are_users() {
    let world = World::start().await;
    let odd = "a/b?c#ü%";
    let encoded = "a%2Fb%3Fc%23%C3%BC%25";
    assert_eq!(world.get(odd, "/v1/me").await["id"], odd);
    assert_eq!(world.post("alice", &format!("/v1/friends/{encoded}/request")).await["state"], "outgoing");
    assert_eq!(world.get("alice", &format!("/v1/users/{encoded}")).await["friendship"], "outgoing");
    assert_eq!(world.post(odd, "/v1/friends/alice/accept").await["state"], "accepted");
    assert_eq!(world.listed("alice").await, [odd]);
    world.stop().await;
}
