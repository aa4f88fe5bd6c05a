//! Writes batches to the history side by side, and puts what cannot be used where it can be looked at.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use futures_util::StreamExt;
use nearcast_runtime::health::Component;
use nearcast_runtime::kafka::Producer;
use nearcast_runtime::lifecycle::Shutdown;
use nearcast_schemas::topics::Topics;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::FutureRecord;
use tokio::sync::mpsc;

use crate::batch::{Batch, Written};
use crate::events;
use crate::history::{History, HistoryError, HistoryRow};

/// The writing half of the sink.
pub struct Writer {
    history: Arc<dyn History>,
    producer: Producer,
    topic: String,
    dead_letters: String,
    ready: Component,
    shutdown: Shutdown,
    drain: Duration,
}

/// The shutdown's grace time is over: what is not written is not committed, and the next run writes it.
struct GivenUp;

impl Writer {
    /// A writer to `history`; what that refuses goes among the dead letters.
    pub fn new(
        history: Arc<dyn History>,
        producer: Producer,
        topics: &Topics,
        ready: Component,
        shutdown: Shutdown,
        drain: Duration,
    ) -> Self {
        let (topic, dead_letters) = (topics.locations(), topics.dead_letters());
        Self { history, producer, topic, dead_letters, ready, shutdown, drain }
    }

    /// Writes until the channel closes, `in_flight` batches at once, and says which are written.
    pub async fn run(
        self,
        batches: mpsc::Receiver<Batch>,
        written: std::sync::mpsc::Sender<Written>,
        in_flight: usize,
    ) {
        let writer = &self;
        let written = &written;
        let batches = futures_util::stream::unfold(batches, |mut batches| async {
            batches.recv().await.map(|batch| (batch, batches))
        });
        batches
            .for_each_concurrent(in_flight, |batch| async move {
                let done = Written { generation: batch.generation, partition: batch.partition, first: batch.first };
                if writer.write(batch).await.is_ok() {
                    // The reader may have ended first; then nobody commits, and nothing is lost.
                    let _ = written.send(done);
                }
            })
            .await;
    }

    async fn write(&self, batch: Batch) -> Result<(), GivenUp> {
        let partition = batch.partition;
        let mut rows = Vec::with_capacity(batch.records.len());
        let mut raw = Vec::with_capacity(batch.records.len());
        for record in batch.records {
            match record.row {
                Ok(row) => {
                    rows.push(row);
                    raw.push((record.offset, record.key, record.value));
                }
                Err(cause) => {
                    self.bury(partition, record.offset, &record.key, &record.value, "undecodable", &cause).await?;
                }
            }
        }
        let Err(refused) = self.store(&rows).await? else { return Ok(()) };
        tracing::warn!(partition, first = batch.first, cause = refused, "batch refused, writing its rows one by one");
        for (row, (offset, key, value)) in rows.iter().zip(raw) {
            if let Err(cause) = self.store(std::slice::from_ref(row)).await? {
                self.bury(partition, offset, &key, &value, "refused", &cause).await?;
            }
        }
        Ok(())
    }

    /// Stores rows, again and again while the database is away; the inner error is its refusal.
    async fn store(&self, rows: &[HistoryRow]) -> Result<Result<(), String>, GivenUp> {
        if rows.is_empty() {
            return Ok(Ok(()));
        }
        let mut pauses = pauses();
        loop {
            let begun = std::time::Instant::now();
            match self.history.store(rows).await {
                Ok(()) => {
                    events::RowsStored { rows, took: begun.elapsed() }.emit();
                    self.ready.ready();
                    return Ok(Ok(()));
                }
                Err(HistoryError::Refused(cause)) => return Ok(Err(cause)),
                Err(HistoryError::Unavailable(cause)) => {
                    events::StoreFailed { cause: &cause }.emit();
                    self.ready
                        .not_ready(format!("the history database does not answer, rows wait in the log: {cause}"));
                    self.pause(&mut pauses).await?;
                }
            }
        }
    }

    /// Publishes a dead letter and waits for Kafka: the record's offset is committed afterwards.
    async fn bury(
        &self,
        partition: i32,
        offset: i64,
        key: &[u8],
        value: &[u8],
        kind: &'static str,
        cause: &str,
    ) -> Result<(), GivenUp> {
        let partition_text = partition.to_string();
        let offset_text = offset.to_string();
        let mut pauses = pauses();
        loop {
            let header = |key, value| Header { key, value: Some(value) };
            let headers = OwnedHeaders::new()
                .insert(header("error", cause))
                .insert(header("topic", self.topic.as_str()))
                .insert(header("partition", partition_text.as_str()))
                .insert(header("offset", offset_text.as_str()));
            let record = FutureRecord::to(&self.dead_letters).key(key).payload(value).headers(headers);
            let failed = match self.producer.send_result(record) {
                Ok(delivery) => match delivery.await {
                    Ok(Ok(_)) => {
                        events::Buried { kind, partition, offset, cause }.emit();
                        return Ok(());
                    }
                    Ok(Err((error, _))) => error.to_string(),
                    Err(_) => "the producer is gone".to_owned(),
                },
                Err((error, _)) => error.to_string(),
            };
            events::BuryFailed { cause: &failed }.emit();
            self.pause(&mut pauses).await?;
        }
    }

    /// Waits before the next try; gives up when a shutdown has begun and its grace time passes meanwhile.
    async fn pause(&self, pauses: &mut impl Iterator<Item = Duration>) -> Result<(), GivenUp> {
        let pause = pauses.next().unwrap_or(LONGEST_PAUSE);
        if self.shutdown.is_begun() {
            // The database was away when the shutdown began or went away during it: the log keeps the rest.
            return Err(GivenUp);
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = self.shutdown.begun() => {
                // One more try within the grace time, then the log keeps the rest.
                tokio::time::sleep(pause.min(self.drain / 2)).await;
                Ok(())
            }
        }
    }
}

const LONGEST_PAUSE: Duration = Duration::from_secs(10);

fn pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(LONGEST_PAUSE)
        .without_max_times()
        .build()
}
