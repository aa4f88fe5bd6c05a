//! The gateway's own topic: deliveries from workers, notices from the API.

use std::sync::Arc;
use std::time::Duration;

use nearcast_runtime::clock;
use nearcast_runtime::health::Component;
use nearcast_runtime::kafka::{Kafka, KafkaError, Reader};
use nearcast_runtime::lifecycle::Shutdown;
use nearcast_schemas::codec::Codec;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::Offset;

use crate::deliveries::{Taken, deliver};
use crate::epochs::Epochs;
use crate::events::{ReadFailed, SequenceGap, Undecodable};
use crate::gateway::Gateway;

/// How long one poll waits, and so how long a stop may take.
const POLL: Duration = Duration::from_millis(100);
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Reads the gateway's topic from where it ended when this was made.
pub struct Deliveries {
    reader: Reader,
    codec: Codec,
    epochs: Epochs,
    gateway: Arc<Gateway>,
    component: Component,
}

impl Deliveries {
    /// Finds the end of the topic. Make it before the first hello. Whether reading works is said through the component.
    ///
    /// # Errors
    /// When the topic's leader does not answer, or librdkafka refuses an option.
    pub async fn from_the_end(
        kafka: &Kafka,
        topic: &str,
        codec: Codec,
        gateway: Arc<Gateway>,
        component: Component,
    ) -> Result<Self, KafkaError> {
        let (_, end) = kafka.watermarks(topic, 0).await?;
        let reader = kafka.reader()?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, Offset::Offset(end))?;
        reader.assign(&list)?;
        let epochs = Epochs::new(gateway.incarnation());
        Ok(Self { reader, codec, epochs, gateway, component })
    }

    /// Passes records on until the shutdown begins. Blocks: give it a thread.
    ///
    /// # Errors
    /// When the client fails for good.
    pub fn run(mut self, shutdown: &Shutdown) -> Result<(), KafkaError> {
        let mut failing = false;
        while !shutdown.is_begun() {
            let (offset, appended_at, decoded) = match self.reader.poll(POLL) {
                None => continue,
                Some(Ok(record)) => (
                    record.offset(),
                    record.timestamp().to_millis().unwrap_or_else(clock::now_ms),
                    self.codec.decode_gateway_record(record.payload().unwrap_or_default()),
                ),
                Some(Err(error)) if is_fatal(&error) => return Err(error.into()),
                Some(Err(error)) => {
                    self.component.degraded(format!("reading deliveries fails: {error}"));
                    ReadFailed { error: error.to_string() }.emit();
                    failing = true;
                    continue;
                }
            };
            if failing {
                failing = false;
                self.component.ready();
            }
            let record = match decoded {
                Ok(record) => record,
                Err(error) => {
                    Undecodable { offset, error }.emit();
                    continue;
                }
            };
            let taken = Taken { appended_at, now: self.gateway.now() };
            let tally = self.gateway.routes(|routes| deliver(&mut self.epochs, routes, record, taken));
            self.gateway.meters().delivered(&tally);
            if let Some(sessions) = tally.gap {
                SequenceGap { offset, sessions }.emit();
            }
        }
        Ok(())
    }
}

/// Looks every few seconds whether the topic is still there, until the shutdown begins. A reader alone goes deaf: to it a
/// topic that was deleted is one without news. So is one whose brokers are silent, which is said through the component.
///
/// # Errors
/// When the topic is gone. A gateway that starts again makes it again.
pub async fn watch_topic(
    kafka: Kafka,
    topic: String,
    component: Component,
    shutdown: Shutdown,
) -> Result<(), KafkaError> {
    let (mut missing, mut silent) = (0, false);
    while missing < 2 {
        tokio::select! {
            () = shutdown.begun() => return Ok(()),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        // A broker that has just started may not know it yet, so it is asked twice.
        let answer = tokio::select! {
            () = shutdown.begun() => return Ok(()),
            answer = kafka.partition_count(&topic) => answer,
        };
        missing = if matches!(answer, Ok(None)) { missing + 1 } else { 0 };
        match answer {
            Err(error) => {
                silent = true;
                component.degraded(format!("no answer from Kafka, reports wait for it: {error}"));
            }
            Ok(_) if silent => {
                silent = false;
                component.ready();
            }
            Ok(_) => {}
        }
    }
    tracing::error!(topic, "the topic for deliveries is gone, start the gateway again to make it");
    Err(KafkaError::NoTopic { bootstrap: kafka.config().bootstrap.clone(), topic })
}

fn is_fatal(error: &ClientError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal)
}
