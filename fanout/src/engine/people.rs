//! Users by number: names interned, with what belongs to a name alone.
//!
//! A number lives as long as anything refers to it: a slot, a list, a friendship of which it is an end, or a timer. Since
//! each friendship is held at both ends, that is seen from the user's own row, and nothing is counted.

use std::hash::BuildHasher;

use bytemuck::{Pod, Zeroable};
use rustc_hash::{FxBuildHasher, FxHashMap};

use super::array::Array;
use super::batch::Ahead;
use super::blocks::{Blocks, Place, Word};
use super::index::Index;
use super::links::{IDS, SLOTS};
use super::prefetch::prefetch;
use super::texts::Texts;

/// In the word of a display name or of a viewer: there is none.
pub(super) const NONE: u32 = u32::MAX;
/// In the slot's bits: offline.
pub(super) const OFFLINE: u32 = SLOTS - 1;
pub(super) const SLOT_MASK: u32 = SLOTS - 1;

/// A user's number. Below 2²⁹, so that a [`Link`] has three bits to spare.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) struct Id(u32);

impl Id {
    pub(super) fn new(number: u32) -> Self {
        debug_assert!(number < IDS);
        Self(number)
    }

    pub(super) fn number(self) -> u32 {
        self.0
    }

    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A timer that a user has at most one of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Single {
    /// The schedule of the coarse position.
    Coarse,
    /// The digest of the view.
    Digest,
}

impl Single {
    const fn bit(self) -> u32 {
        match self {
            Self::Coarse => SLOTS,
            Self::Digest => SLOTS << 1,
        }
    }
}

/// Somebody's entry shows the user coarsely.
const COARSELY: u32 = SLOTS << 2;

/// What every user who is known costs, beside the name and its place in the index.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Row {
    /// Place of the name: a byte of length, and the name. [`NONE`] while nobody has the number.
    name: u32,
    /// The slot, and flags above.
    pub(super) slot: u32,
    /// Place of the block with the links.
    pub(super) block: u32,
}

/// All users whom anything refers to.
#[derive(Default)]
pub(super) struct People {
    pub(super) rows: Array<Row>,
    free: Vec<Id>,
    index: Index,
    names: Texts,
    pub(super) blocks: Blocks,
    /// Entries of lists that show a user coarsely, where there are any.
    coarse_entries: FxHashMap<Id, u32>,
}

/// The hash by which a name is found.
#[inline]
pub(super) fn hash_of(name: &str) -> u64 {
    FxBuildHasher.hash_one(name.as_bytes())
}

impl People {
    /// How many users are known.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Bytes of lists, live and held.
    pub(super) fn list_bytes(&self) -> (usize, usize) {
        let (used, live) = self.blocks.count();
        (live * 4, used * 4)
    }

    pub(super) fn find(&self, name: &str) -> Option<Id> {
        self.find_hashed(hash_of(name), name)
    }

    #[inline]
    pub(super) fn find_hashed(&self, hash: u64, name: &str) -> Option<Id> {
        self.index.find(hash, |number| self.name_bytes(Id(number)) == name.as_bytes()).map(Id)
    }

    /// The same, given whom the hash meant a while ago.
    #[inline]
    pub(super) fn find_ahead(&self, ahead: Ahead, name: &str) -> Option<Id> {
        let still = |id: &Id| self.rows.as_slice()[id.index()].name != NONE && self.name_bytes(*id) == name.as_bytes();
        ahead.id.filter(still).or_else(|| self.find_hashed(ahead.hash, name))
    }

    /// The number of a name; a new one for a new name, to which the caller makes something refer.
    pub(super) fn named(&mut self, name: &str) -> Id {
        self.named_hashed(hash_of(name), name)
    }

    /// The same, given the hash of the name.
    pub(super) fn named_hashed(&mut self, hash: u64, name: &str) -> Id {
        if let Some(id) = self.find_hashed(hash, name) {
            return id;
        }
        if self.index.is_full() {
            let named = self.rows.as_slice().iter().enumerate().filter(|(_, row)| row.name != NONE);
            let hashes =
                named.map(|(number, row)| (FxBuildHasher.hash_one(text(&self.names, row.name)), number as u32));
            self.index.rebuild(hashes);
        }
        // Names have at most 64 bytes.
        let place = self.names.add(&[name.len() as u8], name.as_bytes());
        let row = Row { name: place, slot: OFFLINE, block: Place::NONE.0 };
        let id = if let Some(id) = self.free.pop() {
            self.rows.as_mut_slice()[id.index()] = row;
            id
        } else {
            assert!(self.rows.len() < IDS as usize - 1, "more than 2^29 users");
            self.rows.push(row);
            Id((self.rows.len() - 1) as u32)
        };
        self.index.insert(hash, id.0);
        id
    }

    /// Frees the number if nothing refers to it.
    pub(super) fn release(&mut self, id: Id) {
        let row = self.rows.as_slice()[id.index()];
        let used = row.slot != OFFLINE || !self.links(id).is_empty() || self.viewer(id).is_some();
        if used || row.name == NONE {
            return;
        }
        if Place(row.block) != Place::NONE {
            self.set_display(id, None);
            self.blocks.remove(Place(row.block));
        }
        let name = self.name_bytes(id);
        let (hash, length) = (FxBuildHasher.hash_one(name), name.len());
        self.index.remove(hash, id.0);
        self.names.remove(row.name, 1 + length);
        self.rows.as_mut_slice()[id.index()] = Row { name: NONE, slot: OFFLINE, block: Place::NONE.0 };
        self.free.push(id);
    }

    #[inline]
    fn name_bytes(&self, id: Id) -> &[u8] {
        text(&self.names, self.rows.as_slice()[id.index()].name)
    }

    pub(super) fn name(&self, id: Id) -> &str {
        // What is stored came from a `str`.
        str::from_utf8(self.name_bytes(id)).unwrap_or_default()
    }

    /// What friends call the user; the id where no list said.
    pub(super) fn display_name(&self, id: Id) -> &str {
        str::from_utf8(self.called(id).1).unwrap_or_default()
    }

    /// The user's id, and what friends call the user, in UTF-8.
    #[inline]
    pub(super) fn called(&self, id: Id) -> (&[u8], &[u8]) {
        let name = self.name_bytes(id);
        (name, self.display(id).map_or(name, |(_, display)| display))
    }

    /// When the list was published that said what the user is called, and what it said.
    #[inline]
    fn display(&self, id: Id) -> Option<(i64, &[u8])> {
        let place = self.word(id, Word::Display)?;
        let (prefix, rest) = self.names.bytes(place).split_at(10);
        let published_at = i64::from_le_bytes(prefix[..8].try_into().ok()?);
        let length = usize::from(u16::from_le_bytes([prefix[8], prefix[9]]));
        Some((published_at, &rest[..length]))
    }

    /// Takes what somebody is called, unless a list that was published later said something else. True when it is
    /// another name than before. Longer ones than 65 535 bytes are cut.
    pub(super) fn set_display_name(&mut self, id: Id, text: &str, published_at: i64) -> bool {
        let text = &text[..text.floor_char_boundary(usize::from(u16::MAX))];
        match self.display(id) {
            Some((known_at, known)) => {
                if published_at < known_at {
                    return false;
                }
                let renamed = known != text.as_bytes();
                if renamed || published_at != known_at {
                    self.set_display(id, Some((published_at, text)));
                }
                renamed
            }
            None => {
                self.set_display(id, Some((published_at, text)));
                false
            }
        }
    }

    fn set_display(&mut self, id: Id, display: Option<(i64, &str)>) {
        if let Some(place) = self.word(id, Word::Display) {
            let length = self.display(id).map_or(0, |(_, text)| text.len());
            self.names.remove(place, 10 + length);
        }
        let place = display.map_or(NONE, |(published_at, text)| {
            let mut prefix = [0; 10];
            prefix[..8].copy_from_slice(&published_at.to_le_bytes());
            prefix[8..].copy_from_slice(&(text.len() as u16).to_le_bytes());
            self.names.add(&prefix, text.as_bytes())
        });
        self.set_word(id, Word::Display, place);
    }

    /// The user's row among the viewers of the partition.
    pub(super) fn viewer(&self, id: Id) -> Option<u32> {
        self.word(id, Word::Viewer)
    }

    pub(super) fn set_viewer(&mut self, id: Id, row: Option<u32>) {
        self.set_word(id, Word::Viewer, row.unwrap_or(NONE));
    }

    #[inline]
    pub(super) fn slot(&self, id: Id) -> Option<u32> {
        let slot = self.rows.as_slice()[id.index()].slot & SLOT_MASK;
        (slot != OFFLINE).then_some(slot)
    }

    pub(super) fn coarse_entries(&self, id: Id) -> u32 {
        if self.rows.as_slice()[id.index()].slot & COARSELY == 0 { 0 } else { self.coarse_entries[&id] }
    }

    /// An entry that shows the user coarsely came, or went.
    pub(super) fn count_coarse(&mut self, id: Id, came: bool) {
        let count = self.coarse_entries.entry(id).or_default();
        *count = if came { *count + 1 } else { *count - 1 };
        let row = &mut self.rows.as_mut_slice()[id.index()];
        row.slot |= COARSELY;
        if *count == 0 {
            self.coarse_entries.remove(&id);
            row.slot &= !COARSELY;
        }
    }

    /// Notes that a timer runs; false when it did already.
    pub(super) fn start_timer(&mut self, id: Id, timer: Single) -> bool {
        let flags = &mut self.rows.as_mut_slice()[id.index()].slot;
        let started = *flags & timer.bit() == 0;
        *flags |= timer.bit();
        started
    }

    pub(super) fn stop_timer(&mut self, id: Id, timer: Single) {
        self.rows.as_mut_slice()[id.index()].slot &= !timer.bit();
    }

    pub(super) fn runs(&self, id: Id, timer: Single) -> bool {
        self.rows.as_slice()[id.index()].slot & timer.bit() != 0
    }

    /// Every number in use.
    pub(super) fn ids(&self) -> impl Iterator<Item = Id> {
        let rows = self.rows.as_slice().iter().enumerate();
        rows.filter(|(_, row)| row.name != NONE).map(|(number, _)| Id(number as u32))
    }
}

/// Hints for what will be read soon, each step from what the step before has loaded.
impl People {
    #[inline]
    pub(super) fn prefetch_index(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// The user whom the hash most likely means.
    #[inline]
    pub(super) fn guess(&self, hash: u64) -> Option<Id> {
        let id = Id(self.index.find(hash, |_| true)?);
        prefetch(self.rows.as_slice(), id.index());
        Some(id)
    }

    /// Begins to load the name and the links; returns the slot.
    #[inline]
    pub(super) fn prefetch_row(&self, id: Id) -> Option<u32> {
        let row = self.rows.as_slice()[id.index()];
        self.names.prefetch(row.name);
        self.prefetch_place(Place(row.block));
        self.slot(id)
    }

    /// Begins to load what the user is called, given the block.
    #[inline]
    pub(super) fn prefetch_display(&self, id: Id) {
        if let Some(place) = self.word(id, Word::Display) {
            self.names.prefetch(place);
        }
    }

    pub(super) fn prefetch_block(&self, id: Id) {
        self.prefetch_place(Place(self.rows.as_slice()[id.index()].block));
    }

    #[inline]
    fn prefetch_place(&self, place: Place) {
        if place != Place::NONE {
            let words = self.blocks.words(place);
            // The header and the links of a usual user.
            for line in 0..3 {
                prefetch(words, line * 16);
            }
        }
    }
}

fn text(names: &Texts, place: u32) -> &[u8] {
    let bytes = names.bytes(place);
    &bytes[1..1 + usize::from(bytes[0])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_used_again_only_when_nothing_refers_to_it() {
        let mut people = People::default();
        let (alice, bob) = (people.named("alice"), people.named("bob"));
        assert_eq!(people.named("alice"), alice);
        people.befriend(bob, &[alice]);
        people.release(alice);
        assert_eq!(people.find("alice"), Some(alice), "bob's list refers to her");
        people.come_online(alice, 0);
        people.unfriend(bob, alice);
        people.release(alice);
        assert_eq!(people.find("alice"), Some(alice), "her slot does");
        people.go_offline(alice, 0, |_| alice);
        people.start_timer(alice, Single::Digest);
        people.release(alice);
        assert_eq!(people.find("alice"), Some(alice), "a timer does");
        people.stop_timer(alice, Single::Digest);
        people.release(alice);
        assert_eq!(people.find("alice"), None);
        assert_eq!(people.named("carol"), alice);
        assert_eq!((people.name(alice), people.display_name(alice), people.len()), ("carol", "carol", 2));
    }

    #[test]
    fn the_last_published_name_counts() {
        let mut people = People::default();
        let id = people.named("u1");
        assert!(!people.set_display_name(id, "Bobby", 20), "it had none before");
        assert!(!people.set_display_name(id, "Bob", 10));
        assert_eq!(people.display_name(id), "Bobby");
        assert!(people.set_display_name(id, "Robert", 20));
        assert!(!people.set_display_name(id, "Robert", 30));
        assert_eq!(people.display_name(id), "Robert");
    }
}
