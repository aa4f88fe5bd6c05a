//! What apache-avro makes of the same records, and one face for the four kinds of record.

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use apache_avro::{Schema, from_value, to_value};
use nearcast_schemas::codec::{Codec, DecodeError, GatewayRecord, avsc};
use nearcast_schemas::delivery::DeliveryBatch;
use nearcast_schemas::event::LocationEvent;
use nearcast_schemas::list::VisibilityList;
use nearcast_schemas::notice::Notice;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A record of the contract.
pub trait Record: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug {
    const AVSC: &'static str;
    /// The default id.
    const ID: u32;

    fn encode(&self, codec: &Codec, out: &mut Vec<u8>);
    fn decode(codec: &Codec, record: &[u8]) -> Result<Self, DecodeError>;
}

impl Record for LocationEvent {
    const AVSC: &'static str = avsc::LOCATION_EVENT;
    const ID: u32 = 1;

    fn encode(&self, codec: &Codec, out: &mut Vec<u8>) {
        codec.encode_location(self, out);
    }

    fn decode(codec: &Codec, record: &[u8]) -> Result<Self, DecodeError> {
        codec.decode_location(record).map(|event| event.to_owned())
    }
}

impl Record for VisibilityList {
    const AVSC: &'static str = avsc::VISIBILITY_LIST;
    const ID: u32 = 2;

    fn encode(&self, codec: &Codec, out: &mut Vec<u8>) {
        codec.encode_list(self, out);
    }

    fn decode(codec: &Codec, record: &[u8]) -> Result<Self, DecodeError> {
        codec.decode_list(record).map(|list| {
            let owned = list.to_owned();
            assert_eq!(list.entries().len(), owned.entries.len(), "entries know how many they are");
            owned
        })
    }
}

impl Record for DeliveryBatch {
    const AVSC: &'static str = avsc::DELIVERY_BATCH;
    const ID: u32 = 3;

    fn encode(&self, codec: &Codec, out: &mut Vec<u8>) {
        codec.encode_batch(self, out);
    }

    fn decode(codec: &Codec, record: &[u8]) -> Result<Self, DecodeError> {
        codec.decode_gateway_record(record).map(|record| match record {
            GatewayRecord::Batch(batch) => batch,
            GatewayRecord::Notice(_) => panic!("a notice came of a batch's id"),
        })
    }
}

impl Record for Notice {
    const AVSC: &'static str = avsc::NOTICE;
    const ID: u32 = 4;

    fn encode(&self, codec: &Codec, out: &mut Vec<u8>) {
        codec.encode_notice(self, out);
    }

    fn decode(codec: &Codec, record: &[u8]) -> Result<Self, DecodeError> {
        codec.decode_gateway_record(record).map(|record| match record {
            GatewayRecord::Notice(notice) => notice,
            GatewayRecord::Batch(_) => panic!("a batch came of a notice's id"),
        })
    }
}

pub fn schema(avsc: &str) -> Schema {
    Schema::parse_str(avsc).unwrap()
}

/// The record with its header.
pub fn framed(id: u32, datum: &[u8]) -> Vec<u8> {
    let mut record = vec![0];
    record.extend_from_slice(&id.to_be_bytes());
    record.extend_from_slice(datum);
    record
}

/// The record as our codec writes it.
pub fn encoded<R: Record>(value: &R) -> Vec<u8> {
    let mut record = Vec::new();
    value.encode(&Codec::default(), &mut record);
    record
}

/// The record as apache-avro's value for the schema.
pub fn avro_value<R: Record>(value: &R, schema: &Schema) -> Value {
    to_value(value).unwrap().resolve(schema).unwrap()
}

/// The datum as apache-avro writes it.
pub fn avro_write(schema: &Schema, value: Value) -> Vec<u8> {
    GenericDatumWriter::builder(schema).build().unwrap().write_value_to_vec(value).unwrap()
}

/// What apache-avro reads from the datum; `None` where it fails or leaves bytes.
pub fn avro_read<R: Record>(schema: &Schema, mut datum: &[u8]) -> Option<R> {
    let value = GenericDatumReader::builder(schema).build().unwrap().read_value(&mut datum).ok()?;
    if datum.is_empty() { from_value(&value).ok() } else { None }
}
