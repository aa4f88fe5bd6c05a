//! From records to the engine: decodes what was read and says what it meant for ownership. Without I/O.

use std::time::Duration;

use nearcast_schemas::codec::{Codec, DecodeError};
use nearcast_schemas::list::VisibilityKind;
use nearcast_schemas::topics::partition_of;

use crate::claims::{Claims, Order};
use crate::clock::BrokerClock;
use crate::engine::{Engine, Located, Outbox, Stamp};
use crate::progress::Lag;
use crate::snapshot::format::LastRead;

/// One record as it was read.
#[derive(Clone, Copy)]
pub(crate) struct Record<'a> {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// ms since the epoch.
    pub(crate) append_ms: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) payload: Option<&'a [u8]>,
}

/// Why a record could not be used. Holds nothing of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("the key is no user id")]
    Key,
    #[error("no value")]
    NoValue,
    #[error("{0}")]
    Value(#[from] DecodeError),
}

/// The engine, and what stands between it and the records.
pub(crate) struct Intake {
    pub(crate) engine: Engine,
    pub(crate) out: Outbox,
    pub(crate) clock: BrokerClock,
    pub(crate) claims: Claims,
    pub(crate) codec: Codec,
    /// The offset to be read next, of each partition of the locations.
    pub(crate) next: Vec<i64>,
    /// The last record that was read of each.
    pub(crate) last: Vec<Option<LastRead>>,
    pub(crate) lag: Lag,
    pub(crate) visibility_partitions: i32,
}

impl Intake {
    /// Takes records of the locations in their order; returns which of them could not be used. `elapsed` is by the
    /// monotonic clock.
    pub(crate) fn locations(&mut self, records: &[Record<'_>], elapsed: Duration) -> Vec<(usize, Unusable)> {
        let mut located = Vec::with_capacity(records.len());
        let mut unusable = Vec::new();
        for (at, &record) in records.iter().enumerate() {
            self.clock.observe(record.append_ms, elapsed);
            if let Some(now_ms) = self.clock.now_ms(elapsed) {
                self.lag.read(now_ms - record.append_ms);
            }
            if let Some(next) = self.next.get_mut(record.partition as usize) {
                *next = record.offset + 1;
            }
            if let Some(last) = self.last.get_mut(record.partition as usize) {
                *last = Some(LastRead { offset: record.offset, append_ms: record.append_ms });
            }
            match self.located(record) {
                Ok(record) => located.push(record),
                Err(why) => unusable.push((at, why)),
            }
        }
        self.engine.locations(&located, &mut self.out);
        unusable
    }

    fn located<'a>(&self, record: Record<'a>) -> Result<Located<'a>, Unusable> {
        let user = name(record.key)?;
        let event = self.codec.decode_location(record.payload.ok_or(Unusable::NoValue)?)?;
        Ok(Located { at: Stamp { offset: record.offset, append_ms: record.append_ms }, user, event })
    }

    /// Takes a record of the visibility topic. Those of partitions that are not held any more count for nothing.
    pub(crate) fn visibility(&mut self, record: Record<'_>, elapsed: Duration) -> Result<(), Unusable> {
        if !self.claims.holds(record.partition) {
            return Ok(());
        }
        self.clock.observe(record.append_ms, elapsed);
        let mut claim = None;
        let used = self.list(record, &mut claim);
        let claim = claim.as_ref().map(|(worker, incarnation)| (worker.as_str(), *incarnation));
        let order = self.claims.read(record.partition, record.offset, claim);
        self.obey(order);
        used
    }

    /// What became of a claim: its offset, unless it may not have been appended.
    pub(crate) fn claimed(&mut self, partition: i32, number: u64, offset: Option<i64>) {
        match offset {
            Some(offset) => {
                let order = self.claims.appended(partition, number, offset);
                self.obey(order);
            }
            None => self.claims.failed(partition, number),
        }
    }

    /// The group gave partitions to this worker.
    pub(crate) fn given(&mut self, partitions: &[i32]) {
        for &partition in partitions {
            self.claims.assigned(partition);
        }
    }

    /// The group took partitions away.
    pub(crate) fn taken(&mut self, partitions: &[i32]) {
        for &partition in partitions {
            if self.claims.revoked(partition) {
                self.engine.disown(partition);
            }
        }
    }

    /// Whether this worker is the one that writes a dead letter for an unusable record of the locations. Every worker
    /// reads it; the owner of the key's viewer speaks for all.
    pub(crate) fn speaks_for(&self, key: Option<&[u8]>) -> bool {
        let partition = partition_of(key.unwrap_or_default(), self.visibility_partitions);
        self.engine.owns(partition)
    }

    fn list(&mut self, record: Record<'_>, claim: &mut Option<(String, i64)>) -> Result<(), Unusable> {
        let Some(payload) = record.payload else {
            self.engine.unlist(record.partition, name(record.key)?, &mut self.out);
            return Ok(());
        };
        let list = self.codec.decode_list(payload)?;
        match list.kind {
            VisibilityKind::Claim => *claim = Some((list.worker.into_owned(), list.worker_incarnation)),
            VisibilityKind::List => {
                let viewer = name(record.key)?;
                self.engine.list(record.partition, record.append_ms, viewer, &list, &mut self.out);
            }
            VisibilityKind::Unknown => {}
        }
        Ok(())
    }

    fn obey(&mut self, order: Option<Order>) {
        if let Some(Order::Own { partition, epoch }) = order {
            tracing::debug!(partition, epoch, "partition owned");
            self.engine.own(partition, epoch, &mut self.out);
        }
    }
}

fn name(key: Option<&[u8]>) -> Result<&str, Unusable> {
    key.and_then(|key| std::str::from_utf8(key).ok()).ok_or(Unusable::Key)
}
