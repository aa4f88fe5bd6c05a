//! Arrays in huge pages.
//!
//! The join reads a few bytes at random places of arrays of gigabytes. With pages of 4 KiB nearly each of those reads
//! also misses the translation buffer; with pages of 2 MiB few do.

use std::marker::PhantomData;

use bytemuck::Pod;
use memmap2::MmapMut;

/// Bytes of the first map.
const FIRST: usize = 64 * 1024;
/// Bytes of a huge page: smaller maps have no use for the advice.
const HUGE: usize = 2 * 1024 * 1024;

/// A growing array of plain values. It doubles by one copy into a fresh map; what was never touched of a map is not
/// resident, so the slack costs addresses and no memory.
pub(super) struct Array<T> {
    map: Option<MmapMut>,
    len: usize,
    of: PhantomData<T>,
}

impl<T> Default for Array<T> {
    fn default() -> Self {
        Self { map: None, len: 0, of: PhantomData }
    }
}

impl<T: Pod> Array<T> {
    /// An array of `len` zeroed values.
    pub(super) fn zeroed(len: usize) -> Self {
        Self { map: Some(map(len * size_of::<T>())), len, of: PhantomData }
    }

    #[inline]
    pub(super) fn as_slice(&self) -> &[T] {
        self.map.as_ref().map_or(&[], |map| bytemuck::cast_slice(&map[..self.len * size_of::<T>()]))
    }

    #[inline]
    pub(super) fn as_mut_slice(&mut self) -> &mut [T] {
        let bytes = self.len * size_of::<T>();
        self.map.as_mut().map_or(&mut [], |map| bytemuck::cast_slice_mut(&mut map[..bytes]))
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn push(&mut self, value: T) {
        self.grow(1);
        let at = self.len - 1;
        self.as_mut_slice()[at] = value;
    }

    /// Adds `more` values that are zero, or whatever stood there before a [`Array::clear`].
    pub(super) fn grow(&mut self, more: usize) {
        let needed = (self.len + more) * size_of::<T>();
        let held = self.map.as_ref().map_or(0, |map| map.len());
        if needed > held {
            let mut larger = map(needed.max(2 * held).max(FIRST));
            if let Some(old) = &self.map {
                larger[..old.len()].copy_from_slice(old);
            }
            self.map = Some(larger);
        }
        self.len += more;
    }
}

#[expect(clippy::expect_used, reason = "as when any allocation fails, there is nothing that could go on")]
fn map(bytes: usize) -> MmapMut {
    let map = MmapMut::map_anon(bytes.max(1)).expect("memory for the engine");
    #[cfg(target_os = "linux")]
    if bytes >= HUGE {
        // A kernel without huge pages refuses, and serves small ones.
        let _ = map.advise(memmap2::Advice::HugePage);
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growing_keeps_what_is_there() {
        let mut array = Array::default();
        for value in 0..100_000_u32 {
            array.push(value);
        }
        assert!(array.as_slice().iter().copied().eq(0..100_000));
        assert_eq!(Array::<u64>::zeroed(3).as_slice(), [0; 3]);
    }
}
