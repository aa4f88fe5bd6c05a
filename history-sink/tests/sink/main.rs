//! The sink between a log and a history: embedded and in memory, and on real Kafka and Cassandra.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod dead_letters;
mod log;
mod outage;
mod turns;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use log::{Log, cassandra, event, rows, test_prefix};
use nearcast_history_sink::history::{Failed, History, HistoryError, HistoryKey, HistoryRow};
use nearcast_history_sink::memory::MemoryHistory;
use nearcast_runtime::clock::now_ms;
use nearcast_schemas::event::LocationKind;

/// Every position is one row, in the order of time, whatever else the log holds; a restart doubles nothing.
async fn stores_each_report_once(log: &Log, history: Arc<dyn History>) {
    let now = now_ms();
    let users: Vec<String> = (0..5).map(|i| format!("u{i}-{}", test_prefix())).collect();
    let sink = log.start(Arc::clone(&history));
    for n in 0..40 {
        for user in &users {
            let kind = if n % 4 == 3 { LocationKind::Backfill } else { LocationKind::Fix };
            log.report(user, n, now - 40_000 + n * 1_000, kind).await;
            log.report(user, n, now, LocationKind::Presence).await;
        }
    }
    // Sent again, as a phone does that missed the acknowledgement.
    log.report(&users[0], 5, now - 35_000, LocationKind::Backfill).await;
    log.report(&users[0], 40, now, LocationKind::Fix).await;
    assert!(!rows(&*history, &users[0], 41).await[5].late, "it was shown as now the first time");
    for user in &users[1..] {
        let rows = rows(&*history, user, 40).await;
        assert!(rows.is_sorted_by_key(HistoryRow::key));
        assert!(rows.iter().all(|row| (row.lat - 10.0 - row.n as f64 / 1_000.0).abs() < 1e-9));
        assert!(rows[3].late);
        assert_eq!(rows[4].heading_deg, Some(90.0));
    }
    sink.stop().await;
    let again = log.start(Arc::clone(&history));
    log.report(&users[1], 40, now, LocationKind::Fix).await;
    rows(&*history, &users[1], 41).await;
    again.stop().await;
}

async fn pages(history: &dyn History) {
    let user = format!("p-{}", test_prefix());
    let now = now_ms();
    let all: Vec<HistoryRow> = (0..7)
        .map(|n| {
            let mut value = event(n, now - (7 - n) * 86_400_000 / 3, LocationKind::Fix);
            let fix = value.fix.take().unwrap();
            HistoryRow {
                user: user.clone(),
                fixed_at: fix.fixed_at,
                device: fix.device,
                n,
                lat: fix.lat,
                lon: fix.lon,
                accuracy_m: fix.accuracy_m,
                speed_mps: None,
                heading_deg: None,
                altitude_m: None,
                device_time: fix.device_time,
                appended_at: now,
                partition: 0,
                offset: n,
                late: false,
            }
        })
        .collect();
    history.store(&all).await.unwrap();
    let mut found = Vec::new();
    let mut after: Option<HistoryKey> = None;
    loop {
        let page = history.range(&user, 0, now, 3, after.as_ref()).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.key());
        found.extend(page);
    }
    assert_eq!(found, all);
    let between = history.range(&user, all[2].fixed_at, all[4].fixed_at, 10, None).await.unwrap();
    assert_eq!(between, all[2..4], "from is inclusive, to is not");
}

/// What cannot be decoded is put aside with its cause, and what follows is stored.
async fn buries_poison(log: &Log, history: Arc<dyn History>) {
    let user = format!("poison-{}", test_prefix());
    let sink = log.start(Arc::clone(&history));
    let (partition, offset) = log.append(&user, b"not avro").await;
    log.report(&user, 1, now_ms(), LocationKind::Fix).await;
    rows(&*history, &user, 1).await;
    let (headers, value) = log.dead_letter().await;
    assert_eq!(value, b"not avro");
    let header = |name: &str| headers.iter().find(|(key, _)| key == name).unwrap().1.clone();
    assert_eq!(header("topic"), log.topics.locations());
    assert_eq!(header("partition"), partition.to_string());
    assert_eq!(header("offset"), offset.to_string());
    assert!(!header("error").is_empty());
    sink.stop().await;
}

/// A database that does not answer the first few times.
struct Away {
    inner: MemoryHistory,
    failures: AtomicUsize,
}

#[async_trait]
impl History for Away {
    async fn write(&self, rows: &[HistoryRow]) -> Vec<Failed> {
        let left = self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        match left {
            // Every other one, as databases do.
            Ok(_) => {
                let stored: Vec<_> = rows.iter().skip(1).step_by(2).cloned().collect();
                assert!(self.inner.write(&stored).await.is_empty());
                let away = |at| (at, HistoryError::Unavailable("it is away".into()));
                (0..rows.len()).step_by(2).map(away).collect()
            }
            Err(_) => self.inner.write(rows).await,
        }
    }

    async fn erase(&self, user: &str, at: i64) -> Result<(), HistoryError> {
        self.inner.erase(user, at).await
    }

    async fn range(
        &self,
        user: &str,
        from_ms: i64,
        to_ms: i64,
        limit: usize,
        after: Option<&HistoryKey>,
    ) -> Result<Vec<HistoryRow>, HistoryError> {
        self.inner.range(user, from_ms, to_ms, limit, after).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_log_into_memory() {
    stores_each_report_once(&Log::embedded(), Arc::new(MemoryHistory::default())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_poison() {
    buries_poison(&Log::embedded(), Arc::new(MemoryHistory::default())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_away_gets_everything() {
    let log = Log::embedded();
    let history = Arc::new(Away { inner: MemoryHistory::default(), failures: AtomicUsize::new(5) });
    let sink = log.start(history.clone());
    for n in 0..10 {
        log.report("u", n, now_ms() + n, LocationKind::Fix).await;
    }
    rows(&*history, "u", 10).await;
    assert_eq!(history.failures.load(Ordering::SeqCst), 0);
    sink.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_log_into_cassandra() {
    let log = Log::real().await;
    let history = Arc::new(cassandra().await);
    stores_each_report_once(&log, history.clone()).await;
    buries_poison(&log, history).await;
    log.delete().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sinks_share_the_log() {
    let log = Log::real().await;
    let history: Arc<dyn History> = Arc::new(MemoryHistory::default());
    let one = log.start(Arc::clone(&history));
    for n in 0..50 {
        log.report("early", n, now_ms() + n, LocationKind::Fix).await;
    }
    rows(&*history, "early", 50).await;
    let other = log.start(Arc::clone(&history));
    for n in 0..50 {
        for user in ["a", "b", "c", "d"] {
            log.report(user, n, now_ms() + n, LocationKind::Fix).await;
        }
    }
    one.stop().await;
    for user in ["a", "b", "c", "d"] {
        rows(&*history, user, 50).await;
    }
    other.stop().await;
    log.delete().await;
}

#[tokio::test]
async fn memory_pages() {
    pages(&MemoryHistory::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cassandra_pages() {
    pages(&cassandra().await).await;
}

/// Nothing that was appended before an erasure comes back, neither by a write again nor by a backlog.
async fn erases(log: &Log, history: Arc<dyn History>) {
    let user = format!("erased-{}", test_prefix());
    let sink = log.start(Arc::clone(&history));
    let now = now_ms();
    for n in 0..10 {
        let kind = if n % 2 == 0 { LocationKind::Fix } else { LocationKind::Backfill };
        log.report(&user, n, now - 86_400_000 - n * 3_600_000, kind).await;
    }
    let before = rows(&*history, &user, 10).await;
    log.report(&user, 0, now, LocationKind::Erase).await;
    while !history.range(&user, 0, i64::MAX, 10, None).await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    history.store(&before).await.unwrap();
    rows(&*history, &user, 0).await;
    // The whole log once more, as after a loss of the offsets.
    sink.stop().await;
    log.forget_offsets().await;
    let again = log.start(Arc::clone(&history));
    log.report(&user, 11, now_ms(), LocationKind::Fix).await;
    assert_eq!(rows(&*history, &user, 1).await[0].n, 11);
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_erased_stays_erased() {
    let log = Log::real().await;
    erases(&log, Arc::new(cassandra().await)).await;
    log.delete().await;
    let log = Log::real().await;
    erases(&log, Arc::new(MemoryHistory::default())).await;
    log.delete().await;
}
