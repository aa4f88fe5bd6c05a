//! What can be wrong with Kafka, in sentences that say what to do.

use std::time::Duration;

use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};

/// What is wrong with Kafka.
#[derive(Debug, thiserror::Error)]
pub enum KafkaError {
    /// No broker answers.
    #[error(
        "Kafka does not answer at {bootstrap} (waited {waited:.1?}): {detail}; start it (locally: `make up`) or set \
         kafka.bootstrap"
    )]
    Absent {
        /// Where it was looked for.
        bootstrap: String,
        /// How long.
        waited: Duration,
        /// What the client said last.
        detail: String,
    },
    /// librdkafka does not take an option. The value is not shown.
    #[error("kafka.options: `{name}`: {problem}")]
    Option {
        /// The option.
        name: String,
        /// What librdkafka says about it.
        problem: String,
    },
    /// There is no such topic.
    #[error("Kafka at {bootstrap} has no topic `{topic}`; `nearcast topics create` makes it")]
    NoTopic {
        /// The cluster.
        bootstrap: String,
        /// The topic.
        topic: String,
    },
    /// Creating, describing or deleting a topic failed.
    #[error("Kafka refused to {what} topic `{topic}`: {code}")]
    Refused {
        /// `create`, `describe` or `delete`.
        what: &'static str,
        /// The topic.
        topic: String,
        /// Kafka's reason.
        code: RDKafkaErrorCode,
    },
    /// Anything else that the client says.
    #[error("Kafka: {0}")]
    Client(ClientError),
}

impl From<ClientError> for KafkaError {
    fn from(error: ClientError) -> Self {
        match error {
            // Its text has the value at the end, which may be a password; and its own description may quote it.
            ClientError::ClientConfig(_, problem, name, value) => {
                let problem = if value.is_empty() { problem } else { problem.replace(&value, "***") };
                Self::Option { name, problem }
            }
            other => Self::Client(other),
        }
    }
}

impl KafkaError {
    /// Whether the same question may be answered a moment later: a leader is being elected, a broker is away.
    pub fn is_transient(&self) -> bool {
        let code = match self {
            Self::Client(error) => error.rdkafka_error_code(),
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        };
        matches!(
            code,
            Some(
                RDKafkaErrorCode::LeaderNotAvailable
                    | RDKafkaErrorCode::NotLeaderForPartition
                    | RDKafkaErrorCode::UnknownTopicOrPartition
                    | RDKafkaErrorCode::UnknownPartition
                    | RDKafkaErrorCode::UnknownTopic
                    | RDKafkaErrorCode::BrokerTransportFailure
                    | RDKafkaErrorCode::AllBrokersDown
                    | RDKafkaErrorCode::NotController
                    | RDKafkaErrorCode::CoordinatorLoadInProgress
                    | RDKafkaErrorCode::CoordinatorNotAvailable
                    | RDKafkaErrorCode::RequestTimedOut
                    | RDKafkaErrorCode::OperationTimedOut
            )
        )
    }
}
