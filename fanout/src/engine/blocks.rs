//! Room for the friend lists: blocks of words in large segments.
//!
//! Lists grow a friend at a time, all of them at once when lists are read, so free lists by size would keep a block of
//! each size for each user. Instead blocks are laid one after the other, and when an eighth of all is dead, the segment
//! with the least alive is copied away and given back. A block knows its owner, so that whoever points to it can be told.

use super::array::Array;

/// Words of a segment, 8 MiB: a stop of a few milliseconds to clean one.
const SEGMENT: usize = 1 << 21;
/// Words of a unit; blocks begin at multiples of it, so that 32 bits reach over 64 GiB.
const UNIT: usize = 4;
const UNITS: usize = SEGMENT / UNIT;
/// Words before the list.
pub(super) const HEADER: usize = 5;
/// The owner of a block that is dead, and of none after the last one.
const DEAD: u32 = u32::MAX;
/// Segments cleaned at a time.
const CLEANED: usize = 8;

/// Where a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(pub(super) u32);

impl Place {
    /// No block.
    pub(super) const NONE: Self = Self(u32::MAX);

    fn parts(self) -> (usize, usize) {
        (self.0 as usize / UNITS, self.0 as usize % UNITS * UNIT)
    }
}

/// Words of the block's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// The owner's number.
    Owner,
    /// How many links there are.
    Links,
    /// Of those, how many come first because their users are online.
    Online,
    /// The owner's row among the viewers of the partition.
    Viewer,
    /// What the owner is called.
    Display,
}

struct Segment {
    words: Array<u32>,
    used: usize,
    live: usize,
}

/// All blocks.
#[derive(Default)]
pub(super) struct Blocks {
    segments: Vec<Option<Segment>>,
    /// The segment that is being filled.
    current: usize,
    used: usize,
    live: usize,
    /// A segment was begun since the last look.
    grown: bool,
}

/// Words that a block of so many links takes: at most an eighth more than it needs.
pub(super) fn size_of_block(links: usize) -> usize {
    let needed = HEADER + links;
    let step = if needed <= 32 { UNIT } else { 1 << (needed.ilog2() - 3) };
    needed.next_multiple_of(step)
}

impl Blocks {
    /// Words of the address range in use, and of those, words of live blocks.
    pub(super) fn count(&self) -> (usize, usize) {
        (self.used, self.live)
    }

    /// A block for so many links, which the caller writes.
    pub(super) fn add(&mut self, owner: u32, links: usize) -> Place {
        let size = size_of_block(links);
        let fits = |segment: &Segment| segment.used + size <= segment.words.len();
        if !self.segments.get(self.current).and_then(Option::as_ref).is_some_and(fits) {
            self.begin_segment(size);
        }
        let index = self.current;
        let Some(segment) = &mut self.segments[index] else { return Place::NONE };
        let at = segment.used;
        segment.used += size;
        segment.live += size;
        self.used += size;
        self.live += size;
        segment.words.as_mut_slice()[at..at + HEADER].copy_from_slice(&[owner, links as u32, 0, u32::MAX, u32::MAX]);
        Place((index * UNITS + at / UNIT) as u32)
    }

    fn begin_segment(&mut self, size: usize) {
        self.grown = true;
        // A list that is larger than a segment gets a larger one for itself: only its beginning is pointed to.
        let segment = Segment { words: Array::zeroed(size.max(SEGMENT)), used: 0, live: 0 };
        let vacant = self.segments.iter().position(Option::is_none);
        self.current = vacant.unwrap_or_else(|| {
            self.segments.push(None);
            self.segments.len() - 1
        });
        assert!((self.current + 1) * UNITS < u32::MAX as usize, "more than 64 GiB of friend lists");
        self.segments[self.current] = Some(segment);
    }

    /// The words from the beginning of a block on.
    #[inline]
    pub(super) fn words(&self, place: Place) -> &[u32] {
        let (segment, at) = place.parts();
        self.segments[segment].as_ref().map_or(&[], |segment| &segment.words.as_slice()[at..])
    }

    #[inline]
    pub(super) fn words_mut(&mut self, place: Place) -> &mut [u32] {
        let (segment, at) = place.parts();
        self.segments[segment].as_mut().map_or(&mut [], |segment| &mut segment.words.as_mut_slice()[at..])
    }

    /// The block has as many links as its header says.
    pub(super) fn remove(&mut self, place: Place) {
        let words = self.words_mut(place);
        let size = size_of_block(words[Word::Links as usize] as usize);
        words[Word::Owner as usize] = DEAD;
        self.live -= size;
        let index = place.parts().0;
        if let Some(segment) = &mut self.segments[index] {
            segment.live -= size;
            if segment.live == 0 {
                self.used -= segment.used;
                segment.used = 0;
                if index != self.current {
                    self.segments[index] = None;
                }
            }
        }
    }

    /// Copies the blocks of segments that hold little away, if there is much that is dead; tells where each went.
    pub(super) fn clean(&mut self, mut moved: impl FnMut(u32, Place)) {
        if !std::mem::take(&mut self.grown) {
            return;
        }
        for _ in 0..CLEANED {
            if (self.used - self.live) * 8 <= self.used {
                break;
            }
            let dead = |segment: &Segment| segment.used - segment.live;
            let held = self.segments.iter().enumerate().filter(|&(index, _)| index != self.current);
            let worst = held
                .filter_map(|(index, segment)| Some((dead(segment.as_ref()?), index)))
                .filter(|(dead, _)| dead * 16 > SEGMENT)
                .max();
            let Some((_, index)) = worst else { break };
            let Some(segment) = self.segments[index].take() else { break };
            let words = segment.words.as_slice();
            let mut at = 0;
            while at < segment.used {
                let links = words[at + Word::Links as usize] as usize;
                let size = size_of_block(links);
                let owner = words[at];
                if owner != DEAD {
                    let place = self.add(owner, links);
                    self.words_mut(place)[..size].copy_from_slice(&words[at..at + size]);
                    moved(owner, place);
                }
                at += size;
            }
            self.used -= segment.used;
            self.live -= segment.live;
        }
        self.grown = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_grow_together_and_little_is_wasted() {
        const OWNERS: usize = 60_000;
        let mut blocks = Blocks::default();
        let mut places = vec![Place::NONE; OWNERS];
        for links in 0..120 {
            for owner in 0..OWNERS {
                let old = places[owner];
                if old != Place::NONE && size_of_block(links) == size_of_block(links - 1) {
                    blocks.words_mut(old)[Word::Links as usize] = links as u32;
                    continue;
                }
                let place = blocks.add(owner as u32, links);
                blocks.words_mut(place)[HEADER - 1] = owner as u32 ^ 7;
                if old != Place::NONE {
                    blocks.remove(old);
                }
                places[owner] = place;
                blocks.clean(|owner, place| places[owner as usize] = place);
            }
        }
        for (owner, place) in places.iter().enumerate() {
            assert_eq!(blocks.words(*place)[..2], [owner as u32, 119]);
            assert_eq!(blocks.words(*place)[HEADER - 1], owner as u32 ^ 7);
        }
        let (used, live) = blocks.count();
        assert_eq!(live, OWNERS * size_of_block(119));
        assert!(used * 7 <= live * 8 + 8 * SEGMENT, "{used} words for {live}");
        places.into_iter().for_each(|place| blocks.remove(place));
        assert_eq!(blocks.count(), (0, 0));
    }
}
