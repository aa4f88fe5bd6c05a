//! Reads the log as a member of a group, on one thread: polls, cuts batches, commits what is written.
//!
//! The rebalance callback runs on the same thread, inside `poll`; what it shares with the loop is the [`Membership`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nearcast_runtime::health::Component;
use nearcast_runtime::kafka::{Kafka, KafkaError, KafkaLog, NextOffset};
use nearcast_runtime::lifecycle::Shutdown;
use nearcast_schemas::codec::Codec;
use nearcast_schemas::topics::Topics;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc;

use crate::batch::{Batch, Record, Written};
use crate::commit::Prefix;
use crate::events;
use crate::row::row_of;

/// How long one poll waits: the pace at which batches are cut and commits are made.
const POLL: Duration = Duration::from_millis(50);

/// Without an error for this long, reading works again.
const TROUBLE: Duration = Duration::from_secs(5);

/// How often offsets are committed.
const COMMIT_EVERY: Duration = Duration::from_secs(1);

/// How the reader cuts and paces.
pub struct ReaderOptions {
    pub batch_records: usize,
    pub batch_wait: Duration,
    pub batches_in_flight: usize,
    pub drain: Duration,
}

/// Which partitions the group gives this sink, and what of them is written.
#[derive(Default)]
struct Membership {
    /// Offsets to commit, by partition.
    ready: Mutex<HashMap<i32, NextOffset>>,
    /// Partitions that came or went since the loop last looked.
    changes: Mutex<Vec<(i32, bool)>>,
}

struct Context {
    topic: String,
    membership: Arc<Membership>,
}

/// A partition that this sink reads.
struct Owned {
    generation: u64,
    prefix: Prefix,
    /// Offset of the first record of the batch that is being cut.
    first: Option<i64>,
    end: i64,
    begun: Instant,
    records: Vec<Record>,
}

/// The reading half of the sink.
pub struct Reader {
    consumer: BaseConsumer<Context>,
    membership: Arc<Membership>,
    topic: String,
    codec: Arc<Codec>,
    options: ReaderOptions,
    ready: Component,
    batches: mpsc::Sender<Batch>,
    completions: std::sync::mpsc::Receiver<Written>,
    owned: HashMap<i32, Owned>,
    generation: u64,
    in_flight: usize,
    paused: bool,
    committed_at: Instant,
    troubled_at: Option<Instant>,
}

impl Reader {
    /// Joins the group.
    ///
    /// # Errors
    /// When librdkafka refuses an option.
    pub fn join(
        kafka: &Kafka,
        topics: &Topics,
        codec: Arc<Codec>,
        options: ReaderOptions,
        ready: Component,
        batches: mpsc::Sender<Batch>,
        completions: std::sync::mpsc::Receiver<Written>,
    ) -> Result<Self, KafkaError> {
        let membership = Arc::new(Membership::default());
        let topic = topics.locations();
        let context = Context { topic: topic.clone(), membership: Arc::clone(&membership) };
        let consumer = kafka.group_member(&topics.history_group(), context, &[])?;
        consumer.subscribe(&[&topic])?;
        Ok(Self {
            consumer,
            membership,
            topic,
            codec,
            options,
            ready,
            batches,
            completions,
            owned: HashMap::new(),
            generation: 0,
            in_flight: 0,
            paused: false,
            committed_at: Instant::now(),
            troubled_at: None,
        })
    }

    /// Reads until `shutdown` begins, then waits for the batches in flight and commits them.
    ///
    /// # Errors
    /// When Kafka refuses this consumer for good.
    pub fn run(mut self, shutdown: &Shutdown) -> Result<(), KafkaError> {
        while !shutdown.is_begun() {
            self.collect();
            self.regulate()?;
            match self.consumer.poll(POLL) {
                Some(Ok(message)) => {
                    // The message borrows the consumer: what is kept of it is copied first.
                    let read = Read::of(&message, &self.codec);
                    drop(message);
                    self.take(read);
                }
                Some(Err(error)) => self.troubled(error)?,
                None => {}
            }
            self.recovered();
            self.follow_membership();
            self.cut(false);
            self.commit(CommitMode::Async, false);
        }
        self.finish();
        Ok(())
    }

    /// Notes an error of the client; it recovers from all but a fatal one by itself. While it tries, errors come many
    /// times a second: readiness says it once.
    fn troubled(&mut self, error: ClientError) -> Result<(), KafkaError> {
        let detail = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Fatal) => return Err(error.into()),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                format!("there is no topic {}; run `nearcast topics create`", self.topic)
            }
            _ => "reading the log fails; rows wait in it until Kafka answers".to_owned(),
        };
        if self.troubled_at.is_none() {
            tracing::warn!(%error, "reading the log failed, trying again");
        }
        self.troubled_at = Some(Instant::now());
        self.ready.not_ready(detail);
        Ok(())
    }

    fn recovered(&mut self) {
        if self.troubled_at.is_some_and(|at| at.elapsed() >= TROUBLE) {
            self.troubled_at = None;
            self.ready.ready();
        }
    }

    fn take(&mut self, read: Read) {
        // A record of a partition that came with this very poll: its assignment is noted by now.
        self.follow_membership();
        let Some(owned) = self.owned.get_mut(&read.partition) else { return };
        events::RecordsRead { records: 1, rows: u64::from(read.record.is_some()) }.emit();
        if owned.first.is_none() {
            owned.first = Some(read.offset);
            owned.begun = Instant::now();
        }
        owned.end = read.offset + 1;
        owned.records.extend(read.record);
    }

    /// Takes partitions in and gives partitions up as the group says.
    fn follow_membership(&mut self) {
        let changes = std::mem::take(&mut *lock(&self.membership.changes));
        if changes.is_empty() {
            return;
        }
        for (partition, comes) in changes {
            if comes {
                self.generation += 1;
                self.owned.insert(
                    partition,
                    Owned {
                        generation: self.generation,
                        prefix: Prefix::default(),
                        first: None,
                        end: 0,
                        begun: Instant::now(),
                        records: Vec::new(),
                    },
                );
            } else {
                // What was cut is written in any case; what was not is the next owner's.
                self.owned.remove(&partition);
            }
        }
        // A pause does not outlast an assignment.
        self.paused = false;
        events::Assigned { partitions: self.owned.len() }.emit();
    }

    /// Hands over batches that are full or have waited long enough; `all` hands over every one.
    fn cut(&mut self, all: bool) {
        for (partition, owned) in &mut self.owned {
            let Some(first) = owned.first else { continue };
            let full = (owned.end - first) as usize >= self.options.batch_records;
            if !(all || full || owned.begun.elapsed() >= self.options.batch_wait) {
                continue;
            }
            let batch = Batch {
                generation: owned.generation,
                partition: *partition,
                first,
                end: owned.end,
                records: std::mem::take(&mut owned.records),
            };
            if batch.records.is_empty() {
                // Nothing to write, but the offsets count.
                owned.prefix.begin(first, batch.end);
                owned.prefix.done(first);
                owned.first = None;
                continue;
            }
            match self.batches.try_send(batch) {
                Ok(()) => {
                    owned.prefix.begin(first, owned.end);
                    owned.first = None;
                    self.in_flight += 1;
                }
                // The writer is busy (or gone, at a failure): the batch waits and grows.
                Err(mpsc::error::TrySendError::Full(batch) | mpsc::error::TrySendError::Closed(batch)) => {
                    owned.records = batch.records;
                }
            }
        }
    }

    /// Pauses the partitions while the writer is behind and resumes them when it has caught up. Polling goes on, so
    /// that the group keeps this member.
    fn regulate(&mut self) -> Result<(), KafkaError> {
        let limit = self.options.batches_in_flight;
        let pause = if self.paused { self.in_flight > limit / 2 } else { self.in_flight >= limit };
        if pause != self.paused {
            let partitions = self.consumer.assignment()?;
            if pause {
                self.consumer.pause(&partitions)?
            } else {
                self.consumer.resume(&partitions)?
            }
            self.paused = pause;
        }
        Ok(())
    }

    /// Notes which batches are written.
    fn collect(&mut self) {
        while let Ok(written) = self.completions.try_recv() {
            self.note(written);
        }
    }

    fn note(&mut self, written: Written) {
        self.in_flight -= 1;
        let Some(owned) = self.owned.get_mut(&written.partition) else { return };
        if owned.generation == written.generation {
            owned.prefix.done(written.first);
        }
    }

    fn commit(&mut self, mode: CommitMode, now: bool) {
        for (partition, owned) in &mut self.owned {
            if let Some(next) = owned.prefix.take_next() {
                lock(&self.membership.ready).insert(*partition, NextOffset::at(next));
            }
        }
        if !now && self.committed_at.elapsed() < COMMIT_EVERY {
            return;
        }
        self.committed_at = Instant::now();
        let ready = std::mem::take(&mut *lock(&self.membership.ready));
        commit(&self.consumer, &self.topic, ready, mode);
    }

    fn finish(mut self) {
        let deadline = Instant::now() + self.options.drain;
        loop {
            self.cut(true);
            let waiting = self.owned.values().any(|owned| owned.first.is_some());
            if self.in_flight == 0 && !waiting {
                break;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                tracing::warn!(batches = self.in_flight, "drain is over, the next run writes the rest");
                break;
            }
            match self.completions.recv_timeout(left.min(POLL)) {
                Ok(written) => self.note(written),
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
        self.commit(CommitMode::Sync, true);
        self.consumer.unsubscribe();
    }
}

/// What is kept of one record.
struct Read {
    partition: i32,
    offset: i64,
    record: Option<Record>,
}

impl Read {
    fn of(message: &BorrowedMessage<'_>, codec: &Codec) -> Self {
        let (partition, offset) = (message.partition(), message.offset());
        let row = (|| {
            let user = std::str::from_utf8(message.key().unwrap_or_default()).map_err(|_| "key is not UTF-8")?;
            if user.is_empty() {
                return Err("no key".to_owned());
            }
            let event = codec.decode_location(message.payload().unwrap_or_default()).map_err(|e| e.to_string())?;
            let appended_at = message.timestamp().to_millis().ok_or("no append time")?;
            Ok(row_of(user, &event.to_owned(), partition, offset, appended_at))
        })();
        let record = row.transpose().map(|row| Record {
            offset,
            key: message.key().unwrap_or_default().to_vec(),
            value: message.payload().unwrap_or_default().to_vec(),
            row,
        });
        Self { partition, offset, record }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Each change is one call on the map or list inside, so that a panic leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn commit<C: ConsumerContext>(
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
