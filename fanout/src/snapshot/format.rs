//! The form of the file: frames, each with its length and a checksum. Without I/O of its own.
//!
//! A magic number with the version; a frame that says what the snapshot is of; a frame for each part of the copy; a frame
//! with the counts, and with the records that the log must still have. A checksum covers the frame's number and length too, so that whatever is changed, cut, doubled or put
//! elsewhere is seen.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

/// The last byte is the version: it changes with whatever changes the bytes.
const MAGIC: [u8; 8] = *b"NEARSNP\x01";
/// No frame is longer.
const MAX_FRAME: usize = 64 * 1024 * 1024;

/// What must be the same for a snapshot to be of use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// The cluster's own id.
    pub(crate) cluster: String,
    /// The topic of the locations.
    pub(crate) topic: String,
    pub(crate) visibility_partitions: i32,
    pub(crate) ttl_ms: i64,
    pub(crate) coarse_resolution: i64,
    pub(crate) coarse_period_ms: i64,
}

impl Identity {
    /// What is different in the other one, if anything is.
    pub(crate) fn differs(&self, other: &Self) -> Option<&'static str> {
        let same = [
            (self.cluster == other.cluster, "another cluster"),
            (self.topic == other.topic, "another topic"),
            (self.visibility_partitions == other.visibility_partitions, "other partitions of the visibility topic"),
            (self.ttl_ms == other.ttl_ms, "another time to live"),
            (self.coarse_resolution == other.coarse_resolution, "another coarse resolution"),
            (self.coarse_period_ms == other.coarse_period_ms, "another coarse period"),
        ];
        same.into_iter().find(|(same, _)| !same).map(|(_, what)| what)
    }
}

/// The last record that was read of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastRead {
    pub(crate) offset: i64,
    /// ms since the epoch.
    pub(crate) append_ms: i64,
}

/// The first frame. All of it was known before the copy began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) identity: Identity,
    /// The offset to be read next, of each partition of the locations.
    pub(crate) next: Vec<i64>,
    /// By the broker's clock, ms since the epoch.
    pub(crate) now_ms: i64,
}

/// What stands before the rows of a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartHead {
    pub(crate) now_ms: i64,
    /// All records below had their effect on the rows.
    pub(crate) next: Vec<i64>,
    pub(crate) rows: u64,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Frame {
    Head(Head),
    Part(PartHead),
    End { parts: u64, rows: u64, last: Vec<Option<LastRead>> },
}

/// What comes after the head.
#[derive(Debug)]
pub(crate) enum Piece<'a> {
    /// A part, and its rows.
    Part(PartHead, Rows<'a>),
    /// All that was written was there. The last record that had been read of each partition by then, if any: it binds
    /// the snapshot to the records themselves, none of which may have had an effect on a part and be gone from the log.
    End(Vec<Option<LastRead>>),
}

/// Bytes of rows. `Debug` leaves them out: they hold positions.
pub(crate) struct Rows<'a>(pub(crate) &'a [u8]);

impl std::fmt::Debug for Rows<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// Why a file cannot be read to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// It is no snapshot, or one of another version.
    #[error("it was written by another version")]
    Version,
    /// It is not as it was written.
    #[error("{0}")]
    Torn(&'static str),
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::Torn("it ends too early") } else { Self::Io(error) }
    }
}

/// Writes frames in their order.
pub(crate) struct SnapshotWriter<W> {
    to: W,
    frames: u32,
    parts: u64,
    rows: u64,
    bytes: u64,
}

impl<W: Write> SnapshotWriter<W> {
    pub(crate) fn begin(mut to: W, head: Head) -> io::Result<Self> {
        to.write_all(&MAGIC)?;
        let mut writer = Self { to, frames: 0, parts: 0, rows: 0, bytes: MAGIC.len() as u64 };
        writer.frame(&Frame::Head(head), &[])?;
        Ok(writer)
    }

    pub(crate) fn part(&mut self, head: PartHead, rows: &[u8]) -> io::Result<()> {
        self.parts += 1;
        self.rows += head.rows;
        self.frame(&Frame::Part(head), rows)
    }

    /// Returns what was written to, and how many rows and bytes that were.
    pub(crate) fn end(mut self, last: Vec<Option<LastRead>>) -> io::Result<(W, u64, u64)> {
        self.frame(&Frame::End { parts: self.parts, rows: self.rows, last }, &[])?;
        self.to.flush()?;
        Ok((self.to, self.rows, self.bytes))
    }

    fn frame(&mut self, frame: &Frame, rows: &[u8]) -> io::Result<()> {
        let head = postcard::to_allocvec(frame).map_err(io::Error::other)?;
        let length = u32::try_from(head.len() + rows.len()).ok().filter(|&length| length as usize <= MAX_FRAME);
        let length = length.ok_or_else(|| io::Error::other("a part of the snapshot is too long"))?;
        let mut sum = begun_sum(self.frames, length);
        sum.update(&head);
        sum.update(rows);
        for bytes in [&length.to_le_bytes(), &sum.finalize().to_le_bytes(), &head[..], rows] {
            self.to.write_all(bytes)?;
        }
        self.frames += 1;
        self.bytes += 8 + u64::from(length);
        Ok(())
    }
}

/// Reads frames in their order.
pub(crate) struct SnapshotReader<R> {
    from: R,
    frames: u32,
    parts: u64,
    rows: u64,
    payload: Vec<u8>,
}

impl<R: Read> SnapshotReader<R> {
    pub(crate) fn begin(mut from: R) -> Result<(Self, Head), ReadError> {
        let mut magic = [0; MAGIC.len()];
        from.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(ReadError::Version);
        }
        let mut reader = Self { from, frames: 0, parts: 0, rows: 0, payload: Vec::new() };
        match reader.frame()? {
            (Frame::Head(head), []) => Ok((reader, head)),
            _ => Err(ReadError::Torn("it does not begin with its head")),
        }
    }

    /// What comes next; nothing after the end.
    pub(crate) fn next(&mut self) -> Result<Piece<'_>, ReadError> {
        let counted = (self.parts, self.rows);
        self.read_frame()?;
        match postcard::take_from_bytes::<Frame>(&self.payload) {
            Ok((Frame::Part(head), bytes)) => {
                self.parts += 1;
                self.rows = self.rows.saturating_add(head.rows);
                Ok(Piece::Part(head, Rows(bytes)))
            }
            Ok((Frame::End { parts, rows, last }, [])) if (parts, rows) == counted => match self.from.read(&mut [0])? {
                0 => Ok(Piece::End(last)),
                _ => Err(ReadError::Torn("it goes on after its end")),
            },
            _ => Err(ReadError::Torn("its parts are not those that were counted")),
        }
    }

    fn frame(&mut self) -> Result<(Frame, &[u8]), ReadError> {
        self.read_frame()?;
        postcard::take_from_bytes(&self.payload).map_err(|_| ReadError::Torn("a frame has no meaning"))
    }

    fn read_frame(&mut self) -> Result<(), ReadError> {
        let mut word = [0; 4];
        self.from.read_exact(&mut word)?;
        let length = u32::from_le_bytes(word);
        self.from.read_exact(&mut word)?;
        if length as usize > MAX_FRAME {
            return Err(ReadError::Torn("a frame is too long"));
        }
        self.payload.resize(length as usize, 0);
        self.from.read_exact(&mut self.payload)?;
        let mut sum = begun_sum(self.frames, length);
        sum.update(&self.payload);
        if sum.finalize() != u32::from_le_bytes(word) {
            return Err(ReadError::Torn("a checksum is wrong"));
        }
        self.frames += 1;
        Ok(())
    }
}

fn begun_sum(frame: u32, length: u32) -> crc32fast::Hasher {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&frame.to_le_bytes());
    sum.update(&length.to_le_bytes());
    sum
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn head() -> Head {
        let identity = Identity {
            cluster: "c".to_owned(),
            topic: "t.locations".to_owned(),
            visibility_partitions: 4,
            ttl_ms: 600_000,
            coarse_resolution: 7,
            coarse_period_ms: 300_000,
        };
        Head { identity, next: vec![9, 0], now_ms: 1_700_000_000_010 }
    }

    pub(crate) fn last() -> Vec<Option<LastRead>> {
        vec![Some(LastRead { offset: 11, append_ms: 1_700_000_000_020 }), None]
    }

    fn part(next: i64, rows: u64) -> PartHead {
        PartHead { now_ms: 1_700_000_000_020, next: vec![next, 0], rows }
    }

    fn sample() -> Vec<u8> {
        let mut writer = SnapshotWriter::begin(Vec::new(), head()).unwrap();
        writer.part(part(10, 2), b"two rows").unwrap();
        writer.part(part(12, 0), b"").unwrap();
        writer.part(part(12, 1), b"a row").unwrap();
        let (bytes, rows, length) = writer.end(last()).unwrap();
        assert_eq!((rows, length), (3, bytes.len() as u64));
        bytes
    }

    type Parts = Vec<(PartHead, Vec<u8>)>;

    fn read(bytes: &[u8]) -> Result<(Head, Parts, Vec<Option<LastRead>>), ReadError> {
        let (mut reader, head) = SnapshotReader::begin(bytes)?;
        let mut parts = Vec::new();
        loop {
            match reader.next()? {
                Piece::Part(head, rows) => parts.push((head, rows.0.to_vec())),
                Piece::End(last) => return Ok((head, parts, last)),
            }
        }
    }

    #[test]
    fn comes_back_as_it_was_written() {
        let (read_head, parts, read_last) = read(&sample()).unwrap();
        assert_eq!((read_head, read_last), (head(), last()));
        let expect = [(part(10, 2), b"two rows".to_vec()), (part(12, 0), Vec::new()), (part(12, 1), b"a row".to_vec())];
        assert_eq!(parts, expect);
    }

    #[test]
    fn whatever_is_changed_is_seen() {
        let whole = sample();
        for at in 0..whole.len() {
            for flip in [1, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= flip;
                assert!(read(&bytes).is_err(), "byte {at}");
            }
        }
    }

    #[test]
    fn whatever_is_cut_or_added_is_seen() {
        let whole = sample();
        for length in 0..whole.len() {
            assert!(matches!(read(&whole[..length]), Err(ReadError::Torn(_))), "{length} bytes");
        }
        assert!(read(&[&whole[..], b"\0"].concat()).is_err());
        assert!(read(&[&whole[..], &whole[..]].concat()).is_err());
    }

    #[test]
    fn says_what_is_different() {
        let own = head().identity;
        assert_eq!(own.differs(&own), None);
        assert_eq!(own.differs(&Identity { cluster: "d".to_owned(), ..own.clone() }), Some("another cluster"));
        assert_eq!(own.differs(&Identity { ttl_ms: 1, ..own.clone() }), Some("another time to live"));
    }
}
