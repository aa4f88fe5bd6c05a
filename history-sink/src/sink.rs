//! The service: reads the log as a member of a group, has batches written side by side, commits what is written.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nearcast_runtime::health::{self, HealthError, Readiness};
use nearcast_runtime::kafka::{Kafka, KafkaError, ProducerProfile};
use nearcast_runtime::lifecycle::{Shutdown, TaskFailed, Tasks};
use nearcast_runtime::telemetry::Metrics;
use nearcast_schemas::codec::Codec;
use nearcast_schemas::topics::Topics;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::history::History;
use crate::reader::{Reader, ReaderOptions};
use crate::writer::Writer;

/// The section `[history_sink]` of the configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where health and metrics are served.
    pub admin_listen: SocketAddr,
    /// Records in one batch, at most; 1 to 10000.
    pub batch_records: usize,
    /// How long a record waits for its batch to fill.
    #[serde(with = "humantime_serde")]
    pub batch_wait: Duration,
    /// Batches that are being written at once, at most; partitions take turns.
    pub batches_in_flight: usize,
    /// Records that are read and not yet written may take this much memory, in bytes, an equal share for each partition;
    /// at least 1 MiB. What is more waits in the log.
    pub held_bytes: usize,
    /// How long history is kept, in days; 1 to 7000.
    pub keep_days: u16,
    /// How long a shutdown waits for what was read to be written.
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
}

/// What the service works with.
pub struct Parts {
    /// The log.
    pub kafka: Kafka,
    /// Names of its topics.
    pub topics: Topics,
    /// How records are encoded.
    pub codec: Arc<Codec>,
    /// Where rows go.
    pub history: Arc<dyn History>,
    /// What `/metrics` serves.
    pub metrics: Metrics,
}

/// Why the service ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value of the configuration is out of range.
    #[error("history_sink.{field} must be {range}")]
    Config {
        /// The field.
        field: &'static str,
        /// What it must be.
        range: &'static str,
    },
    /// The log is not there, or refused the service.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The health endpoint failed.
    #[error(transparent)]
    Health(#[from] HealthError),
    /// The operating system refuses another thread.
    #[error("no thread for the reader: {0}")]
    Thread(#[from] std::io::Error),
    /// A part of the service failed.
    #[error(transparent)]
    Task(#[from] TaskFailed),
}

impl Config {
    /// Checks what the fields' own types cannot.
    ///
    /// # Errors
    /// [`Error::Config`] names the first field that is out of its range and what it must be.
    pub fn check(&self) -> Result<(), Error> {
        let checks = [
            ("batch_records", "1 to 10000", (1..=10_000).contains(&self.batch_records)),
            ("batches_in_flight", "1 to 1000", (1..=1_000).contains(&self.batches_in_flight)),
            ("held_bytes", "1048576 or more", self.held_bytes >= 1 << 20),
            ("keep_days", "1 to 7000", (1..=7_000).contains(&self.keep_days)),
        ];
        match checks.into_iter().find(|(_, _, holds)| !holds) {
            Some((field, range, _)) => Err(Error::Config { field, range }),
            None => Ok(()),
        }
    }
}

/// Runs until `shutdown` begins, then writes what was read and commits it, for `drain` at the longest.
///
/// # Errors
/// The configuration is out of range, Kafka does not answer within its `startup_wait`, or a part failed.
pub async fn run(config: Config, parts: Parts, shutdown: Shutdown) -> Result<(), Error> {
    config.check()?;
    let readiness = Readiness::default();
    readiness.drains_with(&shutdown);
    let kafka_ready = readiness.component("kafka");
    let history_ready = readiness.component("history");
    let mut tasks = Tasks::new(shutdown.clone());
    // Health is served to the end of the drain, so that an operator sees it.
    let drained = Shutdown::new();
    tasks.spawn("health", health::serve(config.admin_listen, readiness, parts.metrics.clone(), drained.clone()));
    tokio::select! {
        up = parts.kafka.wait_until_up(&kafka_ready) => up?,
        () = shutdown.begun() => return Ok(()),
    }
    history_ready.ready();

    let dead_letters =
        parts.kafka.producer(&ProducerProfile { linger: Duration::from_millis(5), ..ProducerProfile::default() })?;
    let (batches, to_write) = mpsc::unbounded_channel();
    let (done, to_note) = std::sync::mpsc::channel();
    let writer = Writer::new(
        Arc::clone(&parts.history),
        dead_letters,
        &parts.topics,
        history_ready,
        shutdown.clone(),
        config.drain,
    );
    let reader = Reader::join(
        &parts.kafka,
        &parts.topics,
        parts.codec,
        ReaderOptions {
            batch_records: config.batch_records,
            batch_wait: config.batch_wait,
            held_bytes: config.held_bytes,
            drain: config.drain,
        },
        kafka_ready,
        batches,
        to_note,
    )?;
    tasks.spawn("writer", async move {
        writer.run(to_write, done, config.batches_in_flight).await;
        Ok::<(), KafkaError>(())
    });
    let stop = shutdown.clone();
    tasks.spawn_thread("reader", move || {
        let result = reader.run(&stop);
        drained.begin();
        result
    })?;
    tasks.join(config.drain + Duration::from_secs(5)).await?;
    Ok(())
}
