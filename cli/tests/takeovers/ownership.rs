//! Who owns the viewers and tells them, as the topics say: claims, and the first deliveries under each of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use nearcast_runtime::kafka::{Kafka, KafkaConfig};
use nearcast_schemas::codec::{Codec, GatewayRecord, SchemaIds};
use nearcast_schemas::list::VisibilityKind;
use nearcast_schemas::topics::{CLAIM_KEY, Topics};
use rdkafka::consumer::Consumer;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use crate::run::{PATIENCE, Stack};

/// The id of the one gateway, by default.
const GATEWAY: &str = "0";

/// A claim to a partition; its offset is the epoch.
#[derive(Clone, Debug)]
struct Claim {
    worker: String,
    at_ms: i64,
    /// The first delivery under it.
    delivered_ms: Option<i64>,
}

/// What the topics said: claims by partition and epoch.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    claims: BTreeMap<i32, BTreeMap<i64, Claim>>,
    /// Deliveries that were read before their claims.
    early: BTreeMap<(i32, i64), i64>,
}

/// How a partition got a new owner.
#[derive(Clone, Copy, Debug)]
pub struct Takeover {
    /// Until another claim to it.
    pub claimed_s: Option<f64>,
    /// Until a delivery under a later claim.
    pub delivered_s: Option<f64>,
}

impl Seen {
    fn claim(&mut self, partition: i32, epoch: i64, worker: &str, at_ms: i64) {
        let delivered_ms = self.early.remove(&(partition, epoch));
        let claim = Claim { worker: worker.to_owned(), at_ms, delivered_ms };
        self.claims.entry(partition).or_default().insert(epoch, claim);
    }

    fn delivered(&mut self, partition: i32, epoch: i64, at_ms: i64) {
        match self.claims.get_mut(&partition).and_then(|claims| claims.get_mut(&epoch)) {
            Some(claim) => claim.delivered_ms = claim.delivered_ms.or(Some(at_ms)),
            None => {
                self.early.entry((partition, epoch)).or_insert(at_ms);
            }
        }
    }

    /// Of each partition, the epoch in force at a time and its owner, where viewers heard of it by then.
    fn owners(&self, at_ms: i64) -> impl Iterator<Item = (i32, i64, &str)> {
        self.claims.iter().filter_map(move |(&partition, claims)| {
            let mut until = claims.iter().filter(|(_, claim)| claim.at_ms <= at_ms);
            let (&epoch, claim) = until.next_back()?;
            let told = claim.delivered_ms.is_some_and(|delivered| delivered <= at_ms);
            told.then_some((partition, epoch, claim.worker.as_str()))
        })
    }

    /// What became of the partitions of a worker that ended then.
    pub fn takeovers(&self, worker: &str, at_ms: i64) -> Vec<Takeover> {
        let since = |ms: i64| (ms - at_ms) as f64 / 1_000.0;
        let lost = self.owners(at_ms).filter(|(_, _, owner)| *owner == worker);
        let takeover = |(partition, epoch, _)| {
            let later = || self.claims[&partition].range(epoch + 1..).map(|(_, claim)| claim);
            Takeover {
                claimed_s: later().next().map(|claim| since(claim.at_ms)),
                delivered_s: later().filter_map(|claim| claim.delivered_ms).min().map(since),
            }
        };
        lost.map(takeover).collect()
    }
}

/// Reads the topics in a thread of its own.
pub struct Watch {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Watch {
    pub fn start(stack: &Stack, partitions: i32) -> Self {
        let kafka = Kafka::new(KafkaConfig {
            bootstrap: stack.kafka.clone(),
            embedded: false,
            startup_wait: PATIENCE,
            options: Default::default(),
        });
        let topics = Topics::new(&stack.prefix);
        let (gateway, reader) = (topics.gateway(GATEWAY), kafka.reader().unwrap());
        let mut from = TopicPartitionList::new();
        from.add_partition_offset(&gateway, 0, Offset::Beginning).unwrap();
        for partition in 0..partitions {
            from.add_partition_offset(&topics.visibility(), partition, Offset::Beginning).unwrap();
        }
        reader.assign(&from).unwrap();
        let (seen, stop) = (Arc::new(Mutex::new(Seen::default())), Arc::new(AtomicBool::new(false)));
        let (saw, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let codec = Codec::new(SchemaIds::default());
            while !stopped.load(Ordering::Relaxed) {
                // An error is librdkafka's to recover from.
                let Some(Ok(message)) = reader.poll(Duration::from_millis(100)) else { continue };
                let Some(payload) = message.payload() else { continue };
                let at_ms = message.timestamp().to_millis().unwrap();
                let mut seen = saw.lock().unwrap();
                if message.topic() == gateway {
                    let GatewayRecord::Batch(batch) = codec.decode_gateway_record(payload).unwrap() else { continue };
                    for claimed in batch.epochs {
                        seen.delivered(claimed.partition, claimed.epoch, at_ms);
                    }
                } else if message.key() == Some(CLAIM_KEY) {
                    let claim = codec.decode_list(payload).unwrap();
                    assert_eq!(claim.kind, VisibilityKind::Claim);
                    seen.claim(message.partition(), message.offset(), &claim.worker, at_ms);
                }
            }
        });
        Self { seen, stop, thread }
    }

    /// The workers that own something that is told to somebody.
    pub fn owners(&self, at_ms: i64) -> Vec<String> {
        let seen = self.seen.lock().unwrap();
        seen.owners(at_ms).map(|(_, _, worker)| worker.to_owned()).collect()
    }

    /// Everything that was seen.
    pub fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the topics can be read");
        self.seen.lock().unwrap().clone()
    }
}
