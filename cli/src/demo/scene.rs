//! What the demo shows at one moment, whoever draws it.

use super::neighbours::{Neighbour, Neighbours, kilometres};
use super::rates::Reading;
use crate::simulate::ledger::Progress;

/// Said wherever the demo is seen.
pub(super) const EMBEDDED: &str = "embedded mode: Kafka's mock, cache and database live in this process and end with it; for trying out, nothing is durable";

/// The moment.
#[derive(Default)]
pub(super) struct Scene {
    /// Whose list.
    pub(super) name: String,
    /// The list.
    pub(super) neighbours: Neighbours,
    /// How the run goes.
    pub(super) progress: Progress,
    /// The pipeline.
    pub(super) rates: String,
    reading: Option<(i64, Reading)>,
}

impl Scene {
    /// The list of somebody who is called this, before anything is known.
    pub(super) fn of(name: String) -> Self {
        Self { name, ..Self::default() }
    }

    /// Takes a reading of the metrics at `now`, in ms since the epoch.
    pub(super) fn read(&mut self, metrics: &str, now: i64) {
        let reading = Reading::of(metrics);
        if let Some((then, earlier)) = self.reading.replace((now, reading)) {
            self.rates = reading.rates(&earlier, (now - then) as f64 / 1_000.0);
        }
    }

    /// What the audit says so far.
    pub(super) fn verdict(&self) -> String {
        let Progress { missing, wrong, stale, wrong_seconds, in_range_seconds, clean, .. } = self.progress;
        if !clean {
            format!("audit: WRONG for {wrong_seconds:.1} pair-seconds: {missing} missing, {wrong} wrong, {stale} stale")
        } else if in_range_seconds == 0.0 {
            "audit: nothing to judge yet".to_owned()
        } else {
            format!("audit: clean, 0 missing, 0 wrong, 0 stale over {in_range_seconds:.0} pair-seconds in range")
        }
    }

    /// Phones and latency.
    pub(super) fn phones(&self) -> String {
        let Progress { phones, connected, p50_ms, p99_ms, .. } = self.progress;
        format!("{connected} of {phones} phones connected; report to friend p50 {p50_ms:.0} ms, p99 {p99_ms:.0} ms")
    }

    /// The plain line of a second.
    pub(super) fn line(&self) -> String {
        let nearest = self.neighbours.nearest();
        let named: Vec<String> =
            nearest.iter().take(3).map(|n| format!("{} {}", n.name, kilometres(n.distance_m))).collect();
        let named = if named.is_empty() { String::new() } else { format!(" ({})", named.join(", ")) };
        format!("{}: {} near{named}; {}; {}", self.name, nearest.len(), self.rates, self.verdict())
    }
}

/// A row of the table: name, distance, age, whether it is approximate.
pub(super) fn row(neighbour: &Neighbour, now: i64) -> [String; 4] {
    let age_s = (now - neighbour.at).max(0) as f64 / 1_000.0;
    let about = if neighbour.approximate { "approximate" } else { "" };
    [neighbour.name.clone(), kilometres(neighbour.distance_m), format!("{age_s:.0} s"), about.to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_is_honest() {
        let mut scene = Scene::default();
        scene.progress.clean = true;
        assert_eq!(scene.verdict(), "audit: nothing to judge yet");
        scene.progress.in_range_seconds = 12.0;
        assert_eq!(scene.verdict(), "audit: clean, 0 missing, 0 wrong, 0 stale over 12 pair-seconds in range");
        scene.progress = Progress { clean: false, missing: 2, wrong_seconds: 1.25, ..scene.progress };
        assert_eq!(scene.verdict(), "audit: WRONG for 1.2 pair-seconds: 2 missing, 0 wrong, 0 stale");
    }

    #[test]
    fn rates_need_two_readings() {
        let mut scene = Scene::default();
        scene.read("nearcast_gateway_frames_total 5\n", 1_000);
        assert_eq!(scene.rates, "");
        scene.read("nearcast_gateway_frames_total 25\n", 3_000);
        assert!(scene.rates.ends_with("frames/s 10"));
    }
}
