//! Compares one user's reports: what the phone knows, what the log has, what the history has.

use std::collections::{BTreeMap, HashSet};

use nearcast_history_sink::stored::{LATE_WRITTEN_BEFORE_MS, StoredRow};

use super::account::Account;
use super::books::{Books, Erasure, Record};
use super::finding::{Finding, Kind};
use super::ledger::{Phone, Told};

/// What is judged of a partition.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// The partition.
    pub partition: i32,
    /// Its first offset in the range.
    pub start: i64,
    /// The offset after its last in the range.
    pub end: i64,
    /// The range begins then, or where the log does; in ms since the epoch by the broker's clock.
    pub from_ms: i64,
    /// It ends before that.
    pub to_ms: i64,
    /// What was reported of a time before that has left the history.
    pub expired_ms: i64,
    /// The sink is done with all before this offset; none where it never said so.
    pub committed: Option<i64>,
}

/// One report, from all sides.
#[derive(Default)]
struct Case<'a> {
    told: Option<&'a Told>,
    /// In the order of the log.
    records: Vec<&'a Record>,
    rows: Vec<&'a StoredRow>,
}

/// Judges a user of the partition and adds what comes of it to the account. `dead` are offsets of dead letters.
pub fn judge<'a>(
    terms: &Terms,
    books: &Books,
    user: &str,
    phones: impl Iterator<Item = &'a Phone>,
    rows: &[StoredRow],
    dead: &HashSet<i64>,
    account: &mut Account,
) {
    let mut cases: BTreeMap<(&str, i64), Case<'_>> = BTreeMap::new();
    let mut in_ledger = HashSet::new();
    for phone in phones {
        in_ledger.insert(phone.device.as_str());
        for told in &phone.reports {
            cases.entry((&phone.device, told.n)).or_default().told = Some(told);
        }
    }
    for record in books.of(user) {
        cases.entry((books.device(record), record.n)).or_default().records.push(record);
    }
    for row in rows {
        cases.entry((&row.device, row.n)).or_default().rows.push(row);
    }
    let erasure = books.erasure(user);
    account.users += 1;
    for ((device, n), case) in cases {
        let mut report = Report { terms, user, device, n, account };
        if let Some(told) = case.told {
            report.told(told, &case);
        } else if !case.records.is_empty() {
            report.untold(in_ledger.contains(device), &case);
        }
        report.logged(&case);
        report.stored(&case, erasure, dead);
    }
}

/// The report that is being judged.
struct Report<'a> {
    terms: &'a Terms,
    user: &'a str,
    device: &'a str,
    n: i64,
    account: &'a mut Account,
}

impl Report<'_> {
    fn find(&mut self, kind: Kind, partition: i32, offset: Option<i64>) {
        let (user, device) = (self.user.to_owned(), Some(self.device.to_owned()));
        self.account.findings.add(Finding { kind, user, device, n: Some(self.n), partition, offset });
    }

    /// What the phone knows, and whether the log has what it must.
    fn told(&mut self, told: &Told, case: &Case<'_>) {
        let within = self.terms.from_ms..self.terms.to_ms;
        if !within.contains(&told.sent_ms) || !within.contains(&told.heard_ms) {
            self.account.ledger.outside += 1;
            return;
        }
        self.account.ledger.count(told.heard);
        if !told.heard.is_in_log() {
            return;
        }
        match case.records.first() {
            // Its row says that the log had it, before the range or after it.
            None if case.rows.iter().any(|row| !self.is_in_range(row)) => {}
            None => self.find(Kind::Lost, self.terms.partition, None),
            Some(first) => {
                if told.heard == super::ledger::Heard::Published && case.records.iter().all(|record| record.late) {
                    self.find(Kind::OnlyLate, self.terms.partition, Some(first.offset));
                }
            }
        }
    }

    /// The log has it, and no ledger.
    fn untold(&mut self, has_ledger: bool, case: &Case<'_>) {
        if has_ledger {
            self.find(Kind::NeverSent, self.terms.partition, case.records.first().map(|record| record.offset));
        } else {
            self.account.log.in_no_ledger += 1;
        }
    }

    fn logged(&mut self, case: &Case<'_>) {
        if case.records.is_empty() {
            return;
        }
        let late = case.records.iter().filter(|record| record.late).count() as u64;
        let log = &mut self.account.log;
        log.reports += 1;
        log.records += case.records.len() as u64;
        log.late += late;
        log.as_now += case.records.len() as u64 - late;
    }

    /// What the history has, and whether it has what it must and nothing else.
    fn stored(&mut self, case: &Case<'_>, erasure: Option<Erasure>, dead: &HashSet<i64>) {
        // An erasure that the sink has not come to may have had its effect or not.
        let is_done = |erasure: &Erasure| self.terms.committed.is_some_and(|committed| erasure.offset < committed);
        let erased = erasure.filter(is_done).map_or(i64::MIN, |erasure| erasure.offset);
        for row in &case.rows {
            self.row(row, case, erased);
        }
        self.account.history.reports += u64::from(!case.rows.is_empty() && !case.records.is_empty());
        if case.rows.len() > 1 {
            let row = case.rows[case.rows.len() - 1];
            self.find(Kind::StoredTwice, row.partition, Some(row.offset));
        }
        if case.rows.is_empty() && !case.records.is_empty() {
            self.missing(&case.records, erasure, dead);
        }
    }

    /// One row: does the log have its record?
    fn row(&mut self, row: &StoredRow, case: &Case<'_>, erased: i64) {
        let terms = self.terms;
        if row.partition != terms.partition {
            return self.find(Kind::NotInLog, row.partition, Some(row.offset));
        }
        if row.offset < erased {
            return self.find(Kind::NotErased, row.partition, Some(row.offset));
        }
        if case.records.iter().any(|record| record.offset == row.offset) {
            self.account.history.rows += 1;
        } else if self.is_in_range(row) {
            self.find(Kind::NotInLog, row.partition, Some(row.offset));
        } else if row.offset < terms.end && row.appended_at < terms.to_ms {
            self.account.history.older += 1;
        } else {
            self.account.history.newer += 1;
        }
    }

    /// The row's record is one of the range. Offsets alone do not say so: a topic that was made again begins anew.
    fn is_in_range(&self, row: &StoredRow) -> bool {
        row.partition == self.terms.partition
            && (self.terms.start..self.terms.end).contains(&row.offset)
            && (self.terms.from_ms..self.terms.to_ms).contains(&row.appended_at)
    }

    /// No row: is there a reason?
    fn missing(&mut self, records: &[&Record], erasure: Option<Erasure>, dead: &HashSet<i64>) {
        let terms = self.terms;
        let outlives = |record: &&&Record| erasure.is_none_or(|erasure| outlives(record, erasure));
        let Some(first) = records.iter().find(outlives) else {
            self.account.history.erased += 1;
            return;
        };
        if records.iter().all(|record| record.fixed_at.min(record.appended_at) < terms.expired_ms) {
            self.account.history.expired += 1;
        } else if let Some(buried) = records.iter().find(|record| dead.contains(&record.offset)) {
            self.find(Kind::DeadLettered, terms.partition, Some(buried.offset));
        } else if terms.committed.is_some_and(|committed| first.offset < committed) {
            self.find(Kind::NotStored, terms.partition, Some(first.offset));
        } else {
            self.find(Kind::NotYetStored, terms.partition, Some(first.offset));
        }
    }
}

/// Whether a record's row must be there in spite of an erasure, which outlasts all that counts as written until then.
fn outlives(record: &Record, erasure: Erasure) -> bool {
    let late_at = if record.late { record.fixed_at - LATE_WRITTEN_BEFORE_MS } else { i64::MAX };
    record.offset > erasure.offset && record.appended_at.min(late_at) > erasure.appended_at
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
