//! The account: how many reports each stage knows, and what differs.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, json};

use super::finding::{Findings, Kind};
use super::ledger::Heard;

/// By what phones know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OfLedger {
    /// Reports sent and answered, or not answered, in the range.
    pub sent: u64,
    pub published: u64,
    pub thinned: u64,
    pub stored: u64,
    pub refused: u64,
    /// Of those, nobody vouched for.
    pub unanswered: u64,
    /// Begun or ended outside the range: not judged.
    pub outside: u64,
}

impl OfLedger {
    /// One more.
    pub fn count(&mut self, heard: Heard) {
        self.sent += 1;
        *match heard {
            Heard::Published => &mut self.published,
            Heard::Thinned => &mut self.thinned,
            Heard::Stored => &mut self.stored,
            Heard::Refused => &mut self.refused,
            Heard::Sent | Heard::Declined | Heard::Unknown => &mut self.unanswered,
        } += 1;
    }
}

/// By the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OfLog {
    /// Different ones.
    pub reports: u64,
    /// Records of them.
    pub records: u64,
    pub as_now: u64,
    pub late: u64,
    /// Of installations that no ledger knows.
    pub in_no_ledger: u64,
    /// Records of other kinds.
    pub without_position: u64,
}

/// By the history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OfHistory {
    /// Reports of the log that it has.
    pub reports: u64,
    /// Their rows.
    pub rows: u64,
    /// Reports of the log that it lacks because their users were erased, or because of their age.
    pub erased: u64,
    pub expired: u64,
    /// Rows whose records are before the range or after it: not judged.
    pub older: u64,
    pub newer: u64,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Account {
    pub users: u64,
    pub ledger: OfLedger,
    pub log: OfLog,
    pub history: OfHistory,
    pub findings: Findings,
}

impl Account {
    /// An empty one; so many findings will be kept.
    pub fn new(most: usize) -> Self {
        Self { findings: Findings::new(most), ..Self::default() }
    }

    /// Adds another partition's.
    pub fn merge(&mut self, other: Self) {
        let Self { users, ledger, log, history, findings } = other;
        self.users += users;
        for (sum, count) in [
            (&mut self.ledger.sent, ledger.sent),
            (&mut self.ledger.published, ledger.published),
            (&mut self.ledger.thinned, ledger.thinned),
            (&mut self.ledger.stored, ledger.stored),
            (&mut self.ledger.refused, ledger.refused),
            (&mut self.ledger.unanswered, ledger.unanswered),
            (&mut self.ledger.outside, ledger.outside),
            (&mut self.log.reports, log.reports),
            (&mut self.log.records, log.records),
            (&mut self.log.as_now, log.as_now),
            (&mut self.log.late, log.late),
            (&mut self.log.in_no_ledger, log.in_no_ledger),
            (&mut self.log.without_position, log.without_position),
            (&mut self.history.reports, history.reports),
            (&mut self.history.rows, history.rows),
            (&mut self.history.erased, history.erased),
            (&mut self.history.expired, history.expired),
            (&mut self.history.older, history.older),
            (&mut self.history.newer, history.newer),
        ] {
            *sum += count;
        }
        self.findings.merge(findings);
    }

    /// Nothing was looked at: no account at all.
    pub fn is_empty(&self) -> bool {
        self.log.reports == 0 && self.ledger.sent == 0 && self.findings.counts().is_empty()
    }

    /// Whether all sides agree about something.
    pub fn closes(&self) -> bool {
        !self.is_empty() && self.findings.differences() == 0
    }

    /// The verdict in a sentence.
    pub fn sentence(&self) -> String {
        if self.is_empty() {
            return "NOTHING: no report falls in this range; check --from, --to and deployment.prefix".to_owned();
        }
        match self.findings.differences() {
            0 => format!("clean: {} reports, and all sides agree", self.log.reports),
            1 => "1 DIFFERENCE".to_owned(),
            differences => format!("{differences} DIFFERENCES"),
        }
    }

    /// For machines.
    pub fn json(&self, range: &str) -> Value {
        let verdict = if self.is_empty() {
            "nothing"
        } else if self.closes() {
            "clean"
        } else {
            "differences"
        };
        json!({
            "verdict": verdict,
            "range": range,
            "users": self.users,
            "ledger": self.ledger,
            "log": self.log,
            "history": self.history,
            "differences": self.findings.differences(),
            "dead_lettered": self.findings.of(Kind::DeadLettered),
            "counts": self.findings.counts(),
            "findings": self.findings.listed(),
        })
    }

    /// For people.
    pub fn table(&self, range: &str) -> String {
        let mut table = String::new();
        // Writing to a string cannot fail.
        let mut row = |name: &str, value: String| {
            let _ = writeln!(table, "  {name:<16}{value}");
        };
        let (ledger, log, history) = (self.ledger, self.log, self.history);
        row("range", format!("{range}, {} users", self.users));
        if ledger != OfLedger::default() {
            row("sent", format!("{:>10}", ledger.sent));
            for (name, count) in [
                ("  published", ledger.published),
                ("  thinned", ledger.thinned),
                ("  stored", ledger.stored),
                ("  refused", ledger.refused),
                ("  unanswered", ledger.unanswered),
            ] {
                row(name, format!("{count:>10}"));
            }
        }
        let again = log.records - log.reports;
        row("in the log", format!("{:>10}  in {} records, {again} of them sent again", log.reports, log.records));
        row("  as now", format!("{:>10}  records", log.as_now));
        row("  late", format!("{:>10}  records", log.late));
        row("in the history", format!("{:>10}  in {} rows", history.reports, history.rows));
        row("  dead letters", format!("{:>10}", self.findings.of(Kind::DeadLettered)));
        row("  erased", format!("{:>10}", history.erased));
        row("  expired", format!("{:>10}", history.expired));
        let on_its_way = self.findings.of(Kind::NotYetStored);
        row("  on its way", format!("{on_its_way:>10}"));
        for (count, what) in [
            (ledger.outside, "reports of the ledger that were sent or answered outside the range"),
            (log.in_no_ledger, "reports of the log whose installations are in no ledger: against the history alone"),
            (history.older, "rows of records before the range: not judged"),
            (history.newer, "rows of records after the range: not judged"),
        ] {
            if count > 0 && (what.starts_with("rows") || ledger != OfLedger::default()) {
                row("note", format!("{count:>10}  {what}"));
            }
        }
        row("audit", self.sentence());
        for (kind, count) in self.findings.counts() {
            row("", format!("{count:>10}  {}", kind.text()));
        }
        let listed = self.findings.listed();
        for finding in listed {
            let shown = |value: Option<i64>| value.map_or("-".to_owned(), |value| value.to_string());
            let _ = writeln!(
                table,
                "user {} device {} n {} partition {} offset {}: {}",
                finding.user,
                finding.device.as_deref().unwrap_or("-"),
                shown(finding.n),
                finding.partition,
                shown(finding.offset),
                finding.kind.text()
            );
        }
        let found: u64 = self.findings.counts().values().sum();
        if found > listed.len() as u64 {
            let _ = writeln!(table, "and {} more; --list says how many are shown", found - listed.len() as u64);
        }
        table
    }
}
