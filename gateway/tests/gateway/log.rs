//! The locations topic, read from its beginning.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nearcast_runtime::kafka::Kafka;
use nearcast_schemas::codec::Codec;
use nearcast_schemas::event::{LocationEvent, LocationKind};
use rdkafka::consumer::Consumer;
use rdkafka::{Message, Offset, TopicPartitionList};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::world::PATIENCE;

#[derive(Clone, Debug)]
pub struct Record {
    pub user: String,
    pub offset: i64,
    pub event: LocationEvent,
}

pub struct Log {
    records: mpsc::UnboundedReceiver<Record>,
    /// Read, and not asked for yet.
    kept: Vec<Record>,
    stop: Arc<AtomicBool>,
}

impl Log {
    pub async fn read(kafka: &Kafka, topic: &str) -> Self {
        let partitions = kafka.partition_count(topic).await.unwrap().unwrap();
        let reader = kafka.reader().unwrap();
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition, Offset::Offset(0)).unwrap();
        }
        reader.assign(&list).unwrap();
        let (sender, records) = mpsc::unbounded_channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        std::thread::spawn(move || {
            let codec = Codec::default();
            while !stopped.load(Ordering::Relaxed) {
                let Some(Ok(record)) = reader.poll(Duration::from_millis(50)) else { continue };
                let event = codec.decode_location(record.payload().unwrap()).unwrap().to_owned();
                let user = String::from_utf8(record.key().unwrap().to_vec()).unwrap();
                if sender.send(Record { user, offset: record.offset(), event }).is_err() {
                    return;
                }
            }
        });
        Self { records, kept: Vec::new(), stop }
    }

    /// The first record of a user and kind that was not asked for before.
    pub async fn next(&mut self, user: &str, kind: LocationKind) -> Record {
        self.find(&format!("{kind:?} of {user}"), |record| record.user == user && record.event.kind == kind).await
    }

    pub async fn find(&mut self, what: &str, wanted: impl Fn(&Record) -> bool) -> Record {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.kept.iter().position(&wanted) {
                return self.kept.remove(at);
            }
            match timeout_at(deadline, self.records.recv()).await {
                Ok(Some(record)) => self.kept.push(record),
                other => panic!("no {what} in the log: {other:?}; there were {:?}", self.kept),
            }
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
