//! Reading a snapshot into an engine that begins. Whether the log still has its records is the caller's question.

use std::fs::File;
use std::io::{self, BufReader};

use super::Unusable;
use super::files::Files;
use super::format::{Head, Identity, LastRead, Piece, ReadError, SnapshotReader};
use crate::engine::Engine;

/// A file whose head was read.
pub(crate) struct Opened {
    pub(crate) head: Head,
    reader: SnapshotReader<BufReader<File>>,
}

impl From<ReadError> for Unusable {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Version => Self::Foreign(error.to_string()),
            ReadError::Torn(what) => Self::Torn(what.to_owned()),
            ReadError::Io(error) => Self::Unread(error.to_string()),
        }
    }
}

/// The last snapshot of this worker, if there is one.
///
/// # Errors
/// When its first frame is broken, or it is of something else.
pub(crate) fn open(files: &Files, own: &Identity, partitions: usize) -> Result<Option<Opened>, Unusable> {
    let file = match File::open(files.last()) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Unusable::Unread(error.to_string())),
    };
    let (reader, head) = SnapshotReader::begin(BufReader::with_capacity(1 << 20, file))?;
    if let Some(what) = own.differs(&head.identity) {
        return Err(Unusable::Foreign(format!("it is of {what}")));
    }
    if head.next.len() != partitions {
        return Err(Unusable::Foreign("it is of other partitions of the locations".to_owned()));
    }
    Ok(Some(Opened { head, reader }))
}

/// Whether the snapshot is older than the time to live: by this machine's clock, at which it is `now_ms`, or by the
/// broker's, when something was appended since and a replay by time would begin after it.
pub(crate) fn is_old(head: &Head, by_time: &[i64], ttl_ms: i64, now_ms: i64) -> bool {
    now_ms.saturating_sub(head.now_ms) >= ttl_ms || head.next.iter().zip(by_time).any(|(next, by_time)| by_time > next)
}

/// The last records without those that are as old as `oldest_ms` (ms since the epoch), when whatever they said is too old.
/// There is nothing of their partitions in the snapshot, and the log need not have them any more.
pub(crate) fn young(last: &[Option<LastRead>], oldest_ms: i64) -> Vec<Option<LastRead>> {
    last.iter().map(|last| last.filter(|last| last.append_ms > oldest_ms)).collect()
}

/// What a whole file held.
pub(crate) struct Restored {
    pub(crate) engine: Engine,
    /// The last record that had been read of each partition.
    pub(crate) last: Vec<Option<LastRead>>,
    pub(crate) rows: u64,
}

/// Gives all parts to a new engine. `go_on` is asked after each part, with the rows so far, and may end it.
///
/// # Errors
/// When the file is not as it was written. The engine is of no use then.
pub(crate) fn restore(
    opened: Opened,
    mut engine: Engine,
    mut go_on: impl FnMut(u64) -> bool,
) -> Result<Restored, Unusable> {
    let Opened { head, mut reader } = opened;
    let mut rows = 0;
    loop {
        match reader.next()? {
            Piece::Part(part, bytes) if part.next.len() == head.next.len() => {
                let count = engine.restore(part.now_ms, &part.next, bytes.0);
                if count.map_err(|bad| Unusable::Torn(bad.to_string()))? != part.rows {
                    return Err(Unusable::Torn("a part has other rows than were counted".to_owned()));
                }
                rows += part.rows;
            }
            Piece::End(last) if last.len() == head.next.len() => return Ok(Restored { engine, last, rows }),
            _ => return Err(Unusable::Torn("a part is of other partitions".to_owned())),
        }
        if !go_on(rows) {
            return Err(Unusable::Unread("the worker is to end".to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use nearcast_geo::{Coarsener, Resolution};

    use super::super::format::tests::{head, last};
    use super::super::format::{PartHead, SnapshotWriter};
    use super::*;
    use crate::engine::{AliasKey, Settings};

    fn engine() -> Engine {
        Engine::new(Settings {
            ttl_ms: 600_000,
            max_radius_m: 20_000,
            coarsener: Coarsener::new(Resolution::Seven, 100.0, 300_000).unwrap(),
            coarse_period_ms: 300_000,
            digest_every_ms: 60_000,
            visibility_partitions: 4,
            discovery_max: 0,
            alias_key: AliasKey([1, 2]),
        })
    }

    fn opened(part: PartHead, rows: &[u8], last: Vec<Option<LastRead>>) -> Opened {
        let mut writer = SnapshotWriter::begin(Vec::new(), head()).unwrap();
        writer.part(part, rows).unwrap();
        let (bytes, ..) = writer.end(last).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        file.rewind().unwrap();
        let (reader, head) = SnapshotReader::begin(BufReader::new(file)).unwrap();
        Opened { head, reader }
    }

    #[test]
    fn what_has_a_checksum_and_no_meaning_is_torn() {
        let part = |partitions, rows| PartHead { now_ms: 1, next: vec![0; partitions], rows };
        let whole = restore(opened(part(2, 0), b"", last()), engine(), |_| true);
        assert!(whole.is_ok_and(|restored| restored.last == last()));
        let check = |part, rows, last| {
            let error = restore(opened(part, rows, last), engine(), |_| true).err();
            assert!(matches!(error, Some(Unusable::Torn(_))), "{error:?}");
        };
        check(part(2, 1), b"", last());
        check(part(2, 1), b"\x07", last());
        check(part(3, 0), b"", last());
        check(part(2, 0), b"", Vec::new());
        let stopped = restore(opened(part(2, 0), b"", last()), engine(), |_| false).err();
        assert!(matches!(stopped, Some(Unusable::Unread(_))), "{stopped:?}");
    }

    #[test]
    fn a_record_that_is_too_old_binds_nothing() {
        let at = last()[0].map_or(0, |last| last.append_ms);
        assert_eq!(young(&last(), at - 1), last());
        assert_eq!(young(&last(), at), [None, None]);
    }

    #[test]
    fn is_old_by_either_clock() {
        let head = head();
        let check = |by_time: [i64; 2], age_ms, expect| {
            assert_eq!(is_old(&head, &by_time, 600_000, head.now_ms + age_ms), expect, "{by_time:?} {age_ms}");
        };
        check([4, 0], 1_000, false);
        check([9, 0], 599_999, false);
        check([9, 0], 600_000, true);
        check([10, 0], 1_000, true);
        check([4, 0], -5_000, false);
    }
}
