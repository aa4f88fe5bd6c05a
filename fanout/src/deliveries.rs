//! What goes to gateways: batches with their sequence, and heartbeats where nothing goes.

use std::time::Duration;

use nearcast_schemas::codec::Items;
use nearcast_schemas::delivery::DeliveryBatch;

use crate::engine::Batch;

/// Who writes.
#[derive(Clone, Debug)]
pub struct Worker {
    /// The worker's name.
    pub name: String,
    /// When the process started, ms since the epoch.
    pub incarnation: i64,
}

/// The sequences of all gateway processes, by the engine's numbers.
#[derive(Debug)]
pub struct Deliveries {
    worker: Worker,
    heartbeat: Duration,
    rows: Vec<Row>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Row {
    seq: i64,
    last: Option<Duration>,
    broken: bool,
    repaired: Option<Duration>,
}

impl Deliveries {
    /// Nothing was sent. A gateway process to which nothing else goes gets a heartbeat every `heartbeat`.
    pub fn new(worker: Worker, heartbeat: Duration) -> Self {
        Self { worker, heartbeat, rows: Vec::new() }
    }

    /// The batch as it is written. `now` is by a monotonic clock, `sent_at` by the wall clock in ms since the epoch.
    pub fn stamp(
        &mut self,
        batch: Batch,
        gateway_incarnation: i64,
        now: Duration,
        sent_at: i64,
    ) -> DeliveryBatch<Items> {
        let row = self.row(batch.gateway);
        row.seq += 1;
        row.last = Some(now);
        DeliveryBatch {
            seq: row.seq,
            worker: self.worker.name.clone(),
            worker_incarnation: self.worker.incarnation,
            sent_at,
            gateway_incarnation,
            epochs: batch.epochs,
            items: batch.items,
        }
    }

    /// Empty batches for those of `gateways`, which sessions are routed to, that were sent something before, but not for
    /// a while.
    pub fn heartbeats(&mut self, gateways: impl Iterator<Item = u32>, now: Duration) -> Vec<Batch> {
        let heartbeat = self.heartbeat;
        let due = |row: &Row| row.last.is_some_and(|last| now.saturating_sub(last) >= heartbeat);
        let silent = gateways.filter(|&gateway| self.rows.get(gateway as usize).is_some_and(due));
        silent.map(|gateway| Batch { gateway, epochs: Vec::new(), items: Items::default() }).collect()
    }

    /// A batch for this gateway process may be lost.
    pub fn failed(&mut self, gateway: u32) {
        self.row(gateway).broken = true;
    }

    /// The gateway processes whose sessions are to be sent resets now. What fails together, or soon after, is repaired
    /// together.
    pub fn repairs(&mut self, now: Duration) -> Vec<u32> {
        let pause = self.heartbeat;
        let rested = |row: &Row| row.repaired.is_none_or(|at| now.saturating_sub(at) >= pause);
        let broken = self.rows.iter_mut().enumerate().filter(|(_, row)| row.broken && rested(row));
        let repair = |(gateway, row): (usize, &mut Row)| {
            row.broken = false;
            row.repaired = Some(now);
            gateway as u32
        };
        broken.map(repair).collect()
    }

    fn row(&mut self, gateway: u32) -> &mut Row {
        let index = gateway as usize;
        if index >= self.rows.len() {
            self.rows.resize(index + 1, Row::default());
        }
        &mut self.rows[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deliveries() -> Deliveries {
        Deliveries::new(Worker { name: "w".to_owned(), incarnation: 7 }, Duration::from_secs(1))
    }

    fn empty(gateway: u32) -> Batch {
        Batch { gateway, epochs: Vec::new(), items: Items::default() }
    }

    #[test]
    fn each_gateway_process_has_a_sequence_from_one() {
        let mut deliveries = deliveries();
        let mut seq = |gateway| deliveries.stamp(empty(gateway), 5, Duration::ZERO, 0).seq;
        assert_eq!((seq(0), seq(0), seq(2), seq(0)), (1, 2, 1, 3));
    }

    #[test]
    fn a_silent_gateway_gets_a_heartbeat_each_second() {
        let mut deliveries = deliveries();
        let at = Duration::from_millis;
        deliveries.stamp(empty(1), 5, at(0), 0);
        assert_eq!(deliveries.heartbeats([0, 1].into_iter(), at(999)), []);
        assert_eq!(deliveries.heartbeats([0, 1].into_iter(), at(1_000)), [empty(1)]);
        assert_eq!(deliveries.heartbeats([0].into_iter(), at(1_000)), [], "without sessions nobody waits for one");
        deliveries.stamp(empty(1), 5, at(1_000), 0);
        assert_eq!(deliveries.heartbeats([1].into_iter(), at(1_500)), []);
    }

    #[test]
    fn failures_that_come_together_are_repaired_once() {
        let mut deliveries = deliveries();
        let at = Duration::from_millis;
        deliveries.failed(1);
        deliveries.failed(1);
        assert_eq!(deliveries.repairs(at(0)), [1]);
        deliveries.failed(0);
        deliveries.failed(1);
        assert_eq!(deliveries.repairs(at(10)), [0]);
        assert_eq!(deliveries.repairs(at(1_000)), [1], "the repair itself may have failed");
        assert!(deliveries.repairs(at(9_000)).is_empty());
    }
}
