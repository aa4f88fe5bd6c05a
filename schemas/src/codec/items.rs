//! Items of a delivery, encoded as they are decided: a worker at full load decides millions a second, and none of them
//! is kept as anything but the bytes that go out.

use std::fmt;

use super::delivery::{read_items, write_item, write_position};
use super::error::DecodeError;
use super::{whole, write};
use crate::delivery::{FriendPosition, Item, RemovalReason, UpsertViewer};

/// Encoded items in their order. `Debug` leaves them out, for they hold positions.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Items {
    bytes: Vec<u8>,
    count: usize,
}

impl fmt::Debug for Items {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Items").field("count", &self.count).field("bytes", &self.bytes.len()).finish()
    }
}

impl Items {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none, as in a heartbeat.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The items, as whoever receives them reads them.
    ///
    /// # Errors
    /// None: what was encoded here can be decoded. The type is the decoder's.
    pub fn decode(&self) -> Result<Vec<Item>, DecodeError> {
        let mut array = Vec::with_capacity(self.bytes.len() + 8);
        self.write(&mut array);
        whole(&array, read_items)
    }

    /// Appends the array.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        if self.count > 0 {
            write::long(self.count as i64, out);
            out.extend_from_slice(&self.bytes);
        }
        out.push(0);
    }
}

/// Gathers [`Items`]. The viewers of an upsert or of a removal come one by one after it.
#[derive(Debug, Default)]
pub struct ItemWriter {
    items: Items,
    /// Those of the last item, if it takes any.
    viewers: Vec<u8>,
    viewer_count: usize,
    takes_viewers: bool,
}

impl ItemWriter {
    /// Whether nothing was gathered.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Bytes so far.
    pub fn bytes(&self) -> usize {
        self.items.bytes.len() + self.viewers.len()
    }

    /// Begins an upsert; [`ItemWriter::shown_to`] says for whom. The names are UTF-8, as their keeper knows.
    #[inline]
    pub fn upsert(&mut self, friend: &[u8], display_name: &[u8], position: &FriendPosition) {
        self.begin(true);
        let out = &mut self.items.bytes;
        write::long(0, out);
        write::bytes(friend, out);
        write::bytes(display_name, out);
        write_position(position, out);
    }

    /// Adds a viewer to the upsert that was begun last.
    #[inline]
    pub fn shown_to(&mut self, viewer: UpsertViewer) {
        debug_assert!(self.takes_viewers);
        self.viewer_count += 1;
        write::int(viewer.handle, &mut self.viewers);
        write::int(viewer.distance_dm, &mut self.viewers);
    }

    /// Begins a removal; [`ItemWriter::removed_from`] says for whom. The name is UTF-8.
    #[inline]
    pub fn removal(&mut self, friend: &[u8], reason: RemovalReason) {
        self.begin(true);
        let out = &mut self.items.bytes;
        write::long(1, out);
        write::bytes(friend, out);
        write::symbol(reason, out);
    }

    /// Adds a viewer, by the session's handle, to the removal that was begun last.
    #[inline]
    pub fn removed_from(&mut self, handle: i32) {
        debug_assert!(self.takes_viewers);
        self.viewer_count += 1;
        write::int(handle, &mut self.viewers);
    }

    /// Adds an item that is whole.
    pub fn push(&mut self, item: &Item) {
        self.begin(false);
        write_item(item, &mut self.items.bytes);
    }

    /// Takes what was gathered. What is gathered next is expected to be about as long.
    pub fn take(&mut self) -> Items {
        self.end();
        let room = Vec::with_capacity(self.items.bytes.len());
        std::mem::replace(&mut self.items, Items { bytes: room, count: 0 })
    }

    fn begin(&mut self, takes_viewers: bool) {
        self.end();
        self.takes_viewers = takes_viewers;
        self.items.count += 1;
    }

    /// Ends the item that takes viewers.
    fn end(&mut self) {
        if std::mem::take(&mut self.takes_viewers) {
            let out = &mut self.items.bytes;
            if self.viewer_count > 0 {
                write::long(self.viewer_count as i64, out);
                out.extend_from_slice(&self.viewers);
            }
            out.push(0);
            self.viewers.clear();
            self.viewer_count = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::{Applied, Removal, Upsert};

    #[test]
    fn what_comes_piece_by_piece_is_what_comes_whole() {
        let position = FriendPosition {
            lat: 1.5,
            lon: -2.5,
            at: 1_700_000_000_000,
            coarse: false,
            accuracy_m: Some(3.0),
            speed_mps: None,
            heading_deg: None,
        };
        let viewers = [(1, 300), (-70_000, -1), (i32::MAX, 0)];
        let viewers = viewers.map(|(handle, distance_dm)| UpsertViewer { handle, distance_dm });
        let reason = RemovalReason::Silent;
        let expected = vec![
            Item::Upsert(Upsert {
                friend: "f".into(),
                display_name: "Für".into(),
                position: position.clone(),
                viewers: viewers.to_vec(),
            }),
            Item::Applied(Applied { handle: 4, list_version: 9 }),
            Item::Removal(Removal { friend: "g".into(), reason, viewers: vec![5, 6] }),
            Item::Removal(Removal { friend: "h".into(), reason, viewers: Vec::new() }),
        ];
        let mut writer = ItemWriter::default();
        assert!(writer.take().decode().unwrap().is_empty());
        for _ in 0..2 {
            writer.upsert(b"f", "Für".as_bytes(), &position);
            viewers.into_iter().for_each(|viewer| writer.shown_to(viewer));
            writer.push(&expected[1]);
            writer.removal(b"g", reason);
            writer.removed_from(5);
            writer.removed_from(6);
            writer.removal(b"h", reason);
            let items = writer.take();
            assert_eq!((items.len(), items.decode().unwrap()), (4, expected.clone()));
            let mut whole = ItemWriter::default();
            expected.iter().for_each(|item| whole.push(item));
            assert_eq!(whole.take(), items);
            assert!(writer.is_empty() && writer.bytes() == 0);
        }
        assert!(!format!("{writer:?}").contains("1.5"));
    }
}
