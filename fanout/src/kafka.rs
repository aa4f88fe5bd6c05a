//! The worker's ends in Kafka: the group that shares the viewers, and everything that is written.

use std::collections::VecDeque;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nearcast_runtime::kafka::{Kafka, KafkaError, KafkaLog, ProducerProfile};
use nearcast_runtime::lifecycle::Shutdown;
use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::statistics::Statistics;

use crate::telemetry;
use crate::vitals::Vitals;

/// Between two counts of what the producer sent.
const STATISTICS_EVERY: Duration = Duration::from_secs(1);

/// What the group did, in its order.
#[derive(Debug)]
pub(crate) enum Change {
    Given(Vec<i32>),
    Taken(Vec<i32>),
}

/// Keeps the changes that librdkafka tells while it is polled, until the poll is over.
#[derive(Debug, Default)]
pub(crate) struct Membership {
    /// Never contended: the callbacks run on the thread that polls.
    changes: Mutex<VecDeque<Change>>,
}

impl Membership {
    /// The earliest change that was not taken yet.
    pub(crate) fn change(&self) -> Option<Change> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn note(&self, change: fn(Vec<i32>) -> Change, partitions: &TopicPartitionList) {
        let partitions: Vec<_> = partitions.elements().iter().map(|element| element.partition()).collect();
        if !partitions.is_empty() {
            self.changes.lock().unwrap_or_else(PoisonError::into_inner).push_back(change(partitions));
        }
    }
}

impl ClientContext for Membership {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        KafkaLog::line(level, facility, message);
    }

    fn stats(&self, _: Statistics) {}

    fn error(&self, error: ClientError, reason: &str) {
        KafkaLog::failure(&error, reason);
    }
}

impl ConsumerContext for Membership {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Revoke(partitions) = rebalance {
            self.note(Change::Taken, partitions);
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(partitions) = rebalance {
            self.note(Change::Given, partitions);
        }
    }
}

/// The consumer of the visibility topic.
pub(crate) type Member = BaseConsumer<Membership>;

/// What a record was for.
#[derive(Debug)]
pub(crate) enum Sent {
    Batch { gateway: u32, at: Instant },
    Claim { partition: i32, number: u64 },
    DeadLetter,
}

/// What became of a record: its offset, or why there is none.
#[derive(Debug)]
pub(crate) struct Ack {
    pub(crate) sent: Sent,
    pub(crate) result: Result<i64, RDKafkaErrorCode>,
}

/// Passes acknowledgements from the producer's thread to the engine's.
#[derive(Debug)]
pub(crate) struct Acks(Sender<Ack>);

impl ClientContext for Acks {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        KafkaLog::line(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        let sent = statistics.brokers.values().filter_map(|broker| broker.req.get("Produce"));
        telemetry::produce_requests(sent.sum());
    }

    fn error(&self, error: ClientError, reason: &str) {
        KafkaLog::failure(&error, reason);
    }
}

impl ProducerContext for Acks {
    type DeliveryOpaque = Box<Sent>;

    fn delivery(&self, result: &DeliveryResult<'_>, sent: Box<Sent>) {
        let result = match result {
            Ok(message) => Ok(message.offset()),
            Err((error, _)) => Err(code_of(error)),
        };
        // The engine's thread may have ended by then.
        let _ = self.0.send(Ack { sent: *sent, result });
    }
}

fn code_of(error: &ClientError) -> RDKafkaErrorCode {
    error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown)
}

/// Everything that the worker writes. Nothing is dropped: while the queue is full, whoever writes waits.
pub(crate) struct Log {
    producer: ThreadedProducer<Acks>,
    acks: Receiver<Ack>,
    /// Acknowledgements that came while a record waited for room.
    early: VecDeque<Ack>,
    vitals: Arc<Vitals>,
    stop: Shutdown,
    drain: Duration,
}

impl Log {
    pub(crate) fn new(
        kafka: &Kafka,
        delivery_timeout: Duration,
        drain: Duration,
        vitals: Arc<Vitals>,
        stop: Shutdown,
    ) -> Result<Self, KafkaError> {
        let (sender, acks) = mpsc::channel();
        // The worker gathers by itself: a batch of deliveries waits for no other.
        let profile = ProducerProfile {
            linger: Duration::ZERO,
            delivery_timeout,
            statistics: STATISTICS_EVERY,
            ..ProducerProfile::default()
        };
        let producer = kafka.producer_with(&profile, Acks(sender))?;
        Ok(Self { producer, acks, early: VecDeque::new(), vitals, stop, drain })
    }

    /// Hands a record to the producer, and waits while it has no room. What it refuses is acknowledged as failed.
    pub(crate) fn write(&mut self, mut record: BaseRecord<'_, [u8], [u8], Box<Sent>>) {
        let begun = Instant::now();
        loop {
            let (code, back) = match self.producer.send(record) {
                Ok(()) => return,
                Err((error, back)) => (code_of(&error), back),
            };
            let give_up = self.stop.is_begun() && begun.elapsed() >= self.drain;
            if code != RDKafkaErrorCode::QueueFull || give_up {
                self.early.push_back(Ack { sent: *back.delivery_opaque, result: Err(code) });
                return;
            }
            record = back;
            self.vitals.hold_up();
            self.vitals.came_round();
            // Each acknowledgement makes room for one more.
            if let Ok(ack) = self.acks.recv_timeout(Duration::from_millis(10)) {
                self.early.push_back(ack);
            }
        }
    }

    /// The next acknowledgement, if one has come.
    pub(crate) fn acknowledged(&mut self) -> Option<Ack> {
        self.early.pop_front().or_else(|| self.acks.try_recv().ok())
    }

    /// Waits for what is on its way.
    pub(crate) fn flush(&self) -> Result<(), ClientError> {
        self.producer.flush(self.drain)
    }
}
