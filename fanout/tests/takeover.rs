//! Two workers share the viewers on Kafka as it is; one ends, in order or by SIGKILL, and the other takes over.
//!
//! A test of its own kind, because a worker that is to be killed needs a process: this program runs itself as one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Command};
use std::time::Instant;

use nearcast_runtime::lifecycle::Shutdown;
use nearcast_schemas::delivery::{DeliveryBatch, Item};
use nearcast_schemas::topics::partition_of;
use support::{Gateway, Stack, config};

const PARTITIONS: i32 = 8;
const VIEWERS: i32 = 24;
/// Says to this program that it is a worker: the prefix of the deployment.
const WORKER_OF: &str = "NEARCAST_TEST_WORKER_OF";

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    if let Ok(prefix) = std::env::var(WORKER_OF) {
        return runtime.block_on(async {
            let stack = Stack::real_with(&prefix, PARTITIONS, &["g0"]).await;
            nearcast_fanout::run(config("killed"), stack.parts(), Shutdown::new()).await.unwrap();
        });
    }
    // `cargo test -- --list` and a filter for other tests.
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    if std::env::args().any(|argument| argument == "--list") {
        println!("two_workers_share_and_take_over: test");
        return;
    }
    if arguments.next().is_some_and(|filter| !"two_workers_share_and_take_over".contains(&filter)) {
        return;
    }
    let result = std::panic::catch_unwind(|| runtime.block_on(two_workers_share_and_take_over()));
    let (word, passed) = if result.is_ok() { ("ok", 1) } else { ("FAILED", 0) };
    println!("test two_workers_share_and_take_over ... {word}");
    println!("test result: {word}. {passed} passed; {} failed; 0 ignored", 1 - passed);
    if passed == 0 {
        std::process::exit(101);
    }
}

/// Ends the process with the test, whatever becomes of the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

async fn two_workers_share_and_take_over() {
    let prefix = format!("t{:012x}", rand::random::<u64>() >> 16);
    let stack = Stack::real_with(&prefix, PARTITIONS, &["g0"]).await;
    stack.fix("bob", 10.0).await;
    for viewer in 0..VIEWERS {
        let name = format!("viewer-{viewer}");
        stack.list(&name, 1, &["bob"]).await;
        stack.hello(&name, "g0", viewer, 1, 0.0).await;
    }
    let mut gateway = stack.gateway("g0");

    let first = stack.worker("first").await;
    let before = owners(&mut gateway, "one worker owns all", |workers| workers == ["first"]);

    let executable = std::env::current_exe().unwrap();
    let killed = Killed(Command::new(executable).env(WORKER_OF, &prefix).spawn().unwrap());
    let shared = owners(&mut gateway, "two workers share", |workers| workers == ["first", "killed"]);
    assert_rising(&before, &shared);

    let at = Instant::now();
    drop(killed);
    let alone = owners(&mut gateway, "the survivor owns all", |workers| workers == ["first"]);
    println!("taken over {:.1} s after SIGKILL", at.elapsed().as_secs_f64());
    assert_rising(&shared, &alone);
    // What the survivor says is right: bob moves, and everybody hears of it under the new epochs.
    let seen = gateway.batches.len();
    stack.fix("bob", 20.0).await;
    gateway.until("bob's move to all viewers", |batches| {
        let told: BTreeSet<_> = batches[seen..].iter().flat_map(|batch| valid_upserts(batch, &alone)).collect();
        (told.len() == VIEWERS as usize).then_some(())
    });

    let second = stack.worker("second").await;
    let shared = owners(&mut gateway, "a new worker gets its share", |workers| workers == ["first", "second"]);
    assert_rising(&alone, &shared);
    let at = Instant::now();
    first.stop().await;
    let last = owners(&mut gateway, "an orderly end leaves all to the other", |workers| workers == ["second"]);
    println!("taken over {:.1} s after the begin of an orderly end", at.elapsed().as_secs_f64());
    assert_rising(&shared, &last);
    second.stop().await;
    stack.clean().await;
}

/// The highest epoch of each partition and its worker, once every viewer was reset under it by workers that are right.
fn owners(gateway: &mut Gateway, what: &str, right: impl Fn(&[&str]) -> bool) -> BTreeMap<i32, (i64, String)> {
    gateway.until(what, |batches| {
        let mut owners: BTreeMap<i32, (i64, String)> = BTreeMap::new();
        for batch in batches {
            for claimed in &batch.epochs {
                let owner = owners.entry(claimed.partition).or_insert((claimed.epoch, batch.worker.clone()));
                if claimed.epoch > owner.0 {
                    *owner = (claimed.epoch, batch.worker.clone());
                }
            }
        }
        let workers: BTreeSet<_> = owners.values().map(|(_, worker)| worker.as_str()).collect();
        let reset: BTreeSet<_> = batches.iter().flat_map(|batch| valid_resets(batch, &owners)).collect();
        let complete = reset.len() == VIEWERS as usize && right(&workers.into_iter().collect::<Vec<_>>());
        complete.then_some(owners)
    })
}

/// Whether the batch speaks for a viewer under the highest epoch.
fn is_valid(batch: &DeliveryBatch, handle: i32, owners: &BTreeMap<i32, (i64, String)>) -> bool {
    let partition = partition_of(format!("viewer-{handle}").as_bytes(), PARTITIONS);
    batch.epochs.iter().any(|claimed| claimed.partition == partition && claimed.epoch == owners[&partition].0)
}

fn valid_resets(batch: &DeliveryBatch, owners: &BTreeMap<i32, (i64, String)>) -> Vec<i32> {
    let resets = batch.items.iter().filter_map(|item| match item {
        Item::Reset(reset) if reset.entries.iter().any(|entry| entry.friend == "bob") => Some(reset.handle),
        _ => None,
    });
    resets.filter(|handle| is_valid(batch, *handle, owners)).collect()
}

fn valid_upserts(batch: &DeliveryBatch, owners: &BTreeMap<i32, (i64, String)>) -> Vec<i32> {
    let upserts = batch.items.iter().filter_map(|item| match item {
        Item::Upsert(upsert) => Some(upsert.viewers.iter().map(|viewer| viewer.handle)),
        _ => None,
    });
    upserts.flatten().filter(|handle| is_valid(batch, *handle, owners)).collect()
}

/// A partition that changed hands did so under a higher epoch, and no epoch went down.
fn assert_rising(before: &BTreeMap<i32, (i64, String)>, after: &BTreeMap<i32, (i64, String)>) {
    for (partition, (epoch, worker)) in after {
        let (old_epoch, old_worker) = &before[partition];
        assert!(epoch > old_epoch || epoch == old_epoch && worker == old_worker, "{partition}: {before:?} {after:?}");
    }
}
