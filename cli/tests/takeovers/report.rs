//! What a run came to: a row a fault, and the phones' verdict.

use std::path::Path;

use serde_json::{Value, json};

use crate::Plan;
use crate::ownership::Seen;

/// What was done to whom.
pub struct Kill {
    pub worker: String,
    /// ms since the epoch.
    pub at_ms: i64,
}

/// What came of it.
pub struct Report {
    json: Value,
    clean: bool,
}

impl Report {
    pub fn of(plan: Plan, kills: &[Kill], seen: &Seen, code: i32, simulated: &Value, ended_well: bool) -> Self {
        let begun = kills.first().map_or(0, |kill| kill.at_ms);
        let mut recoveries = Vec::new();
        let mut recovered = kills.len() == plan.kills as usize;
        let mut rows = Vec::new();
        for kill in kills {
            let takeovers = seen.takeovers(&kill.worker, kill.at_ms);
            let delivered: Vec<f64> = takeovers.iter().filter_map(|takeover| takeover.delivered_s).collect();
            let claimed: Vec<f64> = takeovers.iter().filter_map(|takeover| takeover.claimed_s).collect();
            recovered &= !takeovers.is_empty() && delivered.len() == takeovers.len();
            rows.push(json!({
                "fault": "sigkill",
                "target": format!("fanout {}", kill.worker),
                "at_seconds": (kill.at_ms - begun) as f64 / 1_000.0,
                "partitions": takeovers.len(),
                "partitions_recovered": delivered.len(),
                "claimed_seconds": quantile(&claimed, 1.0),
                "recovery_seconds_p50": quantile(&delivered, 0.5),
                "recovery_seconds": quantile(&delivered, 1.0),
            }));
            recoveries.extend(delivered);
        }
        let mismatches = simulated["digest_mismatches"].as_u64();
        let clean = code == 0 && recovered && ended_well && mismatches == Some(0);
        let mut verdict = serde_json::Map::new();
        for field in [
            "verdict",
            "missing",
            "wrong",
            "stale",
            "distances_off",
            "wrong_seconds",
            "digests",
            "digest_mismatches",
            "syncs",
            "resets_received",
            "reports_sent",
            "reports_acknowledged",
            "in_range_pair_seconds",
            "audit_pauses",
            "slack_max_s",
            "latency_ms",
        ] {
            verdict.insert(field.to_owned(), simulated[field].clone());
        }
        let json = json!({
            "clean": clean,
            "workers": plan.workers,
            "partitions": plan.partitions,
            "phones": plan.phones,
            "friends": plan.friends,
            "seed": plan.seed,
            "slack_seconds": plan.slack.as_secs_f64(),
            "every_seconds": plan.every.as_secs_f64(),
            "kills": kills.len(),
            "recovery_seconds_p50": quantile(&recoveries, 0.5),
            "recovery_seconds_max": quantile(&recoveries, 1.0),
            "ended_well": ended_well,
            "simulate": verdict,
            "rows": rows,
        });
        Self { json, clean }
    }

    pub fn is_clean(&self) -> bool {
        self.clean
    }

    /// Prints it as a table.
    pub fn print(&self) {
        println!(
            "\nTakeovers: seconds from the fault until each partition was claimed anew, and told under the claim\n"
        );
        println!("{:<10}{:<20}{:>10}{:>12}{:>12}{:>12}", "fault", "target", "partitions", "claimed", "p50", "all");
        for row in self.json["rows"].as_array().into_iter().flatten() {
            let text = |field: &str| row[field].as_str().unwrap_or_default();
            let seconds = |field: &str| row[field].as_f64().map_or("never".to_owned(), |s| format!("{s:.1}"));
            println!(
                "{:<10}{:<20}{:>10}{:>12}{:>12}{:>12}",
                text("fault"),
                text("target"),
                format!("{}/{}", row["partitions_recovered"], row["partitions"]),
                seconds("claimed_seconds"),
                seconds("recovery_seconds_p50"),
                seconds("recovery_seconds"),
            );
        }
        let (json, of) = (&self.json, &self.json["simulate"]);
        println!("\ntakeovers: p50 {} s, longest {} s", json["recovery_seconds_p50"], json["recovery_seconds_max"]);
        println!(
            "views: {}; {} missing, {} wrong, {} stale after {} s; {} digests compared, {} differed",
            of["verdict"],
            of["missing"],
            of["wrong"],
            of["stale"],
            json["slack_seconds"],
            of["digests"],
            of["digest_mismatches"]
        );
        println!("{}", if self.clean { "clean" } else { "NOT CLEAN" });
    }

    /// Writes it as JSON.
    pub fn write(&self, path: &Path) {
        std::fs::write(path, serde_json::to_string_pretty(&self.json).unwrap() + "\n").unwrap();
    }
}

fn quantile(of: &[f64], share: f64) -> Option<f64> {
    let mut sorted = of.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    Some(sorted[(last as f64 * share).round() as usize])
}
