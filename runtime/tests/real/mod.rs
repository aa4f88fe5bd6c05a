//! The real servers of the local stack.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use nearcast_runtime::cql::CqlConfig;
use nearcast_runtime::kafka::{Kafka, KafkaConfig};

fn at(variable: &str, default: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| default.to_owned())
}

/// A name that no other test has.
pub fn name() -> String {
    format!("t{:016x}", RandomState::new().hash_one(()))
}

pub fn kafka_config() -> KafkaConfig {
    KafkaConfig {
        bootstrap: at("NEARCAST_TEST_KAFKA", "127.0.0.1:29092"),
        embedded: false,
        startup_wait: Duration::from_secs(5),
        options: BTreeMap::new(),
    }
}

/// The cluster, or a failure that says to run `make up`.
pub async fn kafka() -> Kafka {
    let kafka = Kafka::new(kafka_config());
    let component = nearcast_runtime::health::Readiness::default().component("kafka");
    if let Err(error) = kafka.wait_until_up(&component).await {
        panic!("{error}: run `make up`");
    }
    kafka
}

pub fn cql_config(keyspace: &str) -> CqlConfig {
    CqlConfig {
        nodes: vec![at("NEARCAST_TEST_CASSANDRA", "127.0.0.1:29042")],
        keyspace: keyspace.to_owned(),
        replication_factor: 1,
        datacenter: None,
        startup_wait: Duration::from_secs(5),
        username: None,
        password: None,
    }
}
