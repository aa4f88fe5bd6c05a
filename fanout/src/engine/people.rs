//! Users by number: names interned, with what belongs to a name alone, and the friendships between them.
//!
//! A number lives as long as anything refers to it: a slot, a list, a friendship of which it is an end, or a timer. Since
//! each friendship is held at both ends, that is seen from the user's own row, and nothing is counted.

use std::hash::BuildHasher;

use bytemuck::{Pod, Zeroable};
use rustc_hash::{FxBuildHasher, FxHashMap};

use super::array::Array;
use super::blocks::{Blocks, HEADER, Place, Word, size_of_block};
use super::index::Index;
use super::links::{IDS, Link, SLOTS, Says};
use super::prefetch::prefetch;
use super::texts::Texts;

/// In the word of a display name or of a viewer: there is none.
const NONE: u32 = u32::MAX;
/// In the slot's bits: offline.
const OFFLINE: u32 = SLOTS - 1;
const SLOT_MASK: u32 = SLOTS - 1;

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

    fn index(self) -> usize {
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
struct Row {
    /// Place of the name: a byte of length, and the name. [`NONE`] while nobody has the number.
    name: u32,
    /// The slot, and flags above.
    slot: u32,
    /// Place of the block with the links.
    block: u32,
}

/// All users whom anything refers to.
#[derive(Default)]
pub(super) struct People {
    rows: Array<Row>,
    free: Vec<Id>,
    index: Index,
    names: Texts,
    blocks: Blocks,
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
        let (used, live) = self.blocks.words();
        (live * 4, used * 4)
    }

    pub(super) fn find(&self, name: &str) -> Option<Id> {
        self.find_hashed(hash_of(name), name)
    }

    #[inline]
    pub(super) fn find_hashed(&self, hash: u64, name: &str) -> Option<Id> {
        self.index.find(hash, |number| self.name_bytes(Id(number)) == name.as_bytes()).map(Id)
    }

    /// The number of a name; a new one for a new name, to which the caller makes something refer.
    pub(super) fn named(&mut self, name: &str) -> Id {
        let hash = hash_of(name);
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
        self.display(id).map_or_else(|| self.name(id), |(_, display)| display)
    }

    /// When the list was published that said what the user is called, and what it said.
    fn display(&self, id: Id) -> Option<(i64, &str)> {
        let place = self.word(id, Word::Display)?;
        let (prefix, rest) = self.names.from(place).split_at(10);
        let published_at = i64::from_le_bytes(prefix[..8].try_into().ok()?);
        let length = usize::from(u16::from_le_bytes([prefix[8], prefix[9]]));
        Some((published_at, str::from_utf8(&rest[..length]).unwrap_or_default()))
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
                let renamed = known != text;
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

/// The friendships.
impl People {
    /// All links of a user, and how many come first that hold slots.
    #[inline]
    pub(super) fn links_split(&self, id: Id) -> (&[Link], usize) {
        let place = Place(self.rows.as_slice()[id.index()].block);
        if place == Place::NONE {
            return (&[], 0);
        }
        let words = self.blocks.from(place);
        let (links, online) = (words[Word::Links as usize] as usize, words[Word::Online as usize] as usize);
        (bytemuck::cast_slice(&words[HEADER..HEADER + links]), online)
    }

    pub(super) fn links(&self, id: Id) -> &[Link] {
        self.links_split(id).0
    }

    /// The links of a user to those who are online, if the user is.
    #[inline]
    pub(super) fn online(&self, id: Id) -> &[Link] {
        let (links, online) = self.links_split(id);
        &links[..online]
    }

    /// The rest of the links.
    pub(super) fn offline(&self, id: Id) -> &[Link] {
        let (links, online) = self.links_split(id);
        &links[online..]
    }

    fn links_mut(&mut self, id: Id) -> &mut [Link] {
        let place = Place(self.rows.as_slice()[id.index()].block);
        if place == Place::NONE {
            return &mut [];
        }
        let words = self.blocks.get_mut(place);
        let links = words[Word::Links as usize] as usize;
        bytemuck::cast_slice_mut(&mut words[HEADER..HEADER + links])
    }

    /// Where the link of `id` to `other` is among the links.
    pub(super) fn position(&self, id: Id, other: Id) -> Option<usize> {
        let (links, online) = self.links_split(id);
        match (self.slot(id), self.slot(other)) {
            (Some(_), Some(slot)) => links[..online].iter().position(|link| link.slot() == slot),
            _ => links[online..].iter().position(|link| link.id() == other).map(|at| online + at),
        }
    }

    /// Lets both ends of what is between two users say this, or not.
    pub(super) fn set(&mut self, id: Id, other: Id, what: Says, is: bool) {
        if let Some(at) = self.position(id, other) {
            self.links_mut(id)[at].set(what, is);
        }
        if let Some(at) = self.position(other, id) {
            self.links_mut(other)[at].set(what.back(), is);
        }
    }

    /// The same where one end's place among the online is known.
    pub(super) fn set_at(&mut self, id: Id, at: usize, other: Id, what: Says, is: bool) {
        self.links_mut(id)[at].set(what, is);
        if let Some(at) = self.position(other, id) {
            self.links_mut(other)[at].set(what.back(), is);
        }
    }

    /// These users are on the viewer's list from now on; none was before.
    pub(super) fn befriend(&mut self, viewer: Id, friends: &[Id]) {
        let mut added = Vec::with_capacity(friends.len());
        for (at, &friend) in friends.iter().enumerate() {
            if let Some(&next) = friends.get(at + 2) {
                self.prefetch_block(next);
            }
            if let Some(at) = self.position(friend, viewer) {
                self.links_mut(friend)[at].set(Says::Seen, true);
                if let Some(at) = self.position(viewer, friend) {
                    self.links_mut(viewer)[at].set(Says::Sees, true);
                }
            } else {
                added.push((friend, Says::Sees));
                self.append(friend, &[(viewer, Says::Seen)]);
            }
        }
        self.append(viewer, &added);
    }

    /// The friend is not on the viewer's list any more.
    pub(super) fn unfriend(&mut self, viewer: Id, friend: Id) {
        for (id, other, what, view) in
            [(viewer, friend, Says::Sees, Says::InView), (friend, viewer, Says::Seen, Says::Shown)]
        {
            let Some(at) = self.position(id, other) else { continue };
            let is_online = at < self.online(id).len();
            let link = &mut self.links_mut(id)[at];
            link.set(what, false);
            if is_online {
                link.set(view, false);
            }
            if link.is_over() {
                self.remove_link(id, at);
            }
        }
    }

    /// Adds links to users to whom there are none.
    fn append(&mut self, id: Id, others: &[(Id, Says)]) {
        let (before, mut online) = (self.links(id).len(), self.online(id).len());
        self.resize(id, before + others.len());
        let own = self.slot(id);
        for (at, &(other, says)) in (before..).zip(others) {
            let slot = own.and(self.slot(other));
            let mut link = slot.map_or(Link::to_id(other), Link::to_slot);
            link.set(says, true);
            let links = self.links_mut(id);
            links[at] = link;
            if slot.is_some() {
                links.swap(at, online);
                online += 1;
            }
        }
        self.set_word(id, Word::Online, online as u32);
        // Segments are cleaned where nobody holds a place.
        let Self { rows, blocks, .. } = self;
        blocks.clean(|owner, place| rows.as_mut_slice()[owner as usize].block = place.0);
    }

    fn remove_link(&mut self, id: Id, at: usize) {
        let (length, mut online) = (self.links(id).len(), self.online(id).len());
        let links = self.links_mut(id);
        let mut hole = at;
        if at < online {
            online -= 1;
            links[hole] = links[online];
            hole = online;
        }
        links[hole] = links[length - 1];
        self.set_word(id, Word::Online, online as u32);
        self.resize(id, length - 1);
    }

    /// Makes room for so many links, in another block if it takes another size.
    fn resize(&mut self, id: Id, links: usize) {
        let place = self.block(id);
        let held = self.blocks.from(place)[Word::Links as usize] as usize;
        if size_of_block(held) != size_of_block(links) {
            let new = self.blocks.add(id.0, links);
            let kept = HEADER + held.min(links);
            // The two blocks may be in one segment.
            let words = self.blocks.from(place)[..kept].to_vec();
            self.blocks.get_mut(new)[..kept].copy_from_slice(&words);
            self.blocks.remove(place);
            self.rows.as_mut_slice()[id.index()].block = new.0;
        }
        self.set_word(id, Word::Links, links as u32);
    }

    /// The user's block; a new one where there is none.
    fn block(&mut self, id: Id) -> Place {
        let place = Place(self.rows.as_slice()[id.index()].block);
        if place != Place::NONE {
            return place;
        }
        let place = self.blocks.add(id.0, 0);
        self.rows.as_mut_slice()[id.index()].block = place.0;
        place
    }

    fn word(&self, id: Id, word: Word) -> Option<u32> {
        let place = Place(self.rows.as_slice()[id.index()].block);
        if place == Place::NONE {
            return None;
        }
        let value = self.blocks.from(place)[word as usize];
        (value != NONE).then_some(value)
    }

    fn set_word(&mut self, id: Id, word: Word, value: u32) {
        if value == NONE && Place(self.rows.as_slice()[id.index()].block) == Place::NONE {
            return;
        }
        let place = self.block(id);
        self.blocks.get_mut(place)[word as usize] = value;
    }

    /// The user has this slot from now on: links to and from others who are online hold slots. `owners` tells whose a
    /// slot is.
    pub(super) fn come_online(&mut self, id: Id, slot: u32) {
        let row = &mut self.rows.as_mut_slice()[id.index()];
        row.slot = row.slot & !SLOT_MASK | slot;
        let mut online = 0;
        for at in 0..self.links(id).len() {
            if let Some(next) = self.links(id).get(at + 8) {
                prefetch(self.rows.as_slice(), next.id().index());
            }
            let link = self.links(id)[at];
            let other = link.id();
            let Some(others) = self.slot(other) else { continue };
            let links = self.links_mut(id);
            links[at] = link.at_slot(others);
            links.swap(at, online);
            online += 1;
            let first = self.online(other).len();
            let Some(back) = self.offline(other).iter().position(|back| back.id() == id) else { continue };
            let links = self.links_mut(other);
            links[first + back] = links[first + back].at_slot(slot);
            links.swap(first, first + back);
            self.set_word(other, Word::Online, first as u32 + 1);
        }
        if online > 0 {
            self.set_word(id, Word::Online, online as u32);
        }
    }

    /// The user's slot is another's soon: no link holds it any more. `id_of` tells whose a slot is.
    pub(super) fn go_offline(&mut self, id: Id, slot: u32, id_of: impl Fn(u32) -> Id) {
        for at in 0..self.online(id).len() {
            let link = self.links(id)[at];
            let other = id_of(link.slot());
            self.links_mut(id)[at] = link.at_id(other);
            let online = self.online(other).len();
            let Some(back) = self.online(other).iter().position(|back| back.slot() == slot) else { continue };
            let links = self.links_mut(other);
            links[back] = links[back].at_id(id);
            links.swap(back, online - 1);
            self.set_word(other, Word::Online, online as u32 - 1);
        }
        if !self.links(id).is_empty() {
            self.set_word(id, Word::Online, 0);
        }
        let row = &mut self.rows.as_mut_slice()[id.index()];
        row.slot |= OFFLINE;
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

    fn prefetch_block(&self, id: Id) {
        self.prefetch_place(Place(self.rows.as_slice()[id.index()].block));
    }

    #[inline]
    fn prefetch_place(&self, place: Place) {
        if place != Place::NONE {
            let words = self.blocks.from(place);
            // The header and the links of a usual user.
            for line in 0..3 {
                prefetch(words, line * 16);
            }
        }
    }
}

fn text(names: &Texts, place: u32) -> &[u8] {
    let bytes = names.from(place);
    &bytes[1..1 + usize::from(bytes[0])]
}
