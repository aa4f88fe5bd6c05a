//! The fan-out worker: reads all locations, owns the viewers of its partitions, tells their gateways.
//!
//! A start replays the last time to live of the locations until every partition lags less than a second; only then it
//! joins the group, reads the lists of the partitions it is given up to its own claim, and sends resets. Nothing is
//! committed: what a worker knows it computes again. Where there is a local snapshot that fits the log ([`crate::snapshot`],
//! [`resume`]), the replay begins where that was begun, and not a time to live ago; all else is the same.

mod resume;
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
use tokio::runtime::Handle;

use crate::claims::Claims;
use crate::clock::BrokerClock;
use crate::config::{Config, ConfigError};
use crate::deliveries::{Deliveries, Worker};
use crate::engine::{AliasKey, Outbox, Settings};
use crate::intake::Intake;
use crate::kafka::{Log, Membership};
use crate::pace::Pace;
use crate::progress::{Lag, Stall};
use crate::snapshot::files::Files;
use crate::snapshot::format::Identity;
use crate::snapshot::saver::Saver;
use crate::snapshot::writer::Writer;
use crate::telemetry::Lines;
use crate::vitals::Vitals;
use resume::{Beginning, Resume};
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
    let (thread, watch, writer) = started?;
    tasks.spawn("fanout watch", watch.run(shutdown.clone()));
    if let Some(writer) = writer {
        let runtime = Handle::current();
        let run = move || {
            writer.run();
            // The engine's thread has ended. Where it failed, its failure is the one to be told.
            runtime.block_on(shutdown.begun());
            Ok::<_, Error>(())
        };
        tasks.spawn_thread("fanout snapshot", run).map_err(Error::Thread)?;
    }
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
) -> Result<(EngineThread, Watch, Option<Writer>), Error> {
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
    let by_time: Vec<i64> = from.iter().map(|(_, offset)| *offset).collect();
    let settings = settings(config, deployment, visibility.partitions)?;
    let worker = Worker { name: worker_name(config), incarnation: clock::now_ms() };
    let saving = saving(config, deployment, kafka, &worker, [&locations, &visibility]).await?;
    let resumed = match &saving {
        Some((files, identity)) => {
            let by_time = &by_time[..];
            Resume { files, identity, kafka, by_time, settings, replay: &replay, stop: shutdown }.run().await
        }
        None => None,
    };
    let Beginning { engine, next, last, now_ms } = resumed.unwrap_or_else(|| Beginning::of_log(settings, by_time));
    tracing::info!(partitions = locations.partitions, snapshot = now_ms.is_some(), "replaying the locations");
    replay.not_ready("replaying the locations");

    let mut clock = BrokerClock::default();
    if let Some(now_ms) = now_ms {
        clock.observe(now_ms, began.elapsed());
    }
    let vitals = Arc::new(Vitals::new(&next));
    let reader = kafka.reader()?;
    let mut assignment = TopicPartitionList::new();
    for (partition, offset) in next.iter().enumerate() {
        assignment.add_partition_offset(&locations.topic, partition as i32, Offset::Offset(*offset))?;
    }
    reader.assign(&assignment)?;
    let member = kafka.group_member(&topics.fanout_group(), Membership::default(), &[])?;
    let log = Log::new(kafka, config.delivery_timeout, config.drain, Arc::clone(&vitals), shutdown.clone())?;
    let (told, ends) = tokio::sync::watch::channel(None);
    let (saver, writer) = match saving {
        Some((files, identity)) => {
            let (saver, jobs) = Saver::new(identity, config.snapshot_every);
            (Some(saver), Some(Writer::new(files, jobs)))
        }
        None => (None, None),
    };
    let thread = EngineThread {
        intake: Intake {
            engine,
            out: Outbox::default(),
            clock,
            claims: Claims::new(&worker.name, worker.incarnation),
            codec: codec.clone(),
            next,
            last,
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
        saver,
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
    let watch = Watch { kafka, locations, visibility, vitals, ends: told, replay, broker, stall_after, began };
    Ok((thread, watch, writer))
}

/// Where snapshots lie and what they are of, if any are to be written.
async fn saving(
    config: &Config,
    deployment: &Deployment,
    kafka: &Kafka,
    worker: &Worker,
    [locations, visibility]: [&Fixed; 2],
) -> Result<Option<(Files, Identity)>, Error> {
    if config.snapshot_dir.as_os_str().is_empty() || kafka.config().embedded {
        return Ok(None);
    }
    let Some(cluster) = kafka.cluster_id().await? else {
        tracing::warn!("no snapshots: the cluster does not say its id");
        return Ok(None);
    };
    let identity = Identity {
        cluster,
        topic: locations.topic.clone(),
        visibility_partitions: visibility.partitions,
        ttl_ms: deployment.ttl_ms(),
        coarse_resolution: i64::from(deployment.coarse_resolution),
        coarse_period_ms: i64::from(deployment.coarse_period_s) * 1_000,
    };
    let files = Files::new(&config.snapshot_dir, &deployment.prefix, &worker.name, worker.incarnation);
    Ok(Some((files, identity)))
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
