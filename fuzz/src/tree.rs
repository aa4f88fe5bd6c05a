//! What JSON and MessagePack both can say, in the order in which it was said, twice where it was said twice.

use std::fmt;

use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The readers of the two formats give up at depths of their own; below this both read on.
const MAX_DEPTH: usize = 60;

/// A value.
pub enum Tree {
    Null,
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Text(String),
    List(Vec<Tree>),
    Map(Vec<(String, Tree)>),
}

impl Tree {
    /// None for what is no JSON.
    pub fn of_json(text: &str) -> Option<Self> {
        serde_json::from_str::<Self>(text).ok().filter(|tree| tree.fits(MAX_DEPTH))
    }

    /// None for what is not one whole datum of MessagePack, or can't be said in JSON.
    pub fn of_msgpack(bytes: &[u8]) -> Option<Self> {
        let mut reader = rmp_serde::Deserializer::new(bytes);
        reader.set_max_depth(2 * MAX_DEPTH);
        let tree = Self::deserialize(&mut reader).ok()?;
        (reader.get_ref().is_empty() && tree.fits(MAX_DEPTH)).then_some(tree)
    }

    /// As JSON.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("every tree is JSON")
    }

    /// As MessagePack.
    pub fn msgpack(&self) -> Vec<u8> {
        rmp_serde::to_vec(self).expect("every tree is MessagePack")
    }

    /// Whether it is no deeper than this, and all its numbers are finite.
    fn fits(&self, depth: usize) -> bool {
        depth > 0
            && match self {
                Self::Float(number) => number.is_finite(),
                Self::List(items) => items.iter().all(|item| item.fits(depth - 1)),
                Self::Map(pairs) => pairs.iter().all(|(_, value)| value.fits(depth - 1)),
                _ => true,
            }
    }
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Signed(number) => serializer.serialize_i64(*number),
            Self::Unsigned(number) => serializer.serialize_u64(*number),
            Self::Float(number) => serializer.serialize_f64(*number),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => serializer.collect_seq(items),
            Self::Map(pairs) => {
                let mut map = serializer.serialize_map(Some(pairs.len()))?;
                for (key, value) in pairs {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("something that JSON can say")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Tree, E> {
        Ok(Tree::Signed(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Tree, E> {
        Ok(Tree::Unsigned(number))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Tree, E> {
        Ok(Tree::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        Ok(Tree::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut pairs = Vec::new();
        // Not read as a `String`, which takes bytes for text where they could be some.
        while let Some(key) = map.next_key()? {
            let Tree::Text(key) = key else { return Err(Error::custom("a key is a string")) };
            pairs.push((key, map.next_value()?));
        }
        Ok(Tree::Map(pairs))
    }
}
