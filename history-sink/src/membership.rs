//! What the group's rebalances say to the reader's loop. Callbacks run on the loop's own thread, inside `poll`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use nearcast_runtime::kafka::{KafkaLog, NextOffset};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::{Offset, TopicPartitionList};

use crate::events;

/// Which partitions the group gives this sink, and what of them is written.
#[derive(Default)]
pub struct Membership {
    /// Offsets to commit, by partition.
    pub ready: Mutex<HashMap<i32, NextOffset>>,
    /// Partitions that came or went since the loop last looked.
    pub changes: Mutex<Vec<(i32, bool)>>,
}

/// The consumer's context.
pub struct Context {
    pub topic: String,
    pub membership: Arc<Membership>,
}

pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Each change is one call on the map or list inside, so that a panic leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Commits these offsets, and says how it went.
pub fn commit<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    ready: HashMap<i32, NextOffset>,
    mode: CommitMode,
) {
    if ready.is_empty() {
        return;
    }
    let mut offsets = TopicPartitionList::with_capacity(ready.len());
    for (partition, next) in ready {
        if let Err(error) = offsets.add_partition_offset(topic, partition, Offset::from(next)) {
            events::Commit { failed: Some(&error.to_string()) }.emit();
        }
    }
    let failed = consumer.commit(&offsets, mode).err().map(|error| error.to_string());
    events::Commit { failed: failed.as_deref() }.emit();
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        KafkaLog::line(level, facility, message);
    }

    fn stats(&self, _: rdkafka::Statistics) {}

    fn error(&self, error: ClientError, reason: &str) {
        KafkaLog::failure(&error, reason);
    }
}

impl ConsumerContext for Context {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(partitions) = rebalance else { return };
        // What is written is committed while this sink still may; the rest is written again by the next owner.
        let mut ready = lock(&self.membership.ready);
        let mut going = HashMap::new();
        for element in partitions.elements() {
            if let Some(next) = ready.remove(&element.partition()) {
                going.insert(element.partition(), next);
            }
            lock(&self.membership.changes).push((element.partition(), false));
        }
        drop(ready);
        commit(consumer, &self.topic, going, CommitMode::Sync);
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Assign(partitions) = rebalance else { return };
        let mut changes = lock(&self.membership.changes);
        changes.extend(partitions.elements().iter().map(|element| (element.partition(), true)));
    }

    fn commit_callback(&self, result: rdkafka::error::KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            events::Commit { failed: Some(&error.to_string()) }.emit();
        }
    }
}
