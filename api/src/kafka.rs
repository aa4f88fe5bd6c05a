//! Lists to the visibility log, notices to gateways' topics.

use std::pin::pin;
use std::time::Duration;

use nearcast_runtime::kafka::{Kafka, KafkaError, Producer, ProducerProfile};
use nearcast_schemas::codec::Codec;
use nearcast_schemas::list::VisibilityList;
use nearcast_schemas::notice::Notice;
use nearcast_schemas::topics::Topics;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::producer::{FutureRecord, Producer as _};

/// Why a record is not known to be in the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// Too many wait already.
    #[error("too many records wait for kafka")]
    Busy,
    /// There is no such topic.
    #[error("kafka has no such topic")]
    NoTopic,
    /// No acknowledgement in time: it may be in the log.
    #[error("kafka did not acknowledge: {0}")]
    Unknown(String),
}

/// A broker that is well answers sooner.
const SOON: Duration = Duration::from_millis(500);

/// Writes lists and notices, and waits for Kafka.
pub(crate) struct Publisher {
    kafka: Kafka,
    producer: Producer,
    topics: Topics,
    codec: Codec,
}

impl Publisher {
    /// A producer of its own: few records, each waited for, so with next to no linger.
    pub fn new(
        kafka: &Kafka,
        topics: Topics,
        codec: Codec,
        linger: Duration,
        delivery_timeout: Duration,
    ) -> Result<Self, KafkaError> {
        let profile = ProducerProfile { linger, delivery_timeout, ..ProducerProfile::default() };
        Ok(Self { kafka: kafka.clone(), producer: kafka.producer(&profile)?, topics, codec })
    }

    /// Appends a viewer's list.
    pub async fn list(&self, viewer: &str, list: &VisibilityList) -> Result<(), PublishError> {
        let mut bytes = Vec::with_capacity(64 + 64 * list.entries.len());
        self.codec.encode_list(list, &mut bytes);
        self.append(&self.topics.visibility(), Some(viewer), &bytes).await
    }

    /// Appends a notice to a gateway's topic.
    pub async fn notice(&self, gateway: &str, notice: &Notice) -> Result<(), PublishError> {
        let mut bytes = Vec::with_capacity(256);
        self.codec.encode_notice(notice, &mut bytes);
        let topic = self.topics.gateway(gateway);
        let mut appended = pin!(self.append(&topic, None, &bytes));
        if let Ok(result) = tokio::time::timeout(SOON, &mut appended).await {
            return result;
        }
        // The client waits for a topic that is not there as for one that is about to be. A Kafka that does not answer is
        // not waited for longer than the notice itself.
        tokio::select! {
            result = &mut appended => result,
            count = self.kafka.partition_count(&topic) => match count {
                Ok(None) => Err(PublishError::NoTopic),
                Ok(Some(_)) | Err(_) => appended.await,
            },
        }
    }

    async fn append(&self, topic: &str, key: Option<&str>, bytes: &[u8]) -> Result<(), PublishError> {
        let mut record = FutureRecord::<str, [u8]>::to(topic).payload(bytes);
        record.key = key;
        let on_its_way = self.producer.send_result(record).map_err(|(error, _)| PublishError::from(error))?;
        match on_its_way.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err((error, _))) => Err(error.into()),
            Err(_) => Err(PublishError::Unknown("the producer went away".to_owned())),
        }
    }

    /// Why the producer can send nothing any more, if so.
    pub fn fatal(&self) -> Option<String> {
        self.producer.client().fatal_error().map(|(code, reason)| format!("{code}: {reason}"))
    }
}

impl From<ClientError> for PublishError {
    fn from(error: ClientError) -> Self {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => Self::Busy,
            Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition) => Self::NoTopic,
            _ => Self::Unknown(error.to_string()),
        }
    }
}
