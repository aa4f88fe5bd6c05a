//! The log, written by hand.

use nearcast_runtime::kafka::{Kafka, KafkaConfig};
use nearcast_schemas::topics::Topics;
use rdkafka::producer::FutureRecord;

use super::{PATIENCE, Stack};

/// Appends a record to the location log, and returns its partition and offset.
pub async fn append(stack: &Stack, user: &str, value: &[u8]) -> (i32, i64) {
    let kafka = Kafka::new(KafkaConfig {
        bootstrap: stack.kafka.clone(),
        embedded: false,
        startup_wait: PATIENCE,
        options: Default::default(),
    });
    let topic = Topics::new(&stack.prefix).locations();
    let producer = kafka.producer(&Default::default()).unwrap();
    let record = FutureRecord::to(&topic).key(user).payload(value);
    let delivery = producer.send_result(record).map_err(|(error, _)| error).unwrap();
    let delivered = delivery.await.unwrap().map_err(|(error, _)| error).unwrap();
    (delivered.partition, delivered.offset)
}
