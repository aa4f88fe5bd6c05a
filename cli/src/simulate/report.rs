//! What a run came to: as JSON for machines and as a table for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::finding::{Example, seconds};
use super::latency::{Quantiles, Stages};
use super::ledger::Ledger;
use super::pace::Pace;

/// What is known of a run without having run it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// The run's own name, part of every user id.
    pub(crate) run: String,
    /// The seed.
    pub(crate) seed: u64,
    /// User ids by index.
    pub(crate) users: Vec<String>,
    /// Friends to a phone on average.
    pub(crate) friends: f64,
    /// How long phones reported, seconds.
    pub(crate) duration_s: f64,
    /// Everything ran in this process.
    pub(crate) embedded: bool,
    /// Updates were dropped on purpose.
    pub(crate) sabotage: bool,
    /// It was interrupted.
    pub(crate) interrupted: bool,
}

/// What the audit says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// Every phone saw what it had to, at every moment.
    Clean,
    /// Not so.
    Wrong,
    /// Nobody had to see anybody: nothing was shown by this run.
    NothingAudited,
    /// No report was acknowledged.
    NothingAcknowledged,
}

/// A run.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs)]
pub(crate) struct Report {
    pub(crate) verdict: Verdict,
    pub(crate) run: String,
    pub(crate) seed: u64,
    pub(crate) embedded: bool,
    pub(crate) sabotage: bool,
    pub(crate) interrupted: bool,
    pub(crate) phones: usize,
    pub(crate) friends_mean: f64,
    pub(crate) duration_s: f64,
    pub(crate) reports_sent: u64,
    pub(crate) reports_acknowledged: u64,
    pub(crate) reports_published: u64,
    pub(crate) reports_thinned: u64,
    pub(crate) reports_stored: u64,
    pub(crate) reports_refused: u64,
    pub(crate) reports_unacknowledged: u64,
    /// Times that an entry began to be so.
    pub(crate) missing: u64,
    pub(crate) wrong: u64,
    pub(crate) stale: u64,
    pub(crate) distances_off: u64,
    /// Summed over pairs of viewer and friend, as are audited and in range.
    pub(crate) wrong_seconds: f64,
    /// The first and the last instant at which anything was wrong, in ms since the epoch.
    pub(crate) wrong_between_ms: Option<(i64, i64)>,
    pub(crate) audited_pair_seconds: f64,
    pub(crate) in_range_pair_seconds: f64,
    /// Times that this process did not get to run, for how long, and the longest slack that came of it.
    pub(crate) audit_pauses: u64,
    pub(crate) audit_paused_s: f64,
    pub(crate) slack_max_s: f64,
    pub(crate) updates_received: u64,
    pub(crate) upserts_received: u64,
    pub(crate) removals_received: u64,
    pub(crate) updates_unrecognised: u64,
    pub(crate) updates_sabotaged: u64,
    pub(crate) resets_received: u64,
    pub(crate) digests: u64,
    pub(crate) digest_mismatches: u64,
    pub(crate) syncs: u64,
    pub(crate) connects: u64,
    pub(crate) reconnects: u64,
    /// Sockets ended on purpose, by the network or the server, and phones told not to come back.
    pub(crate) drops: u64,
    pub(crate) losses: u64,
    pub(crate) retired: u64,
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) latency_ms: Quantiles,
    pub(crate) stages_ms: Stages,
    pub(crate) reports_per_s: f64,
    pub(crate) updates_per_s: f64,
    pub(crate) examples: Vec<Example>,
    /// User ids by index.
    pub(crate) users: Vec<String>,
}

impl Report {
    /// Draws it up.
    pub(crate) fn of(facts: Facts, ledger: &Ledger, pace: &Pace) -> Self {
        let (tally, findings) = (ledger.tally(), ledger.findings());
        let verdict = if !findings.is_clean() {
            Verdict::Wrong
        } else if tally.acknowledged() == 0 {
            Verdict::NothingAcknowledged
        } else if findings.in_range_seconds() == 0.0 {
            Verdict::NothingAudited
        } else {
            Verdict::Clean
        };
        let updates = tally.upserts + tally.removals;
        let per_s = |count: u64| round(count as f64 / facts.duration_s.max(1e-9), 1);
        Self {
            verdict,
            run: facts.run,
            seed: facts.seed,
            embedded: facts.embedded,
            sabotage: facts.sabotage,
            interrupted: facts.interrupted,
            phones: facts.users.len(),
            friends_mean: round(facts.friends, 2),
            duration_s: round(facts.duration_s, 1),
            reports_sent: tally.sent,
            reports_acknowledged: tally.acknowledged(),
            reports_published: tally.published,
            reports_thinned: tally.thinned,
            reports_stored: tally.stored,
            reports_refused: tally.refused,
            reports_unacknowledged: tally.unacknowledged(),
            missing: findings.missing,
            wrong: findings.wrong,
            stale: findings.stale,
            distances_off: findings.distances_off,
            wrong_seconds: round(findings.wrong_seconds(), 3),
            wrong_between_ms: findings.wrong_between_ms(),
            audited_pair_seconds: round(findings.judged_seconds(), 1),
            in_range_pair_seconds: round(findings.in_range_seconds(), 1),
            audit_pauses: pace.pauses(),
            audit_paused_s: round(seconds(pace.paused()), 3),
            slack_max_s: round(seconds(pace.widest()), 3),
            updates_received: updates,
            upserts_received: tally.upserts,
            removals_received: tally.removals,
            updates_unrecognised: tally.unrecognised,
            updates_sabotaged: tally.sabotaged,
            resets_received: tally.resets,
            digests: tally.digests,
            digest_mismatches: tally.digest_mismatches,
            syncs: tally.syncs,
            connects: tally.connects,
            reconnects: tally.connects.saturating_sub(facts.users.len() as u64),
            drops: tally.drops,
            losses: tally.losses,
            retired: tally.retired,
            errors: tally.errors.clone(),
            latency_ms: ledger.latencies().report_to_friend.quantiles(),
            stages_ms: ledger.latencies().stages(),
            reports_per_s: per_s(tally.sent),
            updates_per_s: per_s(updates),
            examples: findings.examples.to_vec(),
            users: facts.users,
        }
    }

    /// Whether the run showed what a run is for.
    pub(crate) fn passed(&self) -> bool {
        self.verdict == Verdict::Clean
    }

    /// The verdict in a sentence.
    pub(crate) fn sentence(&self) -> String {
        match self.verdict {
            Verdict::Clean => format!(
                "clean: over {:.0} pair-seconds in range, no entry was missing, wrong or stale",
                self.in_range_pair_seconds
            ),
            Verdict::Wrong => {
                let within_s = self.wrong_between_ms.map_or(0.0, |(first, last)| (last - first) as f64 / 1_000.0);
                format!(
                    "WRONG for {:.2} pair-seconds within {within_s:.1} s: {} missing, {} wrong, {} stale, {} distances off",
                    self.wrong_seconds, self.missing, self.wrong, self.stale, self.distances_off
                )
            }
            Verdict::NothingAudited => {
                "NOTHING AUDITED: at no moment had anybody to see anybody; more phones, more friends or more time"
                    .to_owned()
            }
            Verdict::NothingAcknowledged => "NOTHING ACKNOWLEDGED: the server accepted no report".to_owned(),
        }
    }

    fn digests_compared(&self) -> String {
        if self.digests == 0 {
            return "none compared: the server told none in this time; fanout.digest_every says how often it does"
                .into();
        }
        format!("{} compared, {} differed", self.digests, self.digest_mismatches)
    }

    /// The table for people.
    pub(crate) fn table(&self) -> String {
        let mut table = String::new();
        let mut row = |name: &str, value: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(table, "  {name:<22}{value}");
        };
        let interrupted = if self.interrupted { ", interrupted" } else { "" };
        row("run", format!("{}  seed {}  {:.0} s{interrupted}", self.run, self.seed, self.duration_s));
        row("phones", format!("{}, {:.1} friends each", self.phones, self.friends_mean));
        let of_reports = format!(
            "{} acknowledged: {} published, {} thinned, {} stored late",
            self.reports_acknowledged, self.reports_published, self.reports_thinned, self.reports_stored
        );
        row("reports", format!("{} sent ({}/s), {of_reports}", self.reports_sent, self.reports_per_s));
        if self.reports_refused + self.reports_unacknowledged > 0 {
            let (refused, open) = (self.reports_refused, self.reports_unacknowledged);
            row("", format!("{refused} refused, {open} without an answer"));
        }
        let of_updates = format!(
            "{} positions, {} removals, {} resets",
            self.upserts_received, self.removals_received, self.resets_received
        );
        row("updates", format!("{} received ({}/s): {of_updates}", self.updates_received, self.updates_per_s));
        row("sockets", format!("{} drops, {} lost otherwise, {} reconnects", self.drops, self.losses, self.reconnects));
        row("digests", self.digests_compared());
        let quantiles = |q: &Quantiles| {
            if q.samples == 0 {
                return "nothing measured".to_owned();
            }
            format!("{:>8.1} {:>8.1} {:>8.1} {:>8.1}   {:>8}", q.p50, q.p90, q.p99, q.max, q.samples)
        };
        row("milliseconds", format!("{:>8} {:>8} {:>8} {:>8}   {:>8}", "p50", "p90", "p99", "max", "samples"));
        row("report to friend", quantiles(&self.latency_ms));
        row("  report to log", quantiles(&self.stages_ms.report_to_log));
        row("  log to friend", quantiles(&self.stages_ms.log_to_friend));
        row("report to ack", quantiles(&self.stages_ms.report_to_ack));
        row("ack to friend", quantiles(&self.stages_ms.ack_to_friend));
        row("appearance", quantiles(&self.stages_ms.appearance));
        row("connect to welcome", quantiles(&self.stages_ms.connect_to_welcome));
        row("loss to welcome", quantiles(&self.stages_ms.away));
        if !self.errors.is_empty() {
            let errors: Vec<String> = self.errors.iter().map(|(code, count)| format!("{code} {count}")).collect();
            row("errors", errors.join(", "));
        }
        if self.retired > 0 {
            row("", format!("{} phones were told not to come back", self.retired));
        }
        if self.sabotage {
            row("sabotage", format!("{} updates dropped on purpose", self.updates_sabotaged));
        }
        if self.audit_pauses > 0 {
            let (pauses, paused, slack) = (self.audit_pauses, self.audit_paused_s, self.slack_max_s);
            row("audit pauses", format!("{pauses}, {paused:.1} s: this process was starved; slack up to {slack:.1} s"));
        }
        row("audit", self.sentence());
        for example in &self.examples {
            let friend = example.friend.map_or("an unknown id", |friend| &self.users[friend as usize]);
            let ago =
                |seconds: Option<f64>| seconds.map_or("never".to_owned(), |seconds| format!("{seconds:.1} s ago"));
            row(
                "",
                format!(
                    "{:?}: {} at {friend}: {} apart, friend reported {}, viewer {}, welcomed {:.1} s ago",
                    example.finding,
                    self.users[example.viewer as usize],
                    example.apart_m.map_or("unknown".to_owned(), |metres| format!("{metres:.0} m")),
                    ago(example.friend_sent_s),
                    ago(example.viewer_sent_s),
                    example.welcomed_s
                ),
            );
        }
        table
    }
}

fn round(value: f64, digits: i32) -> f64 {
    let factor = 10_f64.powi(digits);
    (value * factor).round() / factor
}

#[cfg(test)]
mod tests {
    use super::super::audit::{Change, Terms};
    use super::super::frames::Outcome;
    use super::super::ledger::{Answer, Event, Listed, Told};
    use super::super::point::Point;
    use super::*;

    fn facts() -> Facts {
        Facts {
            run: "r".into(),
            users: vec!["a".into(), "b".into()],
            friends: 1.0,
            duration_s: 10.0,
            ..Facts::default()
        }
    }

    /// Two friends a kilometre apart, each acknowledged; the first is shown the second, or not.
    fn ledger(shown: bool) -> Ledger {
        let mut ledger = Ledger::new(&[vec![1], vec![0]]);
        let mut tell = |phone, event| ledger.take(Told { phone, at: 0, event });
        for (phone, lat) in [(0, 0.0), (1, 0.009)] {
            tell(phone, Event::Sent { n: 1, point: Point::of_degrees(lat, 0.0), hello: true });
            tell(phone, Event::Answered { n: 1, answer: Answer::Accepted(Outcome::Published) });
        }
        tell(0, Event::Welcomed { terms: Terms { radius_m: 8_000.0, ttl: 600_000_000 }, took: 1_000 });
        if shown {
            let change = Change::Put { friend: 1, point: Point::of_degrees(0.009, 0.0), distance_m: None };
            let changes = vec![Listed { change, appended: 0 }];
            tell(0, Event::Listed { changes, reset: true, in_reset: true, awaits_parts: false });
        }
        for tick in 0..20 {
            ledger.inspect(tick * 250_000, 2_000_000);
        }
        ledger
    }

    fn report(ledger: &Ledger) -> Report {
        Report::of(facts(), ledger, &Pace::new(250_000, 2_000_000))
    }

    #[test]
    fn the_json_has_the_promised_fields() {
        let json = serde_json::to_value(report(&ledger(true))).unwrap();
        for field in [
            "phones",
            "reports_sent",
            "reports_acknowledged",
            "missing",
            "wrong",
            "stale",
            "wrong_seconds",
            "updates_received",
            "drops",
            "reconnects",
            "seed",
            "duration_s",
            "digest_mismatches",
        ] {
            assert!(json[field].is_number(), "{field}");
        }
        for quantile in ["p50", "p90", "p99", "max"] {
            assert!(json["latency_ms"][quantile].is_number(), "{quantile}");
            assert!(json["stages_ms"]["report_to_ack"][quantile].is_number(), "{quantile}");
        }
        assert_eq!(json["verdict"], "clean");
        assert_eq!((json["reports_sent"].as_u64(), json["reports_acknowledged"].as_u64()), (Some(2), Some(2)));
        assert!(json["errors"].is_object());
    }

    #[test]
    fn a_clean_run_passes_and_a_wrong_one_does_not() {
        let clean = report(&ledger(true));
        assert!(
            clean.passed() && clean.table().contains("audit                 clean: over 3 pair-seconds"),
            "{}",
            clean.table()
        );
        let wrong = report(&ledger(false));
        assert!(!wrong.passed() && wrong.missing == 1);
        assert!(wrong.table().contains("Missing: a at b: 995 m apart"), "{}", wrong.table());
    }

    #[test]
    fn a_run_without_digests_says_so() {
        let mut ledger = ledger(true);
        assert!(report(&ledger).table().contains("digests               none compared: "));
        ledger.take(Told { phone: 0, at: 0, event: Event::Compared { agreed: true } });
        assert!(report(&ledger).table().contains("digests               1 compared, 0 differed"));
    }

    #[test]
    fn a_run_in_which_nothing_was_audited_does_not_pass() {
        let mut ledger = Ledger::new(&[vec![1], vec![0]]);
        assert_eq!(report(&ledger).verdict, Verdict::NothingAcknowledged);
        let mut tell = |event| ledger.take(Told { phone: 0, at: 0, event });
        tell(Event::Sent { n: 1, point: Point::of_degrees(0.0, 0.0), hello: true });
        tell(Event::Answered { n: 1, answer: Answer::Accepted(Outcome::Published) });
        let report = report(&ledger);
        assert!(report.verdict == Verdict::NothingAudited && !report.passed());
    }
}
