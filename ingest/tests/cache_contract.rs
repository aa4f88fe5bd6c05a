//! What every cache does: in memory, in one Redis, in a Redis Cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

mod support;

use std::time::{Duration, Instant};

use nearcast_ingest::{Cache, LastSeen, MAX_SESSIONS, MemoryCache, Session};
use nearcast_schemas::deployment::Deployment;
use nearcast_schemas::event::{Mode, NO_SESSION, Role, Sharing};
use nearcast_schemas::list::{Precision, VisibilityEntry};
use nearcast_schemas::rule::may_show;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use support::{NOW, mode, place, until};

/// A report of a session at a time; its latitude is its name.
fn seen(lat: f64, session: i64, at: i64, mode: Mode) -> LastSeen {
    // Approximate positions change every ten units of time.
    let coarse = (mode.sharing != Sharing::Hidden).then(|| place(-lat, at - at % 10, true));
    LastSeen { position: place(lat, at, false), coarse, reported: mode.sharing, mode, session }
}

async fn put(cache: &dyn Cache, user: &str, seen: LastSeen) {
    cache.put_position(user, seen);
    assert!(cache.settled(Duration::from_secs(20)).await);
}

async fn get(cache: &dyn Cache, user: &str) -> Option<LastSeen> {
    cache.positions(&[user.to_owned()]).await.unwrap().remove(0)
}

fn session(handle: i32, offset: i64) -> Session {
    Session { gateway: "gw-1".to_owned(), incarnation: NOW, handle, role: Role::Watching, session: offset }
}

/// The whole contract but for what takes its time.
async fn check(cache: &dyn Cache) {
    positions_come_back_in_order(cache).await;
    older_reports_move_nothing(cache).await;
    approximate_positions_change_once_an_instant(cache).await;
    a_late_write_undoes_no_pause(cache).await;
    a_hidden_position_is_kept_hidden(cache).await;
    a_mode_with_an_end_counts_for_reports_before_it(cache).await;
    erase_means_erase(cache).await;
    sessions_come_and_go(cache).await;
    pages(cache).await;
    sign_outs(cache).await;
    ids_may_hold_anything(cache).await;
}

async fn positions_come_back_in_order(cache: &dyn Cache) {
    assert_eq!(cache.positions(&[]).await.unwrap(), []);
    let people: Vec<String> = (0..1_500).map(|person| format!("order-{person}")).collect();
    for (index, person) in people.iter().enumerate().step_by(3) {
        cache.put_position(person, seen(index as f64 / 100.0, 5, NOW, mode(Sharing::Exact, 0)));
    }
    assert!(cache.settled(Duration::from_secs(20)).await);
    let found = cache.positions(&people).await.unwrap();
    assert_eq!(found.len(), people.len());
    for (index, found) in found.into_iter().enumerate() {
        let expect = (index % 3 == 0).then(|| seen(index as f64 / 100.0, 5, NOW, mode(Sharing::Exact, 0)));
        assert_eq!(found, expect, "{index}");
    }
}

async fn older_reports_move_nothing(cache: &dyn Cache) {
    let user = "older";
    let exact = mode(Sharing::Exact, 0);
    let lat = async || get(cache, user).await.unwrap().position.lat;
    put(cache, user, seen(1.0, 10, NOW, exact)).await;
    put(cache, user, seen(2.0, 10, NOW - 1, exact)).await;
    assert_eq!(lat().await, 1.0, "an older report of the session");
    put(cache, user, seen(3.0, 10, NOW, exact)).await;
    assert_eq!(lat().await, 3.0, "one batch has one append time");
    put(cache, user, seen(4.0, 9, NOW + 5, exact)).await;
    assert_eq!(lat().await, 3.0, "an older session");
    put(cache, user, seen(5.0, NO_SESSION, NOW + 6, exact)).await;
    assert_eq!(lat().await, 5.0, "over HTTP there is no session to be older");
    put(cache, user, seen(6.0, 9, NOW + 7, exact)).await;
    assert_eq!(lat().await, 5.0, "the session is remembered");
    put(cache, user, seen(7.0, 10, NOW + 8, exact)).await;
    put(cache, user, seen(8.0, 11, NOW + 10, exact)).await;
    assert_eq!(get(cache, user).await.unwrap(), seen(8.0, 11, NOW + 10, exact));
}

async fn approximate_positions_change_once_an_instant(cache: &dyn Cache) {
    let user = "coarse";
    let exact = mode(Sharing::Exact, 0);
    let instant = NOW - NOW % 10;
    put(cache, user, seen(1.0, 10, instant, exact)).await;
    // Another session says another cell for the same instant.
    put(cache, user, seen(2.0, 11, instant + 9, exact)).await;
    let found = get(cache, user).await.unwrap();
    assert_eq!((found.position.lat, found.coarse), (2.0, Some(place(-1.0, instant, true))));
    put(cache, user, seen(3.0, 11, instant + 10, exact)).await;
    assert_eq!(get(cache, user).await.unwrap().coarse, Some(place(-3.0, instant + 10, true)));
    // No cell follows from a report that may never be shown, and none is left of before it.
    let hidden = mode(Sharing::Hidden, 1);
    put(cache, user, LastSeen { coarse: Some(place(-4.0, instant + 20, true)), ..seen(4.0, 11, instant + 20, hidden) })
        .await;
    assert_eq!(get(cache, user).await.unwrap().coarse, None);
    put(cache, user, seen(5.0, 11, instant + 21, mode(Sharing::Exact, 2))).await;
    assert_eq!(get(cache, user).await.unwrap().coarse, Some(place(-5.0, instant + 20, true)));
}

async fn a_late_write_undoes_no_pause(cache: &dyn Cache) {
    let (exact, paused, resumed) = (mode(Sharing::Exact, 1), mode(Sharing::Hidden, 2), mode(Sharing::Exact, 3));
    let user = "pause";
    put(cache, user, seen(1.0, 10, NOW, exact)).await;
    cache.set_mode(user, paused).await.unwrap();
    assert_eq!(get(cache, user).await.unwrap().mode, paused);
    put(cache, user, seen(2.0, 10, NOW + 10, exact)).await;
    let unseen = |mode| LastSeen { mode, ..seen(2.0, 10, NOW + 10, paused) };
    assert_eq!(get(cache, user).await, Some(unseen(paused)), "it moves, and stays hidden");
    cache.set_mode(user, exact).await.unwrap();
    assert_eq!(get(cache, user).await.unwrap().mode, paused, "a lower version");
    put(cache, user, seen(3.0, 9, NOW, resumed)).await;
    assert_eq!(get(cache, user).await, Some(unseen(resumed)), "what came after the pause stays unseen when it is over");
    put(cache, user, seen(4.0, 10, NOW + 20, resumed)).await;
    assert_eq!(get(cache, user).await, Some(seen(4.0, 10, NOW + 20, resumed)));

    let user = "pause-first";
    cache.set_mode(user, paused).await.unwrap();
    assert_eq!(get(cache, user).await, None);
    put(cache, user, seen(1.0, 10, NOW, exact)).await;
    assert_eq!(get(cache, user).await.unwrap().mode, paused, "the pause came before the first position");
}

async fn a_hidden_position_is_kept_hidden(cache: &dyn Cache) {
    put(cache, "hidden", seen(1.0, 10, NOW, mode(Sharing::Hidden, 4))).await;
    let found = get(cache, "hidden").await.unwrap();
    let entry = VisibilityEntry {
        friend: "hidden".to_owned(),
        display_name: String::new(),
        precision: Precision::Exact,
        radius_m: 0,
        expires_at: 0,
    };
    assert_eq!(may_show(&entry, &found.mode, found.reported, NOW), None);
}

async fn a_mode_with_an_end_counts_for_reports_before_it(cache: &dyn Cache) {
    for (user, version) in [("ends", 2), ("ends-unknown", 0)] {
        let pause = Mode { until: NOW + 10, ..mode(Sharing::Hidden, version) };
        cache.set_mode(user, pause).await.unwrap();
        for (at, carried, expect) in [
            (NOW + 9, Sharing::Exact, Sharing::Hidden),
            (NOW + 10, Sharing::Exact, Sharing::Exact),
            (NOW + 11, Sharing::Coarse, Sharing::Coarse),
        ] {
            let report = LastSeen { reported: carried, ..seen(1.0, 10, at, mode(Sharing::Exact, 0)) };
            put(cache, user, report).await;
            assert_eq!(get(cache, user).await.unwrap().reported, expect, "{user} {at}");
        }
    }
}

async fn erase_means_erase(cache: &dyn Cache) {
    let user = "erased";
    put(cache, user, seen(1.0, 10, NOW, mode(Sharing::Exact, 7))).await;
    cache.register(user, &session(1, 10)).await.unwrap();
    cache.erase(user, NOW + 5).await.unwrap();
    assert_eq!(get(cache, user).await, None);
    assert_eq!(cache.sessions(user).await.unwrap(), []);
    put(cache, user, seen(2.0, 10, NOW + 5, mode(Sharing::Exact, 7))).await;
    cache.erase(user, NOW + 1).await.unwrap();
    put(cache, user, seen(2.0, 10, NOW + 4, mode(Sharing::Exact, 7))).await;
    assert_eq!(get(cache, user).await, None, "late writes");
    let anew = seen(3.0, 2, NOW + 6, mode(Sharing::Coarse, 0));
    put(cache, user, anew.clone()).await;
    assert_eq!(get(cache, user).await, Some(anew), "whoever comes back begins anew");
}

async fn sessions_come_and_go(cache: &dyn Cache) {
    let user = "sessions";
    assert_eq!(cache.sessions(user).await.unwrap(), []);
    cache.register(user, &session(1, NO_SESSION)).await.unwrap();
    cache.register(user, &session(2, 20)).await.unwrap();
    assert_eq!(cache.sessions(user).await.unwrap(), [session(2, 20), session(1, NO_SESSION)]);
    cache.refresh(user, &session(1, 30));
    assert!(cache.settled(Duration::from_secs(20)).await);
    assert_eq!(cache.sessions(user).await.unwrap(), [session(1, 30), session(2, 20)], "the same session");
    let reborn = Session { incarnation: NOW + 1, ..session(1, 40) };
    cache.register(user, &reborn).await.unwrap();
    cache.unregister(user, &session(1, NO_SESSION));
    assert!(cache.settled(Duration::from_secs(20)).await);
    assert_eq!(cache.sessions(user).await.unwrap(), [reborn, session(2, 20)], "named by gateway, incarnation, handle");

    let user = "many-sessions";
    for handle in 0..20 {
        cache.register(user, &session(handle, i64::from(handle))).await.unwrap();
    }
    let kept = cache.sessions(user).await.unwrap();
    assert_eq!(kept.len(), MAX_SESSIONS);
    assert_eq!(kept[0].handle, 19, "the newest is kept");
}

async fn pages(cache: &dyn Cache) {
    assert_eq!(cache.get_page("p/1").await.unwrap(), None);
    cache.put_page("p/1", b"\0bytes\xff", Duration::from_secs(60)).await.unwrap();
    cache.put_page("p/2", b"", Duration::from_millis(1)).await.unwrap();
    assert_eq!(cache.get_page("p/1").await.unwrap().as_deref(), Some(&b"\0bytes\xff"[..]));
    until("a page is over", || async { cache.get_page("p/2").await.unwrap().is_none() }).await;
}

async fn ids_may_hold_anything(cache: &dyn Cache) {
    let ids = ["}", "{}", "{a}b", "a}b", "%7D", "%", "Ünal", "a:b/c"].map(str::to_owned);
    for (index, id) in ids.iter().enumerate() {
        put(cache, id, seen(index as f64, 1, NOW, mode(Sharing::Exact, 0))).await;
        cache.set_mode(id, mode(Sharing::Coarse, 1)).await.unwrap();
        cache.register(id, &session(i32::try_from(index).unwrap(), 1)).await.unwrap();
    }
    let found = cache.positions(&ids).await.unwrap();
    for (index, (id, found)) in ids.iter().zip(found).enumerate() {
        let expect = LastSeen { mode: mode(Sharing::Coarse, 1), ..seen(index as f64, 1, NOW, mode(Sharing::Exact, 0)) };
        assert_eq!(found, Some(expect), "{id}");
        assert_eq!(cache.sessions(id).await.unwrap().len(), 1, "{id}");
        cache.erase(id, NOW).await.unwrap();
        assert_eq!(get(cache, id).await, None, "{id}");
    }
}

/// Everything is over after the TTL, and not before.
async fn check_ttl(cache: &dyn Cache, ttl: Duration) {
    let begun = Instant::now();
    put(cache, "ttl", seen(1.0, 1, NOW, mode(Sharing::Exact, 0))).await;
    cache.register("ttl", &session(1, 1)).await.unwrap();
    cache.register("ttl", &session(2, 2)).await.unwrap();
    assert!(get(cache, "ttl").await.is_some());
    // One session is refreshed at half time: the other must end nevertheless.
    until("half of the TTL is over", || async { begun.elapsed() > ttl / 2 }).await;
    cache.refresh("ttl", &session(2, 2));
    until("the position is over", || async { get(cache, "ttl").await.is_none() }).await;
    assert!(begun.elapsed() >= ttl.mul_f64(0.9), "{:?}", begun.elapsed());
    until("the session is over", || async { cache.sessions("ttl").await.unwrap() == [session(2, 2)] }).await;
    until("the refreshed session is over", || async { cache.sessions("ttl").await.unwrap().is_empty() }).await;
    assert!(begun.elapsed() >= ttl.mul_f64(1.4), "{:?}", begun.elapsed());
}

/// Two caches that get the same writes have the same content.
async fn check_against(cache: &dyn Cache, model: &dyn Cache) {
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let people = ["m1", "m2", "m3"].map(str::to_owned);
    for step in 0..600 {
        let user = &people[random.random_range(0..people.len())];
        let version = random.random_range(0..8);
        let how = mode([Sharing::Exact, Sharing::Coarse, Sharing::Hidden][version as usize % 3], version);
        // Time goes on, and writes come late.
        let at = NOW + step - random.random_range(0..40);
        match random.random_range(0..20) {
            0 => {
                cache.erase(user, at).await.unwrap();
                model.erase(user, at).await.unwrap();
            }
            1..5 => {
                cache.set_mode(user, how).await.unwrap();
                model.set_mode(user, how).await.unwrap();
            }
            _ => {
                let session = random.random_range(NO_SESSION..4);
                let seen = seen(step as f64 / 10.0, session, at, how);
                put(cache, user, seen.clone()).await;
                put(model, user, seen).await;
            }
        }
        assert_eq!(cache.positions(&people).await, model.positions(&people).await, "seed {seed} step {step}");
    }
}

fn short_lived() -> Deployment {
    Deployment { friend_ttl_s: 3, max_silence_s: 1, report_interval_s: 1, coarse_period_s: 1, ..support::deployment() }
}

#[tokio::test]
async fn in_memory() {
    check(&MemoryCache::new(&support::deployment())).await;
}

#[tokio::test]
async fn in_memory_for_the_ttl() {
    check_ttl(&MemoryCache::new(&short_lived()), Duration::from_secs(3)).await;
}

#[tokio::test]
async fn in_redis() {
    let config = support::redis_config(vec![support::redis_url()], false);
    support::redis_connection(&support::redis_url()).await;
    check(&support::redis_cache(&config, &support::deployment()).0).await;
}

#[tokio::test]
async fn in_redis_for_the_ttl() {
    let config = support::redis_config(vec![support::redis_url()], false);
    support::redis_connection(&support::redis_url()).await;
    check_ttl(&support::redis_cache(&config, &short_lived()).0, Duration::from_secs(3)).await;
}

#[tokio::test]
async fn in_redis_as_in_memory() {
    let deployment = support::deployment();
    let config = support::redis_config(vec![support::redis_url()], false);
    support::redis_connection(&support::redis_url()).await;
    check_against(&support::redis_cache(&config, &deployment).0, &MemoryCache::new(&deployment)).await;
}

#[tokio::test]
async fn in_a_redis_cluster() {
    let nodes = support::redis_cluster().await;
    let deployment = support::deployment();
    // One node is enough to find the others.
    let config = support::redis_config(vec![nodes[0].url.clone()], true);
    let (cache, _) = support::redis_cache(&config, &deployment);
    check(&cache).await;
    check_against(&cache, &MemoryCache::new(&deployment)).await;
    for node in &nodes {
        let mut connection = support::redis_connection(&node.url).await;
        let keys: i64 = redis::cmd("DBSIZE").query_async(&mut connection).await.unwrap();
        assert!(keys > 100, "each node has its share");
    }
}

async fn sign_outs(cache: &dyn Cache) {
    assert_eq!(cache.signed_out("alice").await.unwrap(), None);
    cache.sign_out("alice", 1_700_000_000_000, Duration::from_secs(60)).await.unwrap();
    cache.sign_out("alice", 1_700_000_000_007, Duration::from_secs(60)).await.unwrap();
    assert_eq!(cache.signed_out("alice").await.unwrap(), Some(1_700_000_000_007));
    assert_eq!(cache.signed_out("bob").await.unwrap(), None);
    cache.sign_out("bob", 1, Duration::from_millis(1)).await.unwrap();
    until("a sign-out is over", || async { cache.signed_out("bob").await.unwrap().is_none() }).await;
    // What else is forgotten of somebody, this is not.
    cache.erase("alice", 5).await.unwrap();
    assert!(cache.signed_out("alice").await.unwrap().is_some());
}
