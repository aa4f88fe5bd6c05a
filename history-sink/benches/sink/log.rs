//! Reports as gateways write them: of many users in turn, so that few of those that are read together are one user's.

use std::time::Duration;

use nearcast_runtime::kafka::ProducerProfile;
use nearcast_schemas::codec::Codec;
use nearcast_schemas::event::{Fix, LocationEvent, LocationKind, Mode, Role, Route};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{FutureRecord, Producer as _};

use crate::stage::Stage;

/// Everybody reports once in this time.
const REPORT_EVERY_MS: i64 = 30_000;

/// The report with this number of a user who reports from then on, in ms since the epoch.
pub fn event(begun: i64, n: i64) -> LocationEvent {
    let at = begun + n * REPORT_EVERY_MS;
    LocationEvent {
        kind: LocationKind::Fix,
        session: 1,
        route: Some(Route { gateway: "ga".to_owned(), incarnation: at, handle: 1, role: Role::Reporting }),
        list_version: 0,
        reset: false,
        mode: Mode::default(),
        fix: Some(Fix {
            lat: 10.0 + n as f64 / 1_000.0,
            lon: 20.0,
            accuracy_m: Some(8.0),
            speed_mps: Some(1.4),
            heading_deg: Some(90.0),
            altitude_m: None,
            device: "phone-1".to_owned(),
            n,
            device_time: at,
            fixed_at: at,
        }),
        gateway_time: at,
    }
}

pub fn user(number: u32) -> String {
    format!("user-{number:06}")
}

/// Appends this many reports of each of these users, and returns how many they are.
pub async fn fill(stage: &Stage, users: &[String], begun: i64, reports: i64) -> u64 {
    let profile = ProducerProfile {
        linger: Duration::from_millis(20),
        batch_bytes: 900_000,
        queue_records: 200_000,
        queue_bytes: 256 << 20,
        ..ProducerProfile::default()
    };
    let (producer, codec, topic) =
        (stage.kafka.producer(&profile).unwrap(), Codec::default(), stage.topics.locations());
    let mut value = Vec::new();
    for n in 0..reports {
        for user in users {
            value.clear();
            codec.encode_location(&event(begun, n), &mut value);
            let mut record = FutureRecord::to(&topic).key(user).payload(&value);
            while let Err((error, back)) = producer.send_result(record) {
                assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
                record = back;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    tokio::task::spawn_blocking(move || producer.flush(Duration::from_secs(60)))
        .await
        .unwrap()
        .expect("Kafka takes it");
    users.len() as u64 * reports as u64
}
