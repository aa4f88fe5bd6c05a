//! Sessions with Cassandra or ScyllaDB.

use std::sync::Arc;
use std::time::Duration;

use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::policies::load_balancing::DefaultPolicy;
use scylla::statement::Consistency;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::Secret;
use crate::health::{Component, Readiness};
pub use crate::migrations::{Applied, Migration, check, migrate};

/// One attempt to reach one node.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// The section `[cassandra]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CqlConfig {
    /// Nodes to begin with, `host:port`.
    pub nodes: Vec<String>,
    /// The keyspace; lower-case letters, digits and `_`, from a letter, at most 48.
    #[serde(default)]
    pub keyspace: String,
    /// Copies of each row in each datacenter, when `nearcast migrate` makes the keyspace.
    pub replication_factor: u16,
    /// The datacenter that is asked; without it any, which is right where there is one.
    pub datacenter: Option<String>,
    /// How long a start waits for the cluster, such as `60s`.
    #[serde(with = "humantime_serde")]
    pub startup_wait: Duration,
    /// For clusters that ask for it.
    pub username: Option<String>,
    /// For clusters that ask for it.
    pub password: Option<Secret>,
}

/// What is wrong with the database.
#[derive(Debug, thiserror::Error)]
pub enum CqlError {
    /// No node answers.
    #[error(
        "Cassandra does not answer at {nodes} (waited {waited:.1?}): {detail}; start it (locally: `make up`) or set \
         cassandra.nodes"
    )]
    Absent {
        /// Where it was looked for.
        nodes: String,
        /// How long.
        waited: Duration,
        /// What the driver said last.
        detail: String,
    },
    /// The keyspace's name cannot be one.
    #[error("cassandra.keyspace `{0}` must be 1 to 48 lower-case letters, digits or _, from a letter")]
    Keyspace(String),
    /// A component's tables are missing or older than this program.
    #[error("keyspace `{keyspace}` lacks migration {version} ({name}) of {component}; run `nearcast migrate`")]
    NotMigrated {
        /// Where.
        keyspace: String,
        /// Whose.
        component: String,
        /// The first that is missing.
        version: u32,
        /// What it does.
        name: String,
    },
    /// A migration that was applied reads otherwise now; write a new one instead.
    #[error("migration {version} of {component} was applied to keyspace `{keyspace}` with another text")]
    Changed {
        /// Where.
        keyspace: String,
        /// Whose.
        component: String,
        /// Which.
        version: u32,
    },
    /// Somebody else holds the lock and does not finish.
    #[error("another `nearcast migrate` has held the lock of keyspace `{keyspace}` for {waited:.1?}")]
    Locked {
        /// Where.
        keyspace: String,
        /// How long.
        waited: Duration,
    },
    /// A statement failed.
    #[error("Cassandra: {what}: {error}")]
    Statement {
        /// What it was for.
        what: String,
        /// The driver's reason.
        error: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl CqlError {
    /// Wraps a driver's error with what was being done.
    pub fn statement(what: impl Into<String>, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Statement { what: what.into(), error: error.into() }
    }
}

/// Connects, waiting at most `startup_wait` for a node to answer. Where the keyspace exists, statements of the session
/// name tables without it; [`migrate`] makes it. Consistency is `LOCAL_QUORUM`, of LWT `LOCAL_SERIAL`.
///
/// # Errors
/// [`CqlError::Absent`] with what is missing, where it looked and what to run.
pub async fn connect(config: &CqlConfig) -> Result<Arc<Session>, CqlError> {
    connect_as(config, &Readiness::default().component("cassandra")).await
}

/// [`connect`], and says through the component what it is waiting for.
///
/// # Errors
/// As [`connect`].
pub async fn connect_as(config: &CqlConfig, component: &Component) -> Result<Arc<Session>, CqlError> {
    check_keyspace(&config.keyspace)?;
    let begun = Instant::now();
    let mut said = false;
    loop {
        let detail = match session(config).await {
            Ok(session) => {
                if keyspace_exists(&session, &config.keyspace).await? {
                    use_keyspace(&session, &config.keyspace).await?;
                }
                component.ready();
                return Ok(Arc::new(session));
            }
            Err(error) => error.to_string(),
        };
        let nodes = config.nodes.join(", ");
        let left = config.startup_wait.saturating_sub(begun.elapsed());
        if left.is_zero() {
            let absent = CqlError::Absent { nodes, waited: begun.elapsed(), detail };
            component.not_ready(absent.to_string());
            return Err(absent);
        }
        if !said {
            said = true;
            component.not_ready(format!(
                "waiting at most {} s for Cassandra at {nodes}; start it (locally: `make up`) or set cassandra.nodes",
                config.startup_wait.as_secs(),
            ));
        }
        tokio::time::sleep(RETRY_PAUSE.min(left)).await;
    }
}

async fn session(config: &CqlConfig) -> Result<Session, scylla::errors::NewSessionError> {
    let mut balancing = DefaultPolicy::builder().token_aware(true);
    if let Some(datacenter) = &config.datacenter {
        balancing = balancing.prefer_datacenter(datacenter.clone());
    }
    let profile = ExecutionProfile::builder()
        .consistency(Consistency::LocalQuorum)
        .load_balancing_policy(balancing.build())
        .build();
    let mut builder = SessionBuilder::new()
        .known_nodes(&config.nodes)
        .connection_timeout(CONNECT_TIMEOUT)
        .default_execution_profile_handle(profile.into_handle());
    if let (Some(username), Some(password)) = (&config.username, &config.password) {
        builder = builder.user(username, password.expose());
    }
    builder.build().await
}

/// Names that need no quoting anywhere.
pub(crate) fn check_keyspace(keyspace: &str) -> Result<(), CqlError> {
    let good = keyspace.len() <= 48
        && keyspace.starts_with(|c: char| c.is_ascii_lowercase())
        && keyspace.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if good { Ok(()) } else { Err(CqlError::Keyspace(keyspace.to_owned())) }
}

pub(crate) async fn keyspace_exists(session: &Session, keyspace: &str) -> Result<bool, CqlError> {
    let failed = |error: &dyn std::fmt::Display| CqlError::statement("look for the keyspace", error.to_string());
    let found = session
        .query_unpaged("SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?", (keyspace,))
        .await
        .map_err(|error| failed(&error))?
        .into_rows_result()
        .map_err(|error| failed(&error))?;
    Ok(found.rows_num() > 0)
}

pub(crate) async fn use_keyspace(session: &Session, keyspace: &str) -> Result<(), CqlError> {
    session
        .use_keyspace(keyspace, false)
        .await
        .map_err(|error| CqlError::statement(format!("use keyspace {keyspace}"), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_keyspaces_need_no_quotes() {
        for good in ["nearcast", "t1_x"] {
            check_keyspace(good).unwrap();
        }
        for bad in ["", "1a", "_a", "Near", "a-b", "a;b", "a\"", &"a".repeat(49)] {
            assert!(matches!(check_keyspace(bad), Err(CqlError::Keyspace(_))), "{bad}");
        }
    }

    #[tokio::test]
    async fn says_what_is_absent_where_and_what_to_run() {
        let config = CqlConfig {
            nodes: vec!["127.0.0.1:1".to_owned()],
            keyspace: "x".to_owned(),
            replication_factor: 1,
            datacenter: None,
            startup_wait: Duration::from_millis(50),
            username: None,
            password: Some(Secret::new("hunter2")),
        };
        let readiness = Readiness::default();
        let error = connect_as(&config, &readiness.component("cassandra")).await.unwrap_err().to_string();
        for part in ["Cassandra does not answer at 127.0.0.1:1", "`make up`", "cassandra.nodes"] {
            assert!(error.contains(part), "{part} in {error}");
        }
        assert!(!readiness.is_ready() && readiness.to_json().contains("make up"));
    }
}
