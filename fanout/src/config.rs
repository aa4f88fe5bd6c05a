//! The section `[fanout]` of the configuration.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How one worker runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where `/healthz`, `/readyz` and `/metrics` are served.
    pub admin_listen: SocketAddr,
    /// The worker's name in claims and deliveries; empty for the machine's host name. Several workers of one name are
    /// told apart by when they started.
    pub worker: String,
    /// How often gathered deliveries go out while few gateways are written to; at least 1 ms.
    #[serde(with = "humantime_serde")]
    pub tick: Duration,
    /// How often at the least, while many gateways are written to; not below `tick`.
    #[serde(with = "humantime_serde")]
    pub tick_max: Duration,
    /// How often a gateway hears of a worker that has nothing to tell; at least 100 ms.
    #[serde(with = "humantime_serde")]
    pub heartbeat: Duration,
    /// How long after a change the digest of a view is told.
    #[serde(with = "humantime_serde")]
    pub digest_every: Duration,
    /// Sessions that are sent a reset in one tick after a change of ownership; at least 1.
    pub resets_per_tick: usize,
    /// Strangers that a user who opted in is shown at the most; 0 to 100, 0 for no discovery.
    pub discovery_max: usize,
    /// After this a delivery that Kafka did not acknowledge is given up, and made good by resets; it must outlast a
    /// broker's failover.
    #[serde(with = "humantime_serde")]
    pub delivery_timeout: Duration,
    /// The process ends when the engine, or a partition with records, makes no progress for this long.
    #[serde(with = "humantime_serde")]
    pub stall_after: Duration,
    /// How long a shutdown waits for deliveries on their way.
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
    /// Where the worker keeps a snapshot of what it knows from the locations, so that a restart replays a minute and not
    /// the whole time to live; empty for none. Not with the embedded cluster, which ends with its process. The file holds
    /// positions: it is readable by its owner alone, and a worker that stopped leaves its last one.
    pub snapshot_dir: PathBuf,
    /// How often it is written.
    #[serde(with = "humantime_serde")]
    pub snapshot_every: Duration,
}

/// A value that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("fanout.{field}: {problem}")]
pub struct ConfigError {
    /// The field.
    pub field: &'static str,
    /// What it must be.
    pub problem: &'static str,
}

impl Config {
    /// Checks what the fields' own types cannot.
    ///
    /// # Errors
    /// Names the first field that is out of its range.
    pub fn check(&self) -> Result<(), ConfigError> {
        let fail = |field, problem| Err(ConfigError { field, problem });
        if !(Duration::from_millis(1)..=Duration::from_secs(1)).contains(&self.tick) {
            return fail("tick", "must be 1ms to 1s");
        }
        if !(self.tick..=Duration::from_secs(1)).contains(&self.tick_max) {
            return fail("tick_max", "must be from fanout.tick to 1s");
        }
        if !(Duration::from_millis(100)..=Duration::from_secs(60)).contains(&self.heartbeat) {
            return fail("heartbeat", "must be 100ms to 1m");
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&self.digest_every) {
            return fail("digest_every", "must be 1s to 1h");
        }
        if self.resets_per_tick == 0 {
            return fail("resets_per_tick", "must be at least 1");
        }
        if self.discovery_max > 100 {
            return fail("discovery_max", "must be 0 to 100");
        }
        if self.delivery_timeout < Duration::from_secs(1) {
            return fail("delivery_timeout", "must be at least 1s");
        }
        if self.stall_after < Duration::from_secs(5) {
            return fail("stall_after", "must be at least 5s");
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(600)).contains(&self.snapshot_every) {
            return fail("snapshot_every", "must be 1s to 10m");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_which_value_cannot_be_used() {
        let good = Config {
            admin_listen: ([127, 0, 0, 1], 0).into(),
            worker: String::new(),
            tick: Duration::from_millis(10),
            tick_max: Duration::from_millis(50),
            heartbeat: Duration::from_secs(1),
            digest_every: Duration::from_secs(60),
            resets_per_tick: 500,
            discovery_max: 20,
            delivery_timeout: Duration::from_secs(30),
            stall_after: Duration::from_secs(30),
            drain: Duration::from_secs(10),
            snapshot_dir: PathBuf::new(),
            snapshot_every: Duration::from_secs(60),
        };
        assert_eq!(good.check(), Ok(()));
        let bad = Config { tick_max: Duration::from_millis(9), ..good.clone() };
        let said = bad.check().map_err(|error| error.to_string());
        assert_eq!(said, Err("fanout.tick_max: must be from fanout.tick to 1s".to_owned()));
        let bad = Config { snapshot_every: Duration::from_secs(601), ..good.clone() };
        let said = bad.check().map_err(|error| error.to_string());
        assert_eq!(said, Err("fanout.snapshot_every: must be 1s to 10m".to_owned()));
        let bad = Config { discovery_max: 101, ..good.clone() };
        let said = bad.check().map_err(|error| error.to_string());
        assert_eq!(said, Err("fanout.discovery_max: must be 0 to 100".to_owned()));
        let bad = Config { tick: Duration::ZERO, ..good };
        assert_eq!(bad.check().map_err(|error| error.to_string()), Err("fanout.tick: must be 1ms to 1s".to_owned()));
    }
}
