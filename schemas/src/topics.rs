//! Topic names, keys, settings and the partitioner, for every part.

/// librdkafka's name of the partitioner that JVM clients use; its own default would put users elsewhere.
pub const PARTITIONER: &str = "murmur2_random";

/// Key of a worker's claim. No user id contains NUL, so it meets no viewer's list, and compaction keeps the last claim.
pub const CLAIM_KEY: &[u8] = b"\0claim";

/// Names of the topics and groups of one deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    prefix: String,
}

/// What a topic is created with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// The topic's name.
    pub name: String,
    /// Partitions of a new topic.
    pub partitions: i32,
    /// Kafka's topic settings.
    pub settings: Vec<(&'static str, String)>,
}

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

impl Topics {
    /// The topics of the deployment with this prefix.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// Location events, keyed by user.
    pub fn locations(&self) -> String {
        format!("{}.locations", self.prefix)
    }

    /// Visibility lists and claims, keyed by viewer.
    pub fn visibility(&self) -> String {
        format!("{}.visibility", self.prefix)
    }

    /// Deliveries and notices for one gateway; one partition, no key.
    pub fn gateway(&self, id: &str) -> String {
        format!("{}.gateway.{id}", self.prefix)
    }

    /// Records that could not be used, as they were.
    pub fn dead_letters(&self) -> String {
        format!("{}.dead-letters", self.prefix)
    }

    /// The group in which workers share viewers.
    pub fn fanout_group(&self) -> String {
        format!("{}.fanout", self.prefix)
    }

    /// The group in which history sinks share the log.
    pub fn history_group(&self) -> String {
        format!("{}.history-sink", self.prefix)
    }

    /// Location events: kept a day, never compacted, timed by the broker.
    pub fn locations_spec(&self, partitions: i32) -> TopicSpec {
        TopicSpec {
            name: self.locations(),
            partitions,
            settings: vec![
                ("cleanup.policy", "delete".into()),
                ("message.timestamp.type", "LogAppendTime".into()),
                ("retention.ms", (24 * HOUR_MS).to_string()),
                ("segment.ms", HOUR_MS.to_string()),
            ],
        }
    }

    /// Visibility lists: the last of each viewer, for as long as it is published again hourly.
    pub fn visibility_spec(&self, partitions: i32) -> TopicSpec {
        TopicSpec {
            name: self.visibility(),
            partitions,
            settings: vec![
                ("cleanup.policy", "compact,delete".into()),
                ("message.timestamp.type", "LogAppendTime".into()),
                ("min.compaction.lag.ms", (15 * MINUTE_MS).to_string()),
                ("max.compaction.lag.ms", (30 * MINUTE_MS).to_string()),
                ("retention.ms", (3 * HOUR_MS).to_string()),
                ("segment.ms", (15 * MINUTE_MS).to_string()),
            ],
        }
    }

    /// One gateway's deliveries: minutes.
    pub fn gateway_spec(&self, id: &str) -> TopicSpec {
        TopicSpec {
            name: self.gateway(id),
            partitions: 1,
            settings: vec![
                ("cleanup.policy", "delete".into()),
                ("message.timestamp.type", "LogAppendTime".into()),
                ("retention.ms", (5 * MINUTE_MS).to_string()),
                ("segment.ms", MINUTE_MS.to_string()),
            ],
        }
    }

    /// Dead letters: kept no longer than locations.
    pub fn dead_letters_spec(&self) -> TopicSpec {
        TopicSpec {
            name: self.dead_letters(),
            partitions: 1,
            settings: vec![
                ("cleanup.policy", "delete".into()),
                ("retention.ms", (24 * HOUR_MS).to_string()),
                ("segment.ms", HOUR_MS.to_string()),
            ],
        }
    }
}

/// The partition of a key, as every producer of the deployment and JVM clients compute it.
///
/// `partitions` is at least 1. Kafka's `Utils.toPositive(Utils.murmur2(key)) % partitions`.
pub fn partition_of(key: &[u8], partitions: i32) -> i32 {
    (murmur2(key) & 0x7fff_ffff) as i32 % partitions
}

/// MurmurHash2 by Austin Appleby with the seed that Kafka's clients use.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    const SEED: u32 = 0x9747_b28c;
    let mut hash = SEED ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        k = k.wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (at, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_as_kafkas_own_clients_do() {
        // Values of Kafka's own UtilsTest for Utils.murmur2.
        for (key, expect) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, expect, "{key}");
        }
    }

    #[test]
    fn a_claims_key_is_no_user_id() {
        assert!(std::str::from_utf8(CLAIM_KEY).is_ok_and(|id| crate::ids::check_id(id).is_err()));
    }
}
