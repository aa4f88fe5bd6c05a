//! Records of other builds' schemas: read by apache-avro with the schema they were written with, then resolved into
//! this build's. It takes a hundred times as long as the decoders of this build's schemas (10 µs against 0.09 for a location
//! event): meant for the time of a rollout, not for good.

use std::io::{self, Read};

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};
use apache_avro::types::Value;
use apache_avro::util::max_allocation_bytes;
use apache_avro::{AvroResult, Schema, from_value};
use serde::de::DeserializeOwned;

use super::error::{DecodeError, SchemaError};
use super::{GatewayRecord, avsc};
use crate::delivery::{DeliveryBatch, Item};
use crate::event::LocationEvent;
use crate::list::VisibilityList;
use crate::notice::Notice;

/// apache-avro takes the memory that a length or a count asks for before it looks whether the bytes are there. This much
/// is enough for a record of a mebibyte, a broker's largest, all of whose bytes are items of an array.
const MAX_BYTES: usize = 64 << 20;

/// Another build's schema and the one of this build that its data resolves into.
#[derive(Debug)]
pub(super) struct Writer {
    id: u32,
    record: Record,
    written: Schema,
    ours: Schema,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Record {
    Location,
    List,
    Batch,
    Notice,
}

impl Record {
    fn named(name: &str) -> Option<(Self, &'static str)> {
        match name {
            "dev.nearcast.LocationEvent" => Some((Self::Location, avsc::LOCATION_EVENT)),
            "dev.nearcast.VisibilityList" => Some((Self::List, avsc::VISIBILITY_LIST)),
            "dev.nearcast.DeliveryBatch" => Some((Self::Batch, avsc::DELIVERY_BATCH)),
            "dev.nearcast.Notice" => Some((Self::Notice, avsc::NOTICE)),
            _ => None,
        }
    }
}

impl Writer {
    pub(super) fn parse(id: u32, text: &str) -> Result<Self, SchemaError> {
        // For the whole process, and once.
        max_allocation_bytes(MAX_BYTES);
        let parse =
            |text| Schema::parse_str(text).map_err(|error| SchemaError::Invalid { id, problem: error.to_string() });
        let written = parse(text)?;
        let name = written.name().map_or_else(|| "a type without a name".to_owned(), |name| name.fullname(None));
        let (record, ours) = Record::named(&name).ok_or(SchemaError::Foreign { id, name })?;
        let ours = parse(ours)?;
        let problem = match SchemaCompatibility::can_read(&written, &ours) {
            Ok(Compatibility::Full) => return Ok(Self { id, record, written, ours }),
            Ok(Compatibility::Partial) => "a part of some union has no counterpart here".to_owned(),
            Err(error) => error.to_string(),
        };
        Err(SchemaError::Incompatible { id, problem })
    }

    pub(super) fn location(&self, datum: &[u8]) -> Result<LocationEvent, DecodeError> {
        self.decode(Record::Location, datum, |value| self.resolve(value))
    }

    pub(super) fn list(&self, datum: &[u8]) -> Result<VisibilityList, DecodeError> {
        self.decode(Record::List, datum, |value| self.resolve(value))
    }

    pub(super) fn gateway_record(&self, datum: &[u8]) -> Result<GatewayRecord, DecodeError> {
        match self.record {
            Record::Notice => {
                self.decode(Record::Notice, datum, |value| self.resolve::<Notice>(value)).map(GatewayRecord::Notice)
            }
            _ => self.decode(Record::Batch, datum, |value| self.batch(value)).map(GatewayRecord::Batch),
        }
    }

    fn decode<T>(
        &self,
        record: Record,
        datum: &[u8],
        resolve: impl FnOnce(Value) -> Option<T>,
    ) -> Result<T, DecodeError> {
        if self.record != record {
            return Err(DecodeError::OtherRecord(self.id));
        }
        // Errors of apache-avro quote what they failed on, so none is passed on.
        self.value(datum).ok().flatten().and_then(resolve).ok_or(DecodeError::Unresolved(self.id))
    }

    /// The datum as it was written; `None` where bytes follow it.
    fn value(&self, datum: &[u8]) -> AvroResult<Option<Value>> {
        let mut source = Whole(datum);
        let value = GenericDatumReader::builder(&self.written).build()?.read_value(&mut source)?;
        Ok(source.0.is_empty().then_some(value))
    }

    fn resolve<T: DeserializeOwned>(&self, value: Value) -> Option<T> {
        from_value(&value.resolve(&self.ours).ok()?).ok()
    }

    /// A batch. Its items are resolved one by one, because apache-avro picks the branch of a union by the first shape
    /// that fits, and Avro by name: a superseded session with one more field must not become an applied list.
    fn batch(&self, value: Value) -> Option<DeliveryBatch> {
        let Value::Record(mut fields) = value else { return None };
        let items = match fields.iter_mut().find(|(name, _)| name == "items") {
            Some((_, Value::Array(items))) => std::mem::take(items),
            _ => return None,
        };
        let mut batch: DeliveryBatch = self.resolve(Value::Record(fields))?;
        batch.items = items.into_iter().map(|item| self.item(item)).collect::<Option<_>>()?;
        Some(batch)
    }

    fn item(&self, item: Value) -> Option<Item> {
        let Value::Union(branch, value) = item else { return None };
        let name = branches(&self.written)?.get(usize::try_from(branch).ok()?)?.name()?.name();
        let ours = branches(&self.ours)?.iter().find(|ours| ours.name().is_some_and(|ours| ours.name() == name))?;
        let value = value.resolve_schemata(ours, vec![&self.ours]).ok()?;
        Some(match name {
            "Upsert" => Item::Upsert(from_value(&value).ok()?),
            "Removal" => Item::Removal(from_value(&value).ok()?),
            "Reset" => Item::Reset(from_value(&value).ok()?),
            "Applied" => Item::Applied(from_value(&value).ok()?),
            "Digest" => Item::Digest(from_value(&value).ok()?),
            "Strangers" => Item::Strangers(from_value(&value).ok()?),
            "Superseded" => Item::Superseded(from_value(&value).ok()?),
            _ => return None,
        })
    }
}

/// What an item of a batch may be.
fn branches(batch: &Schema) -> Option<&[Schema]> {
    let Schema::Record(record) = batch else { return None };
    let items = record.fields.iter().find(|field| field.name == "items")?;
    let Schema::Array(array) = &items.schema else { return None };
    let Schema::Union(union) = array.items.as_ref() else { return None };
    Some(union.variants())
}

/// A datum that says when it is cut short. apache-avro takes the end of its input for null in some places, which is
/// right for a stream of datums and wrong for one.
struct Whole<'a>(&'a [u8]);

impl Read for Whole<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() && !buf.is_empty() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.0.read(buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a record may take is seen by the fuzzer's target `records`; here, that nobody else sets the limit first.
    #[test]
    fn whoever_resolves_has_limited_apache_avro() {
        Writer::parse(9, avsc::NOTICE).unwrap();
        assert_eq!(max_allocation_bytes(usize::MAX), MAX_BYTES);
    }
}
