//! A deployment of a case's own: a log and a keyspace that nobody else has.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nearcast_history_sink::cql::MIGRATIONS;
use nearcast_runtime::cql::{self, CqlConfig};
use nearcast_runtime::health::Readiness;
use nearcast_runtime::kafka::{Kafka, KafkaConfig};
use nearcast_schemas::topics::Topics;
use scylla::client::session::Session;

/// As a new deployment has them.
pub const PARTITIONS: i32 = 24;

/// Topics and a keyspace; see [`Stage::delete`].
pub struct Stage {
    pub prefix: String,
    pub topics: Topics,
    pub kafka: Kafka,
    pub session: Arc<Session>,
}

/// The broker of `make up`, or another one that is named.
pub fn kafka() -> Kafka {
    Kafka::new(KafkaConfig {
        bootstrap: std::env::var("NEARCAST_TEST_KAFKA").unwrap_or_else(|_| "127.0.0.1:29092".to_owned()),
        embedded: false,
        startup_wait: Duration::from_secs(5),
        options: BTreeMap::new(),
    })
}

/// The database of `make up`, or another one that is named.
pub fn cassandra(prefix: &str) -> CqlConfig {
    CqlConfig {
        nodes: vec![std::env::var("NEARCAST_TEST_CASSANDRA").unwrap_or_else(|_| "127.0.0.1:29042".to_owned())],
        keyspace: prefix.to_owned(),
        replication_factor: 1,
        datacenter: None,
        startup_wait: Duration::from_secs(5),
        username: None,
        password: None,
    }
}

impl Stage {
    pub async fn new() -> Self {
        let prefix = format!("b{:012x}", rand::random::<u64>() >> 16);
        let (kafka, topics) = (kafka(), Topics::new(&prefix));
        if let Err(error) = kafka.wait_until_up(&Readiness::default().component("kafka")).await {
            panic!("this needs the local stack, run `make up`: {error}");
        }
        for spec in [topics.locations_spec(PARTITIONS), topics.dead_letters_spec()] {
            kafka.ensure_topic(&spec.name, spec.partitions, &spec.settings).await.unwrap();
        }
        let session = cql::connect(&cassandra(&prefix)).await.expect("Cassandra: run `make up`");
        cql::migrate(&session, &prefix, 1, "history-sink", MIGRATIONS).await.unwrap();
        Self { prefix, topics, kafka, session }
    }

    /// Rows that the history holds.
    pub async fn rows(&self) -> u64 {
        let mut statement = scylla::statement::unprepared::Statement::new("SELECT user_id FROM history");
        statement.set_page_size(5_000);
        let rows = self.session.query_iter(statement, &[]).await.unwrap().rows_stream::<(String,)>().unwrap();
        futures_util::StreamExt::count(rows).await as u64
    }

    /// Deletes what the case made.
    pub async fn delete(self) {
        for topic in [self.topics.locations(), self.topics.dead_letters()] {
            self.kafka.delete_topic(&topic).await.unwrap();
        }
        self.session.query_unpaged(format!("DROP KEYSPACE {}", self.prefix), &[]).await.unwrap();
    }
}
