//! What the reader hands to the writer: consecutive records of one partition.

use crate::row::{Entry, Poison};

/// A record with its original bytes, which a dead letter keeps.
pub struct Record {
    /// Offset in the partition.
    pub offset: i64,
    /// When the broker appended it, in ms since the epoch; none where the log does not say.
    pub appended_at: Option<i64>,
    /// The record's key.
    pub key: Option<Vec<u8>>,
    /// The record's value.
    pub value: Option<Vec<u8>>,
    /// What it does to the history, or why it cannot be used.
    pub entry: Result<Entry, Poison>,
}

impl Record {
    /// What it takes in memory, in bytes; the entry's texts are in the key and the value too.
    pub fn bytes(&self) -> usize {
        let len = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        size_of::<Self>() + 2 * (len(&self.key) + len(&self.value))
    }
}

/// Consecutive records of one partition that leave something: others are only counted by the offsets.
pub struct Batch {
    /// Which assignment of the partition it was read under.
    pub generation: u64,
    /// Partition of the location log.
    pub partition: i32,
    /// Offset of the first record, skipped ones included.
    pub first: i64,
    /// What its records take in memory.
    pub bytes: usize,
    /// What to write.
    pub records: Vec<Record>,
}

/// A batch has left the writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// As in [`Batch::generation`].
    pub generation: u64,
    /// As in [`Batch::partition`].
    pub partition: i32,
    /// As in [`Batch::first`].
    pub first: i64,
    /// As in [`Batch::bytes`].
    pub bytes: usize,
    /// Whether everything of it is stored or among the dead letters; if not, it is the next run's.
    pub written: bool,
}

impl Batch {
    /// What the reader is told about it.
    pub fn done(&self, written: bool) -> Done {
        let Self { generation, partition, first, bytes, .. } = *self;
        Done { generation, partition, first, bytes, written }
    }
}
