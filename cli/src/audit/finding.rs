//! What an audit finds.

use std::collections::BTreeMap;

use serde::Serialize;

/// What is wrong with a report, a record or a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The log lacks a report that was acknowledged as being in it.
    Lost,
    /// The log has a report that was acknowledged as published, and only for the history.
    OnlyLate,
    /// The log has a report that its phone never sent.
    NeverSent,
    /// The log has a report after one with a higher number of the same session.
    OutOfOrder,
    /// The log has a report of a session that did not begin before it.
    NoSession,
    /// The log has a record in a partition that is not its user's.
    WrongPartition,
    /// The log has a record that cannot be read.
    Undecodable,
    /// The history lacks a report that the sink is done with.
    NotStored,
    /// The history lacks a report that the sink has not come to.
    NotYetStored,
    /// The history has a report more than once.
    StoredTwice,
    /// The history has a row whose record the log does not have.
    NotInLog,
    /// The history has a row of before its user's erasure.
    NotErased,
    /// The history lacks a report, because its record is among the dead letters: no difference.
    DeadLettered,
}

impl Kind {
    /// Whether the two sides differ: what is explained is no difference.
    pub fn is_difference(self) -> bool {
        self != Self::DeadLettered
    }

    /// For people.
    pub fn text(self) -> &'static str {
        match self {
            Self::Lost => "acknowledged, and not in the log",
            Self::OnlyLate => "acknowledged as published, and in the log for the history alone",
            Self::NeverSent => "in the log, and never sent by its phone",
            Self::OutOfOrder => "in the log after a higher number of its session",
            Self::NoSession => "in the log of a session that did not begin before it",
            Self::WrongPartition => "in a partition that is not its user's",
            Self::Undecodable => "cannot be read",
            Self::NotStored => "in the log, and not in the history",
            Self::NotYetStored => "in the log, and not in the history yet: the sink has not come to it",
            Self::StoredTwice => "more than once in the history",
            Self::NotInLog => "in the history, and not in the log",
            Self::NotErased => "in the history, and from before its user's erasure",
            Self::DeadLettered => "among the dead letters, and so not in the history",
        }
    }
}

/// One of them, without a position.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// What is wrong.
    #[serde(rename = "what")]
    pub kind: Kind,
    /// Whose.
    pub user: String,
    /// The installation; none of a record that cannot be read.
    pub device: Option<String>,
    /// The report's number; so too.
    pub n: Option<i64>,
    /// Partition of the record, or of the one that a row names.
    pub partition: i32,
    /// Its offset; none where there is no record.
    pub offset: Option<i64>,
}

/// All of them: counted, and the first of them kept.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    most: usize,
    counts: BTreeMap<Kind, u64>,
    listed: Vec<Finding>,
}

impl Findings {
    /// None yet; so many will be kept.
    pub fn new(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    /// One more.
    pub fn add(&mut self, finding: Finding) {
        *self.counts.entry(finding.kind).or_default() += 1;
        if self.listed.len() < self.most {
            self.listed.push(finding);
        }
    }

    /// Those of another partition.
    pub fn merge(&mut self, other: Self) {
        for (kind, count) in other.counts {
            *self.counts.entry(kind).or_default() += count;
        }
        self.listed.extend(other.listed);
        self.listed.sort();
        self.listed.truncate(self.most);
    }

    /// How many of each kind.
    pub fn counts(&self) -> &BTreeMap<Kind, u64> {
        &self.counts
    }

    /// How many of one kind.
    pub fn of(&self, kind: Kind) -> u64 {
        self.counts.get(&kind).copied().unwrap_or_default()
    }

    /// How many are differences.
    pub fn differences(&self) -> u64 {
        self.counts.iter().filter(|(kind, _)| kind.is_difference()).map(|(_, count)| count).sum()
    }

    /// The kept ones.
    pub fn listed(&self) -> &[Finding] {
        &self.listed
    }
}
