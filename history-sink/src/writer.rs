//! Writes batches to the history side by side, and puts what cannot be used where it can be looked at.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use futures_util::{StreamExt, TryStreamExt};
use nearcast_runtime::health::Component;
use nearcast_runtime::kafka::Producer;
use nearcast_runtime::lifecycle::Shutdown;
use nearcast_schemas::topics::Topics;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::batch::{Batch, Done, Record};
use crate::dead_letters::{Letter, Origin};
use crate::events;
use crate::history::{History, HistoryError};
use crate::row::{Entry, Poison};
use crate::turns::Turns;

/// Dead letters of one batch that wait for Kafka at once.
const LETTERS_AT_ONCE: usize = 100;

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

/// A record without its entry, which somebody else has.
struct Original {
    offset: i64,
    appended_at: Option<i64>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
}

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

    /// Writes until the channel closes, `in_flight` batches at once, partitions in turn, and says what became of each. A
    /// shutdown goes on for `drain`.
    pub async fn run(
        self,
        mut batches: mpsc::UnboundedReceiver<Batch>,
        done: std::sync::mpsc::Sender<Done>,
        in_flight: usize,
    ) {
        let writer = Arc::new(self);
        let over = writer.over();
        tokio::pin!(over);
        let mut turns = Turns::default();
        let mut writing = JoinSet::new();
        let mut open = true;
        while open || !writing.is_empty() || !turns.is_empty() {
            while writing.len() < in_flight
                && let Some(batch) = turns.next()
            {
                let writer = Arc::clone(&writer);
                writing.spawn(async move { writer.write(batch).await });
            }
            tokio::select! {
                batch = batches.recv(), if open => match batch {
                    Some(batch) => turns.add(batch.partition, batch),
                    None => open = false,
                },
                Some(written) = writing.join_next() => match written {
                    // The reader may have ended first; then nobody commits, and nothing is lost.
                    Ok(written) => drop(done.send(written)),
                    Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                    // Nobody else aborts it.
                    Err(_) => return,
                },
                () = &mut over => return,
            }
        }
    }

    /// Returns when a shutdown has taken its time.
    fn over(&self) -> impl Future<Output = ()> + 'static {
        let (shutdown, drain) = (self.shutdown.clone(), self.drain);
        async move {
            shutdown.begun().await;
            tokio::time::sleep(drain).await;
        }
    }

    async fn write(&self, mut batch: Batch) -> Done {
        let records = std::mem::take(&mut batch.records);
        let written = self.write_records(batch.partition, records).await.is_ok();
        batch.done(written)
    }

    async fn write_records(&self, partition: i32, records: Vec<Record>) -> Result<(), GivenUp> {
        let (mut rows, mut of_rows, mut poison) = (Vec::with_capacity(records.len()), Vec::new(), Vec::new());
        for Record { offset, appended_at, key, value, entry } in records {
            let original = Original { offset, appended_at, key, value };
            match entry {
                Ok(Entry::Row(row)) => {
                    rows.push(row);
                    of_rows.push(original);
                }
                Ok(Entry::Erase { user, at }) => {
                    if let Err(cause) = self.erase(&user, at).await? {
                        poison.push((original, Poison::refused(cause)));
                    }
                }
                Err(cause) => poison.push((original, cause)),
            }
        }
        let mut pauses = pauses();
        while !rows.is_empty() {
            let begun = std::time::Instant::now();
            let mut failed = self.history.write(&rows).await;
            events::RowsStored { rows: rows.len(), failed: failed.len(), took: begun.elapsed() }.emit();
            failed.sort_unstable_by_key(|(at, _)| std::cmp::Reverse(*at));
            let mut away = None;
            // From the last on, so that taking one out moves none that comes.
            let (mut again, mut originals) = (Vec::new(), Vec::new());
            for (at, error) in failed {
                let (row, original) = (rows.swap_remove(at), of_rows.swap_remove(at));
                match error {
                    HistoryError::Refused(cause) => poison.push((original, Poison::refused(cause))),
                    HistoryError::Unavailable(cause) => {
                        away = Some(cause);
                        again.push(row);
                        originals.push(original);
                    }
                }
            }
            (rows, of_rows) = (again, originals);
            match away {
                None => self.ready.ready(),
                Some(cause) => self.wait_for_the_history(rows.len(), &cause, &mut pauses).await?,
            }
        }
        let letters = poison.into_iter().map(|(original, poison)| self.bury(partition, original, poison));
        let letters: Vec<_> = letters.collect();
        futures_util::stream::iter(letters).buffer_unordered(LETTERS_AT_ONCE).try_collect().await
    }

    /// Erases, again and again while the database is away; the inner error is its refusal.
    async fn erase(&self, user: &str, at: i64) -> Result<Result<(), String>, GivenUp> {
        let mut pauses = pauses();
        loop {
            match self.history.erase(user, at).await {
                Ok(()) => {
                    events::Erased.emit();
                    return Ok(Ok(()));
                }
                Err(HistoryError::Refused(cause)) => return Ok(Err(cause)),
                Err(HistoryError::Unavailable(cause)) => self.wait_for_the_history(1, &cause, &mut pauses).await?,
            }
        }
    }

    async fn wait_for_the_history(
        &self,
        rows: usize,
        cause: &str,
        pauses: &mut impl Iterator<Item = Duration>,
    ) -> Result<(), GivenUp> {
        events::StoreFailed { rows, cause }.emit();
        self.ready.not_ready(format!("the history database does not answer, rows wait in the log: {cause}"));
        self.pause(pauses).await
    }

    /// Publishes a dead letter and waits for Kafka: the record's offset is committed afterwards.
    async fn bury(&self, partition: i32, original: Original, poison: Poison) -> Result<(), GivenUp> {
        let Original { offset, appended_at, key, value } = original;
        let kind = poison.kind;
        let origin = Origin { topic: self.topic.clone(), partition, offset };
        let letter = Letter { origin, appended_at, poison: poison.into(), key, value };
        let mut pauses = pauses();
        loop {
            let failed = match self.producer.send_result(letter.record(&self.dead_letters)) {
                Ok(delivery) => match delivery.await {
                    Ok(Ok(_)) => {
                        events::Buried { kind, partition, offset, cause: &letter.poison.cause }.emit();
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

    /// Waits before the next try; gives up once a shutdown has begun: the log keeps the rest.
    async fn pause(&self, pauses: &mut impl Iterator<Item = Duration>) -> Result<(), GivenUp> {
        let pause = pauses.next().unwrap_or(LONGEST_PAUSE);
        if self.shutdown.is_begun() {
            return Err(GivenUp);
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // One more try at once.
            () = self.shutdown.begun() => {}
        }
        Ok(())
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
