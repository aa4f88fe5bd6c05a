//! What lies in Redis under which names and for how long: other programs and operators rely on it.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::time::Duration;

use nearcast_ingest::{Cache, LastSeen, Session};
use nearcast_schemas::event::{Role, Sharing};

use support::{NOW, mode, place};

#[tokio::test]
async fn keys_and_their_times() {
    let deployment = support::deployment();
    let mut connection = support::redis_connection(&support::redis_url()).await;
    let config = support::redis_config(vec![support::redis_url()], false);
    let (cache, _) = support::redis_cache(&config, &deployment);
    let exact = mode(Sharing::Exact, 1);
    let session =
        Session { gateway: "gw-1".to_owned(), incarnation: NOW, handle: 1, role: Role::Reporting, session: 5 };
    cache.put_position(
        "al{i}ce",
        LastSeen {
            position: place(1.0, NOW, false),
            coarse: Some(place(2.0, NOW, true)),
            reported: Sharing::Exact,
            mode: exact,
            session: 5,
        },
    );
    cache.register("al{i}ce", &session).await.unwrap();
    cache.sign_out("al{i}ce", NOW, Duration::from_secs(60)).await.unwrap();
    cache.put_page("cursor", b"page", Duration::from_secs(60)).await.unwrap();
    assert!(cache.settled(Duration::from_secs(20)).await);

    let prefix = &deployment.prefix;
    let ttl = deployment.ttl_ms();
    for (key, longest) in [
        (format!("{prefix}:pos:{{al{{i%7Dce}}"), ttl),
        (format!("{prefix}:rules:{{al{{i%7Dce}}"), 2 * ttl),
        (format!("{prefix}:sessions:{{al{{i%7Dce}}"), ttl),
        (format!("{prefix}:signed-out:{{al{{i%7Dce}}"), 60_000),
        (format!("{prefix}:page:cursor"), 60_000),
    ] {
        let left: i64 = redis::cmd("PTTL").arg(&key).query_async(&mut connection).await.unwrap();
        assert!((longest - 20_000..=longest).contains(&left), "{key}: {left}");
    }
    // A pause does not lengthen the life of a position.
    let key = format!("{prefix}:pos:{{al{{i%7Dce}}");
    let () = redis::cmd("PEXPIRE").arg(&key).arg(1_000).query_async(&mut connection).await.unwrap();
    cache.set_mode("al{i}ce", mode(Sharing::Hidden, 2)).await.unwrap();
    let left: i64 = redis::cmd("PTTL").arg(&key).query_async(&mut connection).await.unwrap();
    assert!(left <= 1_000, "{left}");
    // The next report refreshes it.
    cache.put_position(
        "al{i}ce",
        LastSeen {
            position: place(1.0, NOW + 1, false),
            coarse: Some(place(2.0, NOW + 1, true)),
            reported: Sharing::Exact,
            mode: exact,
            session: 5,
        },
    );
    assert!(cache.settled(Duration::from_secs(20)).await);
    let left: i64 = redis::cmd("PTTL").arg(&key).query_async(&mut connection).await.unwrap();
    assert!(left > 1_000, "{left}");
}
