//! Durations as quantiles.

use std::time::Duration;

/// `p50, p99 and max in ms` of some durations, for people.
pub fn figures(mut all: Vec<Duration>) -> String {
    all.sort_unstable();
    let Some(max) = all.last() else { return "none".to_owned() };
    let at = |quantile: f64| all[((all.len() - 1) as f64 * quantile).round() as usize].as_millis();
    format!("p50 {} ms, p99 {} ms, max {} ms of {}", at(0.5), at(0.99), max.as_millis(), all.len())
}
