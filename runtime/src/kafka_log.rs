//! librdkafka's own words.

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;

/// The context of this crate's clients: librdkafka's own words go to `tracing` under the target `librdkafka`, quietly.
/// A [`ConsumerContext`] of your own can pass them on to [`KafkaLog::line`] and [`KafkaLog::failure`].
#[derive(Clone, Copy, Debug, Default)]
pub struct KafkaLog;

impl KafkaLog {
    /// A line of librdkafka's log. It retries by itself whatever it warns of, so nothing here is an error of ours.
    pub fn line(level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(target: "librdkafka", facility, "{message}");
            }
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
                tracing::debug!(target: "librdkafka", facility, "{message}");
            }
            _ => tracing::trace!(target: "librdkafka", facility, "{message}"),
        }
    }

    /// An error of the whole client. Only a fatal one ends it; of the others it recovers.
    pub fn failure(error: &ClientError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Fatal) => {
                tracing::error!(target: "librdkafka", %error, reason, "fatal client error")
            }
            // Nobody recovers from a wrong password or certificate without a hand.
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL) => {
                tracing::error!(target: "librdkafka", reason, "Kafka does not let us in");
            }
            _ => tracing::debug!(target: "librdkafka", %error, reason, "client error"),
        }
    }
}

impl ClientContext for KafkaLog {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        Self::line(level, facility, message);
    }

    fn stats(&self, _: Statistics) {}

    fn error(&self, error: ClientError, reason: &str) {
        Self::failure(&error, reason);
    }
}

impl ConsumerContext for KafkaLog {}
