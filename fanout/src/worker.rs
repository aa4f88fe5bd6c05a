//! The fan-out worker: reads all locations, owns the viewers of its partitions, tells their gateways.
//!
//! A start replays the last time to live of the locations until every partition lags less than a second; only then it
//! joins the group, reads the lists of the partitions it is given up to its own claim, and sends resets. Nothing is
//! committed: what a worker knows it computes again.

mod thread;
mod watch;

use std::sync::Arc;
use std::time::{Duration, Instant};

use nearcast_geo::{Coarsener, CoarsenerError, Resolution};
use nearcast_runtime::clock;
use nearcast_runtime::health::{self, Component, HealthError, Readiness};
use nearcast_runtime::kafka::{Kafka, KafkaError};
use nearcast_runtime::lifecycle::{Shutdown, TaskFailed, Tasks};
use nearcast_runtime::telemetry::Metrics;
use nearcast_schemas::coarse::MARGIN_OF_EDGE;
use nearcast_schemas::codec::Codec;
use nearcast_schemas::deployment::{Deployment, DeploymentError};
use nearcast_schemas::topics::Topics;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError as ClientError;
use rdkafka::topic_partition_list::Offset;
use tokio::net::TcpListener;

use crate::claims::Claims;
use crate::clock::BrokerClock;
use crate::config::{Config, ConfigError};
use crate::deliveries::{Deliveries, Worker};
use crate::engine::{AliasKey, Engine, Outbox, Settings};
use crate::intake::Intake;
use crate::kafka::{Log, Membership};
use crate::pace::Pace;
use crate::progress::{Lag, Stall};
use crate::telemetry::Lines;
use crate::vitals::Vitals;
use thread::EngineThread;
use watch::{Fixed, Watch};

/// The replay begins this much before the time to live, because this machine's clock is not the broker's; ms.
const REPLAY_MARGIN_MS: i64 = 60_000;
/// Between two looks for a topic that is not there yet.
const TOPIC_PAUSE: Duration = Duration::from_millis(200);

/// What the worker shares with others in its process.
#[derive(Clone, Debug)]
pub struct Parts {
    /// What all services agree on.
    pub deployment: Deployment,
    /// The cluster.
    pub kafka: Kafka,
    /// The records' schemas.
    pub codec: Codec,
    /// Read by the health endpoint.
    pub metrics: Metrics,
}

/// Why the worker ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A value of the section `[fanout]`.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A value of the section `[deployment]`.
    #[error(transparent)]
    Deployment(#[from] DeploymentError),
    /// The deployment's rules of coarse positions cannot be kept.
    #[error("deployment.coarse_resolution and coarse_period_s: {0}")]
    Coarse(#[from] CoarsenerError),
    /// The health endpoint cannot be served.
    #[error(transparent)]
    Health(#[from] HealthError),
    /// Kafka is absent, lacks a topic, or refuses.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// A client cannot go on.
    #[error("Kafka client: {0}")]
    Client(#[from] ClientError),
    /// Users are elsewhere now: what the worker knows of who is where is wrong.
    #[error("topic {topic} has {found} partitions, and had {before} at the start; start all workers again")]
    Partitions {
        /// The topic.
        topic: String,
        /// At the start.
        before: i32,
        /// Now; 0 for no such topic.
        found: i32,
    },
    /// Something makes no progress.
    #[error(transparent)]
    Stalled(#[from] Stall),
    /// The operating system refuses a thread.
    #[error("cannot start the engine's thread: {0}")]
    Thread(std::io::Error),
    /// A part of the worker failed, or did not end in time.
    #[error(transparent)]
    Task(#[from] TaskFailed),
}

/// Runs a worker until the shutdown begins; its health is served at `config.admin_listen`.
///
/// # Errors
/// See [`Error`]. Whatever fails begins the shutdown.
pub async fn run(config: Config, parts: Parts, shutdown: Shutdown) -> Result<(), Error> {
    let listen = config.admin_listen;
    let listener = TcpListener::bind(listen).await.map_err(|error| HealthError::Listen { listen, error })?;
    run_on(listener, config, parts, shutdown).await
}

/// [`run`] with the health endpoint on a listener that is bound already.
///
/// # Errors
/// As [`run`].
pub async fn run_on(listener: TcpListener, config: Config, parts: Parts, shutdown: Shutdown) -> Result<(), Error> {
    config.check()?;
    parts.deployment.check()?;
    let readiness = Readiness::default();
    readiness.drains_with(&shutdown);
    let (broker, replay) = (readiness.component("kafka"), readiness.component("replay"));
    // Seen while draining: the endpoint ends last.
    let served = Shutdown::new();
    let endpoint = tokio::spawn(health::serve_on(listener, readiness, parts.metrics.clone(), served.clone()));
    let result = work(config, parts, shutdown, broker, replay).await;
    served.begin();
    match endpoint.await {
        Ok(answered) => result.and(answered.map_err(Error::from)),
        // It panicked, or the runtime is going away.
        Err(_) => result,
    }
}

async fn work(
    config: Config,
    parts: Parts,
    shutdown: Shutdown,
    broker: Component,
    replay: Component,
) -> Result<(), Error> {
    let grace = config.drain + Duration::from_secs(10);
    let mut tasks = Tasks::new(shutdown.clone());
    let started = tokio::select! {
        () = shutdown.begun() => return Ok(()),
        started = start(&config, &parts, &shutdown, broker, replay) => started,
    };
    let (thread, watch) = started?;
    tasks.spawn("fanout watch", watch.run(shutdown));
    tasks.spawn_thread("fanout engine", move || thread.run()).map_err(Error::Thread)?;
    Ok(tasks.join(grace).await?)
}

/// Finds out what there is to read, and builds the thread that reads it.
async fn start(
    config: &Config,
    parts: &Parts,
    shutdown: &Shutdown,
    broker: Component,
    replay: Component,
) -> Result<(EngineThread, Watch), Error> {
    let began = Instant::now();
    let Parts { deployment, kafka, codec, .. } = parts;
    kafka.wait_until_up(&broker).await?;
    let topics = Topics::new(&deployment.prefix);
    let locations = fixed(kafka, topics.locations(), &broker).await?;
    let visibility = fixed(kafka, topics.visibility(), &broker).await?;
    broker.ready();
    let from_ms = clock::now_ms() - deployment.ttl_ms() - REPLAY_MARGIN_MS;
    let mut from = kafka.offsets_at(&locations.topic, from_ms).await?;
    from.sort_unstable();
    let next: Vec<i64> = from.iter().map(|(_, offset)| *offset).collect();
    tracing::info!(partitions = locations.partitions, "replaying the locations of the last time to live");
    replay.not_ready("replaying the locations");

    let settings = settings(config, deployment, visibility.partitions)?;
    let worker = Worker { name: worker_name(config), incarnation: clock::now_ms() };
    let vitals = Arc::new(Vitals::new(&next));
    let reader = kafka.reader()?;
    let mut assignment = TopicPartitionList::new();
    for (partition, offset) in from {
        assignment.add_partition_offset(&locations.topic, partition, Offset::Offset(offset))?;
    }
    reader.assign(&assignment)?;
    let member = kafka.group_member(&topics.fanout_group(), Membership::default(), &[])?;
    let log = Log::new(kafka, config.delivery_timeout, config.drain, Arc::clone(&vitals), shutdown.clone())?;
    let (told, ends) = tokio::sync::watch::channel(None);
    let thread = EngineThread {
        intake: Intake {
            engine: Engine::new(settings),
            out: Outbox::default(),
            clock: BrokerClock::default(),
            claims: Claims::new(&worker.name, worker.incarnation),
            codec: codec.clone(),
            next,
            lag: Lag::default(),
            visibility_partitions: visibility.partitions,
        },
        reader,
        member,
        log,
        deliveries: Deliveries::new(worker.clone(), config.heartbeat),
        worker,
        topics,
        pace: Pace { shortest: config.tick, longest: config.tick_max },
        resets_per_tick: config.resets_per_tick,
        vitals: Arc::clone(&vitals),
        ends,
        replay: replay.clone(),
        began,
        stop: shutdown.clone(),
        lines: Lines::default(),
        say_progress: Duration::ZERO,
        bytes: Vec::new(),
    };
    let stall_after = config.stall_after;
    let kafka = kafka.clone();
    Ok((thread, Watch { kafka, locations, visibility, vitals, ends: told, replay, broker, stall_after, began }))
}

/// Waits for a topic at most as long as a start waits for the cluster.
async fn fixed(kafka: &Kafka, topic: String, broker: &Component) -> Result<Fixed, Error> {
    let config = kafka.config();
    let deadline = tokio::time::Instant::now() + config.startup_wait;
    loop {
        if let Some(partitions) = kafka.partition_count(&topic).await? {
            return Ok(Fixed { topic, partitions });
        }
        let missing = KafkaError::NoTopic { bootstrap: config.bootstrap.clone(), topic: topic.clone() };
        broker.not_ready(missing.to_string());
        if tokio::time::Instant::now() + TOPIC_PAUSE > deadline {
            return Err(missing.into());
        }
        tokio::time::sleep(TOPIC_PAUSE).await;
    }
}

fn settings(config: &Config, deployment: &Deployment, visibility_partitions: i32) -> Result<Settings, Error> {
    let resolution = Resolution::try_from(deployment.coarse_resolution)
        .map_err(|_| DeploymentError { field: "coarse_resolution", problem: "must be 0 to 15".to_owned() })?;
    let period_ms = deployment.coarse_period_s.saturating_mul(1_000);
    let margin_m = resolution.edge_length_m() * MARGIN_OF_EDGE;
    Ok(Settings {
        ttl_ms: deployment.ttl_ms(),
        // At most 100 000, as the deployment was checked.
        max_radius_m: deployment.max_radius_m as i32,
        coarsener: Coarsener::new(resolution, margin_m, period_ms)?,
        coarse_period_ms: i64::from(period_ms),
        digest_every_ms: config.digest_every.as_millis() as i64,
        visibility_partitions,
        discovery_max: config.discovery_max,
        alias_key: AliasKey(rand::random()),
    })
}

fn worker_name(config: &Config) -> String {
    if !config.worker.is_empty() {
        return config.worker.clone();
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if host.trim().is_empty() { "fanout".to_owned() } else { host.trim().to_owned() }
}
