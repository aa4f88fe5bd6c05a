//! Kafka as it is.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod real;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use nearcast_runtime::admin::Ensured;
use nearcast_runtime::clock;
use nearcast_runtime::kafka::{Kafka, KafkaError, KafkaLog, NextOffset, Producer, ProducerProfile, Reader};
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::producer::FutureRecord;
use rdkafka::{Message, Offset, TopicPartitionList};

const PATIENCE: Duration = Duration::from_secs(20);

fn producer(kafka: &Kafka) -> Producer {
    kafka.producer(&ProducerProfile { linger: Duration::ZERO, ..ProducerProfile::default() }).unwrap()
}

/// Publishes and returns (partition, offset, append time).
async fn publish(producer: &Producer, topic: &str, key: &str, value: &str) -> (i32, i64, i64) {
    let delivery = producer.send_result(FutureRecord::to(topic).key(key).payload(value)).map_err(|(e, _)| e).unwrap();
    let delivery = delivery.await.unwrap().map_err(|(e, _)| e).unwrap();
    (delivery.partition, delivery.offset, delivery.timestamp.to_millis().unwrap())
}

fn read(reader: &Reader, count: usize) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    let mut values = Vec::new();
    while values.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} records came", values.len());
        if let Some(record) = reader.poll(Duration::from_millis(100)) {
            values.push(String::from_utf8(record.unwrap().payload().unwrap().to_vec()).unwrap());
        }
    }
    values
}

#[tokio::test]
async fn a_topic_is_made_once_with_its_settings() {
    let (kafka, topic) = (real::kafka().await, real::name());
    assert_eq!(kafka.partition_count(&topic).await.unwrap(), None);
    let settings = [
        ("cleanup.policy", "compact,delete".to_owned()),
        ("message.timestamp.type", "LogAppendTime".to_owned()),
        ("segment.ms", "900000".to_owned()),
    ];
    assert_eq!(kafka.ensure_topic(&topic, 3, &settings).await.unwrap(), Ensured::Created);
    assert_eq!(kafka.ensure_topic(&topic, 3, &settings).await.unwrap(), Ensured::Existed);
    assert_eq!(kafka.partition_count(&topic).await.unwrap(), Some(3));
    assert_eq!(kafka.topics(&topic).await.unwrap(), [(topic.clone(), 3)]);

    let other = [("segment.ms", "1000000".to_owned())];
    let Ensured::Differs(differences) = kafka.ensure_topic(&topic, 5, &other).await.unwrap() else {
        panic!("the topic differs")
    };
    let said: Vec<_> = differences.iter().map(ToString::to_string).collect();
    assert_eq!(said, ["partitions is 3, not 5", "segment.ms is 900000, not 1000000"]);

    assert!(kafka.delete_topic(&topic).await.unwrap());
    assert!(!kafka.delete_topic(&topic).await.unwrap());
}

#[tokio::test]
async fn two_at_once_make_one_topic() {
    let (kafka, topic) = (real::kafka().await, real::name());
    let (one, two) = tokio::join!(kafka.ensure_topic(&topic, 2, &[]), kafka.ensure_topic(&topic, 2, &[]));
    let mut results = [one.unwrap(), two.unwrap()];
    results.sort_by_key(|result| *result != Ensured::Created);
    assert_eq!(results, [Ensured::Created, Ensured::Existed]);
    kafka.delete_topic(&topic).await.unwrap();
}

#[tokio::test]
async fn a_setting_that_kafka_does_not_know_is_refused() {
    let kafka = real::kafka().await;
    let error = kafka.ensure_topic(&real::name(), 1, &[("no.such.setting", "1".to_owned())]).await.unwrap_err();
    assert!(matches!(error, KafkaError::Refused { what: "create", .. }), "{error}");
}

#[tokio::test]
async fn watermarks_and_times_are_those_of_the_log() {
    let (kafka, topic) = (real::kafka().await, real::name());
    let settings = [("message.timestamp.type", "LogAppendTime".to_owned())];
    kafka.ensure_topic(&topic, 1, &settings).await.unwrap();
    assert_eq!(kafka.watermarks(&topic, 0).await.unwrap(), (0, 0));
    assert_eq!(kafka.offsets_at(&topic, clock::now_ms()).await.unwrap(), [(0, 0)], "empty: the end");

    let producer = producer(&kafka);
    let mut times = Vec::new();
    while times.len() < 3 {
        let (_, offset, at) = publish(&producer, &topic, "k", "v").await;
        assert_eq!(usize::try_from(offset).unwrap(), times.len());
        times.push(at);
        // The broker's clock must move on between two records, so that their times differ.
        while clock::now_ms() <= at {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    assert_eq!(kafka.watermarks(&topic, 0).await.unwrap(), (0, 3));
    for (ms, expect) in [(0, 0), (times[0] + 1, 1), (times[1], 1), (times[2], 2), (times[2] + 60_000, 3)] {
        assert_eq!(kafka.offsets_at(&topic, ms).await.unwrap(), [(0, expect)], "at {ms} of {times:?}");
    }
    kafka.delete_topic(&topic).await.unwrap();
    let error = kafka.offsets_at(&real::name(), 0).await.unwrap_err();
    assert!(error.to_string().contains("`nearcast topics create`"), "{error}");
}

#[tokio::test]
async fn a_reader_reads_from_where_it_is_put() {
    let (kafka, topic) = (real::kafka().await, real::name());
    kafka.ensure_topic(&topic, 1, &[]).await.unwrap();
    let producer = producer(&kafka);
    for value in ["a", "b", "c"] {
        publish(&producer, &topic, "k", value).await;
    }
    let reader = kafka.reader().unwrap();
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(&topic, 0, NextOffset::after(0).into()).unwrap();
    reader.assign(&from).unwrap();
    assert_eq!(tokio::task::spawn_blocking(move || read(&reader, 2)).await.unwrap(), ["b", "c"]);
    kafka.delete_topic(&topic).await.unwrap();
}

/// Tells what the group gave.
struct Given(mpsc::Sender<Vec<i32>>);

impl ClientContext for Given {
    fn error(&self, error: rdkafka::error::KafkaError, reason: &str) {
        KafkaLog::failure(&error, reason);
    }
}

impl ConsumerContext for Given {
    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(partitions) = rebalance {
            let _ = self.0.send(partitions.elements().iter().map(|p| p.partition()).collect());
        }
    }
}

#[tokio::test]
async fn a_group_member_is_given_partitions_and_goes_on_from_what_it_committed() {
    let (kafka, topic) = (real::kafka().await, real::name());
    kafka.ensure_topic(&topic, 2, &[]).await.unwrap();
    let producer = producer(&kafka);
    let mut published = 0;
    for key in ["a", "b", "c", "d", "e", "f"] {
        publish(&producer, &topic, key, key).await;
        published += 1;
    }
    let group = topic.clone();
    let (bare, name) = (kafka.clone(), topic.clone());
    tokio::task::spawn_blocking(move || {
        let (given, partitions) = mpsc::channel();
        let member = bare.group_member(&group, Given(given), &[]).unwrap();
        member.subscribe(&[&name]).unwrap();
        let mut next = TopicPartitionList::new();
        let deadline = Instant::now() + PATIENCE;
        let mut seen = 0;
        while seen < published {
            assert!(Instant::now() < deadline, "{seen} of {published} records came");
            let Some(record) = member.poll(Duration::from_millis(100)) else { continue };
            let record = record.unwrap();
            seen += 1;
            let after = Offset::from(NextOffset::after(record.offset()));
            if next.set_partition_offset(&name, record.partition(), after).is_err() {
                next.add_partition_offset(&name, record.partition(), after).unwrap();
            }
        }
        let mut all: Vec<_> = partitions.try_iter().flatten().collect();
        all.sort_unstable();
        assert_eq!(all, [0, 1]);
        // Nothing is committed but by us.
        let committed = member.committed(PATIENCE).unwrap();
        assert!(committed.elements().iter().all(|p| p.offset() == Offset::Invalid), "{committed:?}");
        member.commit(&next, CommitMode::Sync).unwrap();
        let committed = member.committed(PATIENCE).unwrap();
        let sum: i64 = committed.elements().iter().filter_map(|p| p.offset().to_raw()).filter(|o| *o > 0).sum();
        assert_eq!(sum, published, "the next offsets of both partitions");
        member.unsubscribe();
    })
    .await
    .unwrap();
    kafka.delete_topic(&topic).await.unwrap();
}
