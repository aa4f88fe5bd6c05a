//! Who owns a partition of the visibility topic: the worker to whom the group gave it, once it has read its own claim.
//!
//! A claim is a record in the partition; its offset is the owner's epoch. Whatever stands before it was read by the time
//! that the claim is, so the owner knows every list. A later claim of somebody else, while the group still gives the
//! partition to this worker, is that of a worker which slept between assignment and claim: it is answered by another
//! claim, or its deliveries would silence this worker's.

use std::collections::BTreeMap;
use std::time::Duration;

/// Between two claims to one partition: two workers that both think they own it must not flood it.
const PAUSE: Duration = Duration::from_secs(1);

const NO_OFFSET: i64 = -1;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Append a claim to the partition, and say [`Claims::appended`] or [`Claims::failed`] with this number.
    Claim {
        /// Of the visibility topic.
        partition: i32,
        /// Tells this claim from earlier ones.
        number: u64,
    },
    /// The partition is owned from now on, under this epoch.
    Own {
        /// Of the visibility topic.
        partition: i32,
        /// Offset of the claim.
        epoch: i64,
    },
}

/// One partition that the group gave to this worker.
#[derive(Debug)]
struct Held {
    /// Offset of the last record read.
    read: i64,
    /// The claim on its way.
    pending: Option<u64>,
    /// Offset of this worker's last claim.
    claim: i64,
    /// Offset of the last claim of somebody else.
    foreign: i64,
    /// The epoch under which the partition is owned.
    epoch: i64,
    claimed_at: Option<Duration>,
}

/// The partitions that the group gave to this worker. Times are by a monotonic clock.
#[derive(Debug)]
pub struct Claims {
    worker: String,
    incarnation: i64,
    held: BTreeMap<i32, Held>,
    claims: u64,
}

impl Claims {
    /// Nothing is held. `incarnation`: when the process started, ms since the epoch.
    pub fn new(worker: &str, incarnation: i64) -> Self {
        Self { worker: worker.to_owned(), incarnation, held: BTreeMap::new(), claims: 0 }
    }

    /// The group gave a partition to this worker, which reads it from its beginning.
    pub fn assigned(&mut self, partition: i32) {
        let held = Held {
            read: NO_OFFSET,
            pending: None,
            claim: NO_OFFSET,
            foreign: NO_OFFSET,
            epoch: NO_OFFSET,
            claimed_at: None,
        };
        self.held.insert(partition, held);
    }

    /// The group took a partition away; whether it was held.
    pub fn revoked(&mut self, partition: i32) -> bool {
        self.held.remove(&partition).is_some()
    }

    /// Whether the partition is held: its records count.
    pub fn holds(&self, partition: i32) -> bool {
        self.held.contains_key(&partition)
    }

    /// Partitions held and partitions owned.
    pub fn count(&self) -> (usize, usize) {
        (self.held.len(), self.held.values().filter(|held| held.epoch != NO_OFFSET).count())
    }

    /// The claims that are to be made now.
    pub fn due(&mut self, now: Duration) -> Vec<Order> {
        let mut orders = Vec::new();
        for (&partition, held) in &mut self.held {
            let outdated = held.claim <= held.foreign;
            let rested = held.claimed_at.is_none_or(|at| now.saturating_sub(at) >= PAUSE);
            if held.pending.is_none() && outdated && rested {
                self.claims += 1;
                held.pending = Some(self.claims);
                held.claimed_at = Some(now);
                orders.push(Order::Claim { partition, number: self.claims });
            }
        }
        orders
    }

    /// A claim of this worker was appended at `offset`.
    pub fn appended(&mut self, partition: i32, number: u64, offset: i64) -> Option<Order> {
        let held = self.held.get_mut(&partition).filter(|held| held.pending == Some(number))?;
        held.pending = None;
        held.claim = offset;
        held.own(partition)
    }

    /// A claim of this worker may not have been appended: another one will be made.
    pub fn failed(&mut self, partition: i32, number: u64) {
        if let Some(held) = self.held.get_mut(&partition).filter(|held| held.pending == Some(number)) {
            held.pending = None;
            held.claim = NO_OFFSET;
        }
    }

    /// A record of a held partition was read and applied; of a claim, whose it is.
    pub fn read(&mut self, partition: i32, offset: i64, claim: Option<(&str, i64)>) -> Option<Order> {
        let held = self.held.get_mut(&partition)?;
        held.read = offset;
        if claim.is_some_and(|of| of != (self.worker.as_str(), self.incarnation)) {
            held.foreign = offset;
        }
        held.own(partition)
    }
}

impl Held {
    /// Owned once everything up to the claim is read, and nobody has claimed since.
    fn own(&mut self, partition: i32) -> Option<Order> {
        let owned = self.claim != NO_OFFSET && self.read >= self.claim && self.foreign < self.claim;
        if !owned || self.epoch == self.claim {
            return None;
        }
        self.epoch = self.claim;
        Some(Order::Own { partition, epoch: self.epoch })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn claims() -> Claims {
        let mut claims = Claims::new("w", 7);
        claims.assigned(3);
        claims
    }

    const OWN_12: Order = Order::Own { partition: 3, epoch: 12 };

    #[test]
    fn owns_once_its_claim_is_read_back() {
        let mut claims = claims();
        assert_eq!(claims.due(s(0)), [Order::Claim { partition: 3, number: 1 }]);
        assert_eq!(claims.due(s(5)), []);
        assert_eq!(claims.read(3, 10, None), None);
        assert_eq!(claims.read(3, 11, Some(("other", 1))), None, "an earlier claim is nobody's any more");
        assert_eq!(claims.appended(3, 1, 12), None);
        assert_eq!(claims.read(3, 12, Some(("w", 7))), Some(OWN_12));
        assert_eq!(claims.read(3, 13, None), None);
        assert_eq!(claims.count(), (1, 1));
    }

    #[test]
    fn the_acknowledgement_may_come_after_the_claim_was_read() {
        let mut claims = claims();
        claims.due(s(0));
        assert_eq!(claims.read(3, 12, Some(("w", 7))), None);
        assert_eq!(claims.read(3, 14, None), None);
        assert_eq!(claims.appended(3, 1, 12), Some(OWN_12));
    }

    #[test]
    fn a_later_claim_of_somebody_else_is_answered() {
        let mut claims = claims();
        claims.due(s(0));
        claims.appended(3, 1, 12);
        claims.read(3, 12, Some(("w", 7)));
        assert_eq!(claims.read(3, 20, Some(("stale", 1))), None);
        assert_eq!(claims.due(s(9)), [Order::Claim { partition: 3, number: 2 }]);
        assert_eq!(claims.appended(3, 2, 21), None);
        assert_eq!(claims.read(3, 21, Some(("w", 7))), Some(Order::Own { partition: 3, epoch: 21 }));
    }

    #[test]
    fn another_incarnation_of_this_worker_is_somebody_else() {
        let mut claims = claims();
        claims.due(s(0));
        claims.appended(3, 1, 12);
        assert_eq!(claims.read(3, 13, Some(("w", 6))), None);
        assert_eq!(claims.due(s(1)).len(), 1);
    }

    #[test]
    fn two_claimants_do_not_flood_the_partition() {
        let mut claims = claims();
        assert_eq!(claims.due(s(0)).len(), 1);
        claims.appended(3, 1, 12);
        claims.read(3, 13, Some(("stale", 1)));
        assert_eq!(claims.due(Duration::from_millis(999)), []);
        assert_eq!(claims.due(s(1)).len(), 1);
    }

    #[test]
    fn a_claim_that_failed_is_made_again_and_a_late_answer_counts_for_nothing() {
        let mut claims = claims();
        claims.due(s(0));
        claims.failed(3, 1);
        assert_eq!(claims.due(s(1)), [Order::Claim { partition: 3, number: 2 }]);
        assert_eq!(claims.appended(3, 1, 12), None);
        assert_eq!(claims.read(3, 30, None), None);
        assert!(claims.revoked(3) && !claims.revoked(3) && !claims.holds(3));
        claims.assigned(3);
        assert_eq!(claims.appended(3, 2, 31), None, "the claim of an earlier assignment");
        assert_eq!(claims.due(s(1)), [Order::Claim { partition: 3, number: 3 }]);
        assert_eq!(claims.appended(3, 3, 32), None);
        assert_eq!(claims.read(3, 32, Some(("w", 7))), Some(Order::Own { partition: 3, epoch: 32 }));
    }
}
