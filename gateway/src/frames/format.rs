//! The two ways to write a message: JSON in text frames, MessagePack in binary ones. Both are the same maps with the same
//! field names, read and written by the same types.

use std::fmt::{self, Formatter};

use serde::Deserialize;
use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Deepest nesting of a binary frame; the reader takes a step down its stack for each.
const MAX_DEPTH: usize = 128;

/// How the messages of a connection are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// JSON in text frames.
    #[default]
    Json,
    /// MessagePack in binary frames.
    MessagePack,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Json, Self::MessagePack];

    /// The subprotocol by which a client asks for it.
    pub const fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => "nearcast.v1",
            Self::MessagePack => "nearcast.v1.msgpack",
        }
    }

    /// The format that a subprotocol stands for.
    pub fn of_subprotocol(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.subprotocol() == name)
    }
}

/// What a client sent. Has no `Debug`, because it may hold coordinates.
#[derive(Clone, Copy)]
pub enum Frame<'a> {
    /// JSON.
    Text(&'a str),
    /// MessagePack.
    Binary(&'a [u8]),
}

impl<'a> Frame<'a> {
    /// Reads the whole frame as a `T`.
    ///
    /// # Errors
    /// Where the trouble is, for people. The reader's own words may quote the frame, so only one kind of them is passed
    /// on: the name of a missing field, which is ours.
    pub fn read<T: Deserialize<'a>>(self) -> Result<T, String> {
        match self {
            Self::Text(text) => serde_json::from_str(text).map_err(|error| {
                missing(&error).unwrap_or_else(|| format!("see line {}, column {}", error.line(), error.column()))
            }),
            Self::Binary(bytes) => {
                // A length that is announced allocates nothing: strings grow as far as bytes are there.
                let mut reader = rmp_serde::Deserializer::new(bytes);
                reader.set_max_depth(MAX_DEPTH);
                let read = T::deserialize(&mut reader);
                let rest = reader.get_ref().len();
                match read {
                    Ok(read) if rest == 0 => Ok(read),
                    read => Err(read
                        .err()
                        .and_then(|error| missing(&error))
                        .unwrap_or_else(|| format!("see byte {}", bytes.len() - rest))),
                }
            }
        }
    }

    /// Whether it is a map whose keys are strings. What is read as fields by their order, or by their numbers, has to be
    /// told from one.
    pub fn is_object(self) -> bool {
        match self {
            Self::Text(text) => text.trim_ascii_start().starts_with('{'),
            Self::Binary(bytes) => {
                matches!(bytes.first(), Some(0x80..=0x8f | 0xde | 0xdf)) && self.read::<Named>().is_ok()
            }
        }
    }
}

fn missing(error: &impl ToString) -> Option<String> {
    let words = error.to_string();
    let field = words.strip_prefix("missing field `").and_then(|rest| rest.split('`').next())?;
    Some(format!("`{field}` is missing"))
}

/// Anything in which every map has strings for keys, as JSON has.
struct Named;

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NamedVisitor)
    }
}

struct NamedVisitor;

impl<'de> Visitor<'de> for NamedVisitor {
    type Value = Named;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("maps with strings for keys")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named, A::Error> {
        while map.next_key::<Key>()?.is_some() {
            map.next_value::<Named>()?;
        }
        Ok(Named)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Named, A::Error> {
        while seq.next_element::<Named>()?.is_some() {}
        Ok(Named)
    }

    fn visit_newtype_struct<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Named, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Named)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Named, E> {
        Ok(Named)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Named, E> {
        Ok(Named)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Named, E> {
        Ok(Named)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Named, E> {
        Ok(Named)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Named, E> {
        Ok(Named)
    }

    fn visit_bytes<E: Error>(self, _: &[u8]) -> Result<Named, E> {
        Ok(Named)
    }

    fn visit_unit<E: Error>(self) -> Result<Named, E> {
        Ok(Named)
    }
}

/// A key that is a string.
struct Key;

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KeyVisitor)
    }
}

struct KeyVisitor;

impl Visitor<'_> for KeyVisitor {
    type Value = Key;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Key, E> {
        Ok(Key)
    }
}

#[cfg(test)]
#[path = "format_tests.rs"]
pub(crate) mod tests;
