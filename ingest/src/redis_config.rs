//! The section `[redis]` of the configuration.

use std::time::Duration;

use nearcast_runtime::Secret;
use redis::{ConnectionInfo, IntoConnectionInfo};
use serde::{Deserialize, Serialize};

/// The section `[redis]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisConfig {
    /// `redis://host:port`: the one server, or some nodes of the cluster to begin with. No password in here.
    pub nodes: Vec<String>,
    /// The nodes are a Redis Cluster.
    pub cluster: bool,
    /// The ACL user, where it is not `default`.
    #[serde(default)]
    pub username: Option<String>,
    /// Its password.
    #[serde(default)]
    pub password: Option<Secret>,
    /// An answer that takes longer than this is given up, such as `250ms`. 1 ms to 10 s.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// At most this many writes wait in one process; more are dropped and counted. At least 1.
    pub max_waiting_writes: usize,
}

/// What is wrong with the section. Holds no password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("redis.{field} {must}")]
pub struct RedisConfigError {
    /// Name of the field.
    pub field: &'static str,
    /// What it must be.
    pub must: &'static str,
}

impl RedisConfig {
    /// Checks what the fields' own types cannot.
    ///
    /// # Errors
    /// Names the first field that is out of its range and what it must be.
    pub fn check(&self) -> Result<(), RedisConfigError> {
        self.connections()?;
        let fail = |field, must| Err(RedisConfigError { field, must });
        if self.timeout < Duration::from_millis(1) || self.timeout > Duration::from_secs(10) {
            return fail("timeout", "must be 1ms to 10s");
        }
        if self.max_waiting_writes == 0 {
            return fail("max_waiting_writes", "must be at least 1");
        }
        Ok(())
    }

    /// How to reach the nodes, at least one.
    pub(crate) fn connections(&self) -> Result<Vec<ConnectionInfo>, RedisConfigError> {
        let error = |must| RedisConfigError { field: "nodes", must };
        if self.nodes.is_empty() || (self.nodes.len() > 1 && !self.cluster) {
            return Err(error("must be one node, or some of a cluster"));
        }
        let mut nodes = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            // The crate's own error may quote the URL.
            let info =
                node.as_str().into_connection_info().map_err(|_| error("must be URLs such as redis://host:6379"))?;
            if info.redis_settings().password().is_some() || info.redis_settings().username().is_some() {
                return Err(error("must hold no user and no password: set redis.username and redis.password"));
            }
            let mut settings = info.redis_settings().clone();
            if let Some(username) = &self.username {
                settings = settings.set_username(username);
            }
            if let Some(password) = &self.password {
                settings = settings.set_password(password.expose());
            }
            nodes.push(info.set_redis_settings(settings));
        }
        Ok(nodes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(nodes: &[&str]) -> RedisConfig {
        RedisConfig {
            nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
            cluster: false,
            username: None,
            password: Some(Secret::new("hunter2")),
            timeout: Duration::from_millis(250),
            max_waiting_writes: 10,
        }
    }

    #[test]
    fn nodes() {
        let check = |nodes: &[&str], cluster, expect: Option<&str>| {
            let error = RedisConfig { cluster, ..config(nodes) }.check().err();
            assert_eq!(error.map(|error| error.field), expect, "{nodes:?}");
        };
        check(&["redis://127.0.0.1:6379"], false, None);
        check(&["redis://a:1", "redis://b:1"], true, None);
        check(&["redis://a:1", "redis://b:1"], false, Some("nodes"));
        check(&[], true, Some("nodes"));
        check(&["http://a:1"], false, Some("nodes"));
        check(&["redis://user:geheim@a:1"], false, Some("nodes"));
    }

    #[test]
    fn ranges() {
        let timeout = RedisConfig { timeout: Duration::ZERO, ..config(&["redis://a:1"]) };
        assert_eq!(timeout.check().unwrap_err().to_string(), "redis.timeout must be 1ms to 10s");
        let writes = RedisConfig { max_waiting_writes: 0, ..config(&["redis://a:1"]) };
        assert_eq!(writes.check().unwrap_err().field, "max_waiting_writes");
    }

    #[test]
    fn the_password_goes_to_the_server_and_nowhere_else() {
        let config = config(&["redis://a:1"]);
        assert_eq!(config.connections().unwrap()[0].redis_settings().password(), Some("hunter2"));
        assert!(!format!("{config:?} {}", serde_json::to_string(&config).unwrap()).contains("hunter2"));
        let in_url = RedisConfig { nodes: vec!["redis://u:geheim@a:1".to_owned()], ..config };
        assert!(!in_url.check().unwrap_err().to_string().contains("geheim"));
    }
}
