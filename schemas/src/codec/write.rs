//! Avro's binary encoding, appended to a buffer.

use super::symbols::Symbols;

/// A zigzag varint.
#[inline]
pub(super) fn long(value: i64, out: &mut Vec<u8>) {
    let bits = ((value << 1) ^ (value >> 63)) as u64;
    if bits < 0x80 {
        out.push(bits as u8);
    } else if bits < 1 << 56 {
        // Eight groups of seven bits, spread to a byte each; all are written, and those that are not needed taken back.
        let bits = bits & 0x0000_0000_0fff_ffff | (bits & 0x00ff_ffff_f000_0000) << 4;
        let bits = bits & 0x0000_3fff_0000_3fff | (bits & 0x0fff_c000_0fff_c000) << 2;
        let bits = bits & 0x007f_007f_007f_007f | (bits & 0x3f80_3f80_3f80_3f80) << 1;
        let unused = bits.leading_zeros() as usize / 8;
        let more = 0x0080_8080_8080_8080 >> (unused * 8);
        out.extend_from_slice(&(bits | more).to_le_bytes());
        out.truncate(out.len() - unused);
    } else {
        large(bits, out);
    }
}

#[cold]
fn large(mut bits: u64, out: &mut Vec<u8>) {
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
    bytes(value.as_bytes(), out);
}

pub(super) fn bytes(value: &[u8], out: &mut Vec<u8>) {
    long(value.len() as i64, out);
    out.extend_from_slice(value);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_of_a_number_is_written() {
        for shift in 0..64 {
            for bits in [1_u64 << shift, (1 << shift) - 1, u64::MAX >> (63 - shift)] {
                let value = (bits >> 1) as i64 ^ -((bits & 1) as i64);
                let (mut written, mut expected) = (vec![7], vec![7]);
                long(value, &mut written);
                large(bits, &mut expected);
                assert_eq!(written, expected, "{value}");
            }
        }
    }
}
