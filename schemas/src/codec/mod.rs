//! Records as bytes: the Confluent wire format (a zero byte, the schema's id in four bytes, big-endian, and the Avro
//! datum), written and read by hand for the schemas of this build, and by apache-avro with schema resolution for the
//! schemas of other builds.
//!
//! No input makes a decoder panic, and no error holds anything of a record's content.

pub mod avsc;
mod delivery;
mod error;
mod items;
mod list;
mod location;
mod notice;
mod read;
mod resolve;
mod symbols;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use error::{DecodeError, Fault, SchemaError};
pub use items::{ItemWriter, Items};
pub use list::{Entries, VisibilityEntryRef, VisibilityListRef};
pub use location::{FixRef, LocationEventRef, RouteRef};

use crate::delivery::DeliveryBatch;
use crate::event::LocationEvent;
use crate::list::VisibilityList;
use crate::notice::Notice;
use read::Reader;
use resolve::Writer;

/// Bytes before the datum.
const HEADER: usize = 5;

/// The id of each of this build's schemas, as the deployment's schema registry gave them, or as agreed where there is
/// no registry. They must differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SchemaIds {
    /// Of `location_event.avsc`.
    pub location_event: u32,
    /// Of `visibility_list.avsc`.
    pub visibility_list: u32,
    /// Of `delivery_batch.avsc`.
    pub delivery_batch: u32,
    /// Of `notice.avsc`.
    pub notice: u32,
}

impl Default for SchemaIds {
    fn default() -> Self {
        Self { location_event: 1, visibility_list: 2, delivery_batch: 3, notice: 4 }
    }
}

impl SchemaIds {
    /// Checks that the ids differ.
    ///
    /// # Errors
    /// [`SchemaError::IdTaken`] with the id that is given twice.
    pub fn check(&self) -> Result<(), SchemaError> {
        let mut ids = [self.location_event, self.visibility_list, self.delivery_batch, self.notice];
        ids.sort_unstable();
        match ids.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(SchemaError::IdTaken(pair[0])),
            None => Ok(()),
        }
    }

    fn contains(&self, id: u32) -> bool {
        [self.location_event, self.visibility_list, self.delivery_batch, self.notice].contains(&id)
    }
}

/// What a gateway's topic carries.
#[derive(Clone, Debug, PartialEq)]
pub enum GatewayRecord {
    /// From a worker.
    Batch(DeliveryBatch),
    /// From the API.
    Notice(Notice),
}

/// Encodes with this build's schemas, decodes these and those registered with [`Codec::with_writer`]. Cheap to clone.
///
/// Encoders append to `out`, which the caller clears and keeps for the next record. They cannot fail.
#[derive(Clone, Debug, Default)]
pub struct Codec {
    ids: SchemaIds,
    writers: BTreeMap<u32, Arc<Writer>>,
}

impl Codec {
    /// A codec that knows this build's schemas by these ids, which differ ([`SchemaIds::check`]).
    pub fn new(ids: SchemaIds) -> Self {
        Self { ids, writers: BTreeMap::new() }
    }

    /// The ids that the encoders write.
    pub fn ids(&self) -> &SchemaIds {
        &self.ids
    }

    /// Registers a schema of an older or newer build: records with this id are decoded by it and resolved into this
    /// build's types. Symbols unknown here become their enum's default, unknown fields are dropped, missing ones take
    /// their default.
    ///
    /// # Errors
    /// When the id is taken, the text is no Avro schema, it is none of this contract's records, or it cannot be
    /// resolved into this build's.
    pub fn with_writer(mut self, id: u32, avsc: &str) -> Result<Self, SchemaError> {
        if self.ids.contains(id) || self.writers.contains_key(&id) {
            return Err(SchemaError::IdTaken(id));
        }
        self.writers.insert(id, Arc::new(Writer::parse(id, avsc)?));
        Ok(self)
    }

    /// Appends a record of `<prefix>.locations`.
    pub fn encode_location(&self, event: &LocationEvent, out: &mut Vec<u8>) {
        header(self.ids.location_event, out);
        location::write(event, out);
    }

    /// Appends a record of `<prefix>.visibility`.
    pub fn encode_list(&self, list: &VisibilityList, out: &mut Vec<u8>) {
        header(self.ids.visibility_list, out);
        list::write(list, out);
    }

    /// Appends a worker's record of `<prefix>.gateway.<id>`.
    pub fn encode_batch(&self, batch: &DeliveryBatch, out: &mut Vec<u8>) {
        header(self.ids.delivery_batch, out);
        delivery::write(batch, out, |items, out| write::items(items, out, delivery::write_item));
    }

    /// The same with items that are encoded already.
    pub fn encode_gathered(&self, batch: &DeliveryBatch<Items>, out: &mut Vec<u8>) {
        header(self.ids.delivery_batch, out);
        delivery::write(batch, out, Items::write);
    }

    /// Appends the API's record of `<prefix>.gateway.<id>`.
    pub fn encode_notice(&self, notice: &Notice, out: &mut Vec<u8>) {
        header(self.ids.notice, out);
        notice::write(notice, out);
    }

    /// Decodes a record of `<prefix>.locations`. By this build's schema the result borrows from `record` and nothing
    /// is allocated; by a registered one its strings are its own.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn decode_location<'a>(&self, record: &'a [u8]) -> Result<LocationEventRef<'a>, DecodeError> {
        let (id, datum) = split(record)?;
        if id == self.ids.location_event {
            return whole(datum, location::read);
        }
        self.writer(id)?.location(datum).map(LocationEventRef::from)
    }

    /// Decodes a record of `<prefix>.visibility`. By this build's schema the result borrows from `record` and nothing
    /// is allocated; by a registered one it owns its parts.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn decode_list<'a>(&self, record: &'a [u8]) -> Result<VisibilityListRef<'a>, DecodeError> {
        let (id, datum) = split(record)?;
        if id == self.ids.visibility_list {
            return whole(datum, list::read);
        }
        self.writer(id)?.list(datum).map(VisibilityListRef::from)
    }

    /// Decodes a record of `<prefix>.gateway.<id>`, which carries batches and notices, told apart by their ids.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn decode_gateway_record(&self, record: &[u8]) -> Result<GatewayRecord, DecodeError> {
        let (id, datum) = split(record)?;
        if id == self.ids.delivery_batch {
            return whole(datum, delivery::read).map(GatewayRecord::Batch);
        }
        if id == self.ids.notice {
            return whole(datum, notice::read).map(GatewayRecord::Notice);
        }
        self.writer(id)?.gateway_record(datum)
    }

    /// The registered schema with this id, which is not the one that the caller's topic usually carries.
    fn writer(&self, id: u32) -> Result<&Writer, DecodeError> {
        match self.writers.get(&id) {
            Some(writer) => Ok(writer),
            None if self.ids.contains(id) => Err(DecodeError::OtherRecord(id)),
            None => Err(DecodeError::UnknownSchema(id)),
        }
    }
}

fn header(id: u32, out: &mut Vec<u8>) {
    out.push(0);
    out.extend_from_slice(&id.to_be_bytes());
}

fn split(record: &[u8]) -> Result<(u32, &[u8]), DecodeError> {
    match record {
        [0, a, b, c, d, datum @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), datum)),
        _ => Err(DecodeError::NotFramed),
    }
}

/// Reads one value that must end where the datum ends.
fn whole<'a, T>(datum: &'a [u8], read: impl FnOnce(&mut Reader<'a>) -> Result<T, Fault>) -> Result<T, DecodeError> {
    let mut reader = Reader::new(datum);
    let malformed = |fault, left| DecodeError::Malformed { fault, at: HEADER + datum.len() - left };
    match read(&mut reader) {
        Ok(value) if reader.left() == 0 => Ok(value),
        Ok(_) => Err(malformed(Fault::Trailing, reader.left())),
        Err(fault) => Err(malformed(fault, reader.left())),
    }
}
