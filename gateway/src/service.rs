//! The gateway as a service: what it needs, how it starts, runs and drains.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nearcast_ingest::{Cache, Ingest};
use nearcast_runtime::auth::Verifier;
use nearcast_runtime::health::{self, Component, Readiness};
use nearcast_runtime::kafka::{Kafka, KafkaError};
use nearcast_runtime::lifecycle::{Shutdown, TaskFailed, Tasks};
use nearcast_runtime::telemetry::Metrics;
use nearcast_runtime::{Secret, clock};
use nearcast_schemas::codec::Codec;
use nearcast_schemas::deployment::{Deployment, DeploymentError};
use nearcast_schemas::topics::Topics;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::task::TaskTracker;

use crate::config::{Config, ConfigError};
use crate::cores;
use crate::entrance::{Entrance, Tls, TlsError};
use crate::gateway::Gateway;
use crate::http::Api;
use crate::kafka::{Deliveries, watch_topic};
use crate::registry;

/// Between two looks whether a topic is there.
const TOPIC_PAUSE: Duration = Duration::from_millis(500);
/// What serves the connections ends within this once they are gone; none of it has anything to finish.
const BEHIND_ENDS_WITHIN: Duration = Duration::from_secs(3);

/// What the gateway needs of the process that it runs in. Cheap to clone.
#[derive(Clone)]
pub struct Parts {
    /// What all services agree on.
    pub deployment: Deployment,
    /// Encodes and decodes records.
    pub codec: Codec,
    /// The cluster.
    pub kafka: Kafka,
    /// The write path; it may be shared with other services of the process.
    pub ingest: Ingest,
    /// The session registry; the one that `ingest` writes positions to.
    pub cache: Arc<dyn Cache>,
    /// Checks tokens.
    pub verifier: Verifier,
    /// For the API's internal endpoint.
    pub internal_key: Secret,
    /// What the health endpoint shows, of the gateway's own parts and of those that it is given: the cache may have one.
    pub readiness: Readiness,
    /// Read by the health endpoint.
    pub metrics: Metrics,
}

/// Why the gateway ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The section `[gateway]`.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The section `[deployment]`.
    #[error(transparent)]
    Deployment(#[from] DeploymentError),
    /// Somebody else has the address, or it is not of this machine.
    #[error("cannot listen on {listen} for clients: {error}; set another gateway.listen")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the operating system says.
        error: std::io::Error,
    },
    /// The same for health and metrics.
    #[error("cannot listen on {listen} for health and metrics: {error}; set another gateway.admin_listen")]
    ListenAdmin {
        /// The address.
        listen: SocketAddr,
        /// What the operating system says.
        error: std::io::Error,
    },
    /// The certificate and its key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No HTTP client for the API.
    #[error("no HTTP client for the API: {0}")]
    Http(#[from] reqwest::Error),
    /// Kafka is absent, or lacks a topic.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The producer has failed for good.
    #[error("the producer has failed for good; start the gateway anew")]
    Producer,
    /// A part failed.
    #[error(transparent)]
    Task(#[from] TaskFailed),
    /// No thread for reading deliveries, or none with a listener for connections.
    #[error("no thread for deliveries or connections: {0}")]
    Thread(std::io::Error),
}

/// Runs a gateway on `config.listen` until the shutdown begins, then drains it: clients are told to go elsewhere, and
/// reports on their way are waited for.
///
/// # Errors
/// When the configuration is out of range, the address is taken, Kafka is absent at the start, or a part fails for good.
pub async fn run(config: Config, parts: Parts, shutdown: Shutdown) -> Result<(), Error> {
    config.check()?;
    let listen = config.listen;
    let listener = TcpListener::bind(listen).await.map_err(|error| Error::Listen { listen, error })?;
    run_on(listener, config, parts, shutdown).await
}

/// [`run`] on a listener that is bound already, for port 0.
///
/// # Errors
/// As [`run`].
pub async fn run_on(listener: TcpListener, config: Config, parts: Parts, shutdown: Shutdown) -> Result<(), Error> {
    config.check()?;
    let listen = config.admin_listen;
    let admin = TcpListener::bind(listen).await.map_err(|error| Error::ListenAdmin { listen, error })?;
    run_on_both(listener, admin, config, parts, shutdown).await
}

/// [`run`] on listeners that are bound already: for clients, and for health and metrics.
///
/// # Errors
/// As [`run`].
pub async fn run_on_both(
    listener: TcpListener,
    admin: TcpListener,
    config: Config,
    parts: Parts,
    shutdown: Shutdown,
) -> Result<(), Error> {
    config.check()?;
    parts.deployment.check()?;
    let readiness = parts.readiness.clone();
    readiness.drains_with(&shutdown);
    // Before anybody can ask: what nobody has named yet is not waited for.
    let serving = readiness.component("gateway");
    // Health and deliveries go on while connections drain, so they end by a shutdown of their own.
    let behind = Shutdown::new();
    let mut tasks = Tasks::new(behind.clone());
    tasks.spawn("health", health::serve_on(admin, readiness.clone(), parts.metrics.clone(), behind.clone()));

    if let Some(keeper) = parts.verifier.keeper(&readiness) {
        tasks.spawn("keys", keeper.run(behind.clone()));
    }

    let entrance = entrance(&config, &mut tasks).await?;
    let served = tokio::select! {
        served = serve(listener, &config, parts, entrance, &serving, &mut tasks, &shutdown) => served,
        // A part behind has failed; which one, the join says.
        () = behind.begun() => Ok(()),
    };
    behind.begin();
    let joined = tasks.join(BEHIND_ENDS_WITHIN).await;
    served?;
    Ok(joined?)
}

async fn serve(
    listener: TcpListener,
    config: &Config,
    parts: Parts,
    entrance: Entrance,
    serving: &Component,
    tasks: &mut Tasks,
    shutdown: &Shutdown,
) -> Result<(), Error> {
    let grace = Duration::from_secs(config.grace_s.into());
    let ingest = parts.ingest.clone();
    let started = tokio::select! {
        started = start(config, parts, entrance, tasks) => started?,
        () = shutdown.begun() => return Ok(()),
    };
    serving.ready();
    tracing::info!(id = config.id, incarnation = started.incarnation(), "gateway serves");

    let connections = TaskTracker::new();
    // Ends the accepting, and tells each connection, when either the process stops or the producer is lost.
    let closing = shutdown.child();
    cores::serve(listener, config.threads, &started, &connections, &closing, tasks).map_err(Error::Thread)?;
    let lost = tokio::select! {
        () = closing.begun() => false,
        () = ingest.failed() => true,
    };
    serving.not_ready("draining");
    closing.begin();
    connections.close();
    let open = started.routes(|routes| routes.len());
    let ends_at = Instant::now() + grace;
    let in_time = timeout_at(ends_at, connections.wait()).await.is_ok();
    tracing::info!(sessions = open, in_time, "gateway drained");
    if lost {
        return Err(Error::Producer);
    }
    if let Err(unflushed) = ingest.flush(ends_at.saturating_duration_since(Instant::now())).await {
        tracing::warn!(error = %unflushed, "reports are left without an answer from the log");
    }
    Ok(())
}

/// Reads the certificate, if there is one, and looks at it from now on.
async fn entrance(config: &Config, tasks: &mut Tasks) -> Result<Entrance, TlsError> {
    let Some(files) = config.tls_files() else { return Ok(Entrance::new(config, None)) };
    let (tls, reload) = Tls::load(files).await?;
    tasks.spawn("certificate", reload.run(tasks.shutdown().clone()));
    Ok(Entrance::new(config, Some(tls)))
}

/// Waits for what is needed, and makes everything but the connections.
async fn start(config: &Config, parts: Parts, entrance: Entrance, tasks: &mut Tasks) -> Result<Arc<Gateway>, Error> {
    let kafka = parts.kafka.clone();
    let component = parts.readiness.component("kafka");
    let api = parts.readiness.component("api");
    let timeout = Duration::from_millis(config.api_timeout_ms.into());
    let api_client = Api::new(&config.api_url, timeout, parts.internal_key.clone(), api.clone())?;
    kafka.wait_until_up(&component).await?;

    let topics = Topics::new(&parts.deployment.prefix);
    let partitions = wait_for_topic(&kafka, &topics.visibility(), &component).await?;
    let own = topics.gateway_spec(&config.id);
    let settings: Vec<(&str, String)> = own.settings.iter().map(|(name, value)| (*name, value.clone())).collect();
    let ensured = kafka.ensure_topic(&own.name, own.partitions, &settings).await?;
    tracing::info!(topic = own.name, ?ensured, "topic for deliveries");

    let codec = parts.codec.clone();
    let gateway = Arc::new(Gateway::new(config.clone(), parts, api_client, entrance, clock::now_ms(), partitions));
    let deliveries =
        Deliveries::from_the_end(&kafka, &own.name, codec, Arc::clone(&gateway), component.clone()).await?;
    let behind = tasks.shutdown().clone();
    tasks.spawn_thread("deliveries", move || deliveries.run(&behind)).map_err(Error::Thread)?;
    tasks.spawn("topic", watch_topic(kafka, own.name, component.clone(), tasks.shutdown().clone()));
    let registry = registry::watch(Arc::clone(&gateway), tasks.shutdown().clone());
    tasks.spawn("registry", async move {
        registry.await;
        Ok::<_, Infallible>(())
    });
    // Whether it answers shows at the first hello, which waits for it.
    api.ready();
    component.ready();
    Ok(gateway)
}

/// The number of a topic's partitions, once there is such a topic; it may be made while this one starts.
async fn wait_for_topic(kafka: &Kafka, topic: &str, component: &Component) -> Result<i32, KafkaError> {
    let begun = Instant::now();
    loop {
        if let Some(count) = kafka.partition_count(topic).await? {
            return Ok(count);
        }
        let config = kafka.config();
        let missing = KafkaError::NoTopic { bootstrap: config.bootstrap.clone(), topic: topic.to_owned() };
        component.not_ready(missing.to_string());
        if begun.elapsed() >= config.startup_wait {
            return Err(missing);
        }
        sleep(TOPIC_PAUSE).await;
    }
}
