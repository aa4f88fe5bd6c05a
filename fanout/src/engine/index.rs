//! From the hash of a name to the user's number.

use bytemuck::{Pod, Zeroable};

use super::array::Array;
use super::prefetch::prefetch;

/// Entries of one group.
const ENTRIES: usize = 12;
/// Tags of an entry that was never used, and of one that is not any more.
const EMPTY: u8 = 0;
const GONE: u8 = 1;
/// The table grows when this many of 20 entries are used.
const FULL: usize = 16;

/// One cache line of entries, so that most look-ups cost one miss. The tag is a byte of the hash.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Group {
    numbers: [u32; ENTRIES],
    tags: [u8; 16],
}

/// A hash table of numbers that leaves the names to its owner.
#[derive(Default)]
pub(super) struct Index {
    groups: Array<Group>,
    live: usize,
    gone: usize,
}

impl Index {
    pub(super) fn len(&self) -> usize {
        self.live
    }

    /// Begins to load the group that the hash leads to.
    #[inline]
    pub(super) fn prefetch(&self, hash: u64) {
        prefetch(self.groups.as_slice(), home(hash, self.groups.len()));
    }

    /// The number for which `is` holds among those with the hash.
    #[inline]
    pub(super) fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        let (group, entry) = self.place(hash, is)?;
        Some(self.groups.as_slice()[group].numbers[entry])
    }

    fn place(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<(usize, usize)> {
        let groups = self.groups.as_slice();
        let tag = tag(hash);
        let mut at = home(hash, groups.len());
        for _ in 0..groups.len() {
            let group = &groups[at];
            for entry in 0..ENTRIES {
                if group.tags[entry] == tag && is(group.numbers[entry]) {
                    return Some((at, entry));
                }
            }
            if group.tags[..ENTRIES].contains(&EMPTY) {
                return None;
            }
            at = if at + 1 == groups.len() { 0 } else { at + 1 };
        }
        None
    }

    /// Whether the next number needs a larger table: see [`Index::rebuild`].
    pub(super) fn is_full(&self) -> bool {
        (self.live + self.gone + 1) * 20 > self.groups.len() * ENTRIES * FULL
    }

    /// Begins anew with room for more than there is, and with these.
    pub(super) fn rebuild(&mut self, numbers: impl Iterator<Item = (u64, u32)>) {
        let needed = (self.live + 1) * 20 / (ENTRIES * FULL) + 1;
        let held = self.groups.len();
        // What is full of entries that are gone is built again as it was.
        let groups = if needed * 10 > held * 8 { (needed * 7 / 5).max(4) } else { held };
        *self = Self { groups: Array::zeroed(groups), live: 0, gone: 0 };
        for (hash, number) in numbers {
            self.insert(hash, number);
        }
    }

    /// Adds a number that is not there; there is room for it.
    pub(super) fn insert(&mut self, hash: u64, number: u32) {
        let groups = self.groups.as_mut_slice();
        let mut at = home(hash, groups.len());
        loop {
            let group = &mut groups[at];
            if let Some(entry) = group.tags[..ENTRIES].iter().position(|&tag| tag <= GONE) {
                self.gone -= usize::from(group.tags[entry] == GONE);
                self.live += 1;
                group.tags[entry] = tag(hash);
                group.numbers[entry] = number;
                return;
            }
            at = if at + 1 == groups.len() { 0 } else { at + 1 };
        }
    }

    pub(super) fn remove(&mut self, hash: u64, number: u32) {
        let Some((at, entry)) = self.place(hash, |known| known == number) else { return };
        let tags = &mut self.groups.as_mut_slice()[at].tags;
        // Nothing went on to the next group past one with room.
        let ends = tags[..ENTRIES].contains(&EMPTY);
        tags[entry] = if ends { EMPTY } else { GONE };
        self.live -= 1;
        self.gone += usize::from(!ends);
    }
}

fn tag(hash: u64) -> u8 {
    (hash as u8).max(GONE + 1)
}

fn home(hash: u64, groups: usize) -> usize {
    (((hash >> 32) * groups as u64) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: u32) -> u64 {
        u64::from(number / 3).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    #[test]
    fn numbers_come_and_go() {
        let mut index = Index::default();
        let mut held = Vec::new();
        for round in 0..20_000_u32 {
            if index.is_full() {
                index.rebuild(held.iter().map(|&number| (hash(number), number)));
            }
            index.insert(hash(round), round);
            held.push(round);
            if round % 3 == 0 {
                let gone = held.swap_remove(round as usize * 7 % held.len());
                index.remove(hash(gone), gone);
                assert_eq!(index.find(hash(gone), |known| known == gone), None);
            }
        }
        assert_eq!(index.len(), held.len());
        assert!(held.iter().all(|&number| index.find(hash(number), |known| known == number) == Some(number)));
    }
}
