//! What the engine decided, gathered for each gateway process in the order of the decisions.

use nearcast_schemas::codec::{ItemWriter, Items};
use nearcast_schemas::delivery::{
    Applied, Digest, FriendPosition, Item, PartitionEpoch, RemovalReason, Reset, Stranger, Strangers, Superseded,
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

/// What an upsert says of the friend. Names are UTF-8.
pub(super) struct Entry<'a> {
    pub(super) friend: &'a [u8],
    pub(super) display_name: &'a [u8],
    pub(super) position: &'a FriendPosition,
}

/// Items for one gateway process, under one epoch a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The engine's number of the gateway process; [`Engine::gateway`](super::Engine::gateway) names it.
    pub gateway: u32,
    /// The epoch of each partition that a viewer in the batch belongs to.
    pub epochs: Vec<PartitionEpoch>,
    /// In order.
    pub items: Items,
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
    items: ItemWriter,
    /// What the last item says, if it takes further viewers.
    last: Option<Saying>,
}

/// What one item says to many, in one turn: the friend's position, coarse or not, or why there is none.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Saying {
    Shown { turn: u64, friend: Id, coarse: bool },
    Removed { turn: u64, friend: Id, reason: RemovalReason },
}

impl Open {
    fn close(&mut self, gateway: u32) -> Option<Batch> {
        self.last = None;
        self.places.clear();
        let epochs = std::mem::take(&mut self.epochs);
        (!self.items.is_empty()).then(|| Batch { gateway, epochs, items: self.items.take() })
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
        let saying = Some(Saying::Shown { turn: self.turn, friend, coarse });
        let open = self.open(to);
        if open.last != saying {
            open.last = saying;
            let Entry { friend, display_name, position } = entry();
            open.items.upsert(friend, display_name, position);
        }
        open.items.shown_to(UpsertViewer { handle: to.handle, distance_dm });
    }

    /// `name` is asked for the first of the viewers whom a record tells the same.
    pub(super) fn removal<'a>(
        &mut self,
        to: Address,
        friend: Id,
        reason: RemovalReason,
        name: impl FnOnce() -> &'a [u8],
    ) {
        let saying = Some(Saying::Removed { turn: self.turn, friend, reason });
        let open = self.open(to);
        if open.last != saying {
            open.last = saying;
            open.items.removal(name(), reason);
        }
        open.items.removed_from(to.handle);
    }

    pub(super) fn reset(&mut self, to: Address, reset: Reset) {
        self.push(to, Item::Reset(reset));
    }

    pub(super) fn applied(&mut self, to: Address, list_version: i64) {
        self.push(to, Item::Applied(Applied { handle: to.handle, list_version }));
    }

    pub(super) fn digest(&mut self, to: Address, count: usize, digest: i64) {
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        self.push(to, Item::Digest(Digest { handle: to.handle, count, digest }));
    }

    pub(super) fn strangers(&mut self, to: Address, entries: Vec<Stranger>) {
        self.push(to, Item::Strangers(Strangers { viewer: to.handle, entries }));
    }

    pub(super) fn superseded(&mut self, to: Address) {
        self.push(to, Item::Superseded(Superseded { handle: to.handle }));
    }

    fn push(&mut self, to: Address, item: Item) {
        let open = self.open(to);
        open.last = None;
        open.items.push(&item);
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
        if open.items.bytes() < BATCH_BYTES && known == Some(to.epoch) {
            return &mut self.open[index];
        }
        self.open_for(to, known)
    }

    /// The same where the batch is closed before, or hears of the partition for the first time.
    #[cold]
    fn open_for(&mut self, to: Address, known: Option<i64>) -> &mut Open {
        let open = &mut self.open[to.gateway as usize];
        let closes = open.items.bytes() >= BATCH_BYTES || known.is_some();
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
        let entry = || Entry { friend: b"f", display_name: b"F", position: &position };
        out.upsert(to, Id::new(1), false, distance_dm, entry);
    }

    fn viewers(batch: &Batch) -> Vec<usize> {
        let count = |item: &Item| match item {
            Item::Upsert(upsert) => upsert.viewers.len(),
            Item::Removal(removal) => removal.viewers.len(),
            _ => 1,
        };
        batch.items.decode().unwrap().iter().map(count).collect()
    }

    #[test]
    fn the_viewers_of_one_decision_share_an_item() {
        let mut out = Outbox::default();
        out.begin();
        upsert(&mut out, address(0, 1, 5), 10);
        upsert(&mut out, address(0, 3, 5), 20);
        out.removal(address(0, 2, 5), Id::new(1), RemovalReason::Silent, || b"f");
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
