//! Reads the log as a member of a group, on one thread: polls, cuts batches, commits what is written.
//!
//! What is read and not yet written is bounded in bytes, and each partition has an equal share of them. One whose share is
//! used up is paused alone, so that a backlog holds back nobody else's records; polling goes on, so that the group keeps
//! this member.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nearcast_runtime::health::Component;
use nearcast_runtime::kafka::{Kafka, KafkaError, NextOffset};
use nearcast_runtime::lifecycle::Shutdown;
use nearcast_schemas::codec::Codec;
use nearcast_schemas::topics::Topics;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use tokio::sync::mpsc;

use crate::batch::{Batch, Done, Record};
use crate::commit::Prefix;
use crate::events;
use crate::membership::{Context, Membership, commit, lock};
use crate::read::entry_of_record;

/// How long one poll waits: the pace at which batches are cut and commits are made.
const POLL: Duration = Duration::from_millis(20);

/// Records that are polled before anything else is looked at.
const BURST: usize = 500;

/// Without an error for this long, reading works again.
const TROUBLE: Duration = Duration::from_secs(5);

/// How often offsets are committed.
const COMMIT_EVERY: Duration = Duration::from_secs(1);

/// What the client itself reads ahead is small, because a record of one partition waits there behind those of others.
const READ_AHEAD: &[(&str, &str)] =
    &[("queued.min.messages", "5000"), ("queued.max.messages.kbytes", "8192"), ("fetch.message.max.bytes", "262144")];

/// How the reader cuts and paces.
pub struct ReaderOptions {
    pub batch_records: usize,
    pub batch_wait: Duration,
    pub held_bytes: usize,
    pub drain: Duration,
}

/// A partition that this sink reads.
struct Owned {
    generation: u64,
    prefix: Prefix,
    /// Offset of the first record of the batch that is being cut.
    first: Option<i64>,
    /// Offset after the last record read; none before the first.
    end: Option<i64>,
    begun: Instant,
    records: Vec<Record>,
    /// What `records` take in memory.
    bytes: usize,
    /// What is read and not yet written takes in memory.
    held: usize,
    /// Batches with the writer: when the first record of each was appended, in ms since the epoch, by its offset.
    writing: BTreeMap<i64, i64>,
    paused: bool,
}

impl Owned {
    fn new(generation: u64) -> Self {
        Self {
            generation,
            prefix: Prefix::default(),
            first: None,
            end: None,
            begun: Instant::now(),
            records: Vec::new(),
            bytes: 0,
            held: 0,
            writing: BTreeMap::new(),
            paused: false,
        }
    }

    /// When the oldest record was appended that is read and not yet written.
    fn oldest(&self) -> Option<i64> {
        let reading = self.records.first().and_then(|record| record.appended_at);
        self.writing.values().copied().chain(reading).min()
    }
}

/// The reading half of the sink.
pub struct Reader {
    consumer: BaseConsumer<Context>,
    membership: Arc<Membership>,
    topic: String,
    codec: Arc<Codec>,
    options: ReaderOptions,
    ready: Component,
    batches: mpsc::UnboundedSender<Batch>,
    done: std::sync::mpsc::Receiver<Done>,
    owned: HashMap<i32, Owned>,
    generation: u64,
    /// Batches with the writer.
    in_flight: usize,
    /// What is read and not yet written, of partitions that have gone too.
    held: usize,
    committed_at: Instant,
    troubled_at: Option<Instant>,
}

impl Reader {
    /// Joins the group. How much `batches` holds is bounded by [`ReaderOptions::held_bytes`].
    ///
    /// # Errors
    /// When librdkafka refuses an option.
    pub fn join(
        kafka: &Kafka,
        topics: &Topics,
        codec: Arc<Codec>,
        options: ReaderOptions,
        ready: Component,
        batches: mpsc::UnboundedSender<Batch>,
        done: std::sync::mpsc::Receiver<Done>,
    ) -> Result<Self, KafkaError> {
        let membership = Arc::new(Membership::default());
        let topic = topics.locations();
        let context = Context { topic: topic.clone(), membership: Arc::clone(&membership) };
        let consumer = kafka.group_member(&topics.history_group(), context, READ_AHEAD)?;
        consumer.subscribe(&[&topic])?;
        Ok(Self {
            consumer,
            membership,
            topic,
            codec,
            options,
            ready,
            batches,
            done,
            owned: HashMap::new(),
            generation: 0,
            in_flight: 0,
            held: 0,
            committed_at: Instant::now(),
            troubled_at: None,
        })
    }

    /// Reads until `shutdown` begins, then waits for what was read to be written and commits it.
    ///
    /// # Errors
    /// When Kafka refuses this consumer for good.
    pub fn run(mut self, shutdown: &Shutdown) -> Result<(), KafkaError> {
        while !shutdown.is_begun() {
            self.collect();
            self.regulate()?;
            self.poll()?;
            self.recovered();
            self.follow_membership();
            self.cut_waiting(false);
            self.commit(CommitMode::Async, false);
        }
        self.finish();
        Ok(())
    }

    fn poll(&mut self) -> Result<(), KafkaError> {
        let mut wait = POLL;
        for _ in 0..BURST {
            match self.consumer.poll(wait) {
                Some(Ok(message)) => {
                    // The message borrows the consumer: what is kept of it is copied first.
                    let read = Read::of(&message, &self.codec);
                    drop(message);
                    self.take(read);
                }
                Some(Err(error)) => self.troubled(error)?,
                None => return Ok(()),
            }
            wait = Duration::ZERO;
        }
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
        match owned.end {
            // Read again after a pause.
            Some(end) if read.offset < end => return,
            Some(end) if read.offset > end => {
                events::Missed { partition: read.partition, records: read.offset - end }.emit();
            }
            _ => {}
        }
        events::RecordsRead { records: 1, rows: u64::from(read.record.is_some()) }.emit();
        if owned.first.is_none() {
            owned.first = Some(read.offset);
            owned.begun = Instant::now();
        }
        owned.end = Some(read.offset + 1);
        if let Some(record) = read.record {
            let bytes = record.bytes();
            owned.bytes += bytes;
            owned.held += bytes;
            self.held += bytes;
            owned.records.push(record);
            if owned.records.len() >= self.options.batch_records {
                self.cut(read.partition);
            }
        }
    }

    /// Takes partitions in and gives partitions up as the group says.
    fn follow_membership(&mut self) {
        let changes = std::mem::take(&mut *lock(&self.membership.changes));
        if changes.is_empty() {
            return;
        }
        for (partition, comes) in changes {
            // What was cut is written in any case; what was not is the next owner's.
            if let Some(gone) = self.owned.remove(&partition) {
                self.held -= gone.bytes;
            }
            if comes {
                self.generation += 1;
                // A pause does not outlast an assignment.
                self.owned.insert(partition, Owned::new(self.generation));
            }
        }
        events::Assigned { partitions: self.owned.len() }.emit();
    }

    /// Hands over batches that have waited long enough; `all` hands over every one.
    fn cut_waiting(&mut self, all: bool) {
        let wait = self.options.batch_wait;
        let due = |owned: &Owned| owned.first.is_some() && (all || owned.begun.elapsed() >= wait);
        let partitions: Vec<_> = self.owned.iter().filter(|(_, owned)| due(owned)).map(|(at, _)| *at).collect();
        for partition in partitions {
            self.cut(partition);
        }
    }

    /// Hands over what was read of a partition.
    fn cut(&mut self, partition: i32) {
        let Some(owned) = self.owned.get_mut(&partition) else { return };
        let (Some(first), Some(end)) = (owned.first.take(), owned.end) else { return };
        owned.prefix.begin(first, end);
        let records = std::mem::take(&mut owned.records);
        if records.is_empty() {
            // Nothing to write, but the offsets count.
            owned.prefix.done(first);
            return;
        }
        let bytes = std::mem::take(&mut owned.bytes);
        owned.writing.extend(records[0].appended_at.map(|at| (first, at)));
        let batch = Batch { generation: owned.generation, partition, first, bytes, records };
        // The writer is gone only when it failed, and then everything ends.
        if self.batches.send(batch).is_ok() {
            self.in_flight += 1;
        }
    }

    /// Pauses partitions that have used up their share of what may be held, and resumes those that have half of it again.
    fn regulate(&mut self) -> Result<(), KafkaError> {
        let (limit, mut paused) = (self.options.held_bytes, 0);
        let share = limit / self.owned.len().max(1);
        let (mut pause, mut resume) = (TopicPartitionList::new(), TopicPartitionList::new());
        for (partition, owned) in &mut self.owned {
            let full = owned.held >= if owned.paused { (share / 2).max(1) } else { share } || self.held >= limit;
            if full != owned.paused {
                let changed = if full { &mut pause } else { &mut resume };
                changed.add_partition(&self.topic, *partition);
                owned.paused = full;
            }
            paused += usize::from(full);
        }
        if pause.count() > 0 {
            self.consumer.pause(&pause)?;
        }
        if resume.count() > 0 {
            self.consumer.resume(&resume)?;
        }
        let oldest = self.owned.values().filter_map(Owned::oldest).min();
        events::Held { bytes: self.held, paused, oldest }.emit();
        Ok(())
    }

    /// Notes which batches are written.
    fn collect(&mut self) {
        while let Ok(done) = self.done.try_recv() {
            self.note(done);
        }
    }

    fn note(&mut self, done: Done) {
        self.in_flight -= 1;
        self.held -= done.bytes;
        let Some(owned) = self.owned.get_mut(&done.partition) else { return };
        if owned.generation == done.generation {
            owned.held -= done.bytes;
            owned.writing.remove(&done.first);
            if done.written {
                owned.prefix.done(done.first);
            }
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
        self.cut_waiting(true);
        while self.in_flight > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                tracing::warn!(batches = self.in_flight, "drain is over, the next run writes the rest");
                break;
            }
            match self.done.recv_timeout(left) {
                Ok(done) => self.note(done),
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
        let (key, value, appended_at) = (message.key(), message.payload(), message.timestamp().to_millis());
        let record = entry_of_record(codec, key, value, appended_at, partition, offset).transpose().map(|entry| {
            let (key, value) = (key.map(<[u8]>::to_vec), value.map(<[u8]>::to_vec));
            Record { offset, appended_at, key, value, entry }
        });
        Self { partition, offset, record }
    }
}
