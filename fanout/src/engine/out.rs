//! What the engine decided, gathered for each gateway process in the order of the decisions.

use nearcast_schemas::delivery::{
    Applied, Digest, FriendPosition, Item, PartitionEpoch, Removal, RemovalReason, Reset, Stranger, Strangers,
    Superseded, Upsert, UpsertViewer,
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

/// What an upsert says of the friend.
pub(super) struct Entry<'a> {
    pub(super) friend: &'a str,
    pub(super) display_name: &'a str,
    pub(super) position: &'a FriendPosition,
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
    /// By partition: one more than the place among `epochs`; 0 for none.
    places: Vec<u16>,
    items: Vec<Item>,
    bytes: usize,
    /// The upsert and the removal that take further viewers.
    upsert: Option<(u64, Id, bool, usize)>,
    removal: Option<(u64, Id, RemovalReason, usize)>,
}

impl Open {
    fn close(&mut self, gateway: u32) -> Option<Batch> {
        let Self { epochs, items, .. } = std::mem::take(self);
        // The next batch is about as long.
        self.items.reserve(items.len());
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

    /// `entry` is asked for the first of the viewers whom a record tells the same.
    #[inline]
    pub(super) fn upsert<'a>(
        &mut self,
        to: Address,
        friend: Id,
        coarse: bool,
        distance_dm: i32,
        entry: impl FnOnce() -> Entry<'a>,
    ) {
        let wanted = (self.turn, friend, coarse);
        let open = self.open(to);
        open.bytes += 6;
        let viewer = UpsertViewer { handle: to.handle, distance_dm };
        if let Some((turn, friend, coarse, at)) = open.upsert
            && (turn, friend, coarse) == wanted
            && let Some(Item::Upsert(upsert)) = open.items.get_mut(at)
        {
            upsert.viewers.push(viewer);
            return;
        }
        open.upsert = Some((wanted.0, wanted.1, wanted.2, open.items.len()));
        let entry = entry();
        open.bytes += 45 + entry.friend.len() + entry.display_name.len();
        open.items.push(Item::Upsert(Upsert {
            friend: entry.friend.into(),
            display_name: entry.display_name.into(),
            position: entry.position.clone(),
            viewers: vec![viewer],
        }));
    }

    /// `name` is asked for the first of the viewers whom a record tells the same.
    pub(super) fn removal<'a>(
        &mut self,
        to: Address,
        friend: Id,
        reason: RemovalReason,
        name: impl FnOnce() -> &'a str,
    ) {
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
        let name = name();
        open.bytes += 6 + name.len();
        open.items.push(Item::Removal(Removal { friend: name.into(), reason, viewers: vec![to.handle] }));
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

    pub(super) fn strangers(&mut self, to: Address, entries: Vec<Stranger>) {
        self.push(to, 8 + entries.len() * 34, Item::Strangers(Strangers { viewer: to.handle, entries }));
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
        let partition = to.partition as usize;
        let open = &mut self.open[index];
        let place = open.places.get(partition).copied().unwrap_or(0);
        let known = usize::from(place).checked_sub(1).map(|place| open.epochs[place].epoch);
        if open.bytes < BATCH_BYTES && known == Some(to.epoch) {
            return &mut self.open[index];
        }
        self.open_for(to, known)
    }

    /// The same where the batch is closed before, or hears of the partition for the first time.
    #[cold]
    fn open_for(&mut self, to: Address, known: Option<i64>) -> &mut Open {
        let open = &mut self.open[to.gateway as usize];
        let closes = open.bytes >= BATCH_BYTES || known.is_some();
        if closes && let Some(batch) = open.close(to.gateway) {
            self.closed.push(batch);
        }
        let open = &mut self.open[to.gateway as usize];
        let partition = to.partition as usize;
        if open.places.len() <= partition {
            open.places.resize(partition + 1, 0);
        }
        open.epochs.push(PartitionEpoch { partition: to.partition, epoch: to.epoch });
        open.places[partition] = open.epochs.len() as u16;
        open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(gateway: u32, handle: i32, epoch: i64) -> Address {
        Address { gateway, handle, partition: 7, epoch }
    }

    fn upsert(out: &mut Outbox, to: Address, distance_dm: i32) {
        let position = FriendPosition {
            lat: 1.0,
            lon: 2.0,
            at: 3,
            coarse: false,
            accuracy_m: None,
            speed_mps: None,
            heading_deg: None,
        };
        let entry = || Entry { friend: "f", display_name: "F", position: &position };
        out.upsert(to, Id::new(1), false, distance_dm, entry);
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
        upsert(&mut out, address(0, 1, 5), 10);
        out.removal(address(0, 2, 5), Id::new(1), RemovalReason::Silent, || "f");
        upsert(&mut out, address(0, 3, 5), 20);
        upsert(&mut out, address(1, 4, 5), 20);
        out.begin();
        upsert(&mut out, address(0, 1, 5), 30);
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
            upsert(&mut out, address(0, handle, 5), 10);
        }
        let batches = out.take();
        assert!(batches.len() > 1);
        assert_eq!(batches.iter().flat_map(viewers).sum::<usize>(), 100_000);
    }
}
