//! Every refusal of the public API, and that none repeats what was sent.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use nearcast_api::{Config, MemoryStore};
use nearcast_ingest::MemoryCache;
use nearcast_runtime::Secret;
use nearcast_runtime::auth::{AuthConfig, Signer};
use serde_json::{Value, json};

use crate::world::{World, auth, config, deployment, until};

#[tokio::test]
async fn tokens_are_checked() {
    let world = World::start().await;
    let get = || world.http.get(format!("{}/v1/me", world.url));
    world.send(get()).await.refused("token_missing");
    world.send(get().bearer_auth("")).await.refused("token_malformed");
    world.send(get().header("authorization", "Basic abc")).await.refused("token_malformed");
    world.send(get().bearer_auth("abc")).await.refused("token_malformed");
    let signed = |change: fn(&mut AuthConfig), sub: &str, ttl_s| {
        let mut config = auth();
        change(&mut config);
        Signer::new(&config).unwrap().sign(sub, Duration::from_secs(ttl_s), &[]).unwrap()
    };
    let check = async |token: String, code: &str| world.send(get().bearer_auth(token)).await.refused(code);
    check(
        signed(|c| c.hs256_secret = Some(Secret::new("another secret, which is long enough")), "a", 9),
        "token_signature",
    )
    .await;
    check(signed(|c| c.audience = "somebody else".into(), "a", 9), "token_audience").await;
    let short = signed(|_| {}, "a", 0);
    until("its second is over", async || world.send(get().bearer_auth(&short)).await.status != 200).await;
    check(short, "token_expired").await;
    check(signed(|_| {}, "a b", 9), "token_subject").await;
    check(signed(|_| {}, &"x".repeat(65), 9), "token_subject").await;
    world.stop().await;
}

#[tokio::test]
async fn paths_and_methods_are_answered_in_json() {
    let world = World::start().await;
    for (method, path, code) in [
        ("GET", "/", "no_such_path"),
        ("GET", "/v1/users/", "no_such_path"),
        ("GET", "/v1/users/a/b", "no_such_path"),
        ("DELETE", "/v1/me", "method_not_allowed"),
        ("GET", "/v1/friends/bob/request", "method_not_allowed"),
        ("POST", "/readyz", "method_not_allowed"),
        ("GET", "/internal/v1/hello", "method_not_allowed"),
        ("OPTIONS", "/v1/me", "method_not_allowed"),
    ] {
        world.call(method, "alice", path, None).await.refused(code);
    }
    world.stop().await;
}

#[tokio::test]
async fn friends_who_cannot_be() {
    let world = World::with(
        Config { max_friends: 2, ..config() },
        Arc::new(MemoryStore::default()),
        Arc::new(MemoryCache::new(&deployment())),
    )
    .await;
    let call = async |user: &str, method: &str, path: &str| world.call(method, user, path, None).await;
    call("alice", "POST", "/v1/friends/nobody/request").await.refused("no_such_user");
    call("alice", "GET", "/v1/users/nobody").await.refused("no_such_user");
    for verb in ["request", "accept"] {
        call("alice", "POST", &format!("/v1/friends/alice/{verb}")).await.refused("oneself");
    }
    call("alice", "DELETE", "/v1/friends/alice").await.refused("oneself");
    world.get("bob", "/v1/me").await;
    call("alice", "POST", "/v1/friends/bob/accept").await.refused("no_such_request");
    world.post("alice", "/v1/friends/bob/request").await;
    call("alice", "POST", "/v1/friends/bob/accept").await.refused("no_such_request");
    let share = json!({"precision": "exact"});
    world.call("PUT", "alice", "/v1/friends/bob/sharing", Some(share)).await.refused("not_a_friend");

    world.befriend("alice", "c").await;
    world.befriend("alice", "d").await;
    world.get("e", "/v1/me").await;
    call("alice", "POST", "/v1/friends/e/request").await.refused("too_many_friends");
    call("bob", "POST", "/v1/friends/alice/accept").await.refused("too_many_friends");
    call("e", "POST", "/v1/friends/alice/request").await.ok();
    call("alice", "POST", "/v1/friends/e/accept").await.refused("too_many_friends");
    world.delete("alice", "/v1/friends/c").await;
    call("bob", "POST", "/v1/friends/alice/accept").await.ok();
    world.stop().await;
}

#[tokio::test]
async fn bodies_and_parameters_are_checked() {
    let world = World::start().await;
    world.befriend("alice", "bob").await;
    let past = nearcast_runtime::clock::now_ms() - 1;
    let put = async |path: &str, body: Value, code: &str| {
        world.call("PUT", "alice", path, Some(body)).await.refused(code);
    };
    for body in [
        json!({"display_name": ""}),
        json!({"display_name": "  "}),
        json!({"display_name": "x".repeat(65)}),
        json!({"display_name": "a\u{7}"}),
        json!({"display_name": "a", "radius_m": 0}),
        json!({"display_name": "a", "radius_m": -1}),
        json!({"display_name": "a", "radius_m": 20_001}),
        json!({"display_name": "a", "picture_url": "javascript:alert(1)"}),
        json!({"display_name": "a", "picture_url": format!("https://{}", "x".repeat(2_048))}),
    ] {
        put("/v1/me", body, "parameter_invalid").await;
    }
    for body in [json!({}), json!([]), json!({"display_name": 5}), json!({"display_name": "a", "radius_m": "8"})] {
        put("/v1/me", body, "malformed").await;
    }
    for body in [json!({"sharing": "hidden", "until": past}), json!({"sharing": "exact", "until": past + 99_999})] {
        put("/v1/me/sharing", body, "parameter_invalid").await;
    }
    put("/v1/me/sharing", json!({"sharing": "maybe"}), "malformed").await;
    for body in [
        json!({"precision": "exact", "until": past}),
        json!({"precision": "hidden", "until": past + 99_999}),
        json!({"precision": "exact", "within_m": 0}),
        json!({"precision": "exact", "within_m": -1}),
        json!({"precision": "exact", "within_m": 20_001}),
    ] {
        put("/v1/friends/bob/sharing", body, "parameter_invalid").await;
    }
    world.stop().await;
}

/// Every parameter of every query and path, from the document that the service serves.
#[tokio::test]
async fn parameters_are_refused_by_name_and_range() {
    let world = World::start().await;
    let whole = |most: u32| format!("must be a whole number from 1 to {most}; it is ");
    let limit = |path: &'static str, most: u32| {
        let cases =
            [("0", "less"), ("-1", "less"), ("-99999999999999999999", "less"), ("4294967297", "more"), ("", "empty")];
        let odd = ["secret", "1.5", "%FF"].map(|value| (value, "something else"));
        let cases = cases.into_iter().chain(odd).map(move |(value, what)| (path, "limit", value, whole(most) + what));
        cases.chain([(path, "limit", "9999", whole(most) + "more")]).collect::<Vec<_>>()
    };
    let mut cases = [limit("/v1/friends", 100), limit("/v1/nearby", 100), limit("/v1/me/history", 1_000)].concat();
    for value in ["secret", "", "Accepted", "-1"] {
        let must = "must be `accepted`, `incoming` or `outgoing`; it is something else";
        cases.push(("/v1/friends", "state", value, must.to_owned()));
    }
    for (name, value, what) in [
        ("from", "secret", "it is neither"),
        ("from", "", "it is neither"),
        ("to", "2023-11-14", "it is neither"),
        ("to", "-9223372036854775808", "it is beyond them"),
        ("to", "99999999999999999999", "it is beyond them"),
        ("from", "253402300800000", "it is beyond them"),
    ] {
        let must = format!("must be in ms since the epoch or in RFC 3339, of the years 0000 to 9999; {what}");
        cases.push(("/v1/me/history", name, value, must));
    }
    cases.push(("/v1/me/history?to=1", "from", "2", "must not be after `to`; it is".to_owned()));
    let earlier = "must be at most 31 days before `to`; it is earlier".to_owned();
    cases.push(("/v1/me/history?to=2678400001", "from", "0", earlier));
    for path in ["/v1/friends", "/v1/nearby", "/v1/me/history"] {
        cases.push((path, "limit", "5&limit=6", "must be given once".to_owned()));
        cases.push((path, "cursor", "a&cursor=b", "must be given once".to_owned()));
    }
    let mut seen = BTreeSet::new();
    for (path, name, value, must) in cases {
        let join = if path.contains('?') { '&' } else { '?' };
        let answer = world.call("GET", "alice", &format!("{path}{join}{name}={value}"), None).await;
        answer.refused("parameter_invalid");
        let message = answer.json["message"].as_str().unwrap();
        assert!(message.starts_with(&format!("`{name}` {must}")), "{path} {name}={value}: {message}");
        assert!(!message.contains("secret"), "{message}");
        seen.insert((path.split('?').next().unwrap().to_owned(), name.to_owned()));
    }
    for path in ["/v1/friends", "/v1/nearby", "/v1/me/history"] {
        // Nothing, no base64, no text, a control character, `0 abc`, and `20 0123456789abcdef…`, which is a page that is gone.
        let gone = "MjAgMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY";
        for value in ["", "!", "0", "-1", "AA", "MCBhYmM", gone] {
            world.call("GET", "alice", &format!("{path}?cursor={value}"), None).await.refused("cursor_expired");
        }
        seen.insert((path.to_owned(), "cursor".to_owned()));
    }
    for (method, path) in [
        ("GET", "/v1/users/{id}"),
        ("POST", "/v1/friends/{id}/request"),
        ("POST", "/v1/friends/{id}/accept"),
        ("PUT", "/v1/friends/{id}/sharing"),
        ("DELETE", "/v1/friends/{id}"),
        ("DELETE", "/v1/links/{id}"),
    ] {
        let long = "x".repeat(65);
        for (id, what) in [("a%20b", "it holds"), ("a%00", "it holds"), ("%FF", "it is no UTF-8"), (&long, "it is of")]
        {
            let answer = world.call(method, "alice", &path.replace("{id}", id), None).await;
            answer.refused("parameter_invalid");
            let message = answer.json["message"].as_str().unwrap();
            let must = "`id` must be 1 to 64 bytes of UTF-8 without control characters and white space; ";
            assert!(message.starts_with(&format!("{must}{what}")), "{path}: {message}");
        }
        seen.insert((path.to_owned(), "id".to_owned()));
    }

    let document = world.send(world.http.get(format!("{}/openapi.json", world.url))).await.ok();
    let mut declared = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for parameter in
            item.as_object().unwrap().values().flat_map(|operation| operation["parameters"].as_array()).flatten()
        {
            declared.insert((path.clone(), parameter["name"].as_str().unwrap().to_owned()));
        }
    }
    assert_eq!(seen, declared, "every parameter is in the table");
    world.stop().await;
}

#[tokio::test]
async fn positions_are_in_no_refusal() {
    let world = World::start().await;
    let now = nearcast_runtime::clock::now_ms();
    let post = async |body: String| {
        let request = world.http.post(format!("{}/v1/me/locations", world.url)).bearer_auth(world.token("alice"));
        let answer = world.send(request.body(body)).await;
        assert!(!answer.json.to_string().contains("48.137"), "{answer:?}");
        answer
    };
    let report = |fixes: Value| json!({"device": "d", "clock": now, "fixes": fixes}).to_string();
    let fix = |lat: Value| json!({"n": 1, "lat": lat, "lon": 11.5, "time": now});
    post(report(json!([fix(json!("48.137"))]))).await.refused("malformed");
    post(report(json!([{"n": 1, "lat": 48.137}]))).await.refused("malformed");
    post(r#"{"device": "d", "fixes": [{"lat": 48.137"#.to_owned()).await.refused("malformed");
    post(report(json!(48.137))).await.refused("malformed");
    post(report(json!([]))).await.refused("parameter_invalid");
    post(report(json!(vec![fix(json!(48.137)); 501]))).await.refused("too_many_fixes");
    post(json!({"device": "d d", "fixes": [fix(json!(48.137))]}).to_string()).await.refused("id_invalid");
    let answer = post(report(json!([fix(json!(148.137))]))).await;
    assert_eq!((answer.status, &answer.json["refused"][0]["code"]), (200, &json!("position_out_of_range")));
    assert!(world.events_of("alice").await.is_empty());
    world.stop().await;
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_too_large() {
    let world = World::start().await;
    let body = json!({"display_name": "x".repeat(1_000_001)});
    world.call("PUT", "alice", "/v1/me", Some(body)).await.refused("too_large");
    world.stop().await;
}
