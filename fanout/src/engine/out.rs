//! What the engine decided, gathered for each gateway process in the order of the decisions.

use std::sync::Arc;

use nearcast_schemas::delivery::{
    Applied, Digest, FriendPosition, Item, PartitionEpoch, Removal, RemovalReason, Reset, Superseded, Upsert,
    UpsertViewer,
};

use super::people::Id;

/// A batch is closed when it is about this large, in bytes as Avro writes it.
pub const BATCH_BYTES: usize = 256 * 1024;

/// One session of a viewer, and the right under which it is addressed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Address {
    pub(super) gateway: u32,
    pub(super) handle: i32,
    pub(super) partition: i32,
    pub(super) epoch: i64,
}

/// A friend's position as it is shown to one or many viewers.
#[derive(Clone)]
pub(super) struct Shown {
    pub(super) friend: Id,
    pub(super) name: Arc<str>,
    pub(super) display_name: Arc<str>,
    pub(super) position: FriendPosition,
}

/// Items for one gateway process, under one epoch a partition.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The engine's number of the gateway process; [`Engine::gateway`](super::Engine::gateway) names it.
    pub gateway: u32,
    /// The epoch of each partition that a viewer in the batch belongs to.
    pub epochs: Vec<PartitionEpoch>,
    /// In order.
    pub items: Vec<Item>,
}

/// The batches that are being filled. Whoever drives the engine takes them once a tick.
#[derive(Default)]
pub struct Outbox {
    closed: Vec<Batch>,
    /// By the gateway's number.
    open: Vec<Open>,
    /// Grows with each record and each timer: items of different ones are never merged.
    turn: u64,
}

#[derive(Default)]
struct Open {
    epochs: Vec<PartitionEpoch>,
    items: Vec<Item>,
    bytes: usize,
    /// The upsert and the removal that take further viewers.
    upsert: Option<(u64, Id, bool, usize)>,
    removal: Option<(u64, Id, RemovalReason, usize)>,
}

impl Open {
    fn close(&mut self, gateway: u32) -> Option<Batch> {
        let Self { epochs, items, .. } = std::mem::take(self);
        (!items.is_empty()).then_some(Batch { gateway, epochs, items })
    }
}

impl Outbox {
    /// Whether nothing waits to be taken.
    pub fn is_empty(&self) -> bool {
        self.closed.is_empty() && self.open.iter().all(|open| open.items.is_empty())
    }

    /// Takes what was gathered: the batches of one gateway in their order.
    pub fn take(&mut self) -> Vec<Batch> {
        let mut batches = std::mem::take(&mut self.closed);
        let open = self.open.iter_mut().enumerate();
        batches.extend(open.filter_map(|(gateway, open)| open.close(gateway as u32)));
        batches
    }

    /// Begins with the next record or timer.
    pub(super) fn begin(&mut self) {
        self.turn += 1;
    }

    pub(super) fn upsert(&mut self, to: Address, shown: &Shown, distance_dm: i32) {
        let turn = self.turn;
        let open = self.open(to);
        open.bytes += 6;
        let viewer = UpsertViewer { handle: to.handle, distance_dm };
        let wanted = (turn, shown.friend, shown.position.coarse);
        if let Some((t, friend, coarse, at)) = open.upsert
            && (t, friend, coarse) == wanted
            && let Some(Item::Upsert(upsert)) = open.items.get_mut(at)
        {
            upsert.viewers.push(viewer);
            return;
        }
        open.upsert = Some((wanted.0, wanted.1, wanted.2, open.items.len()));
        open.bytes += 45 + shown.name.len() + shown.display_name.len();
        open.items.push(Item::Upsert(Upsert {
            friend: shown.name.as_ref().into(),
            display_name: shown.display_name.as_ref().into(),
            position: shown.position.clone(),
            viewers: vec![viewer],
        }));
    }

    pub(super) fn removal(&mut self, to: Address, friend: Id, name: &Arc<str>, reason: RemovalReason) {
        let turn = self.turn;
        let open = self.open(to);
        open.bytes += 3;
        if let Some((t, f, r, at)) = open.removal
            && (t, f, r) == (turn, friend, reason)
            && let Some(Item::Removal(removal)) = open.items.get_mut(at)
        {
            removal.viewers.push(to.handle);
            return;
        }
        open.removal = Some((turn, friend, reason, open.items.len()));
        open.bytes += 6 + name.len();
        open.items.push(Item::Removal(Removal { friend: name.as_ref().into(), reason, viewers: vec![to.handle] }));
    }

    pub(super) fn reset(&mut self, to: Address, reset: Reset) {
        let names = reset.entries.iter().map(|entry| 45 + entry.friend.len() + entry.display_name.len());
        let bytes = 16 + names.sum::<usize>();
        self.push(to, bytes, Item::Reset(reset));
    }

    pub(super) fn applied(&mut self, to: Address, list_version: i64) {
        self.push(to, 8, Item::Applied(Applied { handle: to.handle, list_version }));
    }

    pub(super) fn digest(&mut self, to: Address, count: u32, digest: i64) {
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        self.push(to, 16, Item::Digest(Digest { handle: to.handle, count, digest }));
    }

    pub(super) fn superseded(&mut self, to: Address) {
        self.push(to, 4, Item::Superseded(Superseded { handle: to.handle }));
    }

    fn push(&mut self, to: Address, bytes: usize, item: Item) {
        let open = self.open(to);
        open.bytes += bytes;
        open.items.push(item);
    }

    /// The open batch of a gateway in which the address's epoch is right.
    fn open(&mut self, to: Address) -> &mut Open {
        let index = to.gateway as usize;
        if index >= self.open.len() {
            self.open.resize_with(index + 1, Open::default);
        }
        let open = &mut self.open[index];
        let known = open.epochs.iter().find(|known| known.partition == to.partition).map(|known| known.epoch);
        let closes = open.bytes >= BATCH_BYTES || known.is_some_and(|epoch| epoch != to.epoch);
        if closes && let Some(batch) = open.close(to.gateway) {
            self.closed.push(batch);
        }
        let open = &mut self.open[index];
        if closes || known.is_none() {
            open.epochs.push(PartitionEpoch { partition: to.partition, epoch: to.epoch });
        }
        open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(gateway: u32, handle: i32, epoch: i64) -> Address {
        Address { gateway, handle, partition: 7, epoch }
    }

    fn shown(friend: u32) -> Shown {
        let position = FriendPosition {
            lat: 1.0,
            lon: 2.0,
            at: 3,
            coarse: false,
            accuracy_m: None,
            speed_mps: None,
            heading_deg: None,
        };
        Shown { friend: Id::new(friend), name: "f".into(), display_name: "F".into(), position }
    }

    fn viewers(batch: &Batch) -> Vec<usize> {
        let count = |item: &Item| match item {
            Item::Upsert(upsert) => upsert.viewers.len(),
            Item::Removal(removal) => removal.viewers.len(),
            _ => 1,
        };
        batch.items.iter().map(count).collect()
    }

    #[test]
    fn the_viewers_of_one_decision_share_an_item() {
        let mut out = Outbox::default();
        out.begin();
        out.upsert(address(0, 1, 5), &shown(1), 10);
        out.removal(address(0, 2, 5), Id::new(1), &"f".into(), RemovalReason::Silent);
        out.upsert(address(0, 3, 5), &shown(1), 20);
        out.upsert(address(1, 4, 5), &shown(1), 20);
        out.begin();
        out.upsert(address(0, 1, 5), &shown(1), 30);
        let batches = out.take();
        assert_eq!(batches.iter().map(|batch| batch.gateway).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(viewers(&batches[0]), [2, 1, 1]);
        assert_eq!(batches[0].epochs, [PartitionEpoch { partition: 7, epoch: 5 }]);
        assert!(out.is_empty() && out.take().is_empty());
    }

    #[test]
    fn a_batch_has_one_epoch_a_partition() {
        let mut out = Outbox::default();
        out.applied(address(0, 1, 5), 1);
        out.applied(address(0, 1, 6), 2);
        out.applied(address(0, 2, 6), 2);
        let batches = out.take();
        let epochs: Vec<_> = batches.iter().map(|batch| (batch.epochs[0].epoch, batch.items.len())).collect();
        assert_eq!(epochs, [(5, 1), (6, 2)]);
    }

    #[test]
    fn large_batches_are_closed_before_kafka_refuses_them() {
        let mut out = Outbox::default();
        out.begin();
        for handle in 0..100_000 {
            out.upsert(address(0, handle, 5), &shown(1), 10);
        }
        let batches = out.take();
        assert!(batches.len() > 1);
        assert_eq!(batches.iter().flat_map(viewers).sum::<usize>(), 100_000);
    }
}
