//! The section `[api]` of the configuration.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The section `[api]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where it listens, for clients, gateways and health alike; port 0 takes a free one.
    pub listen: SocketAddr,
    /// A request that takes longer is answered `unavailable`; a change that is under way goes on. 100 ms to 5 min.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    /// How long a list or notice waits for others of its batch; at most 1 s.
    #[serde(with = "humantime_serde")]
    pub linger: Duration,
    /// After this a list or notice that Kafka did not acknowledge is given up, to be published again by the sweeper.
    /// More than `linger`; it has to outlast a broker's failover.
    #[serde(with = "humantime_serde")]
    pub delivery_timeout: Duration,
    /// A list that the log has held for longer is published again while its viewer is live; 1 s to 2 h, because the log
    /// keeps lists for 3 h.
    #[serde(with = "humantime_serde")]
    pub republish_after: Duration,
    /// A change that is not finished after this is finished by the sweeper, which tries again as often; 1 s to 1 h, and
    /// better more than a request takes.
    #[serde(with = "humantime_serde")]
    pub settle_after: Duration,
    /// How often the sweeper looks for work that is due; 10 ms to 5 min.
    #[serde(with = "humantime_serde")]
    pub sweep_every: Duration,
    /// Most friends of one user; 1 to 5000.
    pub max_friends: u32,
    /// How long a shutdown waits for requests and changes that are under way.
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
}

/// What is wrong with the section.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("api.{field} must be {must}")]
pub struct ConfigError {
    /// Name of the field.
    pub field: &'static str,
    /// What it must be.
    pub must: &'static str,
}

impl Config {
    /// Checks what the fields' own types cannot.
    ///
    /// # Errors
    /// Names the first field that is out of its range and what it must be.
    pub fn check(&self) -> Result<(), ConfigError> {
        const MS: Duration = Duration::from_millis(1);
        const S: Duration = Duration::from_secs(1);
        let checks = [
            ("request_timeout", "100ms to 5m", (100 * MS..=300 * S).contains(&self.request_timeout)),
            ("linger", "at most 1s", self.linger <= S),
            (
                "delivery_timeout",
                "more than linger and at most 5m",
                self.delivery_timeout > self.linger && self.delivery_timeout <= 300 * S,
            ),
            ("republish_after", "1s to 2h", (S..=7_200 * S).contains(&self.republish_after)),
            ("settle_after", "1s to 1h", (S..=3_600 * S).contains(&self.settle_after)),
            ("sweep_every", "10ms to 5m", (10 * MS..=300 * S).contains(&self.sweep_every)),
            ("max_friends", "1 to 5000", (1..=5_000).contains(&self.max_friends)),
        ];
        match checks.into_iter().find(|(_, _, good)| !good) {
            Some((field, must, _)) => Err(ConfigError { field, must }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Config {
        Config {
            listen: ([127, 0, 0, 1], 7410).into(),
            request_timeout: Duration::from_secs(10),
            linger: Duration::from_millis(2),
            delivery_timeout: Duration::from_secs(8),
            republish_after: Duration::from_secs(2_700),
            settle_after: Duration::from_secs(30),
            sweep_every: Duration::from_secs(10),
            max_friends: 5_000,
            drain: Duration::from_secs(15),
        }
    }

    #[test]
    fn ranges() {
        assert_eq!(good().check(), Ok(()));
        let check = |field: &str, change: fn(&mut Config)| {
            let mut config = good();
            change(&mut config);
            assert_eq!(config.check().unwrap_err().field, field);
        };
        check("request_timeout", |c| c.request_timeout = Duration::ZERO);
        check("linger", |c| c.linger = Duration::from_secs(2));
        check("delivery_timeout", |c| c.delivery_timeout = c.linger);
        check("republish_after", |c| c.republish_after = Duration::from_secs(3 * 3_600));
        check("settle_after", |c| c.settle_after = Duration::ZERO);
        check("sweep_every", |c| c.sweep_every = Duration::ZERO);
        check("max_friends", |c| c.max_friends = 5_001);
    }
}
