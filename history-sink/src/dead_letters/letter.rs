//! A record that the history could not take, as it lies in the topic of dead letters: the original key and bytes, and in
//! headers where it came from, when, and why it lies here.
//!
//! It has the original's append time as its own, so that the topic keeps it no longer than the log keeps the original; and
//! in a header too, because its row is to have that time, whenever it is stored.

use std::str::FromStr;

use nearcast_schemas::ids::check_id;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::FutureRecord;

use crate::row::Poison;

const ERROR: &str = "error";
const KIND: &str = "kind";
const TOPIC: &str = "topic";
const PARTITION: &str = "partition";
const OFFSET: &str = "offset";
const APPENDED_AT: &str = "appended_at";
/// Says that the letter of the same origin was settled.
const SETTLED: &str = "settled";

/// Longest cause; the database's may be long.
const CAUSE_CHARS: usize = 500;

/// Where a record was read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{}]@{}", self.topic, self.partition, self.offset)
    }
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = || {
            let (topic, rest) = text.rsplit_once('[')?;
            let (partition, offset) = rest.split_once("]@")?;
            let (partition, offset): (u32, u64) = (partition.parse().ok()?, offset.parse().ok()?);
            let (partition, offset) = (i32::try_from(partition).ok()?, i64::try_from(offset).ok()?);
            (!topic.is_empty()).then(|| Self { topic: topic.to_owned(), partition, offset })
        };
        parts().ok_or_else(|| "write it as TOPIC[PARTITION]@OFFSET".to_owned())
    }
}

/// A dead letter. `Debug` leaves its bytes out: they may hold a position.
#[derive(Clone)]
pub struct Letter {
    /// Where the record was read.
    pub origin: Origin,
    /// When the broker appended it, in ms since the epoch; none where the log did not say.
    pub appended_at: Option<i64>,
    /// Why it could not be stored.
    pub poison: LetterCause,
    /// The record's key.
    pub key: Option<Vec<u8>>,
    /// The record's value.
    pub value: Option<Vec<u8>>,
}

/// Why a record lies here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterCause {
    /// One word: `undecodable`, `untimed` or `refused`.
    pub kind: String,
    /// A sentence. Names no values.
    pub cause: String,
}

impl From<Poison> for LetterCause {
    fn from(poison: Poison) -> Self {
        Self { kind: poison.kind.to_owned(), cause: poison.cause.chars().take(CAUSE_CHARS).collect() }
    }
}

impl std::fmt::Debug for Letter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Letter").field("origin", &self.origin).field("poison", &self.poison).finish_non_exhaustive()
    }
}

/// What a record of the topic is.
pub(super) enum Entry {
    Letter(Letter),
    /// The letter of this origin was settled.
    Settled(Origin),
}

impl Letter {
    /// The key where it is a user's id, which says nothing of where the user is.
    pub fn user(&self) -> Option<&str> {
        std::str::from_utf8(self.key.as_deref()?).ok().filter(|id| check_id(id).is_ok())
    }

    /// The record that lays it into `topic`.
    pub(crate) fn record<'a>(&'a self, topic: &'a str) -> FutureRecord<'a, [u8], [u8]> {
        let headers = origin_headers(&self.origin)
            .insert(Header { key: ERROR, value: Some(&self.poison.cause) })
            .insert(Header { key: KIND, value: Some(&self.poison.kind) });
        let mut record = FutureRecord::to(topic).headers(match self.appended_at {
            Some(at) => headers.insert(Header { key: APPENDED_AT, value: Some(&at.to_string()) }),
            None => headers,
        });
        record.timestamp = self.appended_at;
        record.key = self.key.as_deref();
        record.payload = self.value.as_deref();
        record
    }

    /// The record that says that it was settled. It goes where the letter is, and is kept for longer.
    pub(super) fn settled<'a>(&'a self, topic: &'a str, partition: i32) -> FutureRecord<'a, [u8], [u8]> {
        let headers = origin_headers(&self.origin).insert(Header { key: SETTLED, value: Some("stored") });
        let mut record = FutureRecord::to(topic).partition(partition).headers(headers);
        record.key = self.key.as_deref();
        record
    }
}

impl Entry {
    /// `None` for what is neither, such as a record of somebody else.
    pub(super) fn of(message: &impl Message) -> Option<Self> {
        let headers = message.headers()?;
        let text = |name: &str| {
            let header = headers.iter().find(|header| header.key == name)?;
            std::str::from_utf8(header.value?).ok()
        };
        let origin = Origin {
            topic: text(TOPIC)?.to_owned(),
            partition: text(PARTITION)?.parse().ok()?,
            offset: text(OFFSET)?.parse().ok()?,
        };
        if text(SETTLED).is_some() {
            return Some(Self::Settled(origin));
        }
        let cause = text(ERROR)?.to_owned();
        Some(Self::Letter(Letter {
            origin,
            appended_at: text(APPENDED_AT).and_then(|at| at.parse().ok()),
            poison: LetterCause { kind: text(KIND).unwrap_or("undecodable").to_owned(), cause },
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
        }))
    }
}

fn origin_headers(origin: &Origin) -> OwnedHeaders {
    let (partition, offset) = (origin.partition.to_string(), origin.offset.to_string());
    OwnedHeaders::new()
        .insert(Header { key: TOPIC, value: Some(origin.topic.as_str()) })
        .insert(Header { key: PARTITION, value: Some(partition.as_str()) })
        .insert(Header { key: OFFSET, value: Some(offset.as_str()) })
}

#[cfg(test)]
mod tests {
    use rdkafka::Timestamp;
    use rdkafka::message::OwnedMessage;

    use super::*;

    fn letter(key: Option<&[u8]>, appended_at: Option<i64>) -> Letter {
        Letter {
            origin: Origin { topic: "n.locations".into(), partition: 3, offset: 42 },
            appended_at,
            poison: Poison::undecodable("no such schema").into(),
            key: key.map(<[u8]>::to_vec),
            value: Some(b"bytes".to_vec()),
        }
    }

    fn read(record: FutureRecord<'_, [u8], [u8]>) -> Option<Entry> {
        let message = OwnedMessage::new(
            record.payload.map(<[u8]>::to_vec),
            record.key.map(<[u8]>::to_vec),
            record.topic.to_owned(),
            record.timestamp.map_or(Timestamp::NotAvailable, Timestamp::CreateTime),
            0,
            7,
            record.headers,
        );
        Entry::of(&message)
    }

    #[test]
    fn comes_back_as_it_was() {
        for (key, appended_at) in [(Some(&b"alice"[..]), Some(1_200)), (Some(b"\xff"), None), (None, Some(1))] {
            let laid = letter(key, appended_at);
            assert_eq!(laid.record("d").timestamp, appended_at);
            let Some(Entry::Letter(found)) = read(laid.record("d")) else { panic!("it is a letter") };
            assert_eq!((found.origin, found.appended_at, found.poison), (laid.origin, appended_at, laid.poison));
            assert_eq!((found.key, found.value), (laid.key, laid.value));
        }
        let laid = letter(None, None);
        let Some(Entry::Settled(origin)) = read(laid.settled("d", 0)) else { panic!("it is settled") };
        assert_eq!(origin, laid.origin);
        assert!(read(FutureRecord::to("d")).is_none(), "a record of somebody else");
    }

    #[test]
    fn an_origin_is_read_as_it_is_shown() {
        let origin = letter(None, None).origin;
        assert_eq!(origin.to_string().parse(), Ok(origin));
        for text in ["", "n.locations", "n.locations[3]", "n.locations[3]@", "[3]@4", "n[-3]@4", "n[3]@-4", "n[3]@+"] {
            assert!(text.parse::<Origin>().is_err(), "{text}");
        }
    }

    #[test]
    fn shows_a_key_that_is_an_id_and_nothing_of_the_rest() {
        let long = [b'x'; 65];
        for (key, shown) in [(&b"alice"[..], Some("alice")), (b"\xff", None), (b"", None), (&long, None)] {
            assert_eq!(letter(Some(key), None).user(), shown);
        }
        let debug = format!("{:?}", letter(Some(b"alice"), None));
        assert!(debug.contains("42") && !debug.contains("bytes") && !debug.contains("98"), "{debug}");
    }
}
