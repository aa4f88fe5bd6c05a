//! What happens while Kafka is away. One test a process, because metrics are counted by process.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use nearcast_ingest::{Cache, Config, Ingest, MemoryCache, Outcome, Unflushed};
use nearcast_runtime::clock::now_ms;
use nearcast_runtime::embedded::Embedded;
use nearcast_runtime::kafka::Kafka;
use nearcast_runtime::telemetry::Metrics;
use nearcast_schemas::codec::Codec;
use nearcast_schemas::event::{Mode, Role};
use nearcast_schemas::refusal::Refusal;
use nearcast_schemas::topics::Topics;

use support::{free_ports, raw, route};

fn impatient(max_in_flight: usize) -> Config {
    Config { delivery_timeout: Duration::from_secs(1), max_in_flight, ..support::config() }
}

async fn what_waits_is_bounded(metrics: &Metrics) {
    let [port] = free_ports();
    let deployment = support::deployment();
    let cache = Arc::new(MemoryCache::new(&deployment));
    let kafka = support::kafka_at(&format!("127.0.0.1:{port}"));
    let ingest = Ingest::new(&impatient(5), &deployment, Codec::default(), &kafka, cache.clone()).unwrap();
    let report = |n: i64| {
        let checked = ingest.validate(&raw(n, 48.0, now_ms()), "d", None, now_ms()).unwrap();
        ingest.report_without_session("alice", checked, Mode::default(), None, now_ms())
    };
    let begun = Instant::now();
    let waiting: Vec<_> = (0..5).map(|n| report(n).unwrap()).collect();
    for n in 5..8 {
        assert_eq!(report(n).unwrap_err(), Refusal::Busy);
    }
    assert!(begun.elapsed() < Duration::from_millis(500), "nothing blocks: {:?}", begun.elapsed());
    assert_eq!(ingest.waiting(), 5);
    assert!(metrics.render().contains("nearcast_ingest_in_flight 5"), "{}", metrics.render());
    assert_eq!(ingest.flush(Duration::from_millis(10)).await, Err(Unflushed(5)));
    for pending in waiting {
        assert_eq!(pending.await, Err(Refusal::Unknown));
    }
    assert!(begun.elapsed() >= Duration::from_millis(900), "not before the delivery timeout: {:?}", begun.elapsed());
    ingest.flush(Duration::from_secs(5)).await.unwrap();
    assert_eq!(cache.positions(&["alice".to_owned()]).await.unwrap(), [None], "nothing was accepted");

    // There is room again, for records of every kind.
    let unknown = report(9).unwrap();
    assert_eq!(ingest.mode("alice", Mode::default(), now_ms()).await, Err(Refusal::Unknown));
    assert_eq!(ingest.erase("alice", now_ms()).await, Err(Refusal::Unknown));
    assert_eq!(unknown.await, Err(Refusal::Unknown));

    let text = metrics.render();
    for line in [
        "nearcast_ingest_refused_total{code=\"busy\"} 3",
        "nearcast_ingest_refused_total{code=\"unknown\"} 8",
        "nearcast_ingest_failed_records_total{kind=\"fix\"} 6",
        "nearcast_ingest_in_flight 0",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
}

async fn after_an_unknown_outcome_nothing_is_thinned() {
    let deployment = support::deployment();
    let embedded = Embedded::start(&[(Topics::new(&deployment.prefix).locations(), 1)]).unwrap();
    let cache = Arc::new(MemoryCache::new(&deployment));
    let kafka = Kafka::new(embedded.config());
    let ingest = Ingest::new(&impatient(10), &deployment, Codec::default(), &kafka, cache.clone()).unwrap();
    let track = ingest.session("alice", route(Role::Reporting));
    let checked = |n, lat| ingest.validate(&raw(n, lat, now_ms()), "d", None, now_ms()).unwrap();
    track.hello(1, Mode::default(), Some(checked(1, 48.0)), now_ms()).unwrap().await.unwrap();
    assert_eq!(track.report(checked(2, 48.0), now_ms()).unwrap().await, Ok(Outcome::Thinned));
    drop(embedded);
    assert_eq!(track.report(checked(3, 49.0), now_ms()).unwrap().await, Err(Refusal::Unknown));
    // Back at the place of the last one that is in the log: nobody knows what is after it.
    assert_eq!(track.report(checked(4, 48.0), now_ms()).unwrap().await, Err(Refusal::Unknown));
    let seen = cache.positions(&["alice".to_owned()]).await.unwrap().remove(0).unwrap();
    assert_eq!(seen.position.lat, 48.0);
    // A session whose hello has an unknown outcome may say it again.
    let other = ingest.session("bob", route(Role::Reporting));
    for _ in 0..2 {
        let hello = other.hello(1, Mode::default(), None, now_ms()).unwrap();
        assert_eq!(hello.await, Err(Refusal::Unknown));
        assert_eq!(other.session(), None);
    }
}

#[tokio::test]
async fn an_absent_kafka_is_answered_and_counted() {
    let metrics = Metrics::install_once().unwrap();
    what_waits_is_bounded(&metrics).await;
    after_an_unknown_outcome_nothing_is_thinned().await;
}
