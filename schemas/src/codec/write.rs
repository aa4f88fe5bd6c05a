//! Avro's binary encoding, appended to a buffer.

use super::symbols::Symbols;

/// A zigzag varint.
#[inline]
pub(super) fn long(value: i64, out: &mut Vec<u8>) {
    let mut bits = ((value << 1) ^ (value >> 63)) as u64;
    while bits >= 0x80 {
        out.push(bits as u8 | 0x80);
        bits >>= 7;
    }
    out.push(bits as u8);
}

pub(super) fn int(value: i32, out: &mut Vec<u8>) {
    long(i64::from(value), out);
}

pub(super) fn boolean(value: bool, out: &mut Vec<u8>) {
    out.push(u8::from(value));
}

pub(super) fn float(value: f32, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn double(value: f64, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn string(value: &str, out: &mut Vec<u8>) {
    long(value.len() as i64, out);
    out.extend_from_slice(value.as_bytes());
}

pub(super) fn symbol<S: Symbols>(value: S, out: &mut Vec<u8>) {
    long(value.index(), out);
}

/// The union of null and one other type, in this order.
pub(super) fn optional<T>(value: Option<T>, out: &mut Vec<u8>, write: impl FnOnce(T, &mut Vec<u8>)) {
    match value {
        None => out.push(0),
        Some(value) => {
            out.push(2);
            write(value, out);
        }
    }
}

/// An array in one block without its size, as Avro's own encoders write it.
pub(super) fn items<T>(values: &[T], out: &mut Vec<u8>, mut write: impl FnMut(&T, &mut Vec<u8>)) {
    if !values.is_empty() {
        long(values.len() as i64, out);
        for value in values {
            write(value, out);
        }
    }
    out.push(0);
}
