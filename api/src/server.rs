//! The running service.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nearcast_history_sink::history::History;
use nearcast_ingest::{Cache, Ingest};
use nearcast_runtime::Secret;
use nearcast_runtime::auth::{LinkSigner, Verifier};
use nearcast_runtime::health::{self, Component, Readiness};
use nearcast_runtime::kafka::{Kafka, KafkaError};
use nearcast_runtime::lifecycle::{Shutdown, TaskFailed, Tasks};
use nearcast_runtime::telemetry::Metrics;
use nearcast_schemas::codec::Codec;
use nearcast_schemas::deployment::{Deployment, DeploymentError};
use nearcast_schemas::topics::Topics;
use tokio::net::TcpListener;

use crate::changes::Changes;
use crate::config::{Config, ConfigError};
use crate::kafka::Publisher;
use crate::lists::Lists;
use crate::rest;
use crate::service::{Service, known_users};
use crate::sign_out::SignOuts;
use crate::store::Store;
use crate::sweep::Sweeper;
use crate::turns::Turns;

/// How often it looks whether topics are there, Kafka answers, and producers are well.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What the service is built from: cheap handles that the binary makes.
pub struct Parts {
    /// What all services agree on.
    pub deployment: Deployment,
    /// Users, friendships and lists.
    pub store: Arc<dyn Store>,
    /// Where positions are kept per user and time.
    pub history: Arc<dyn History>,
    /// Last positions, live sessions, pages.
    pub cache: Arc<dyn Cache>,
    /// The way into the location log.
    pub ingest: Ingest,
    /// The cluster.
    pub kafka: Kafka,
    /// Records as bytes.
    pub codec: Codec,
    /// Checks users' tokens.
    pub verifier: Verifier,
    /// Signs tokens of share links; none where there are no share links.
    pub link_signer: Option<LinkSigner>,
    /// What gateways send as their bearer token; not empty.
    pub internal_key: Secret,
    /// This process's metrics.
    pub metrics: Metrics,
}

/// Why the service ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The section `[api]`.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The section `[deployment]`.
    #[error(transparent)]
    Deployment(#[from] DeploymentError),
    /// Gateways could not be told from anybody else.
    #[error("the internal key is empty")]
    NoInternalKey,
    /// Somebody else has the address, or it is not of this machine.
    #[error("cannot listen on {listen} for HTTP: {error}; set another api.listen")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the operating system says.
        error: std::io::Error,
    },
    /// Kafka.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// A part of the service failed.
    #[error(transparent)]
    Task(#[from] TaskFailed),
}

/// Why a part of the service failed.
#[derive(Debug, thiserror::Error)]
enum PartFailed {
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    #[error("http: {0}")]
    Http(#[from] std::io::Error),
    #[error("the kafka producer failed for good: {0}; the process has to start again")]
    Producer(String),
}

/// Serves on `config.listen` until the shutdown begins, then finishes what is under way.
///
/// # Errors
/// Bad configuration, an address that cannot be had, Kafka absent for longer than its `startup_wait`, or a part that
/// failed.
pub async fn run(config: Config, parts: Parts, shutdown: Shutdown) -> Result<(), Error> {
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
    parts.deployment.check()?;
    if parts.internal_key.expose().is_empty() {
        return Err(Error::NoInternalKey);
    }
    let Parts { deployment, store, history, cache, ingest, kafka, codec, verifier, link_signer, internal_key, metrics } =
        parts;
    let topics = Topics::new(&deployment.prefix);
    let publisher = Arc::new(Publisher::new(&kafka, topics.clone(), codec, config.linger, config.delivery_timeout)?);
    let lists = Arc::new(Lists {
        store: Arc::clone(&store),
        cache: Arc::clone(&cache),
        publisher: Arc::clone(&publisher),
        deployment: deployment.clone(),
        republish_after_ms: ms(config.republish_after),
        turns: Turns::new(),
    });
    let changes = Changes::new(
        Arc::clone(&store),
        ingest.clone(),
        Arc::clone(&lists),
        config.max_friends,
        ms(config.settle_after),
    );
    let readiness = Readiness::default();
    readiness.drains_with(&shutdown);
    let sweeper = Sweeper {
        store: Arc::clone(&store),
        changes: changes.clone(),
        every: config.sweep_every,
        again_after_ms: ms(config.settle_after),
        cache: Arc::clone(&cache),
        on_database: readiness.component("database"),
        on_cache: readiness.component("cache"),
    };
    let on_kafka = OnKafka {
        kafka,
        topics,
        component: readiness.component("kafka"),
        publisher: Arc::clone(&publisher),
        ingest: ingest.clone(),
    };
    let keeper = verifier.keeper(&readiness);
    let kept = Duration::from_secs(u64::try_from(verifier.max_life_s()).unwrap_or_default());
    let sign_outs = SignOuts { cache: Arc::clone(&cache), lists: Arc::clone(&lists), kept };
    let service = Service {
        deployment,
        store,
        history,
        cache,
        ingest,
        lists,
        changes: changes.clone(),
        sign_outs,
        verifier,
        link_signer,
        internal_key,
        request_timeout: config.request_timeout,
        known: known_users(),
    };
    let router = rest::router(Arc::new(service), health::router(readiness, metrics), &config.cors_origins);

    let mut tasks = Tasks::new(shutdown.clone());
    tasks.spawn("kafka", on_kafka.watch(shutdown.clone()));
    if let Some(keeper) = keeper {
        tasks.spawn("keys", keeper.run(shutdown.clone()));
    }
    let stop = shutdown.clone();
    tasks.spawn("sweeper", async move {
        sweeper.run(stop).await;
        Ok::<_, PartFailed>(())
    });
    tasks.spawn("http", async move {
        axum::serve(listener, router).with_graceful_shutdown(async move { shutdown.begun().await }).await?;
        // Requests are answered; changes whose clients went away may still be under way. Nothing needs a flush: whatever
        // was answered was acknowledged before.
        changes.drain().await;
        Ok::<_, PartFailed>(())
    });
    Ok(tasks.join(config.drain).await?)
}

/// Kafka as far as this service needs it.
struct OnKafka {
    kafka: Kafka,
    topics: Topics,
    component: Component,
    publisher: Arc<Publisher>,
    ingest: Ingest,
}

impl OnKafka {
    /// Waits for the cluster and the topics, then watches the producers until the shutdown begins.
    async fn watch(self, shutdown: Shutdown) -> Result<(), PartFailed> {
        tokio::select! {
            () = shutdown.begun() => return Ok(()),
            up = self.kafka.wait_until_up(&self.component) => up?,
        }
        let mut seen = false;
        loop {
            tokio::select! {
                () = shutdown.begun() => return Ok(()),
                () = self.ingest.failed() => return Err(PartFailed::Producer("reports".to_owned())),
                there = self.look_for_topics(seen) => seen |= there,
            }
            if let Some(reason) = self.publisher.fatal() {
                return Err(PartFailed::Producer(reason));
            }
            tokio::select! {
                () = shutdown.begun() => return Ok(()),
                () = self.ingest.failed() => return Err(PartFailed::Producer("reports".to_owned())),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Whether the topics are there. Once they were seen, a Kafka that does not answer leaves the service with less: it
    /// reads, and a change that Kafka does not acknowledge is refused as `unknown`.
    async fn look_for_topics(&self, seen: bool) -> bool {
        for topic in [self.topics.visibility(), self.topics.locations()] {
            match self.kafka.partition_count(&topic).await {
                Ok(Some(_)) => {}
                Ok(None) => {
                    let bootstrap = &self.kafka.config().bootstrap;
                    self.component.not_ready(format!(
                        "Kafka at {bootstrap} has no topic `{topic}`; `nearcast topics create` makes it"
                    ));
                    return false;
                }
                Err(error) if seen => {
                    self.component.degraded(format!("no answer from Kafka, changes wait for it: {error}"));
                    return false;
                }
                Err(error) => {
                    self.component.not_ready(error.to_string());
                    return false;
                }
            }
        }
        self.component.ready();
        true
    }
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
