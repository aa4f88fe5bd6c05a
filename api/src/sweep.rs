//! Does what was scheduled and is due: what a crash left, and lists that grow old in the log.
//!
//! Every instance sweeps everything. Work may be done twice without harm, and of a list that was published meanwhile
//! only its age is read.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use nearcast_ingest::Cache;
use nearcast_runtime::clock::now_ms;
use nearcast_runtime::health::Component;
use nearcast_runtime::lifecycle::Shutdown;

use crate::changes::Changes;
use crate::events::{SweepFailed, WorkDone};
use crate::store::{Due, SHARDS, Store, StoreError, Work, minute_of};

/// A database that answers not even this soon counts as away; the driver waits longer for each question.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// Scheduled work that is done at once.
const AT_ONCE: usize = 8;
/// An instance that found the database away is out of the balancer until it has looked again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Instances' clocks may be apart by less than this; minutes.
const SLACK_MINUTES: i64 = 2;

/// The sweeper of one instance.
pub(crate) struct Sweeper {
    pub store: Arc<dyn Store>,
    pub changes: Changes,
    pub every: Duration,
    /// What failed is tried again after this; ms.
    pub again_after_ms: i64,
    pub cache: Arc<dyn Cache>,
    /// As often as it sweeps it asks both whether they answer.
    pub on_database: Component,
    pub on_cache: Component,
}

impl Sweeper {
    /// Sweeps until the shutdown begins.
    pub async fn run(self, shutdown: Shutdown) {
        // Side by side: a sweep may wait long for a database that is silent.
        let sweeps = async {
            loop {
                if let Err(error) = self.sweep(now_ms()).await {
                    SweepFailed { error: &error }.emit();
                }
                tokio::time::sleep(self.every).await;
            }
        };
        let looks = async {
            loop {
                let pause = if self.look().await { self.every } else { self.every.min(LOOK_AGAIN) };
                tokio::time::sleep(pause).await;
            }
        };
        tokio::select! {
            () = shutdown.begun() => {}
            () = sweeps => {}
            () = looks => {}
        }
    }

    /// Says of database and cache whether they answer. Whether the database does.
    async fn look(&self) -> bool {
        let away = match tokio::time::timeout(ANSWERS_WITHIN, self.store.swept_to(0)).await {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("the database gives no answer within {ANSWERS_WITHIN:?}")),
        };
        match &away {
            None => self.on_database.ready(),
            Some(reason) => self.on_database.not_ready(reason.clone()),
        }
        match self.cache.get_page("probe").await {
            Ok(_) => self.on_cache.ready(),
            Err(error) => self.on_cache.degraded(format!("last positions and live sessions are unknown: {error}")),
        }
        away.is_none()
    }

    /// Does everything that is due at `now_ms`.
    pub async fn sweep(&self, now_ms: i64) -> Result<(), StoreError> {
        for shard in 0..SHARDS {
            self.sweep_shard(shard, now_ms).await?;
        }
        Ok(())
    }

    async fn sweep_shard(&self, shard: u8, now_ms: i64) -> Result<(), StoreError> {
        let this_minute = minute_of(now_ms);
        let Some(from) = self.store.swept_to(shard).await? else {
            // The first sweep ever: work is scheduled for the future, so nothing is due yet.
            return self.store.set_swept_to(shard, this_minute - SLACK_MINUTES).await;
        };
        let mut left = BTreeSet::new();
        for minute in from..=this_minute {
            let (due, later): (Vec<Due>, Vec<Due>) =
                self.store.due(shard, minute).await?.into_iter().partition(|due| due.at <= now_ms);
            let done = stream::iter(due).map(|due| self.attend(due, now_ms)).buffer_unordered(AT_ONCE);
            let failed = done.filter(|result| std::future::ready(result.is_err())).count().await;
            if failed > 0 || !later.is_empty() {
                left.insert(minute);
            }
        }
        let to = next_minute(from, this_minute, &left);
        if to > from {
            self.store.set_swept_to(shard, to).await?;
        }
        Ok(())
    }

    /// Does one piece of work and strikes it off, or puts it off.
    async fn attend(&self, due: Due, now_ms: i64) -> Result<(), StoreError> {
        let Some(work) = &due.work else {
            // Instances of the version that wrote it sweep as well.
            WorkDone { work: "unknown", error: None }.emit();
            return Ok(());
        };
        let result = self.changes.resume(work).await;
        let error = result.as_ref().err().map(|error| error as &dyn std::fmt::Display);
        WorkDone { work: name(work), error }.emit();
        if result.is_err() {
            self.store.schedule(now_ms + self.again_after_ms, work).await?;
        }
        self.store.finish(&due.id).await
    }
}

/// Where the next sweep begins: at the first minute with something left, and at none that may still get work.
fn next_minute(from: i64, this_minute: i64, left: &BTreeSet<i64>) -> i64 {
    let settled = from.max(this_minute - SLACK_MINUTES);
    (from..settled).find(|minute| left.contains(minute)).unwrap_or(settled)
}

fn name(work: &Work) -> &'static str {
    match work {
        Work::Pair(_) => "pair",
        Work::Profile(_) => "profile",
        Work::Mode(_) => "mode",
        Work::Refresh(_) => "refresh",
        Work::Link(_) => "link",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(from: i64, this_minute: i64, left: &[i64], expect: i64) {
        let left = left.iter().copied().collect();
        assert_eq!(next_minute(from, this_minute, &left), expect, "{from} {this_minute} {left:?}");
    }

    #[test]
    fn a_sweep_begins_where_something_is_left() {
        check(100, 100, &[], 100);
        check(100, 102, &[], 100);
        check(100, 103, &[], 101);
        check(100, 200, &[], 198);
        check(100, 200, &[199, 200], 198);
        check(100, 200, &[150, 120, 199], 120);
        check(100, 200, &[100], 100);
        // A clock that was set back.
        check(100, 50, &[], 100);
    }
}
