//! A worker begins from its snapshot, on Kafka as it is; and from the log alone where the snapshot is of no use.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::path::PathBuf;
use std::time::Instant;

use nearcast_fanout::Config;
use nearcast_schemas::event::{LocationKind, NO_SESSION};
use support::{PATIENCE, Running, Stack, config};
use tokio::sync::{Mutex, MutexGuard};

/// Metrics are of the whole process, so one test looks at them at a time.
static COUNTING: Mutex<()> = Mutex::const_new(());

const FRIENDS: [&str; 4] = ["bob", "carol", "dave", "erin"];
/// A hello and a report of each friend.
const RECORDS: u64 = 5;
const REPLAYED: &str = "nearcast_fanout_replayed_records";

/// A deployment where Alice sees her friends, and a directory for the worker's snapshot.
struct Town {
    stack: Stack,
    dir: tempfile::TempDir,
    _counting: MutexGuard<'static, ()>,
}

impl Town {
    async fn new() -> Self {
        let counting = COUNTING.lock().await;
        let town =
            Self { stack: Stack::real(2, &["g0"]).await, dir: tempfile::tempdir().unwrap(), _counting: counting };
        town.fill().await;
        town
    }

    async fn fill(&self) {
        self.stack.list("alice", 1, &FRIENDS).await;
        self.stack.hello("alice", "g0", 1, 1, 0.0).await;
        for (at, friend) in FRIENDS.iter().enumerate() {
            self.stack.fix(friend, 100.0 * (at + 1) as f64).await;
        }
    }

    /// Deletes the locations and makes them again.
    async fn begin_anew(&mut self) {
        let (kafka, topic) = (&self.stack.kafka, self.stack.topics.locations());
        kafka.delete_topic(&topic).await.unwrap();
        let deadline = Instant::now() + PATIENCE;
        while kafka.partition_count(&topic).await.unwrap().is_some() {
            assert!(Instant::now() < deadline, "the topic goes");
        }
        self.stack = Stack::real_with(&self.stack.deployment.prefix, 2, &["g0"]).await;
    }

    async fn worker(&self) -> Running {
        let worker = self.stack.worker_with(Config { snapshot_dir: self.dir.path().to_owned(), ..config("w/0") }).await;
        worker.ready().await;
        worker
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join(format!("{}.w%2f0.snapshot", self.stack.deployment.prefix))
    }

    /// Runs a worker until a pass is whole, which begins when all has been read.
    async fn save(&self) {
        let before = metric(&self.stack, &outcome("written"));
        let worker = self.worker().await;
        worker.until("/metrics", |text| support::metric(text, &outcome("written")) > before).await;
        worker.stop().await;
        assert!(self.file().exists(), "an orderly end keeps it");
    }

    /// Runs a worker that finds a snapshot of this outcome, and replays so many records to this view.
    async fn resume(&self, found: &str, replayed: u64, view: &[&str]) {
        let before = metric(&self.stack, &outcome(found));
        let mut gateway = self.stack.gateway("g0");
        let worker = self.worker().await;
        assert_eq!(metric(&self.stack, &outcome(found)), before + 1, "{found}");
        assert_eq!(metric(&self.stack, REPLAYED), replayed, "{found}");
        gateway.reset(1, view);
        worker.stop().await;
    }
}

fn outcome(outcome: &str) -> String {
    format!("nearcast_fanout_snapshot_total{{outcome=\"{outcome}\"}}")
}

fn metric(stack: &Stack, name: &str) -> u64 {
    support::metric(&stack.parts().metrics.render(), name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_reads_only_what_came_after_the_copy_began() {
    let town = Town::new().await;
    town.save().await;
    // What was left by a worker that was killed while it wrote.
    let left = town.dir.path().join(format!("{}.w%2f0.1.tmp", town.stack.deployment.prefix));
    std::fs::write(&left, "half").unwrap();
    town.stack.fix("bob", 15_000.0).await;
    town.stack.fix("erin", 50.0).await;
    town.stack.send("carol", &support::event(LocationKind::Erase, NO_SESSION, None)).await;
    town.resume("loaded", 3, &["erin", "dave"]).await;
    assert!(!left.exists());
    // What comes while a worker runs is in its next snapshot.
    let worker = town.worker().await;
    town.stack.fix("bob", 10.0).await;
    let before = metric(&town.stack, &outcome("written"));
    // The pass that is under way may have begun before.
    worker.until("/metrics", |text| support::metric(text, &outcome("written")) >= before + 2).await;
    worker.stop().await;
    town.resume("loaded", 0, &["bob", "erin", "dave"]).await;
    town.stack.clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_snapshot_is_ignored() {
    let town = Town::new().await;
    town.save().await;
    let whole = std::fs::read(town.file()).unwrap();
    for bytes in [&whole[..whole.len() - 1], &whole[..40], &[]] {
        std::fs::write(town.file(), bytes).unwrap();
        town.resume("torn", RECORDS, &FRIENDS).await;
    }
    let mut bytes = whole;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(town.file(), bytes).unwrap();
    town.resume("torn", RECORDS, &FRIENDS).await;
    town.stack.clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_of_another_log_is_ignored() {
    let mut town = Town::new().await;
    town.save().await;
    // The topic of the same name has fewer records.
    town.begin_anew().await;
    town.stack.hello("alice", "g0", 1, 1, 0.0).await;
    town.resume("foreign", 1, &[]).await;
    assert!(!town.file().exists(), "it will never be of use");
    // It has other records at the same offsets.
    town.fill().await;
    town.save().await;
    town.begin_anew().await;
    town.stack.hello("alice", "g0", 1, 1, 0.0).await;
    town.fill().await;
    town.resume("foreign", RECORDS + 1, &FRIENDS).await;
    // And it was made by other rules.
    town.save().await;
    town.stack.deployment.friend_ttl_s += 1;
    town.resume("foreign", RECORDS + 1, &FRIENDS).await;
    town.stack.clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_cannot_write_goes_on() {
    let town = Town::new().await;
    let blocked = town.dir.path().join("a-file");
    std::fs::write(&blocked, "").unwrap();
    let before = metric(&town.stack, &outcome("failed"));
    let worker = town.stack.worker_with(Config { snapshot_dir: blocked.join("deep"), ..config("w") }).await;
    worker.until("/metrics", |text| support::metric(text, &outcome("failed")) >= before + 2).await;
    let mut gateway = town.stack.gateway("g0");
    gateway.reset(1, &FRIENDS);
    worker.stop().await;
    town.stack.clean().await;
}
