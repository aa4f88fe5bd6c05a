//! The beginning from a snapshot: compares it with the log before it is believed.
//!
//! A topic that was deleted and made again has its name and may have its offsets. librdkafka's Rust client tells no topic
//! ids, and a log that lost its end in a power cut would have the same one. So a snapshot is bound to the records
//! themselves: the last one of each partition that had been read when it was whole must stand at its offset and have its
//! append time. Then all records before it, whose effects it holds, are those of the log.

use std::time::{Duration, Instant};

use nearcast_runtime::clock;
use nearcast_runtime::health::Component;
use nearcast_runtime::kafka::{Kafka, Reader};
use nearcast_runtime::lifecycle::Shutdown;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError as ClientError;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::Offset;

use crate::engine::{Engine, Outbox, Settings};
use crate::snapshot::files::Files;
use crate::snapshot::format::{Identity, LastRead};
use crate::snapshot::load::{self, Restored};
use crate::snapshot::{self, Unusable};

/// How long the comparison may wait for records.
const COMPARE_WITHIN: Duration = Duration::from_secs(10);

/// Where a worker begins.
pub(crate) struct Beginning {
    pub(crate) engine: Engine,
    /// The offset to be read next, of each partition.
    pub(crate) next: Vec<i64>,
    /// The last record of each that had an effect, or comes again.
    pub(crate) last: Vec<Option<LastRead>>,
    /// By the broker's clock, ms since the epoch, if it is known.
    pub(crate) now_ms: Option<i64>,
}

impl Beginning {
    /// From the log alone.
    pub(crate) fn of_log(settings: Settings, next: Vec<i64>) -> Self {
        let last = vec![None; next.len()];
        Self { engine: Engine::new(settings), next, last, now_ms: None }
    }
}

/// What it takes to begin from a snapshot.
pub(crate) struct Resume<'a> {
    pub(crate) files: &'a Files,
    pub(crate) identity: &'a Identity,
    pub(crate) kafka: &'a Kafka,
    /// Where a replay of the last time to live begins.
    pub(crate) by_time: &'a [i64],
    pub(crate) settings: Settings,
    pub(crate) replay: &'a Component,
    pub(crate) stop: &'a Shutdown,
}

impl Resume<'_> {
    /// The beginning from the last snapshot; `None` where there is none of use. What will never be of use is removed.
    pub(crate) async fn run(self) -> Option<Beginning> {
        let files = self.files.clone();
        let result = self.beginning().await;
        result.unwrap_or_else(|unusable| {
            unusable.emit(&files.last());
            if unusable.is_for_good() {
                files.remove_last();
            }
            None
        })
    }

    async fn beginning(&self) -> Result<Option<Beginning>, Unusable> {
        let began = Instant::now();
        let (files, identity, partitions) = (self.files.clone(), self.identity.clone(), self.by_time.len());
        let opened = blocking(move || {
            files.remove_leftovers();
            load::open(&files, &identity, partitions)
        });
        let Some(opened) = opened.await? else { return Ok(None) };
        let head = opened.head.clone();
        let age_ms = (clock::now_ms() - head.now_ms).max(0);
        if load::is_old(&head, self.by_time, self.settings.ttl_ms, clock::now_ms()) {
            return Err(Unusable::Old);
        }
        let (replay, stop, settings) = (self.replay.clone(), self.stop.clone(), self.settings);
        let restored = blocking(move || {
            load::restore(opened, Engine::new(settings), |rows| {
                replay.not_ready(format!("reading the snapshot: {rows} rows so far"));
                !stop.is_begun()
            })
        });
        let Restored { mut engine, last, rows } = restored.await?;
        let now_ms = engine.now_ms().max(head.now_ms);
        let last = load::young(&last, now_ms - self.settings.ttl_ms);
        self.replay.not_ready("comparing the snapshot with the log");
        self.compare(&last).await?;
        // Whoever fell silent while the copy was made was copied before or not at all.
        engine.sweep(now_ms, &mut Outbox::default());
        snapshot::loaded(rows, age_ms, began.elapsed());
        // Of a partition without a last record there is nothing in the snapshot.
        let places = head.next.iter().zip(&last).zip(self.by_time);
        let next = places.map(|((&next, last), &by_time)| if last.is_some() { next } else { by_time }).collect();
        Ok(Some(Beginning { engine, next, last, now_ms: Some(now_ms) }))
    }

    async fn compare(&self, last: &[Option<LastRead>]) -> Result<(), Unusable> {
        let topic = &self.identity.topic;
        let unread = |error: &dyn std::fmt::Display| Unusable::Unread(format!("not compared with the log: {error}"));
        for (partition, last) in last.iter().enumerate() {
            let Some(LastRead { offset, .. }) = last else { continue };
            let ends = self.kafka.watermarks(topic, partition as i32).await;
            let (begin, end) = ends.map_err(|error| unread(&error))?;
            if !(begin..end).contains(offset) {
                let what = format!("partition {partition} goes from {begin} to {end}, and has no offset {offset}");
                return Err(Unusable::Foreign(what));
            }
        }
        let reader = self.kafka.reader().map_err(|error| unread(&error))?;
        let (topic, last, stop) = (topic.clone(), last.to_vec(), self.stop.clone());
        blocking(move || match are_there(&reader, &topic, &last, &stop) {
            Ok(None) => Ok(()),
            Ok(Some(unusable)) => Err(unusable),
            Err(error) => Err(Unusable::Unread(format!("not compared with the log: {error}"))),
        })
        .await
    }
}

/// Reads one record of each partition, and says what is wrong with it.
fn are_there(
    reader: &Reader,
    topic: &str,
    last: &[Option<LastRead>],
    stop: &Shutdown,
) -> Result<Option<Unusable>, ClientError> {
    let mut wanted = last.to_vec();
    let mut assignment = TopicPartitionList::new();
    for (partition, last) in last.iter().enumerate() {
        if let Some(last) = last {
            assignment.add_partition_offset(topic, partition as i32, Offset::Offset(last.offset))?;
        }
    }
    reader.assign(&assignment)?;
    let began = Instant::now();
    let mut found = None;
    while found.is_none() && wanted.iter().any(Option::is_some) {
        if began.elapsed() >= COMPARE_WITHIN || stop.is_begun() {
            found = Some(Unusable::Unread("the log's records did not come in time".to_owned()));
            break;
        }
        // librdkafka recovers from its errors, or the time is up.
        let Some(Ok(message)) = reader.poll(Duration::from_millis(100)) else { continue };
        let Some(place) = wanted.get_mut(message.partition() as usize) else { continue };
        if let Some(last) = place.take() {
            let there = LastRead { offset: message.offset(), append_ms: message.timestamp().to_millis().unwrap_or(0) };
            if there != last {
                let (partition, offset) = (message.partition(), last.offset);
                let what = format!("partition {partition} has another record at offset {offset}");
                found = Some(Unusable::Foreign(what));
            }
        }
    }
    reader.unassign()?;
    Ok(found)
}

/// Runs what blocks on a thread for that.
async fn blocking<T: Send + 'static>(
    body: impl FnOnce() -> Result<T, Unusable> + Send + 'static,
) -> Result<T, Unusable> {
    // It panicked, or the runtime is going away; the log alone will do.
    let gone = |_| Err(Unusable::Unread("reading it was broken off".to_owned()));
    tokio::task::spawn_blocking(body).await.unwrap_or_else(gone)
}
