//! What the log and the history hold, and what phones were told that they hold.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use nearcast_runtime::cql::{self, CqlConfig};
use nearcast_runtime::kafka::{Kafka, KafkaConfig};
use nearcast_schemas::codec::{Codec, SchemaIds};
use nearcast_schemas::event::LocationKind;
use nearcast_schemas::topics::Topics;
use rdkafka::consumer::Consumer;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

use super::{PATIENCE, Stack};

/// User, device, n.
pub type Reports = BTreeSet<(String, String, i64)>;

/// Every position in the log, and by user how many were shown as now.
pub async fn log(stack: &Stack) -> (Reports, BTreeMap<String, usize>) {
    let kafka = Kafka::new(KafkaConfig {
        bootstrap: stack.kafka.clone(),
        embedded: false,
        startup_wait: PATIENCE,
        options: Default::default(),
    });
    let topic = Topics::new(&stack.prefix).locations();
    let mut from = TopicPartitionList::new();
    let mut ends = BTreeMap::new();
    for partition in 0..kafka.partition_count(&topic).await.unwrap().unwrap() {
        let (low, high) = kafka.watermarks(&topic, partition).await.unwrap();
        from.add_partition_offset(&topic, partition, Offset::Offset(low)).unwrap();
        if high > low {
            ends.insert(partition, high);
        }
    }
    let reader = kafka.reader().unwrap();
    reader.assign(&from).unwrap();
    let codec = Codec::new(SchemaIds::default());
    let (mut all, mut live) = (Reports::new(), Reports::new());
    while !ends.is_empty() {
        let Some(message) = reader.poll(PATIENCE) else { panic!("the log ends early") };
        let message = message.unwrap();
        let user = String::from_utf8(message.key().unwrap().to_vec()).unwrap();
        let event = codec.decode_location(message.payload().unwrap()).unwrap();
        if let Some(fix) = &event.fix {
            let report = (user, fix.device.to_string(), fix.n);
            if event.kind != LocationKind::Backfill {
                live.insert(report.clone());
            }
            all.insert(report);
        }
        if ends.get(&message.partition()).is_some_and(|end| message.offset() + 1 >= *end) {
            ends.remove(&message.partition());
        }
    }
    let mut by_user = BTreeMap::new();
    for (user, ..) in live {
        *by_user.entry(user).or_default() += 1;
    }
    (all, by_user)
}

/// Waits until the history holds as many reports as the log, and returns them.
pub async fn history(stack: &Stack, reports: usize) -> Reports {
    let session = cql::connect(&CqlConfig {
        nodes: vec![stack.cassandra.clone()],
        keyspace: stack.prefix.clone(),
        replication_factor: 1,
        datacenter: None,
        startup_wait: PATIENCE,
        username: None,
        password: None,
    })
    .await
    .unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let query = format!("SELECT user_id, device, n FROM {}.history", stack.prefix);
        let rows = session.query_unpaged(query, &[]).await.unwrap().into_rows_result().unwrap();
        let rows: Vec<_> = rows.rows::<(String, String, i64)>().unwrap().map(Result::unwrap).collect();
        let distinct: Reports = rows.iter().cloned().collect();
        assert_eq!(rows.len(), distinct.len(), "a report is one row");
        if distinct.len() >= reports || Instant::now() > deadline {
            return distinct;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What `nearcast simulate --acknowledged` wrote.
pub fn acknowledged(file: &Path) -> Reports {
    let mut rows = csv::ReaderBuilder::new().has_headers(false).from_path(file).unwrap();
    rows.deserialize().map(Result::unwrap).collect()
}

/// Each report that was acknowledged as being in the log is there, each that was acknowledged as published is there as
/// such, and the history is the log. Returns how many reports were acknowledged.
pub async fn account(stack: &Stack, report: &Value, acknowledged: &Reports) -> usize {
    let (log, live) = log(stack).await;
    let history = history(stack, log.len()).await;
    assert_eq!(history, log, "the history holds each report of the log, and nothing else");
    let lost: Vec<_> = acknowledged.difference(&log).collect();
    assert!(lost.is_empty(), "acknowledged and not in the log: {lost:?}");
    let users = report["users"].as_array().unwrap();
    let published = report["published_by_user"].as_array().unwrap();
    assert_eq!(users.len(), published.len());
    for (user, published) in users.iter().zip(published) {
        let found = live.get(user.as_str().unwrap()).copied().unwrap_or_default();
        assert!(found as u64 >= published.as_u64().unwrap(), "{user}: {published} published, {found} in the log");
    }
    acknowledged.len()
}
