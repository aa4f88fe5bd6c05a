//! Datums whose arrays are cut into blocks, with and without sizes: Avro allows it, apache-avro never writes it.

use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::schema::Name;
use apache_avro::types::Value;

/// Encodes `value` by `schema`, taking the length of each block and whether its size is written from `cuts` in turn.
pub fn encode(schema: &Schema, value: &Value, cuts: &[(usize, bool)]) -> Vec<u8> {
    let mut encoder = Encoder { names: HashMap::new(), cuts: cuts.iter().copied().cycle() };
    let mut out = Vec::new();
    encoder.value(schema, value, &mut out);
    out
}

struct Encoder<'s, C> {
    names: HashMap<Name, &'s Schema>,
    cuts: C,
}

impl<'s, C: Iterator<Item = (usize, bool)>> Encoder<'s, C> {
    fn value(&mut self, schema: &'s Schema, value: &Value, out: &mut Vec<u8>) {
        match (schema, value) {
            (Schema::Ref { name }, _) => {
                let schema = self.names[name];
                self.value(schema, value, out);
            }
            (Schema::Record(record), Value::Record(fields)) => {
                self.names.insert(record.name.clone(), schema);
                for (field, (_, value)) in record.fields.iter().zip(fields) {
                    self.value(&field.schema, value, out);
                }
            }
            (Schema::Union(union), Value::Union(branch, value)) => {
                // Every branch is known before a later one refers to what it defines.
                for schema in union.variants() {
                    self.learn(schema);
                }
                long(i64::from(*branch), out);
                self.value(&union.variants()[*branch as usize], value, out);
            }
            (Schema::Array(array), Value::Array(items)) => {
                let mut rest = &items[..];
                while !rest.is_empty() {
                    let (len, sized) = self.cuts.next().unwrap();
                    let (block, after) = rest.split_at(len.clamp(1, rest.len()));
                    let mut bytes = Vec::new();
                    for item in block {
                        self.value(&array.items, item, &mut bytes);
                    }
                    if sized {
                        long(-(block.len() as i64), out);
                        long(bytes.len() as i64, out);
                    } else {
                        long(block.len() as i64, out);
                    }
                    out.extend_from_slice(&bytes);
                    rest = after;
                }
                long(0, out);
            }
            (_, Value::Null) => {}
            (_, Value::Boolean(value)) => out.push(u8::from(*value)),
            (_, Value::Int(value)) => long(i64::from(*value), out),
            (_, Value::Long(value)) => long(*value, out),
            (_, Value::Float(value)) => out.extend_from_slice(&value.to_le_bytes()),
            (_, Value::Double(value)) => out.extend_from_slice(&value.to_le_bytes()),
            (_, Value::Enum(index, _)) => long(i64::from(*index), out),
            (_, Value::String(text)) => {
                long(text.len() as i64, out);
                out.extend_from_slice(text.as_bytes());
            }
            _ => panic!("no value of this contract"),
        }
    }

    fn learn(&mut self, schema: &'s Schema) {
        if let Schema::Record(record) = schema {
            self.names.insert(record.name.clone(), schema);
            record.fields.iter().for_each(|field| self.learn(&field.schema));
        }
    }
}

/// A zigzag varint by multiplication and division, unlike the one under test.
fn long(value: i64, out: &mut Vec<u8>) {
    let mut zigzag = if value < 0 { -2 * i128::from(value) - 1 } else { 2 * i128::from(value) };
    while zigzag > 127 {
        out.push((zigzag % 128 + 128) as u8);
        zigzag /= 128;
    }
    out.push(zigzag as u8);
}
