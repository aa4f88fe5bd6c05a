//! The figures, as a table and as a file.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::Plan;
use crate::pairs::Shown;
use crate::phone::now_ms;
use crate::play::Sample;

/// What the phones do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The pairs alone report.
    Calm,
    /// Everybody reports as soon as answered.
    Probe,
    /// Twice as much as the machine takes.
    Load,
    /// The pairs alone, again.
    After,
}

/// A friend's move is shown as always while it takes no more than this, or than three times the p99 before the load.
const AS_ALWAYS_MS: i64 = 250;

#[derive(Debug, Default)]
pub struct Report {
    pub samples: Vec<Sample>,
    /// When each phase began, in ms since the epoch.
    began: BTreeMap<Phase, i64>,
    pub refused: BTreeMap<String, u64>,
    pub came_back: u64,
    /// Of the crowd, from sending to acknowledgement, during and after the load; ms.
    pub latencies: Vec<u32>,
    pub shown: Vec<Shown>,
    pub findings: Vec<String>,
    figures: serde_json::Map<String, Value>,
}

impl Report {
    pub fn begins(&mut self, phase: Phase) {
        self.began.insert(phase, now_ms());
    }

    /// What was offered and what came of it.
    pub fn load(&mut self, takes: f64, time: Duration, [sent, accepted]: [u64; 2], storms: u64) {
        let s = time.as_secs_f64();
        for (name, figure) in [
            ("takes_per_s", takes),
            ("load_seconds", s),
            ("offered_per_s", 2.0 * takes),
            ("sent_per_s", sent as f64 / s),
            ("accepted_per_s", accepted as f64 / s),
            ("storms", storms as f64),
        ] {
            self.figures.insert(name.to_owned(), rounded(figure));
        }
    }

    /// When nothing was behind any more; and from when on pairs saw each other as always.
    pub fn recovered(&mut self, calm: Option<i64>) {
        let end = self.began[&Phase::After];
        let limit = AS_ALWAYS_MS.max(3 * quantile(&self.of(Phase::Calm), 0.99).unwrap_or(0));
        let late = self.shown.iter().filter(|shown| shown.took_ms.is_some_and(|took| took > limit));
        let last_late = late.map(|shown| shown.sent_ms).max().unwrap_or(0);
        let live = self.shown.iter().map(|shown| shown.sent_ms).filter(|sent| *sent > last_late.max(end)).min();
        let since = |at: Option<i64>| at.map_or(Value::Null, |at| rounded((at - end) as f64 / 1_000.0));
        let both = calm.zip(live).map(|(calm, live)| calm.max(live));
        for (name, at) in [("recovery_seconds", both), ("live_seconds", live), ("calm_seconds", calm)] {
            self.figures.insert(name.to_owned(), since(at));
        }
    }

    /// When the history held everything.
    pub fn stored(&mut self, at: i64) {
        let end = self.began[&Phase::After];
        self.figures.insert("history_seconds".to_owned(), rounded((at - end) as f64 / 1_000.0));
    }

    pub fn print_account(&self) {
        for (name, figure) in &self.figures {
            if name.starts_with("audited") || name == "history_seconds" {
                println!("{name:<26}{:>14}", figure.to_string());
            }
        }
        for finding in &self.findings {
            println!("FOUND: {finding}");
        }
    }

    /// The audit closed.
    pub fn account(&mut self, account: &Value, accepted: u64) {
        self.figures.insert("audited_accepted".to_owned(), accepted.into());
        self.figures.insert("audited_reports_in_log".to_owned(), account["log"]["reports"].clone());
        self.figures.insert("audited_reports_in_history".to_owned(), account["history"]["reports"].clone());
    }

    /// Processes whose memory grew in the second half of the load, or after it.
    pub fn memory(&self, ratio: f64, bytes: f64) -> Vec<String> {
        let (begun, end) = (self.began[&Phase::Load], self.began[&Phase::After]);
        let half = begun + (end - begun) / 2;
        let mut findings = Vec::new();
        for name in self.services() {
            let (first, then) = (self.peak(name, begun, half), self.peak(name, half, i64::MAX));
            if then > first * ratio + bytes {
                findings.push(format!("{name} grew from {:.0} MB to {:.0} MB under load", first / 1e6, then / 1e6));
            }
        }
        findings
    }

    fn services(&self) -> Vec<&'static str> {
        self.samples.first().map(|sample| sample.resident.iter().map(|(name, _)| *name).collect()).unwrap_or_default()
    }

    fn peak(&self, name: &str, from: i64, to: i64) -> f64 {
        let within = self.samples.iter().filter(|sample| (from..to).contains(&sample.at_ms));
        let of_service = within.flat_map(|sample| sample.resident.iter().filter(|(known, _)| *known == name));
        of_service.map(|(_, bytes)| *bytes).max().unwrap_or(0) as f64
    }

    /// How long moves of pairs took that were sent in a phase; ms.
    fn of(&self, phase: Phase) -> Vec<i64> {
        let from = self.began[&phase];
        let to = self.began.range(phase..).nth(1).map_or(i64::MAX, |(_, began)| *began);
        let sent = self.shown.iter().filter(|shown| (from..to).contains(&shown.sent_ms));
        sent.filter_map(|shown| shown.took_ms).collect()
    }

    fn json(&self, plan: Plan) -> Value {
        let mut json = self.figures.clone();
        let (load, after) = (self.began[&Phase::Load], self.began[&Phase::After]);
        let memory: serde_json::Map<String, Value> = self
            .services()
            .into_iter()
            .map(|name| {
                let bytes = |from, to| json!(self.peak(name, from, to));
                let last = self.samples.last().map_or(0, |sample| sample.at_ms);
                let figures = json!({"start": bytes(load - 1_500, load), "peak": bytes(load, i64::MAX), "end": bytes(last, i64::MAX)});
                (name.to_owned(), figures)
            })
            .collect();
        let live = [("calm", Phase::Calm), ("probe", Phase::Probe), ("load", Phase::Load), ("after", Phase::After)];
        let live: serde_json::Map<String, Value> = live
            .into_iter()
            .map(|(name, phase)| {
                let took = self.of(phase);
                (name.to_owned(), json!({"p50": quantile(&took, 0.5), "p99": quantile(&took, 0.99), "max": quantile(&took, 1.0), "shown": took.len()}))
            })
            .collect();
        let acknowledged: Vec<i64> = self.latencies.iter().map(|ms| i64::from(*ms)).collect();
        let within = |sample: &&Sample| (load..after).contains(&sample.at_ms);
        let most = |of: fn(&Sample) -> f64| self.samples.iter().filter(within).map(of).fold(0.0, f64::max);
        json.extend([
            ("phones".to_owned(), plan.phones.into()),
            ("friends".to_owned(), plan.friends.into()),
            ("came_back".to_owned(), self.came_back.into()),
            ("refused".to_owned(), json!(self.refused)),
            ("resident_bytes".to_owned(), memory.into()),
            ("move_to_friend_ms".to_owned(), live.into()),
            (
                "report_to_ack_ms".to_owned(),
                json!({"p50": quantile(&acknowledged, 0.5), "p99": quantile(&acknowledged, 0.99)}),
            ),
            ("most_in_flight".to_owned(), rounded(most(|sample| sample.in_flight))),
            ("most_lag_seconds".to_owned(), rounded(most(|sample| sample.lag_s))),
            ("most_not_stored".to_owned(), rounded(most(|sample| sample.not_stored))),
            ("findings".to_owned(), json!(self.findings)),
        ]);
        json.into()
    }

    pub fn write(&self, plan: Plan, path: &Path) {
        std::fs::write(path, serde_json::to_string_pretty(&self.json(plan)).unwrap() + "\n").unwrap();
    }

    pub fn print(&self, plan: Plan) {
        let json = self.json(plan);
        println!(
            "\nTwice what the machine takes, for {} s, {} storms of reconnects\n",
            json["load_seconds"], json["storms"]
        );
        for name in [
            "takes_per_s",
            "offered_per_s",
            "sent_per_s",
            "accepted_per_s",
            "came_back",
            "most_in_flight",
            "most_lag_seconds",
            "most_not_stored",
        ] {
            println!("{name:<26}{:>14}", json[name].to_string());
        }
        for (code, count) in &self.refused {
            println!("{:<26}{count:>14}", format!("refused: {code}"));
        }
        println!("\n{:<26}{:>10}{:>10}{:>10}{:>10}", "ms", "p50", "p99", "longest", "shown");
        for phase in ["calm", "probe", "load", "after"] {
            let of = &json["move_to_friend_ms"][phase];
            println!(
                "{:<26}{:>10}{:>10}{:>10}{:>10}",
                format!("move to friend, {phase}"),
                of["p50"].to_string(),
                of["p99"].to_string(),
                of["max"].to_string(),
                of["shown"].to_string()
            );
        }
        let of = &json["report_to_ack_ms"];
        println!("{:<26}{:>10}{:>10}", "report to ack, load", of["p50"].to_string(), of["p99"].to_string());
        println!("\n{:<26}{:>10}{:>10}{:>10}", "resident, MB", "start", "peak", "end");
        for name in self.services() {
            let of = |at: &str| json["resident_bytes"][name][at].as_f64().unwrap_or(0.0) / 1e6;
            println!("{name:<26}{:>10.1}{:>10.1}{:>10.1}", of("start"), of("peak"), of("end"));
        }
        println!();
        for name in ["recovery_seconds", "live_seconds", "calm_seconds"] {
            println!("{name:<26}{:>14}", json[name].to_string());
        }
    }
}

fn rounded(figure: f64) -> Value {
    json!((figure * 100.0).round() / 100.0)
}

fn quantile(of: &[i64], share: f64) -> Option<i64> {
    let mut sorted = of.to_vec();
    sorted.sort_unstable();
    let last = sorted.len().checked_sub(1)?;
    Some(sorted[(last as f64 * share).round() as usize])
}
