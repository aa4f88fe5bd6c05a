//! What all services of one deployment must agree on.

use serde::{Deserialize, Serialize};

/// The section `[deployment]` of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    /// Names topics, groups, Redis keys and the keyspace; lower-case letters, digits and `_`, from a letter.
    pub prefix: String,
    /// A friend silent for this long disappears; seconds.
    pub friend_ttl_s: u32,
    /// A viewer's radius where the profile names none; metres.
    pub default_radius_m: u32,
    /// No radius is larger; metres.
    pub max_radius_m: u32,
    /// How long a report may be thinned out before the next is published whatever it says; seconds, at most a third of the TTL.
    pub max_silence_s: u32,
    /// A report that moved less than this since the last published one may be thinned out; metres.
    pub min_move_m: f64,
    /// How often a phone should report; seconds.
    pub report_interval_s: u32,
    /// H3 resolution of approximate positions, 0 to 15.
    pub coarse_resolution: u8,
    /// How often an approximate position may change; seconds.
    pub coarse_period_s: u32,
}

/// What is wrong with a deployment's values.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("deployment.{field}: {problem}")]
pub struct DeploymentError {
    /// Name of the field.
    pub field: &'static str,
    /// What it must be.
    pub problem: String,
}

impl Deployment {
    /// Time to live of a position, in ms.
    pub fn ttl_ms(&self) -> i64 {
        i64::from(self.friend_ttl_s) * 1_000
    }

    /// A session that does not report says presence this often, in ms.
    pub fn presence_every_ms(&self) -> i64 {
        self.ttl_ms() / 3
    }

    /// Checks what the fields' own types cannot.
    ///
    /// # Errors
    /// Names the first field that is out of its range and what it must be.
    pub fn check(&self) -> Result<(), DeploymentError> {
        let fail = |field, problem: &str| Err(DeploymentError { field, problem: problem.to_owned() });
        let mut letters = self.prefix.chars();
        if !letters.next().is_some_and(|c| c.is_ascii_lowercase())
            || !letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            || self.prefix.len() > 32
        {
            return fail("prefix", "must be 1 to 32 lower-case letters, digits or _, from a letter");
        }
        if !(3..=86_400).contains(&self.friend_ttl_s) {
            return fail("friend_ttl_s", "must be 3 to 86400");
        }
        if self.max_silence_s == 0 || self.max_silence_s > self.friend_ttl_s / 3 {
            return fail("max_silence_s", "must be at least 1 and at most a third of friend_ttl_s");
        }
        if self.max_radius_m == 0 || self.max_radius_m > 100_000 {
            return fail("max_radius_m", "must be 1 to 100000");
        }
        if self.default_radius_m == 0 || self.default_radius_m > self.max_radius_m {
            return fail("default_radius_m", "must be at least 1 and at most max_radius_m");
        }
        if !(0.0..=10_000.0).contains(&self.min_move_m) {
            return fail("min_move_m", "must be 0 to 10000");
        }
        if self.report_interval_s == 0 || self.report_interval_s > self.friend_ttl_s {
            return fail("report_interval_s", "must be at least 1 and at most friend_ttl_s");
        }
        if self.coarse_resolution > 15 {
            return fail("coarse_resolution", "must be 0 to 15");
        }
        if self.coarse_period_s == 0 || self.coarse_period_s > self.friend_ttl_s {
            return fail("coarse_period_s", "must be at least 1 and at most friend_ttl_s");
        }
        Ok(())
    }
}
