//! A deployment of a case's own: topics under a prefix that nobody else has.

use std::collections::BTreeMap;
use std::time::Duration;

use nearcast_runtime::health::Readiness;
use nearcast_runtime::kafka::{Kafka, KafkaConfig};
use nearcast_schemas::topics::Topics;
use tokio::runtime::Runtime;

use crate::reports::write_gateway;

/// As a new deployment has them.
pub const LOCATION_PARTITIONS: i32 = 24;
pub const VISIBILITY_PARTITIONS: i32 = 64;

/// Kafka, and the topics of a case. Deletes them when it is dropped.
pub struct Stage {
    pub prefix: String,
    pub topics: Topics,
    pub kafka: Kafka,
    pub gateways: u32,
    runtime: Runtime,
    created: Vec<String>,
}

/// The cluster of `make up`, or another one that is named.
pub fn config() -> KafkaConfig {
    KafkaConfig {
        bootstrap: std::env::var("NEARCAST_TEST_KAFKA").unwrap_or_else(|_| "127.0.0.1:29092".to_owned()),
        embedded: false,
        startup_wait: Duration::from_secs(5),
        options: BTreeMap::new(),
    }
}

impl Stage {
    /// With the topics of so many gateways.
    pub fn new(gateways: u32) -> Self {
        let prefix = format!("b{:012x}", rand::random::<u64>() >> 16);
        let topics = Topics::new(&prefix);
        let mut specs = vec![
            topics.locations_spec(LOCATION_PARTITIONS),
            topics.visibility_spec(VISIBILITY_PARTITIONS),
            topics.dead_letters_spec(),
        ];
        for gateway in 0..gateways {
            specs.push(topics.gateway_spec(&gateway_id(gateway)));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let kafka = Kafka::new(config());
        let created = runtime.block_on(async {
            if let Err(error) = kafka.wait_until_up(&Readiness::default().component("kafka")).await {
                panic!("this needs the local stack, run `make up`: {error}");
            }
            let mut created = Vec::new();
            for spec in specs {
                kafka.ensure_topic(&spec.name, spec.partitions, &spec.settings).await.unwrap();
                created.push(spec.name);
            }
            created
        });
        Self { prefix, topics, kafka, gateways, runtime, created }
    }

    /// How many records a topic holds.
    pub fn records(&self, topic: &str, partitions: i32) -> i64 {
        self.runtime.block_on(async {
            let mut records = 0;
            for partition in 0..partitions {
                let (low, high) = self.kafka.watermarks(topic, partition).await.unwrap();
                records += high - low;
            }
            records
        })
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for topic in std::mem::take(&mut self.created) {
            if let Err(error) = self.runtime.block_on(self.kafka.delete_topic(&topic)) {
                eprintln!("{topic} was not deleted: {error}");
            }
        }
    }
}

pub fn gateway_id(gateway: u32) -> String {
    let mut id = String::new();
    write_gateway(gateway, &mut id);
    id
}
