//! Which batches count: the highest epoch of each visibility partition, and the sequence of each worker.

use std::collections::HashMap;

use nearcast_schemas::delivery::{DeliveryBatch, PartitionEpoch};

/// Why something that came for a session was not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dropped {
    /// For handles that another process of this gateway gave.
    OtherIncarnation,
    /// No session has the handle; it has left.
    UnknownHandle,
    /// The batch says nothing of the viewer's partition.
    NoEpoch,
    /// A newer owner of the viewer's partition has spoken.
    OldEpoch,
    /// The session waits for this owner's reset.
    BeforeReset,
    /// A part of a reset came without the one before it.
    ResetPart,
    /// A reset by an older list than the session knows.
    OldList,
    /// The session muted the friend.
    Muted,
    /// The friend no longer shares with the viewer.
    Forgotten,
    /// More waits for the client than may; it gets a whole list when it reads again.
    Overflow,
    /// The record could not be decoded.
    Undecodable,
}

impl Dropped {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::OtherIncarnation,
        Self::UnknownHandle,
        Self::NoEpoch,
        Self::OldEpoch,
        Self::BeforeReset,
        Self::ResetPart,
        Self::OldList,
        Self::Muted,
        Self::Forgotten,
        Self::Overflow,
        Self::Undecodable,
    ];

    /// As metrics name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OtherIncarnation => "other_incarnation",
            Self::UnknownHandle => "unknown_handle",
            Self::NoEpoch => "no_epoch",
            Self::OldEpoch => "old_epoch",
            Self::BeforeReset => "before_reset",
            Self::ResetPart => "reset_part",
            Self::OldList => "old_list",
            Self::Muted => "muted",
            Self::Forgotten => "forgotten",
            Self::Overflow => "overflow",
            Self::Undecodable => "undecodable",
        }
    }
}

/// A worker that was not heard for this long is forgotten; ms. It says something each second.
const FORGET_WORKER_MS: i64 = 300_000;

#[derive(Debug)]
struct Worker {
    seq: i64,
    heard_at: i64,
}

#[derive(Debug)]
struct Owner {
    epoch: i64,
    worker: String,
}

/// What is known of the workers that write to this gateway.
#[derive(Debug)]
pub struct Epochs {
    incarnation: i64,
    owners: HashMap<i32, Owner>,
    workers: HashMap<(String, i64), Worker>,
}

/// A batch that counts, and for whom it may speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Batches of this worker are missing before this one.
    pub gap: bool,
    /// The batch's partitions in order, their epochs, and whether a newer one is known.
    epochs: Vec<(i32, i64, bool)>,
}

impl Admitted {
    /// The epoch under which the batch speaks for a viewer's partition.
    ///
    /// # Errors
    /// [`Dropped::NoEpoch`] or [`Dropped::OldEpoch`].
    pub fn epoch(&self, partition: i32) -> Result<i64, Dropped> {
        let at = self.epochs.binary_search_by_key(&partition, |named| named.0).map_err(|_| Dropped::NoEpoch)?;
        let (_, epoch, old) = self.epochs[at];
        if old { Err(Dropped::OldEpoch) } else { Ok(epoch) }
    }
}

impl Epochs {
    /// Knows nothing yet. `incarnation` is when this gateway's process started, in ms since the epoch.
    pub fn new(incarnation: i64) -> Self {
        Self { incarnation, owners: HashMap::new(), workers: HashMap::new() }
    }

    /// Takes note of a batch that came at `now_ms`.
    ///
    /// A sequence that goes on anywhere but one further counts as a gap, backwards as well: a batch is better applied
    /// and followed by a reset than dropped for good.
    ///
    /// # Errors
    /// [`Dropped::OtherIncarnation`].
    pub fn admit(&mut self, batch: &DeliveryBatch, now_ms: i64) -> Result<Admitted, Dropped> {
        if batch.gateway_incarnation != self.incarnation {
            return Err(Dropped::OtherIncarnation);
        }
        let mut epochs = Vec::with_capacity(batch.epochs.len());
        for PartitionEpoch { partition, epoch } in &batch.epochs {
            let known = self.owners.get_mut(partition);
            epochs.push((*partition, *epoch, known.as_ref().is_some_and(|owner| owner.epoch > *epoch)));
            match known {
                Some(owner) if owner.epoch >= *epoch => {}
                Some(owner) => {
                    owner.epoch = *epoch;
                    owner.worker.clone_from(&batch.worker);
                }
                None => {
                    self.owners.insert(*partition, Owner { epoch: *epoch, worker: batch.worker.clone() });
                }
            }
        }
        let key = (batch.worker.clone(), batch.worker_incarnation);
        let worker = self.workers.entry(key).or_insert(Worker { seq: 0, heard_at: now_ms });
        let gap = worker.seq.checked_add(1) != Some(batch.seq);
        *worker = Worker { seq: batch.seq, heard_at: now_ms };
        self.workers.retain(|_, worker| now_ms.saturating_sub(worker.heard_at) <= FORGET_WORKER_MS);
        epochs.sort_unstable();
        Ok(Admitted { gap, epochs })
    }

    /// Whether a gap in this worker's sequence may have swallowed something for viewers of a partition: it owns the
    /// partition, or nobody is known to.
    pub fn may_concern(&self, worker: &str, partition: i32) -> bool {
        self.owners.get(&partition).is_none_or(|owner| owner.worker == worker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(worker: &str, seq: i64, epochs: &[(i32, i64)]) -> DeliveryBatch {
        DeliveryBatch {
            worker: worker.into(),
            worker_incarnation: 1,
            seq,
            sent_at: 0,
            gateway_incarnation: 7,
            epochs: epochs.iter().map(|&(partition, epoch)| PartitionEpoch { partition, epoch }).collect(),
            items: Vec::new(),
        }
    }

    #[test]
    fn other_incarnations_are_dropped() {
        let mut epochs = Epochs::new(8);
        assert_eq!(epochs.admit(&batch("w", 1, &[]), 0), Err(Dropped::OtherIncarnation));
    }

    #[test]
    fn the_highest_epoch_of_a_partition_counts() {
        let mut epochs = Epochs::new(7);
        let admitted = epochs.admit(&batch("w1", 1, &[(1, 11), (0, 10)]), 0).unwrap();
        assert_eq!(admitted.epoch(0), Ok(10));
        assert_eq!(admitted.epoch(1), Ok(11));
        assert_eq!(admitted.epoch(2), Err(Dropped::NoEpoch));

        let admitted = epochs.admit(&batch("w2", 1, &[(0, 20)]), 0).unwrap();
        assert_eq!(admitted.epoch(0), Ok(20));

        let late = epochs.admit(&batch("w1", 2, &[(0, 10), (1, 11)]), 0).unwrap();
        assert_eq!(late.epoch(0), Err(Dropped::OldEpoch));
        assert_eq!(late.epoch(1), Ok(11), "the other partition was not taken over");
        let admitted = epochs.admit(&batch("w2", 2, &[(0, 20)]), 0).unwrap();
        assert_eq!(admitted.epoch(0), Ok(20), "a late batch lowers nothing");
    }

    #[test]
    fn gaps_are_seen_per_worker_and_incarnation() {
        let mut epochs = Epochs::new(7);
        let mut gap = |worker: &str, incarnation: i64, seq: i64| {
            let batch = DeliveryBatch { worker_incarnation: incarnation, ..batch(worker, seq, &[]) };
            epochs.admit(&batch, 0).unwrap().gap
        };
        assert!(!gap("w1", 1, 1));
        assert!(!gap("w1", 1, 2));
        assert!(!gap("w2", 1, 1));
        assert!(gap("w1", 1, 4));
        assert!(!gap("w1", 1, 5));
        assert!(gap("w1", 1, 1), "a worker that counts anew");
        assert!(!gap("w1", 1, 2));
        assert!(!gap("w1", 2, 1), "a worker that started anew");
        assert!(gap("w3", 1, 2), "the first is 1");
    }

    #[test]
    fn a_gap_concerns_the_workers_partitions() {
        let mut epochs = Epochs::new(7);
        epochs.admit(&batch("w1", 1, &[(0, 10)]), 0).unwrap();
        epochs.admit(&batch("w2", 1, &[(1, 10)]), 0).unwrap();
        assert!(epochs.may_concern("w1", 0));
        assert!(!epochs.may_concern("w1", 1));
        assert!(epochs.may_concern("w1", 2), "nobody is known to own it");
    }

    #[test]
    fn silent_workers_are_forgotten() {
        let mut epochs = Epochs::new(7);
        epochs.admit(&batch("w1", 1, &[]), 0).unwrap();
        epochs.admit(&batch("w2", 1, &[]), FORGET_WORKER_MS + 1).unwrap();
        assert_eq!(epochs.workers.len(), 1);
    }
}
