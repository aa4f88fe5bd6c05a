//! Kafka inside the process.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::time::{Duration, Instant};

use nearcast_runtime::admin::Ensured;
use nearcast_runtime::embedded::Embedded;
use nearcast_runtime::health::Readiness;
use nearcast_runtime::kafka::{Kafka, KafkaError, KafkaLog, ProducerProfile};
use rdkafka::consumer::Consumer;
use rdkafka::producer::FutureRecord;
use rdkafka::{Message, Offset, TopicPartitionList};

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_record_makes_the_round() {
    let embedded = Embedded::start(&[("log".to_owned(), 3), ("lists".to_owned(), 1)]).unwrap();
    embedded.create_topic("late", 2).unwrap();
    let kafka = Kafka::new(embedded.config());
    let readiness = Readiness::default();
    kafka.wait_until_up(&readiness.component("kafka")).await.unwrap();
    assert!(readiness.is_ready());

    assert_eq!(kafka.partition_count("log").await.unwrap(), Some(3));
    assert_eq!(kafka.partition_count("late").await.unwrap(), Some(2));
    assert_eq!(kafka.ensure_topic("log", 3, &[("segment.ms", "1".to_owned())]).await.unwrap(), Ensured::Existed);
    assert!(matches!(kafka.ensure_topic("other", 1, &[]).await, Err(KafkaError::NoTopic { .. })));

    let producer = kafka.producer(&ProducerProfile { linger: Duration::ZERO, ..ProducerProfile::default() }).unwrap();
    let sent = producer.send_result(FutureRecord::to("log").key("alice").payload("here")).map_err(|(e, _)| e).unwrap();
    let delivery = sent.await.unwrap().map_err(|(e, _)| e).unwrap();
    assert_eq!(kafka.watermarks("log", delivery.partition).await.unwrap(), (0, 1));
    assert_eq!(kafka.offsets_at("log", i64::MAX).await.unwrap(), [(0, 0), (1, 0), (2, 0)], "the beginning");

    let read = tokio::task::spawn_blocking(move || {
        let reader = kafka.reader().unwrap();
        let mut from = TopicPartitionList::new();
        from.add_partition_offset("log", delivery.partition, Offset::Offset(0)).unwrap();
        reader.assign(&from).unwrap();
        let deadline = Instant::now() + PATIENCE;
        let read = loop {
            assert!(Instant::now() < deadline, "the record did not come");
            if let Some(record) = reader.poll(Duration::from_millis(100)) {
                break record.unwrap().detach();
            }
        };
        // The group protocol of the real cluster.
        let member = kafka.group_member("workers", KafkaLog, &[]).unwrap();
        member.subscribe(&["log"]).unwrap();
        loop {
            assert!(Instant::now() < deadline, "the group gave no record");
            if let Some(record) = member.poll(Duration::from_millis(100)) {
                assert_eq!(record.unwrap().key(), Some("alice".as_bytes()));
                break;
            }
        }
        member.unsubscribe();
        read
    });
    let read = read.await.unwrap();
    assert_eq!((read.key(), read.payload()), (Some("alice".as_bytes()), Some("here".as_bytes())));
}
