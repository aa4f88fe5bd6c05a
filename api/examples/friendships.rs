//! Measures what friendships cost: makes them over HTTP, as a client does, on the local stack (`make up`).
//!
//! `cargo run -p nearcast-api --example friendships -- [PAIRS] [USERS] [AT_ONCE]`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

#[path = "../tests/it/counted.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod counted;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt};
use nearcast_api::{Config, CqlStore, MIGRATIONS, Parts, run_on};
use nearcast_history_sink::memory::MemoryHistory;
use nearcast_ingest::{Ingest, MemoryCache};
use nearcast_runtime::Secret;
use nearcast_runtime::auth::{AuthConfig, Signer, Verifier};
use nearcast_runtime::cql::{self, CqlConfig};
use nearcast_runtime::kafka::{Kafka, KafkaConfig};
use nearcast_runtime::lifecycle::Shutdown;
use nearcast_runtime::telemetry::Metrics;
use nearcast_schemas::codec::Codec;
use nearcast_schemas::deployment::Deployment;
use nearcast_schemas::topics::Topics;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::net::TcpListener;

use counted::{BY_THE_CLOCK, Counted, by_consensus};

#[tokio::main]
async fn main() {
    let mut numbers = std::env::args().skip(1).map(|number| number.parse::<usize>().expect("a number"));
    let mut number = |otherwise| numbers.next().unwrap_or(otherwise);
    let (pairs, users, at_once) = (number(1_000), number(200), number(32));
    assert!(users > 1 && pairs <= users * (users - 1) / 4, "too few users for so many pairs");
    let name = format!("m{:016x}", rand::random::<u64>());
    let var = |name, otherwise: &str| std::env::var(name).unwrap_or_else(|_| otherwise.to_owned());
    let cassandra = CqlConfig {
        nodes: vec![var("NEARCAST_TEST_CASSANDRA", "127.0.0.1:29042")],
        keyspace: name.clone(),
        replication_factor: 1,
        datacenter: None,
        startup_wait: Duration::from_secs(5),
        username: None,
        password: None,
    };
    let session = cql::connect(&cassandra).await.expect("run `make up`");
    cql::migrate(&session, &name, 1, "api", MIGRATIONS).await.unwrap();
    let store = Arc::new(Counted::new(Arc::new(CqlStore::new(Arc::clone(&session)).await.unwrap())));

    let bootstrap = var("NEARCAST_TEST_KAFKA", "127.0.0.1:29092");
    let startup_wait = Duration::from_secs(5);
    let kafka = Kafka::new(KafkaConfig { bootstrap, embedded: false, startup_wait, options: Default::default() });
    let topics = Topics::new(&name);
    for spec in [topics.locations_spec(1), topics.visibility_spec(8)] {
        kafka.ensure_topic(&spec.name, spec.partitions, &spec.settings).await.unwrap();
    }
    let auth = AuthConfig {
        hs256_secret: Some(Secret::new("a secret of this measurement alone")),
        leeway_s: 0,
        ..AuthConfig::default()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let shutdown = Shutdown::new();
    let parts = parts(&name, Arc::clone(&store), &kafka, &auth);
    let served = tokio::spawn(run_on(listener, config(), parts, shutdown.clone()));

    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let signer = Signer::new(&auth).unwrap();
    let id = |user: usize| format!("u{user:05}");
    let tokens: Vec<_> = (0..users).map(|u| signer.sign(&id(u), Duration::from_secs(3_600), &[]).unwrap()).collect();
    let post = async |user: usize, path: String| {
        let request = http.post(format!("{url}{path}")).bearer_auth(&tokens[user]);
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    };
    let register = |user: usize| http.get(format!("{url}/v1/me")).bearer_auth(&tokens[user]).send();
    stream::iter(0..users).map(register).buffer_unordered(at_once).for_each(async |answer| drop(answer.unwrap())).await;
    let mut random = StdRng::seed_from_u64(1);
    let mut drawn = BTreeSet::new();
    let mut wanted = Vec::new();
    while wanted.len() < pairs {
        let (a, b) = (random.random_range(0..users), random.random_range(0..users));
        if a != b && drawn.insert((a.min(b), a.max(b))) {
            wanted.push((a, b));
        }
    }

    for (what, verb) in [("request", "request"), ("accept", "accept")] {
        store.take();
        let begun = Instant::now();
        let calls = wanted.iter().map(async |&(a, b)| {
            let (caller, other) = if verb == "request" { (a, b) } else { (b, a) };
            post(caller, format!("/v1/friends/{}/{verb}", id(other))).await;
        });
        stream::iter(calls).buffer_unordered(at_once).collect::<Vec<()>>().await;
        let took = begun.elapsed();
        let mut asked = store.take();
        asked.retain(|name, _| !BY_THE_CLOCK.contains(name));
        let per = |n: u64| n as f64 / pairs as f64;
        let all = asked.values().map(|(count, _)| count).sum();
        println!(
            "{what}: {pairs} in {:.2} s, {:.2} ms each; {:.2} questions each, of which {:.2} by consensus",
            took.as_secs_f64(),
            took.as_secs_f64() * 1e3 / pairs as f64,
            per(all),
            per(by_consensus(&asked)),
        );
        for (name, (count, time)) in &asked {
            let mean_ms = time.as_secs_f64() * 1e3 / *count as f64;
            println!("  {name:<14} {:>6.2} each, {mean_ms:>7.2} ms", per(*count));
        }
    }

    shutdown.begin();
    served.await.unwrap().unwrap();
    session.query_unpaged(format!("DROP KEYSPACE {name}"), &[]).await.unwrap();
    for topic in [topics.locations(), topics.visibility()] {
        kafka.delete_topic(&topic).await.unwrap();
    }
}

fn config() -> Config {
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        request_timeout: Duration::from_secs(30),
        linger: Duration::from_millis(2),
        delivery_timeout: Duration::from_secs(15),
        republish_after: Duration::from_secs(2_700),
        settle_after: Duration::from_secs(30),
        sweep_every: Duration::from_secs(10),
        max_friends: 5_000,
        cors_origins: Vec::new(),
        drain: Duration::from_secs(15),
    }
}

fn parts(prefix: &str, store: Arc<Counted>, kafka: &Kafka, auth: &AuthConfig) -> Parts {
    let deployment = Deployment {
        prefix: prefix.to_owned(),
        friend_ttl_s: 600,
        default_radius_m: 8_000,
        max_radius_m: 50_000,
        max_silence_s: 180,
        min_move_m: 10.0,
        report_interval_s: 30,
        coarse_resolution: 7,
        coarse_period_s: 300,
    };
    let ingest = nearcast_ingest::Config {
        linger: Duration::from_millis(1),
        delivery_timeout: Duration::from_secs(15),
        max_in_flight: 10_000,
        max_age_s: 60,
        max_late_days: 30,
    };
    let (codec, cache) = (Codec::default(), Arc::new(MemoryCache::new(&deployment)));
    Parts {
        store,
        history: Arc::new(MemoryHistory::default()),
        cache: cache.clone(),
        ingest: Ingest::new(&ingest, &deployment, codec.clone(), kafka, cache).unwrap(),
        kafka: kafka.clone(),
        codec,
        verifier: Verifier::new(auth).unwrap(),
        link_signer: None,
        internal_key: Secret::new("an internal key"),
        metrics: Metrics::install_once().unwrap(),
        deployment,
    }
}
