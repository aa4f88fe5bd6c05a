//! The section `[ingest]` of the configuration.

use std::time::Duration;

use nearcast_schemas::deployment::Deployment;
use serde::{Deserialize, Serialize};

use crate::thin::ThinRules;
use crate::validate::AgeLimits;

/// The section `[ingest]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// How long the producer gathers records into a batch. Longer: fewer requests, later deliveries. At most 1 s.
    #[serde(with = "humantime_serde")]
    pub linger: Duration,
    /// After this long without Kafka's answer the fate of a record is unknown. It has to outlast a broker's failover.
    /// At least the linger, at most 5 min.
    #[serde(with = "humantime_serde")]
    pub delivery_timeout: Duration,
    /// At most this many records wait for Kafka in one process; more are refused. At least 1.
    pub max_in_flight: usize,
    /// A report older than this by its phone's own clock goes to the history alone; seconds, at least 1.
    pub max_age_s: u32,
    /// A report older than this is refused; days, at least 1.
    pub max_late_days: u32,
}

/// What is wrong with the section.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ingest.{field} must be {must}")]
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
        let fail = |field, must| Err(ConfigError { field, must });
        if self.linger > Duration::from_secs(1) {
            return fail("linger", "at most 1s");
        }
        if self.delivery_timeout <= self.linger || self.delivery_timeout > Duration::from_secs(300) {
            return fail("delivery_timeout", "more than linger and at most 5m");
        }
        if self.max_in_flight == 0 {
            return fail("max_in_flight", "at least 1");
        }
        if self.max_age_s == 0 {
            return fail("max_age_s", "at least 1");
        }
        if !(1..=3_650).contains(&self.max_late_days) {
            return fail("max_late_days", "1 to 3650");
        }
        Ok(())
    }

    /// Which ages of reports are taken how.
    pub fn age_limits(&self) -> AgeLimits {
        AgeLimits {
            max_age_ms: i64::from(self.max_age_s) * 1_000,
            max_late_ms: i64::from(self.max_late_days) * 86_400_000,
        }
    }
}

/// When reports of this deployment may be thinned out.
pub(crate) fn thin_rules(deployment: &Deployment) -> ThinRules {
    ThinRules { min_move_m: deployment.min_move_m, max_silence_ms: i64::from(deployment.max_silence_s) * 1_000 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let good = Config {
            linger: Duration::from_millis(20),
            delivery_timeout: Duration::from_secs(30),
            max_in_flight: 50_000,
            max_age_s: 60,
            max_late_days: 30,
        };
        assert_eq!(good.check(), Ok(()));
        let check = |change: fn(&mut Config), field: &str| {
            let mut config = good.clone();
            change(&mut config);
            assert_eq!(config.check().unwrap_err().field, field);
        };
        check(|c| c.linger = Duration::from_secs(2), "linger");
        check(|c| c.delivery_timeout = c.linger, "delivery_timeout");
        check(|c| c.delivery_timeout = Duration::from_secs(301), "delivery_timeout");
        check(|c| c.max_in_flight = 0, "max_in_flight");
        check(|c| c.max_age_s = 0, "max_age_s");
        check(|c| c.max_late_days = 0, "max_late_days");
    }
}
