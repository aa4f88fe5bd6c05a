//! The log: records go in by the order of the calls, and what became of each comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use nearcast_runtime::kafka::KafkaLog;
use nearcast_schemas::codec::Codec;
use nearcast_schemas::event::{LocationEvent, LocationKind};
use nearcast_schemas::refusal::Refusal;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DeliveryResult, ProducerContext, ThreadedProducer};
use rdkafka::statistics::Statistics;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::broker_clock::BrokerClock;
use crate::events::{InFlightChanged, ProducerFailed, RecordAcknowledged, RecordFailed, refused};
use crate::in_flight::{InFlight, Permit};
use crate::pending::{Appended, Settled};

/// What follows when a record is settled, before its [`crate::Pending`] resolves. Runs on the producer's thread, which
/// settles the records of a user in the order of the log: it must not wait, and must not hold the producer.
pub(crate) type Then = Box<dyn FnOnce(Settled) + Send + Sync>;

/// The way into the locations topic. Clones are the same.
#[derive(Clone)]
pub(crate) struct Log {
    producer: Arc<ThreadedProducer<Deliveries>>,
    topic: Arc<str>,
    codec: Codec,
    /// The broker gives no append times, so the times of creation count.
    embedded: bool,
    in_flight: InFlight,
    health: Arc<Health>,
    clock: Arc<BrokerClock>,
}

/// What the producer's thread knows.
pub(crate) struct Deliveries {
    health: Arc<Health>,
    clock: Arc<BrokerClock>,
    /// The broker gives no append times.
    embedded: bool,
}

#[derive(Default)]
struct Health {
    failing: AtomicBool,
    fatal: CancellationToken,
}

/// A record on its way.
pub(crate) struct OnItsWay {
    kind: LocationKind,
    since: Instant,
    /// By the steady clock; where the broker gives no append times, by the time of day.
    handed_ms: i64,
    then: Then,
    settled: oneshot::Sender<Settled>,
    permit: Permit,
}

impl Log {
    /// `producer` makes a producer whose deliveries come to the context.
    pub fn new<E>(
        topic: String,
        codec: Codec,
        embedded: bool,
        max_in_flight: usize,
        producer: impl FnOnce(Deliveries) -> Result<ThreadedProducer<Deliveries>, E>,
    ) -> Result<Self, E> {
        let health = Arc::new(Health::default());
        let clock = Arc::new(BrokerClock::start());
        let producer =
            Arc::new(producer(Deliveries { health: Arc::clone(&health), clock: Arc::clone(&clock), embedded })?);
        let in_flight = InFlight::new(max_in_flight, |by| InFlightChanged { by }.emit());
        Ok(Self { producer, topic: topic.into(), codec, embedded, in_flight, health, clock })
    }

    /// What the brokers' clock shows, in ms since the epoch, as far as this process knows.
    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Leave to append this many records.
    pub fn reserve(&self, records: usize) -> Result<Permit, Refusal> {
        self.in_flight.reserve(records).ok_or_else(|| refused(Refusal::Busy))
    }

    /// How many records wait for Kafka.
    pub fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }

    /// Cancelled when the producer can send nothing any more.
    pub fn fatal(&self) -> &CancellationToken {
        &self.health.fatal
    }

    /// Puts a record on its way. When it is refused at once, `then` is not called.
    pub fn append(
        &self,
        user: &str,
        event: &LocationEvent,
        permit: Permit,
        then: Then,
    ) -> Result<oneshot::Receiver<Settled>, Refusal> {
        let mut bytes = Vec::with_capacity(256);
        self.codec.encode_location(event, &mut bytes);
        let (settled, receiver) = oneshot::channel();
        // Where it counts as the append time, consumers compare it with their own time of day.
        let handed_ms = if self.embedded { nearcast_runtime::clock::now_ms() } else { self.clock.steady_ms() };
        let on_its_way = OnItsWay { kind: event.kind, since: Instant::now(), handed_ms, then, settled, permit };
        let record = BaseRecord::with_opaque_to(&self.topic, Box::new(on_its_way)).key(user).payload(&bytes);
        let record = record.timestamp(handed_ms);
        self.producer.send(record).map(|()| receiver).map_err(|(error, _)| {
            self.health.failed(event.kind, &error);
            refused(match error {
                KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) => Refusal::Busy,
                _ => Refusal::Unavailable,
            })
        })
    }
}

impl Health {
    fn failed(&self, kind: LocationKind, error: &KafkaError) {
        let first = !self.failing.swap(true, Ordering::Relaxed);
        RecordFailed { kind, error, first }.emit();
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        KafkaLog::line(level, facility, message);
    }

    fn stats(&self, _: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            ProducerFailed { reason }.emit();
            self.health.fatal.cancel();
        } else {
            // The client goes on trying; what it could not send comes back by its delivery.
            KafkaLog::failure(&error, reason);
        }
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<OnItsWay>;

    fn delivery(&self, delivery: &DeliveryResult<'_>, on_its_way: Box<OnItsWay>) {
        let OnItsWay { kind, since, handed_ms, then, settled, permit } = *on_its_way;
        let result = match delivery {
            Ok(message) => {
                let recovered = self.health.failing.swap(false, Ordering::Relaxed);
                RecordAcknowledged { kind, after: since.elapsed(), recovered }.emit();
                let appended = if self.embedded { None } else { append_time(message) };
                if let Some(appended) = appended {
                    self.clock.heard(handed_ms, appended);
                }
                let at = appended.unwrap_or(handed_ms);
                Ok(Appended { partition: message.partition(), offset: message.offset(), at })
            }
            Err((error, _)) => {
                self.health.failed(kind, error);
                // Whatever the error: an earlier try may have reached the log.
                Err(refused(Refusal::Unknown))
            }
        };
        then(result);
        drop(permit);
        // Nobody may be waiting.
        let _ = settled.send(result);
    }
}

/// The broker's append time, which comes with its acknowledgement; on a topic without one, the time of creation.
fn append_time(message: &impl Message) -> Option<i64> {
    message.timestamp().to_millis()
}
