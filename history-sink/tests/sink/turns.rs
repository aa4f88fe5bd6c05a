//! A backlog of one partition beside what is new in others, and what of it is held in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use nearcast_history_sink::history::{Failed, History, HistoryError, HistoryKey, HistoryRow};
use nearcast_history_sink::memory::MemoryHistory;
use nearcast_runtime::clock::now_ms;
use nearcast_schemas::event::LocationKind;
use nearcast_schemas::topics::partition_of;

use crate::log::{Log, PARTITIONS, event, rows};

/// A database that takes its time, and counts the rows of one user.
struct Slow {
    inner: MemoryHistory,
    heavy: AtomicUsize,
}

#[async_trait]
impl History for Slow {
    async fn write(&self, rows: &[HistoryRow]) -> Vec<Failed> {
        tokio::time::sleep(Duration::from_millis(40)).await;
        self.heavy.fetch_add(rows.iter().filter(|row| row.user == "heavy").count(), Ordering::SeqCst);
        self.inner.write(rows).await
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
async fn a_backlog_of_one_partition_does_not_starve_the_others() {
    let log = Log::real().await;
    let of = |user: &str| partition_of(user.as_bytes(), PARTITIONS);
    let light = (0..).map(|i| format!("light{i}")).find(|user| of(user) != of("heavy")).unwrap();
    let backlog = 20_000;
    let mut deliveries = Vec::new();
    for n in 0..backlog {
        let mut value = Vec::new();
        log.codec.encode_location(&event(n, now_ms(), LocationKind::Fix), &mut value);
        deliveries.push(log.send("heavy", &value));
    }
    for delivery in deliveries {
        delivery.await.unwrap().unwrap();
    }
    let history = Arc::new(Slow { inner: MemoryHistory::default(), heavy: AtomicUsize::new(0) });
    let sink = log.start(history.clone());
    while history.heavy.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    log.report(&light, 1, now_ms(), LocationKind::Fix).await;
    rows(&*history, &light, 1).await;
    let stored = history.heavy.load(Ordering::SeqCst);
    assert!(stored < backlog as usize / 2, "{light} waited for {stored} of {backlog} records of another partition");
    while history.heavy.load(Ordering::SeqCst) < backlog as usize {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    sink.stop().await;
    assert_eq!(log.committed().await, backlog + 1);
    log.delete().await;
}
