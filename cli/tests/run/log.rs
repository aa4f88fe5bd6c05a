//! The log, written by hand.

use nearcast_runtime::kafka::{Kafka, KafkaConfig};
use nearcast_schemas::event::{Fix, LocationEvent, LocationKind, Mode, NO_SESSION};
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

/// A report of a user's phone as it might come.
pub fn report(user: &str, n: i64) -> LocationEvent {
    let now_ms = nearcast_runtime::clock::now_ms();
    let fix = Fix {
        lat: 48.137,
        lon: 11.575,
        accuracy_m: None,
        speed_mps: None,
        heading_deg: None,
        altitude_m: None,
        device: format!("{user}-phone"),
        n,
        device_time: now_ms,
        fixed_at: now_ms,
    };
    LocationEvent {
        kind: LocationKind::Fix,
        session: NO_SESSION,
        route: None,
        list_version: 0,
        reset: false,
        mode: Mode::default(),
        fix: Some(fix),
        gateway_time: now_ms,
    }
}
