//! Who leads what among the brokers, and how far the history is behind the log.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nearcast_runtime::kafka::{Kafka, KafkaConfig, KafkaLog, Reader};
use nearcast_schemas::topics::Topics;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::metadata::Metadata;
use rdkafka::{Offset, TopicPartitionList};
use serde::Deserialize;

use crate::cluster::Cluster;

const ASK: Duration = Duration::from_secs(10);
/// Of the cluster.
pub const BROKERS: usize = 3;
const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// A node's note of the controllers' last election.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Election {
    leader_id: i32,
    leader_epoch: i32,
}

/// Asks the cluster. Cheap to clone.
#[derive(Clone)]
pub struct Brokers {
    reader: Arc<Reader>,
    /// Joins nothing: it asks where the sinks are.
    sinks: Arc<BaseConsumer<KafkaLog>>,
    topics: Topics,
}

impl Brokers {
    pub fn of(cluster: &Cluster) -> Self {
        let brokers = (1..=BROKERS as u16).map(|broker| format!("127.0.0.1:{}", cluster.port(92 + 100 * broker)));
        let kafka = Kafka::new(KafkaConfig {
            bootstrap: brokers.collect::<Vec<_>>().join(","),
            embedded: false,
            startup_wait: ASK,
            options: Default::default(),
        });
        let topics = Topics::new("nearcast");
        let sinks = kafka.group_member(&topics.history_group(), KafkaLog, &[("group.protocol", "classic")]).unwrap();
        Self { reader: Arc::new(kafka.reader().unwrap()), sinks: Arc::new(sinks), topics }
    }

    /// The broker that leads partition 0 of the log.
    pub async fn leader(&self) -> Result<i32, String> {
        let topic = self.topics.locations();
        self.metadata(move |metadata| leader_of(metadata, &topic, 0)).await?
    }

    /// The broker that coordinates the workers' group: the leader of the partition that has the group's offsets.
    pub async fn coordinator(&self) -> Result<i32, String> {
        let group = self.topics.fanout_group();
        self.metadata(move |metadata| {
            let topic = metadata.topics().iter().find(|topic| topic.name() == OFFSETS_TOPIC);
            let count = topic.map_or(0, |topic| topic.partitions().len());
            if count == 0 {
                return Err(format!("there is no {OFFSETS_TOPIC}"));
            }
            // Java's hash of a string, without its sign.
            let hash = group.bytes().fold(0_i32, |hash, byte| hash.wrapping_mul(31).wrapping_add(i32::from(byte)));
            leader_of(metadata, OFFSETS_TOPIC, (hash & i32::MAX) % count as i32)
        })
        .await?
    }

    /// The node that leads the controllers, as the nodes have noted. Clients are told any broker.
    pub fn controller(directory: &Path) -> Result<i32, String> {
        let elections = (1..=BROKERS).filter_map(|node| {
            let file = directory.join(format!("kafka-{node}/data/__cluster_metadata-0/quorum-state"));
            serde_json::from_str::<Election>(&fs::read_to_string(file).ok()?).ok()
        });
        let last = elections.filter(|election| election.leader_id > 0).max_by_key(|election| election.leader_epoch);
        last.map(|election| election.leader_id).ok_or_else(|| "no controller leads".to_owned())
    }

    /// All brokers are there, and every copy is in sync; otherwise what is missing.
    pub async fn whole(&self) -> Result<(), String> {
        self.metadata(|metadata| {
            let brokers = metadata.brokers().len();
            if brokers < BROKERS {
                return Err(format!("{brokers} of {BROKERS} brokers are there"));
            }
            let topics = metadata.topics().iter();
            let partitions = topics.flat_map(|topic| topic.partitions().iter().map(move |it| (topic.name(), it)));
            let behind = partitions.filter(|(_, it)| it.leader() < 0 || it.isr().len() < it.replicas().len());
            match behind.map(|(topic, partition)| format!("{topic}/{}", partition.id())).next() {
                Some(partition) => Err(format!("not every copy of {partition} is in sync")),
                None => Ok(()),
            }
        })
        .await?
    }

    /// Where the log ends now, by partition.
    pub async fn ends(&self) -> Result<Vec<i64>, String> {
        let (reader, topic) = (Arc::clone(&self.reader), self.topics.locations());
        blocking(move || {
            let metadata = reader.fetch_metadata(Some(&topic), ASK)?;
            let count = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
            (0..count as i32).map(|partition| Ok(reader.fetch_watermarks(&topic, partition, ASK)?.1)).collect()
        })
        .await
    }

    /// Records before these ends that the sinks have not stored.
    pub async fn lag(&self, ends: &[i64]) -> Result<i64, String> {
        let (sinks, topic, ends) = (Arc::clone(&self.sinks), self.topics.locations(), ends.to_vec());
        blocking(move || {
            let mut asked = TopicPartitionList::new();
            (0..ends.len() as i32).for_each(|partition| {
                asked.add_partition(&topic, partition);
            });
            let committed = sinks.committed_offsets(asked, ASK)?;
            let elements = committed.elements();
            let behind = elements.iter().map(|element| {
                let done = if let Offset::Offset(offset) = element.offset() { offset } else { 0 };
                (ends[element.partition() as usize] - done).max(0)
            });
            Ok(behind.sum())
        })
        .await
    }

    async fn metadata<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Metadata) -> T + Send + 'static,
    ) -> Result<T, String> {
        let reader = Arc::clone(&self.reader);
        blocking(move || Ok(read(&reader.fetch_metadata(None, ASK)?))).await
    }
}

fn leader_of(metadata: &Metadata, topic: &str, partition: i32) -> Result<i32, String> {
    let found = metadata.topics().iter().find(|known| known.name() == topic);
    let found = found.and_then(|topic| topic.partitions().iter().find(|known| known.id() == partition));
    match found {
        Some(partition) if partition.leader() > 0 => Ok(partition.leader()),
        _ => Err(format!("nobody leads {topic}/{partition}")),
    }
}

async fn blocking<T: Send + 'static>(
    ask: impl FnOnce() -> Result<T, rdkafka::error::KafkaError> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(ask).await.unwrap().map_err(|error| format!("Kafka does not answer: {error}"))
}
