//! Names and other short texts, one after the other in one array.

use rustc_hash::FxHashMap;

use super::array::Array;
use super::prefetch::prefetch;

/// Bytes of a unit; places are counted in units, so that 32 bits reach over 16 GiB.
const UNIT: usize = 4;

/// The texts. A place that is freed is used again for a text of about the same length.
#[derive(Default)]
pub(super) struct Texts {
    bytes: Array<u8>,
    /// Freed places by their length in units.
    free: FxHashMap<usize, Vec<u32>>,
}

impl Texts {
    /// Stores a text after a prefix; returns its place.
    pub(super) fn add(&mut self, prefix: &[u8], text: &[u8]) -> u32 {
        let length = prefix.len() + text.len();
        let units = length.div_ceil(UNIT);
        let place = self.free.get_mut(&units).and_then(Vec::pop).unwrap_or_else(|| {
            let place = self.bytes.len() / UNIT;
            assert!(place < u32::MAX as usize, "more than 16 GiB of names");
            self.bytes.grow(units * UNIT);
            place as u32
        });
        let at = place as usize * UNIT;
        let room = &mut self.bytes.as_mut_slice()[at..at + length];
        room[..prefix.len()].copy_from_slice(prefix);
        room[prefix.len()..].copy_from_slice(text);
        place
    }

    /// Gives a place of `length` bytes, prefix included, back.
    pub(super) fn remove(&mut self, place: u32, length: usize) {
        self.free.entry(length.div_ceil(UNIT)).or_default().push(place);
    }

    /// What is stored from a place on.
    #[inline]
    pub(super) fn bytes(&self, place: u32) -> &[u8] {
        &self.bytes.as_slice()[place as usize * UNIT..]
    }

    #[inline]
    pub(super) fn prefetch(&self, place: u32) {
        prefetch(self.bytes.as_slice(), place as usize * UNIT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_place_is_used_again_for_its_length() {
        let mut texts = Texts::default();
        let (a, b) = (texts.add(&[1], b"abc"), texts.add(&[], b"defgh"));
        assert_eq!((&texts.bytes(a)[..4], &texts.bytes(b)[..5]), (&b"\x01abc"[..], &b"defgh"[..]));
        texts.remove(b, 5);
        assert_ne!(texts.add(&[], b"xyz"), b);
        assert_eq!(texts.add(&[], b"uvwxyz"), b);
        assert_eq!(&texts.bytes(b)[..6], b"uvwxyz");
    }
}
