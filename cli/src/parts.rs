//! What the services are built from: handles of the servers, or of their stand-ins inside this process.

use std::convert::Infallible;
use std::sync::Arc;

use anyhow::anyhow;
use nearcast_api::{CqlStore, MemoryStore, Store};
use nearcast_history_sink::cql::CqlHistory;
use nearcast_history_sink::history::History;
use nearcast_history_sink::memory::MemoryHistory;
use nearcast_ingest::{Cache, Ingest, MemoryCache, RedisCache};
use nearcast_runtime::auth::{LinkSigner, Verifier};
use nearcast_runtime::cql;
use nearcast_runtime::embedded::Embedded;
use nearcast_runtime::health::{Component, Readiness};
use nearcast_runtime::kafka::Kafka;
use nearcast_runtime::lifecycle::Shutdown;
use nearcast_runtime::telemetry::Metrics;
use nearcast_schemas::codec::Codec;
use nearcast_schemas::topics::Topics;
use tokio::task::JoinHandle;

use crate::failure::Failure;
use crate::migrate::COMPONENTS;
use crate::settings::Settings;
use crate::topics;

/// The handles that services share.
pub struct Shared {
    settings: Arc<Settings>,
    metrics: Metrics,
    kafka: Kafka,
    cache: Arc<dyn Cache>,
    /// The gateway's: the cache says there how it does. The API asks for itself.
    readiness: Readiness,
    codec: Codec,
    verifier: Verifier,
}

/// Where users, friendships and history are kept.
#[derive(Clone)]
pub struct Databases {
    store: Arc<dyn Store>,
    history: Arc<dyn History>,
}

/// What runs beside the services and ends after them.
#[derive(Default)]
pub struct Beside {
    embedded: Option<Embedded>,
    writer: Option<(Shutdown, JoinHandle<Result<(), Infallible>>)>,
}

impl Beside {
    /// Lets what waits be written, and ends.
    pub async fn end(self) {
        if let Some((shutdown, writer)) = self.writer {
            shutdown.begin();
            // It fails by a panic alone, which was logged.
            let _ = writer.await;
        }
        drop(self.embedded);
    }
}

impl Shared {
    /// Handles of the configured servers. Nothing is waited for.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub fn real(settings: Arc<Settings>, metrics: Metrics) -> Result<(Self, Beside), Failure> {
        let (cache, writer) = RedisCache::new(&settings.redis, &settings.deployment).map_err(Failure::configuration)?;
        let shutdown = Shutdown::new();
        let readiness = Readiness::default();
        let writer = tokio::spawn(writer.run(readiness.component("cache"), shutdown.clone()));
        let kafka = Kafka::new(settings.kafka.clone());
        let shared = Self::new(settings, metrics, kafka, Arc::new(cache), readiness)?;
        Ok((shared, Beside { embedded: None, writer: Some((shutdown, writer)) }))
    }

    /// A cluster inside this process, with every topic, and a cache beside it.
    ///
    /// # Errors
    /// When the cluster does not start.
    pub fn embedded(settings: Arc<Settings>, metrics: Metrics) -> Result<(Self, Databases, Beside), Failure> {
        let mut names: Vec<_> = topics::specs(&settings).into_iter().map(|spec| (spec.name, spec.partitions)).collect();
        names.push((Topics::new(&settings.deployment.prefix).gateway(&settings.gateway.id), 1));
        let cluster = Embedded::start(&names)?;
        let kafka = Kafka::new(cluster.config());
        let cache = Arc::new(MemoryCache::new(&settings.deployment));
        let databases =
            Databases { store: Arc::new(MemoryStore::default()), history: Arc::new(MemoryHistory::default()) };
        let readiness = Readiness::default();
        readiness.component("cache").ready();
        let shared = Self::new(settings, metrics, kafka, cache, readiness)?;
        Ok((shared, databases, Beside { embedded: Some(cluster), writer: None }))
    }

    fn new(
        settings: Arc<Settings>,
        metrics: Metrics,
        kafka: Kafka,
        cache: Arc<dyn Cache>,
        readiness: Readiness,
    ) -> Result<Self, Failure> {
        let codec = Codec::new(settings.schema_ids);
        let verifier = Verifier::new(&settings.auth).map_err(Failure::configuration)?;
        Ok(Self { settings, metrics, kafka, cache, readiness, codec, verifier })
    }

    /// For a gateway.
    ///
    /// # Errors
    /// When the write path cannot begin.
    pub fn gateway(&self) -> Result<nearcast_gateway::Parts, Failure> {
        Ok(nearcast_gateway::Parts {
            deployment: self.settings.deployment.clone(),
            kafka: self.kafka.clone(),
            cache: Arc::clone(&self.cache),
            ingest: self.ingest()?,
            codec: self.codec.clone(),
            verifier: self.verifier.clone(),
            internal_key: self.settings.internal.key.clone(),
            readiness: self.readiness.clone(),
            metrics: self.metrics.clone(),
        })
    }

    /// For a fan-out worker.
    pub fn fanout(&self) -> nearcast_fanout::Parts {
        nearcast_fanout::Parts {
            deployment: self.settings.deployment.clone(),
            kafka: self.kafka.clone(),
            codec: self.codec.clone(),
            metrics: self.metrics.clone(),
        }
    }

    /// For a history sink.
    pub fn history_sink(&self, databases: &Databases) -> nearcast_history_sink::Parts {
        nearcast_history_sink::Parts {
            kafka: self.kafka.clone(),
            topics: Topics::new(&self.settings.deployment.prefix),
            codec: Arc::new(self.codec.clone()),
            history: Arc::clone(&databases.history),
            metrics: self.metrics.clone(),
        }
    }

    /// For the API.
    ///
    /// # Errors
    /// When the write path cannot begin.
    pub fn api(&self, databases: &Databases) -> Result<nearcast_api::Parts, Failure> {
        Ok(nearcast_api::Parts {
            deployment: self.settings.deployment.clone(),
            store: Arc::clone(&databases.store),
            history: Arc::clone(&databases.history),
            cache: Arc::clone(&self.cache),
            ingest: self.ingest()?,
            kafka: self.kafka.clone(),
            codec: self.codec.clone(),
            verifier: self.verifier.clone(),
            link_signer: LinkSigner::new(&self.settings.auth).map_err(Failure::configuration)?,
            internal_key: self.settings.internal.key.clone(),
            metrics: self.metrics.clone(),
        })
    }

    /// A write path of a service's own, which it flushes when it drains.
    fn ingest(&self) -> Result<Ingest, Failure> {
        let Settings { ingest, deployment, .. } = &*self.settings;
        Ok(Ingest::new(ingest, deployment, self.codec.clone(), &self.kafka, Arc::clone(&self.cache))?)
    }
}

impl Databases {
    /// Waits for Cassandra, and checks that its tables are as this program knows them.
    ///
    /// # Errors
    /// When it is absent for longer than its `startup_wait`, or was not migrated.
    pub async fn connect(settings: &Settings, component: &Component) -> Result<Self, Failure> {
        let session = cql::connect_as(&settings.cassandra, component).await?;
        for (name, migrations) in COMPONENTS {
            cql::check(&session, &settings.cassandra.keyspace, name, migrations).await?;
        }
        let unprepared = |error: &dyn std::fmt::Display| anyhow!("Cassandra: {error}");
        let store = CqlStore::new(Arc::clone(&session)).await.map_err(|error| unprepared(&error))?;
        let history =
            CqlHistory::new(session, settings.history_sink.keep_days).await.map_err(|error| unprepared(&error))?;
        Ok(Self { store: Arc::new(store), history: Arc::new(history) })
    }
}
