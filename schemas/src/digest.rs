//! The rolling digest over a view, kept by worker and client alike; and the digest over a list with all that a client
//! shows of it, kept by gateway and client.

/// Digest of the set of friends in a view: the sum, modulo 2^64, of a hash of each friend's id in UTF-8.
///
/// A sum, so that a friend's coming and going each cost one hash and the order does not matter. The hash is FNV-1a with 64
/// bits (offset basis 0xcbf29ce484222325, prime 0x100000001b3: Fowler, Noll, Vo) and then the 64-bit finaliser of
/// MurmurHash3 (Appleby). FNV-1a alone will not do: of ids that differ in their last digits, sums are often equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ViewDigest(u64);

impl ViewDigest {
    /// A friend came into the view.
    pub fn add(&mut self, friend: &str) {
        self.0 = self.0.wrapping_add(hash(friend));
    }

    /// A friend left the view.
    pub fn remove(&mut self, friend: &str) {
        self.0 = self.0.wrapping_sub(hash(friend));
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

/// How many friends a list has and the digest over them: the sum, modulo 2^64, of the same hash of the UTF-8 text
/// `<at> <id> <display name>` of each, where `at` is in decimal digits, with `~` before it where the position is
/// approximate.
///
/// Two equal lists show the same: `at` names the report whose position is shown, and the mark its precision. No id has a
/// space in it. The distance is not in it, because it is that of the time of sending anyway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListDigest {
    count: usize,
    sum: u64,
}

impl ListDigest {
    /// What a client says of its list: the digest in 16 hexadecimal digits. None where it is no digest.
    pub fn claimed(count: usize, digest: &str) -> Option<Self> {
        let digits = digest.len() == 16 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        let sum = u64::from_str_radix(digest, 16).ok().filter(|_| digits)?;
        Some(Self { count, sum })
    }

    /// One friend more: the time of the position in ms since the epoch, and whether it is approximate.
    pub fn add(&mut self, friend: &str, display_name: &str, at: i64, approximate: bool) {
        let mark = if approximate { "~" } else { "" };
        self.count += 1;
        self.sum = self.sum.wrapping_add(hash(&format!("{mark}{at} {friend} {display_name}")));
    }

    /// Friends in the list.
    pub fn count(self) -> usize {
        self.count
    }

    /// The digest in 16 lower-case hexadecimal digits.
    pub fn to_hex(self) -> String {
        format!("{:016x}", self.sum)
    }
}

fn hash(text: &str) -> u64 {
    let hash = fnv1a(text);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// Without the finaliser.
pub(crate) fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
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

    /// The vectors of docs/protocol.md.
    #[test]
    fn the_digest_of_a_list_is_that_of_the_documents() {
        let mut list = ListDigest::default();
        assert_eq!((list.count(), list.to_hex().as_str()), (0, "0000000000000000"));
        list.add("bob", "Bob", 1_767_225_590_000, false);
        assert_eq!(list.to_hex(), format!("{:016x}", hash("1767225590000 bob Bob")));
        assert_eq!((list.count(), list.to_hex().as_str()), (1, "620d0209bd839971"));
        list.add("zoe", "Zoë K.", 1_767_225_300_000, true);
        assert_eq!((list.count(), list.to_hex().as_str()), (2, "abf05cd502809165"));
        assert_eq!(ListDigest::claimed(2, "abf05cd502809165"), Some(list));
    }

    #[test]
    fn the_digest_of_a_list_tells_apart_what_is_shown() {
        let digest = |friend: &str, name: &str, at, approximate| {
            let mut list = ListDigest::default();
            list.add(friend, name, at, approximate);
            list
        };
        let bob = digest("bob", "Bob", 5, false);
        for other in [
            digest("bob", "Bob", 6, false),
            digest("bob", "Bob", 5, true),
            digest("bob", "Bo", 5, false),
            digest("bo", "Bob", 5, false),
            digest("bob", "Bob", 55, false),
            ListDigest::default(),
        ] {
            assert_ne!(bob, other);
        }
        for digest in ["", "0", "+000000000000000", "00000000000000000", "0x00000000000000", "000000000000000g"] {
            assert_eq!(ListDigest::claimed(0, digest), None, "{digest}");
        }
        assert_eq!(ListDigest::claimed(0, "0000000000000000"), Some(ListDigest::default()));
    }

    /// Sums of FNV-1a were equal for {0, 3} and {1, 2}.
    #[test]
    fn views_of_ids_that_are_alike_have_digests_of_their_own() {
        let mut seen = std::collections::HashSet::new();
        for view in 0..1_u32 << 12 {
            let mut digest = ViewDigest::default();
            (0..12).filter(|bit| view & (1 << bit) != 0).for_each(|bit| digest.add(&format!("user-{bit:06}")));
            assert!(seen.insert(digest.to_hex()), "{view:b}");
        }
    }

    #[test]
    fn lists_that_are_alike_have_digests_of_their_own() {
        let mut seen = std::collections::HashSet::new();
        // Each of five friends is absent, or was seen at one of four times, exactly or not.
        for list in 0..9_u32.pow(5) {
            let mut digest = ListDigest::default();
            for friend in 0..5 {
                let state = list / 9_u32.pow(friend) % 9;
                if state > 0 {
                    let at = 1_767_225_590_000 + i64::from(state) / 2;
                    digest.add(&format!("f{friend}"), &format!("F{friend}"), at, state % 2 == 1);
                }
            }
            assert!(seen.insert(digest.to_hex()), "{list}");
        }
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
