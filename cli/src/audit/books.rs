//! What the log holds of one partition in the audited range: 48 bytes a report, however large its record.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use nearcast_schemas::codec::LocationEventRef;
use nearcast_schemas::event::LocationKind;
use nearcast_schemas::topics::partition_of;

use super::finding::{Finding, Findings, Kind};

/// A record with a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// Number of the user in these books.
    user: u32,
    /// Number of the installation in these books.
    device: u32,
    /// The report's number.
    pub n: i64,
    /// Where it is.
    pub offset: i64,
    /// When the phone was there, in ms since the epoch.
    pub fixed_at: i64,
    /// When the broker appended it, in ms since the epoch.
    pub appended_at: i64,
    /// For the history alone.
    pub late: bool,
}

/// The latest erasure of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// Where it is.
    pub offset: i64,
    /// When the broker appended it, in ms since the epoch.
    pub appended_at: i64,
}

/// The partition is larger than the memory that it may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "partition {partition} has more than {most} reports, sessions or users between --from and --to; audit a shorter time or single users \
     (--user), or raise --max-records: a report takes up to 100 bytes, in each of --partitions-at-once"
)]
pub struct TooMany {
    partition: i32,
    most: usize,
}

/// Where a record is.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its offset.
    pub offset: i64,
    /// When the broker appended it, in ms since the epoch.
    pub appended_at: i64,
}

/// Numbers for strings.
#[derive(Debug, Default)]
struct Names {
    numbers: HashMap<String, u32>,
    names: Vec<String>,
}

impl Names {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.names.len() as u32;
        self.numbers.insert(name.to_owned(), number);
        self.names.push(name.to_owned());
        number
    }
}

/// The books of one partition.
#[derive(Debug)]
pub struct Books {
    partition: i32,
    partitions: i32,
    /// The first offset of the range.
    start: i64,
    most: usize,
    users: Names,
    devices: Names,
    records: Vec<Record>,
    erasures: HashMap<u32, Erasure>,
    /// The newest report of each session, by user and offset of the hello: as the write path knows it.
    sessions: HashMap<(u32, i64), Option<(u32, i64)>>,
    without_position: u64,
    begun_at: Option<i64>,
    pub findings: Findings,
}

impl Books {
    /// Empty ones of a partition of so many, from this offset on, for at most so many records.
    pub fn new(partition: i32, partitions: i32, start: i64, most: usize, findings: Findings) -> Self {
        Self {
            partition,
            partitions,
            start,
            most,
            users: Names::default(),
            devices: Names::default(),
            records: Vec::new(),
            erasures: HashMap::new(),
            sessions: HashMap::new(),
            without_position: 0,
            begun_at: None,
            findings,
        }
    }

    /// Takes the next record of the partition.
    ///
    /// # Errors
    /// When there are too many.
    pub fn take(&mut self, at: Place, user: &str, event: &LocationEventRef<'_>) -> Result<(), TooMany> {
        self.begun_at.get_or_insert(at.appended_at);
        let fix = event
            .fix
            .as_ref()
            .filter(|_| matches!(event.kind, LocationKind::Hello | LocationKind::Fix | LocationKind::Backfill));
        if partition_of(user.as_bytes(), self.partitions) != self.partition {
            let (device, n) = (fix.map(|fix| fix.device.to_string()), fix.map(|fix| fix.n));
            self.find(Kind::WrongPartition, user, device, n, at.offset);
            return Ok(());
        }
        if self.records.len().max(self.sessions.len()).max(self.users.names.len()) >= self.most {
            return Err(TooMany { partition: self.partition, most: self.most });
        }
        let user_number = self.users.number(user);
        match event.kind {
            LocationKind::Erase => self.erase(user, at),
            LocationKind::Hello => drop(self.sessions.insert((user_number, at.offset), None)),
            _ => {}
        }
        let Some(fix) = fix else {
            self.without_position += 1;
            return Ok(());
        };
        let device = self.devices.number(&fix.device);
        let late = event.kind == LocationKind::Backfill;
        self.records.push(Record {
            user: user_number,
            device,
            n: fix.n,
            offset: at.offset,
            fixed_at: fix.fixed_at,
            appended_at: at.appended_at,
            late,
        });
        let session = if event.kind == LocationKind::Hello { at.offset } else { event.session };
        // A session from before the range has told part of its numbers before; REST has none.
        if !late
            && session >= self.start
            && let Some(kind) = self.follow(user_number, session, device, fix.n)
        {
            self.find(kind, user, Some(fix.device.to_string()), Some(fix.n), at.offset);
        }
        Ok(())
    }

    /// Follows a session: numbers of an installation do not go down.
    fn follow(&mut self, user: u32, session: i64, device: u32, n: i64) -> Option<Kind> {
        let Entry::Occupied(mut newest) = self.sessions.entry((user, session)) else { return Some(Kind::NoSession) };
        match newest.get_mut() {
            Some((of, last)) if *of == device && n < *last => return Some(Kind::OutOfOrder),
            newest => *newest = Some((device, n)),
        }
        None
    }

    /// The record there cannot be read. `buried`: it is among the dead letters.
    pub fn undecodable(&mut self, at: Place, user: &str, buried: bool) {
        self.begun_at.get_or_insert(at.appended_at);
        let kind = if buried { Kind::DeadLettered } else { Kind::Undecodable };
        self.find(kind, user, None, None, at.offset);
    }

    /// The user was erased there, in the range or after it.
    pub fn erase(&mut self, user: &str, at: Place) {
        let user = self.users.number(user);
        self.erasures.insert(user, Erasure { offset: at.offset, appended_at: at.appended_at });
    }

    /// Nothing more comes.
    pub fn close(&mut self) {
        self.records.sort_unstable();
        self.sessions = HashMap::new();
    }

    fn find(&mut self, kind: Kind, user: &str, device: Option<String>, n: Option<i64>, offset: i64) {
        let partition = self.partition;
        self.findings.add(Finding { kind, user: user.to_owned(), device, n, partition, offset: Some(offset) });
    }

    /// Everybody with a record.
    pub fn users(&self) -> &[String] {
        &self.users.names
    }

    /// The user's records, by installation, number and offset. The books are closed.
    pub fn of(&self, user: &str) -> &[Record] {
        let Some(number) = self.users.numbers.get(user) else { return &[] };
        let begin = self.records.partition_point(|record| record.user < *number);
        let end = self.records.partition_point(|record| record.user <= *number);
        &self.records[begin..end]
    }

    /// The installation of a record.
    pub fn device(&self, record: &Record) -> &str {
        &self.devices.names[record.device as usize]
    }

    /// The user's latest erasure.
    pub fn erasure(&self, user: &str) -> Option<Erasure> {
        self.erasures.get(self.users.numbers.get(user)?).copied()
    }

    /// Records without a position.
    pub fn without_position(&self) -> u64 {
        self.without_position
    }

    /// When the first record was appended, in ms since the epoch.
    pub fn begun_at(&self) -> Option<i64> {
        self.begun_at
    }
}
