//! What waits about friends and strangers: parts of a reset, changes by friend, the digest behind them; and how much
//! memory that takes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::frames::{DigestMessage, Entry, Gone, Nearby, ResetPart, Sighting, StrangersMessage, Unchanged};
use crate::outbox::FRAME_ENTRIES;

/// Void entries of the order up to this many are left where they are.
pub(crate) const VOID_ENTRIES: usize = 64;
/// A place in a map or a queue, with what an allocator needs besides; bytes.
const PLACE_BYTES: usize = 64;

#[derive(Debug)]
enum Change {
    Upsert(Entry),
    Removal(Gone),
}

impl Change {
    fn bytes(&self) -> usize {
        match self {
            Self::Upsert(entry) => entry_bytes(entry),
            Self::Removal(gone) => PLACE_BYTES + size_of::<Self>() + gone.friend.len(),
        }
    }
}

/// As if no other session of the gateway held the same sighting.
fn entry_bytes(Entry { sighting, .. }: &Entry) -> usize {
    PLACE_BYTES + size_of::<Change>() + size_of::<Sighting>() + sighting.friend.len() + sighting.display_name.len()
}

/// A part of a reset.
#[derive(Debug)]
pub(crate) struct Part {
    pub part: ResetPart,
    pub entries: Vec<Entry>,
}

/// What waits about friends and strangers.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    parts: VecDeque<Part>,
    /// In place of the parts.
    pub unchanged: Option<Unchanged>,
    changes: HashMap<Arc<str>, (u64, Change)>,
    /// Friends in the order of their first pending change; an entry whose stamp is not the change's is void.
    order: VecDeque<(u64, Arc<str>)>,
    stamp: u64,
    pub strangers: Option<StrangersMessage>,
    pub digest: Option<DigestMessage>,
    bytes: usize,
}

impl Waiting {
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
            && self.unchanged.is_none()
            && self.changes.is_empty()
            && self.strangers.is_none()
            && self.digest.is_none()
    }

    /// About how much memory it all takes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Friends with a change that waits.
    pub fn changes_len(&self) -> usize {
        self.changes.len()
    }

    #[cfg(test)]
    pub fn order_len(&self) -> usize {
        self.order.len()
    }

    /// The parts of a reset that wait.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter()
    }

    /// A friend's position; true when it replaces a change that nobody saw.
    pub fn upsert(&mut self, entry: Entry) -> bool {
        self.change(entry.friend().clone(), Change::Upsert(entry))
    }

    /// A friend's going; true when it replaces a change that nobody saw.
    pub fn removal(&mut self, gone: Gone) -> bool {
        self.change(gone.friend.clone(), Change::Removal(gone))
    }

    /// A part of a reset was decided later than the changes that wait, and is written earlier.
    pub fn push_part(&mut self, part: ResetPart, entries: Vec<Entry>) {
        for entry in &entries {
            self.drop_change(entry.friend());
        }
        self.digest = None;
        self.bytes += entries.iter().map(entry_bytes).sum::<usize>();
        self.parts.push_back(Part { part, entries });
    }

    pub fn take_part(&mut self) -> Option<Part> {
        let part = self.parts.pop_front()?;
        self.bytes -= part.entries.iter().map(entry_bytes).sum::<usize>();
        Some(part)
    }

    pub fn drop_parts(&mut self) {
        while self.take_part().is_some() {}
    }

    /// Drops whatever waits about a friend.
    pub fn forget(&mut self, friend: &Arc<str>) {
        let mut dropped = 0;
        for part in &mut self.parts {
            part.entries.retain(|entry| {
                let stays = entry.friend() != friend;
                dropped += if stays { 0 } else { entry_bytes(entry) };
                stays
            });
        }
        self.bytes -= dropped;
        self.drop_change(friend);
    }

    /// The first changes, as many as a frame holds.
    pub fn take_changes(&mut self) -> Nearby {
        let mut nearby = Nearby::default();
        while nearby.upserts.len() + nearby.removals.len() < FRAME_ENTRIES {
            let Some((stamp, friend)) = self.order.pop_front() else { break };
            if self.changes.get(&friend).is_none_or(|(current, _)| *current != stamp) {
                continue;
            }
            match self.drop_change(&friend) {
                Some(Change::Upsert(entry)) => nearby.upserts.push(entry),
                Some(Change::Removal(gone)) => nearby.removals.push(gone),
                None => {}
            }
        }
        nearby
    }

    fn change(&mut self, friend: Arc<str>, change: Change) -> bool {
        self.digest = None;
        self.bytes += change.bytes();
        if let Some((_, waiting)) = self.changes.get_mut(&friend) {
            self.bytes -= std::mem::replace(waiting, change).bytes();
            return true;
        }
        self.stamp += 1;
        self.order.push_back((self.stamp, friend.clone()));
        self.changes.insert(friend, (self.stamp, change));
        if self.order.len() > 2 * self.changes.len() + VOID_ENTRIES {
            let changes = &self.changes;
            self.order.retain(|(stamp, friend)| changes.get(friend).is_some_and(|(current, _)| current == stamp));
        }
        false
    }

    fn drop_change(&mut self, friend: &Arc<str>) -> Option<Change> {
        let (_, change) = self.changes.remove(friend)?;
        self.bytes -= change.bytes();
        Some(change)
    }
}
