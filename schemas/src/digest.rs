//! The rolling digest over a view, kept by worker and client alike.

/// Digest of the set of friends in a view: the sum, modulo 2^64, of FNV-1a (64 bits) over each friend's id in UTF-8.
///
/// A sum, so that a friend's coming and going each cost one hash and the order does not matter.
/// FNV-1a: offset basis 0xcbf29ce484222325, prime 0x100000001b3 (Fowler, Noll, Vo).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ViewDigest(u64);

impl ViewDigest {
    /// A friend came into the view.
    pub fn add(&mut self, friend: &str) {
        self.0 = self.0.wrapping_add(fnv1a(friend));
    }

    /// A friend left the view.
    pub fn remove(&mut self, friend: &str) {
        self.0 = self.0.wrapping_sub(fnv1a(friend));
    }

    /// The digest as Avro carries it.
    pub fn to_i64(self) -> i64 {
        self.0 as i64
    }

    /// The digest as JSON carries it, in 16 lower-case hexadecimal digits, because JSON numbers lose bits.
    pub fn to_hex(self) -> String {
        format!("{:016x}", self.0)
    }

    /// The digest that Avro carried.
    pub fn from_i64(digest: i64) -> Self {
        Self(digest as u64)
    }
}

fn fnv1a(id: &str) -> u64 {
    id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_by_the_published_vectors() {
        assert_eq!(fnv1a(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a("a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a("foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn what_comes_and_goes_leaves_nothing() {
        let mut digest = ViewDigest::default();
        digest.add("a");
        digest.add("b");
        digest.remove("a");
        digest.remove("b");
        assert_eq!(digest.to_hex(), "0000000000000000");
    }
}
