//! `VisibilityList` as bytes. Its entries are decoded as they are iterated.

use std::borrow::Cow;

use super::error::Fault;
use super::read::{Blocks, Reader};
use super::write;
use crate::list::{Precision, VisibilityEntry, VisibilityKind, VisibilityList};

/// Two strings, an enum, an int and a long take at least a byte each.
const LEAST_ENTRY: usize = 5;

/// A [`VisibilityList`] that borrows from the record it was decoded from, where it can.
#[derive(Clone, Debug)]
pub struct VisibilityListRef<'a> {
    /// As in [`VisibilityList::kind`].
    pub kind: VisibilityKind,
    /// As in [`VisibilityList::version`].
    pub version: i64,
    /// As in [`VisibilityList::published_at`].
    pub published_at: i64,
    /// As in [`VisibilityList::radius_m`].
    pub radius_m: i32,
    /// As in [`VisibilityList::worker`].
    pub worker: Cow<'a, str>,
    /// As in [`VisibilityList::worker_incarnation`].
    pub worker_incarnation: i64,
    source: Source<'a>,
}

/// Where the entries are.
#[derive(Clone, Debug)]
enum Source<'a> {
    /// In a record, checked from the array's first block to its end.
    Checked { array: Reader<'a>, count: usize },
    /// Decoded already.
    Decoded(Cow<'a, [VisibilityEntry]>),
}

/// A [`VisibilityEntry`] that borrows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VisibilityEntryRef<'a> {
    /// As in [`VisibilityEntry::friend`].
    pub friend: &'a str,
    /// As in [`VisibilityEntry::display_name`].
    pub display_name: &'a str,
    /// As in [`VisibilityEntry::precision`].
    pub precision: Precision,
    /// As in [`VisibilityEntry::radius_m`].
    pub radius_m: i32,
    /// As in [`VisibilityEntry::expires_at`].
    pub expires_at: i64,
}

impl VisibilityListRef<'_> {
    /// The entries, in their order.
    pub fn entries(&self) -> Entries<'_> {
        match &self.source {
            Source::Checked { array, count } => {
                Entries(Stand::Checked { reader: array.clone(), blocks: Blocks::default(), left: *count })
            }
            Source::Decoded(entries) => Entries(Stand::Decoded(entries.iter())),
        }
    }

    /// The list with parts of its own.
    pub fn to_owned(&self) -> VisibilityList {
        VisibilityList {
            kind: self.kind,
            version: self.version,
            published_at: self.published_at,
            radius_m: self.radius_m,
            entries: self.entries().map(VisibilityEntryRef::to_owned).collect(),
            worker: self.worker.as_ref().into(),
            worker_incarnation: self.worker_incarnation,
        }
    }
}

impl VisibilityEntryRef<'_> {
    /// The entry with strings of its own.
    pub fn to_owned(self) -> VisibilityEntry {
        VisibilityEntry {
            friend: self.friend.into(),
            display_name: self.display_name.into(),
            precision: self.precision,
            radius_m: self.radius_m,
            expires_at: self.expires_at,
        }
    }
}

impl<'a> From<&'a VisibilityEntry> for VisibilityEntryRef<'a> {
    fn from(entry: &'a VisibilityEntry) -> Self {
        Self {
            friend: &entry.friend,
            display_name: &entry.display_name,
            precision: entry.precision,
            radius_m: entry.radius_m,
            expires_at: entry.expires_at,
        }
    }
}

impl<'a> From<&'a VisibilityList> for VisibilityListRef<'a> {
    fn from(list: &'a VisibilityList) -> Self {
        Self {
            kind: list.kind,
            version: list.version,
            published_at: list.published_at,
            radius_m: list.radius_m,
            worker: Cow::Borrowed(&list.worker),
            worker_incarnation: list.worker_incarnation,
            source: Source::Decoded(Cow::Borrowed(&list.entries)),
        }
    }
}

impl From<VisibilityList> for VisibilityListRef<'static> {
    fn from(list: VisibilityList) -> Self {
        Self {
            kind: list.kind,
            version: list.version,
            published_at: list.published_at,
            radius_m: list.radius_m,
            worker: Cow::Owned(list.worker),
            worker_incarnation: list.worker_incarnation,
            source: Source::Decoded(Cow::Owned(list.entries)),
        }
    }
}

/// The entries of a [`VisibilityListRef`]. It knows how many are left.
#[derive(Clone, Debug)]
pub struct Entries<'a>(Stand<'a>);

#[derive(Clone, Debug)]
enum Stand<'a> {
    Checked { reader: Reader<'a>, blocks: Blocks, left: usize },
    Decoded(std::slice::Iter<'a, VisibilityEntry>),
}

impl<'a> Iterator for Entries<'a> {
    type Item = VisibilityEntryRef<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            // The array was checked when the list was decoded: there is no error to report.
            Stand::Checked { reader, blocks, left } => {
                let entry =
                    if blocks.next(reader, LEAST_ENTRY).ok()? { read_entry(reader).ok()? } else { return None };
                *left -= 1;
                Some(entry)
            }
            Stand::Decoded(entries) => entries.next().map(VisibilityEntryRef::from),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = match &self.0 {
            Stand::Checked { left, .. } => *left,
            Stand::Decoded(entries) => entries.len(),
        };
        (left, Some(left))
    }
}

impl ExactSizeIterator for Entries<'_> {}

pub(super) fn read<'a>(from: &mut Reader<'a>) -> Result<VisibilityListRef<'a>, Fault> {
    Ok(VisibilityListRef {
        kind: from.symbol()?,
        version: from.long()?,
        published_at: from.long()?,
        radius_m: from.int()?,
        source: check_entries(from)?,
        worker: Cow::Borrowed(from.string()?),
        worker_incarnation: from.long()?,
    })
}

fn check_entries<'a>(from: &mut Reader<'a>) -> Result<Source<'a>, Fault> {
    let array = from.clone();
    let (mut blocks, mut count) = (Blocks::default(), 0);
    while blocks.next(from, LEAST_ENTRY)? {
        read_entry(from)?;
        count += 1;
    }
    Ok(Source::Checked { array, count })
}

fn read_entry<'a>(from: &mut Reader<'a>) -> Result<VisibilityEntryRef<'a>, Fault> {
    Ok(VisibilityEntryRef {
        friend: from.string()?,
        display_name: from.string()?,
        precision: from.symbol()?,
        radius_m: from.int()?,
        expires_at: from.long()?,
    })
}

pub(super) fn write(list: &VisibilityList, out: &mut Vec<u8>) {
    write::symbol(list.kind, out);
    write::long(list.version, out);
    write::long(list.published_at, out);
    write::int(list.radius_m, out);
    write::items(&list.entries, out, |entry, out| {
        write::string(&entry.friend, out);
        write::string(&entry.display_name, out);
        write::symbol(entry.precision, out);
        write::int(entry.radius_m, out);
        write::long(entry.expires_at, out);
    });
    write::string(&list.worker, out);
    write::long(list.worker_incarnation, out);
}
