//! The configuration of every service in one structure, read in layers and checked as a whole.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, anyhow, ensure};
use nearcast_ingest::RedisConfig;
use nearcast_runtime::Secret;
use nearcast_runtime::auth::{AuthConfig, Verifier};
use nearcast_runtime::config;
use nearcast_runtime::cql::CqlConfig;
use nearcast_runtime::kafka::KafkaConfig;
use nearcast_runtime::telemetry::{self, TelemetryConfig};
use nearcast_schemas::codec::SchemaIds;
use nearcast_schemas::deployment::Deployment;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// The commented defaults: the reference of the configuration.
pub const DEFAULTS: &str = include_str!("../nearcast.default.toml");

/// Everything that can be configured, by section.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What all services of one deployment must agree on.
    pub deployment: Deployment,
    /// Logs and metrics.
    pub telemetry: TelemetryConfig,
    /// Partitions of new topics.
    pub topics: TopicsConfig,
    /// The ids of the record schemas.
    pub schema_ids: SchemaIds,
    /// The log.
    pub kafka: KafkaConfig,
    /// Last positions and sessions.
    pub redis: RedisConfig,
    /// Users, friendships, history.
    pub cassandra: CqlConfig,
    /// Tokens of clients.
    pub auth: AuthConfig,
    /// Between gateways and the API.
    pub internal: InternalConfig,
    /// The write path.
    pub ingest: nearcast_ingest::Config,
    /// The WebSocket edge.
    pub gateway: nearcast_gateway::Config,
    /// The join.
    pub fanout: nearcast_fanout::Config,
    /// Kafka to Cassandra.
    pub history_sink: nearcast_history_sink::Config,
    /// REST.
    pub api: nearcast_api::Config,
}

/// The section `[topics]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicsConfig {
    /// Partitions of a new topic of locations.
    pub locations_partitions: i32,
    /// Partitions of a new topic of visibility lists.
    pub visibility_partitions: i32,
}

/// The section `[internal]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InternalConfig {
    /// What gateways show to the API.
    pub key: Secret,
}

impl Settings {
    /// Reads the defaults, the file, the environment and `set`, and checks the result.
    ///
    /// # Errors
    /// [`Failure::Configuration`] with the first thing that is wrong and where it was said.
    pub fn load(file: Option<&Path>, set: &[(String, String)]) -> Result<Self, Failure> {
        // A variable that is not UTF-8 cannot be a setting.
        let env =
            std::env::vars_os().filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)));
        Self::from_layers(file, env, set).map_err(Failure::Configuration)
    }

    fn from_layers(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        set: &[(String, String)],
    ) -> anyhow::Result<Self> {
        let mut settings: Self = config::load(DEFAULTS, file, env, set)?;
        if settings.cassandra.keyspace.is_empty() {
            settings.cassandra.keyspace.clone_from(&settings.deployment.prefix);
        }
        settings.check()?;
        Ok(settings)
    }

    /// Reads the defaults and these variables.
    #[cfg(test)]
    pub fn from_variables(env: impl Iterator<Item = (String, String)>) -> anyhow::Result<Self> {
        Self::from_layers(None, env, &[])
    }

    /// What the types of single fields cannot check.
    fn check(&self) -> anyhow::Result<()> {
        self.deployment.check()?;
        telemetry::check(&self.telemetry)?;
        self.schema_ids.check().context("schema_ids")?;
        self.redis.check()?;
        self.ingest.check()?;
        self.gateway.check()?;
        self.fanout.check()?;
        self.history_sink.check()?;
        self.api.check()?;
        Verifier::new(&self.auth)?;
        ensure!(!self.internal.key.expose().is_empty(), "internal.key must not be empty");
        for (field, partitions) in [
            ("locations_partitions", self.topics.locations_partitions),
            ("visibility_partitions", self.topics.visibility_partitions),
        ] {
            ensure!((1..=10_000).contains(&partitions), "topics.{field} must be 1 to 10000");
        }
        ensure!(!self.cassandra.nodes.is_empty(), "cassandra.nodes must name a node");
        Ok(())
    }

    /// The configuration in force, as TOML with secrets removed.
    ///
    /// # Errors
    /// Never for what [`Settings::load`] returned.
    pub fn effective(&self) -> anyhow::Result<String> {
        toml::to_string(self).map_err(|error| anyhow!("the configuration cannot be shown: {error}"))
    }

    /// Says so, loudly, where a secret that everybody knows guards an address that others can reach.
    pub fn warn_of_development_secrets(&self, listens: &[SocketAddr]) {
        let Some(listen) = listens.iter().find(|listen| !listen.ip().is_loopback()) else { return };
        let defaults = match config::load::<Self>(DEFAULTS, None, std::iter::empty(), &[]) {
            Ok(defaults) => defaults,
            Err(error) => return tracing::error!(%error, "the compiled-in defaults are broken"),
        };
        if self.auth.hs256_secret.is_some() && self.auth.hs256_secret == defaults.auth.hs256_secret {
            tracing::error!(%listen, "anybody can sign tokens: auth.hs256_secret is the public development secret, set another");
        }
        if self.auth.link_secret.is_some() && self.auth.link_secret == defaults.auth.link_secret {
            tracing::error!(%listen, "anybody can look through any share link: auth.link_secret is the public development secret, set another");
        }
        if self.internal.key == defaults.internal.key {
            tracing::error!(%listen, "anybody can pose as a gateway: internal.key is the public development key, set another");
        }
    }
}
