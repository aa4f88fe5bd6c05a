//! What a short run must show.

use std::collections::BTreeMap;
use std::time::Duration;

use nearcast_schemas::codec::{Codec, GatewayRecord};
use nearcast_schemas::delivery::Item;
use rdkafka::consumer::Consumer;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;

use crate::figures::Figures;
use crate::stage::{Stage, gateway_id};

/// What the worker says it told is what stands in the gateways' topics.
pub fn deliveries(stage: &Stage, figures: &Figures) {
    let reader = stage.kafka.reader().unwrap();
    let mut assignment = TopicPartitionList::new();
    // Heartbeats go on while this reads: each topic is read up to where it ended.
    let mut left = BTreeMap::new();
    for gateway in 0..stage.gateways {
        let topic = stage.topics.gateway(&gateway_id(gateway));
        assignment.add_partition_offset(&topic, 0, Offset::Beginning).unwrap();
        left.insert(topic.clone(), stage.records(&topic, 1));
    }
    reader.assign(&assignment).unwrap();
    let (mut told, mut bytes) = (0, 0);
    while left.values().any(|&records| records > 0) {
        let message = reader.poll(Duration::from_secs(30)).expect("the topics hold so much").unwrap();
        let left = left.get_mut(message.topic()).unwrap();
        *left -= 1;
        if *left < 0 {
            continue;
        }
        let payload = message.payload().unwrap();
        let GatewayRecord::Batch(batch) = Codec::default().decode_gateway_record(payload).unwrap() else {
            panic!("a notice");
        };
        bytes += payload.len();
        for item in &batch.items {
            if let Item::Upsert(upsert) = item {
                told += upsert.viewers.len();
            }
        }
    }
    let said = figures.get("nearcast_fanout_upserts_total");
    assert!(told > 0 && told as f64 == said, "{told} positions in the topics, {said} by the worker");
    // Heartbeats go on.
    let said = figures.get("nearcast_fanout_delivery_bytes_total");
    assert!((bytes as f64 / said - 1.0).abs() < 0.01, "{bytes} bytes in the topics, {said} by the worker");
}

/// Both halves were measured, and the user of many friends was there in the second alone.
pub fn halves(without: &Value, with: &Value, heavy: u32) {
    for row in [without, with] {
        let (samples, p99) = (row["samples"].as_u64().unwrap(), row["p99_ms"].as_i64().unwrap());
        assert!(samples > 100, "{samples} upserts of {}", row["reports"]);
        assert!((0..60_000).contains(&p99), "{p99} ms");
    }
    assert!(without["heavy_samples"].is_null(), "{without}");
    assert!(with["heavy_samples"].as_u64().unwrap() > 100, "{with}");
    assert!(with["most_viewers"].as_u64().unwrap() >= u64::from(heavy) * 9 / 10, "{with}");
}

/// Everything was replayed before the worker was ready, and a view came of it.
pub fn start(row: &Value, records: u64) {
    assert_eq!(row["records_replayed"].as_u64(), Some(records), "{row}");
    let seconds = |figure: &str| row[figure].as_f64().unwrap();
    assert!(0.0 < seconds("seconds_to_ready") && seconds("seconds_to_ready") <= seconds("seconds_to_views"), "{row}");
}
