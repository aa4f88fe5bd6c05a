//! The contiguous prefix of a partition: what may be committed when batches finish out of order.

use std::collections::BTreeMap;

/// Offsets of one partition that are being written, and how far everything is written.
#[derive(Debug, Default)]
pub struct Prefix {
    /// Batches by their first offset: the offset after their last, and whether they are written.
    batches: BTreeMap<i64, (i64, bool)>,
    next: Option<i64>,
}

impl Prefix {
    /// A batch of the offsets `first..end` is being written. Batches begin in order.
    pub fn begin(&mut self, first: i64, end: i64) {
        self.batches.insert(first, (end, false));
    }

    /// The batch that began with `first` is written.
    pub fn done(&mut self, first: i64) {
        if let Some(batch) = self.batches.get_mut(&first) {
            batch.1 = true;
        }
        while let Some(batch) = self.batches.first_entry() {
            let (end, written) = *batch.get();
            if !written {
                break;
            }
            self.next = Some(end);
            batch.remove();
        }
    }

    /// The next offset to read after a restart, if it moved since it was last taken.
    pub fn take_next(&mut self) -> Option<i64> {
        self.next.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_holds_the_commit_back() {
        let mut prefix = Prefix::default();
        prefix.begin(0, 10);
        prefix.begin(10, 20);
        prefix.begin(25, 30);
        prefix.done(10);
        assert_eq!(prefix.take_next(), None);
        prefix.done(0);
        assert_eq!(prefix.take_next(), Some(20));
        assert_eq!(prefix.take_next(), None);
        prefix.done(25);
        assert_eq!(prefix.take_next(), Some(30));
    }
}
