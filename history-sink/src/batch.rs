//! What the reader hands to the writer: consecutive records of one partition.

use crate::history::HistoryRow;

/// A record with its original bytes, which a dead letter keeps.
pub struct Record {
    /// Offset in the partition.
    pub offset: i64,
    /// The record's key.
    pub key: Vec<u8>,
    /// The record's value.
    pub value: Vec<u8>,
    /// The row it leaves, or why it cannot be used.
    pub row: Result<HistoryRow, String>,
}

/// Consecutive records of one partition that leave something: others are only counted by the offsets.
pub struct Batch {
    /// Which assignment of the partition it was read under.
    pub generation: u64,
    /// Partition of the location log.
    pub partition: i32,
    /// Offset of the first record, skipped ones included.
    pub first: i64,
    /// Offset after the last record, skipped ones included.
    pub end: i64,
    /// What to write.
    pub records: Vec<Record>,
}

/// A batch is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// As in [`Batch::generation`].
    pub generation: u64,
    /// As in [`Batch::partition`].
    pub partition: i32,
    /// As in [`Batch::first`].
    pub first: i64,
}
