//! Kafka clients with the settings that this system needs, and the questions that every service asks of a cluster.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::producer::{FutureProducer, ProducerContext, ThreadedProducer};
use rdkafka::topic_partition_list::Offset;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::Secret;
use crate::health::Component;
pub use crate::kafka_error::KafkaError;
pub use crate::kafka_log::KafkaLog;

/// How long one question to the cluster may take.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one attempt of [`Kafka::wait_until_up`] may take, so that a shutdown need not wait for more.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two attempts.
pub(crate) const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// The section `[kafka]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// Brokers to begin with: `host:port`, comma-separated.
    pub bootstrap: String,
    /// The cluster is [`crate::embedded::Embedded`]: topics exist already, there is no admin API, and a time has no
    /// offset.
    #[serde(default)]
    pub embedded: bool,
    /// How long a start waits for the cluster, such as `30s`.
    #[serde(with = "humantime_serde")]
    pub startup_wait: Duration,
    /// Further librdkafka options, such as `"sasl.password"`; they override what the service sets. `_` counts as `.`,
    /// because environment variables have no dots.
    #[serde(default)]
    pub options: BTreeMap<String, Secret>,
}

/// What a producer is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerProfile {
    /// How long a record waits for others of its batch.
    pub linger: Duration,
    /// After this a record that Kafka did not acknowledge is given up; it must outlast a broker's failover.
    pub delivery_timeout: Duration,
    /// Largest batch in bytes.
    pub batch_bytes: usize,
    /// Records that may wait in the client; the next one is refused at once (`QueueFull`).
    pub queue_records: usize,
    /// Bytes that may wait in the client, rounded down to KiB.
    pub queue_bytes: usize,
    /// How often the client tells its context what it did ([`ClientContext::stats`]); zero for never.
    pub statistics: Duration,
}

impl Default for ProducerProfile {
    fn default() -> Self {
        Self {
            linger: Duration::from_millis(20),
            delivery_timeout: Duration::from_secs(30),
            batch_bytes: 131_072,
            queue_records: 100_000,
            queue_bytes: 128 * 1024 * 1024,
            statistics: Duration::ZERO,
        }
    }
}

/// A producer that [`Kafka::producer`] made.
pub type Producer = FutureProducer<KafkaLog>;
/// A consumer that [`Kafka::reader`] made.
pub type Reader = BaseConsumer<KafkaLog>;

/// One Kafka cluster. Cheap to clone; connects when it is first asked something.
#[derive(Clone)]
pub struct Kafka {
    inner: Arc<Inner>,
}

struct Inner {
    config: KafkaConfig,
    /// For metadata and offsets.
    asking: OnceCell<Arc<Reader>>,
    pub(crate) admin: OnceCell<crate::admin::Admin>,
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kafka").field(&self.inner.config.bootstrap).finish()
    }
}

impl Kafka {
    /// A cluster by its configuration; nothing is connected yet.
    pub fn new(config: KafkaConfig) -> Self {
        Self { inner: Arc::new(Inner { config, asking: OnceCell::new(), admin: OnceCell::new() }) }
    }

    /// What it was made from.
    pub fn config(&self) -> &KafkaConfig {
        &self.inner.config
    }

    /// A producer: acks=all, idempotent, lz4, and the partitioner that JVM clients use. Dropping it purges what waits:
    /// flush it first, on a blocking thread.
    ///
    /// # Errors
    /// When librdkafka refuses an option.
    pub fn producer(&self, profile: &ProducerProfile) -> Result<Producer, KafkaError> {
        self.create(self.producer_options(profile), KafkaLog)
    }

    /// A producer as [`Kafka::producer`] makes it, whose deliveries come to `context` on the producer's own thread, in the
    /// order of the log. What it keeps for a record must not hold the producer, which would then be dropped by its own
    /// thread.
    ///
    /// # Errors
    /// When librdkafka refuses an option.
    pub fn producer_with<C: ProducerContext + 'static>(
        &self,
        profile: &ProducerProfile,
        context: C,
    ) -> Result<ThreadedProducer<C>, KafkaError> {
        self.create(self.producer_options(profile), context)
    }

    /// A consumer for `assign()`: it joins no group and commits nothing. Assign explicit offsets; one that the log has
    /// dropped already becomes the earliest.
    ///
    /// # Errors
    /// When librdkafka refuses an option.
    pub fn reader(&self) -> Result<Reader, KafkaError> {
        let mut options = self.consumer_options();
        // librdkafka assigns nothing without a name of a group, although none is joined.
        options.set("group.id", "nearcast-reader");
        self.create(options, KafkaLog)
    }

    /// A consumer for `subscribe()` in a group, by the new protocol (KIP-848): no offset is stored or committed but by
    /// the caller, and a group without offsets begins at the earliest. `extra` are further librdkafka options.
    ///
    /// # Errors
    /// When librdkafka refuses an option.
    pub fn group_member<C: ConsumerContext>(
        &self,
        group: &str,
        context: C,
        extra: &[(&str, &str)],
    ) -> Result<BaseConsumer<C>, KafkaError> {
        let mut options = self.consumer_options();
        options.set("group.id", group).set("group.protocol", "consumer");
        for (name, value) in extra {
            options.set(*name, *value);
        }
        self.create(options, context)
    }

    /// Waits at most `startup_wait` until a broker answers, and says so through the component.
    ///
    /// # Errors
    /// [`KafkaError::Absent`] with what is missing, where it looked and what to run.
    pub async fn wait_until_up(&self, component: &Component) -> Result<(), KafkaError> {
        let config = &self.inner.config;
        let begun = Instant::now();
        let mut said = false;
        loop {
            let detail = match self.ask(PROBE_TIMEOUT, |reader, timeout| reader.fetch_metadata(None, timeout)).await {
                Ok(_) => {
                    component.ready();
                    return Ok(());
                }
                Err(KafkaError::Client(error)) => {
                    error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string())
                }
                Err(error) => return Err(error),
            };
            let absent = KafkaError::Absent { bootstrap: config.bootstrap.clone(), waited: begun.elapsed(), detail };
            let left = config.startup_wait.saturating_sub(begun.elapsed());
            if left.is_zero() {
                component.not_ready(absent.to_string());
                return Err(absent);
            }
            if !said {
                said = true;
                component.not_ready(format!(
                    "waiting at most {} s for Kafka at {}; start it (locally: `make up`) or set kafka.bootstrap",
                    config.startup_wait.as_secs(),
                    config.bootstrap
                ));
            }
            tokio::time::sleep(RETRY_PAUSE.min(left)).await;
        }
    }

    /// The number of a topic's partitions; none when there is no such topic.
    ///
    /// # Errors
    /// When the cluster does not answer within 10 s.
    pub async fn partition_count(&self, topic: &str) -> Result<Option<i32>, KafkaError> {
        let wanted = topic.to_owned();
        let metadata = self
            .ask(REQUEST_TIMEOUT, move |reader, timeout| {
                let metadata = reader.fetch_metadata(Some(&wanted), timeout)?;
                Ok(metadata
                    .topics()
                    .iter()
                    .find(|known| known.name() == wanted)
                    .map(|known| (known.error().map(RDKafkaErrorCode::from), known.partitions().len())))
            })
            .await?;
        match metadata {
            None
            | Some((Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic), _))
            | Some((None, 0)) => Ok(None),
            Some((Some(code), _)) => Err(KafkaError::Refused { what: "describe", topic: topic.to_owned(), code }),
            Some((None, count)) => Ok(Some(i32::try_from(count).unwrap_or(i32::MAX))),
        }
    }

    /// The cluster's own id; none when the cluster does not say it within 10 s.
    ///
    /// # Errors
    /// When librdkafka refuses an option.
    pub async fn cluster_id(&self) -> Result<Option<String>, KafkaError> {
        self.ask(REQUEST_TIMEOUT, |reader, timeout| Ok(reader.client().fetch_cluster_id(timeout))).await
    }

    /// The offsets of the first record of a partition and after its last.
    ///
    /// # Errors
    /// When there is no such partition, or its leader does not answer within 10 s.
    pub async fn watermarks(&self, topic: &str, partition: i32) -> Result<(i64, i64), KafkaError> {
        let topic = topic.to_owned();
        self.ask_again(move |reader, timeout| reader.fetch_watermarks(&topic, partition, timeout)).await
    }

    /// For each partition the offset of the first record appended at `ms` or later; the end where there is none.
    /// Embedded: the beginning of each partition.
    ///
    /// # Errors
    /// When there is no such topic, or its leaders do not answer within 10 s.
    pub async fn offsets_at(&self, topic: &str, ms: i64) -> Result<Vec<(i32, i64)>, KafkaError> {
        let Some(count) = self.partition_count(topic).await? else { return Err(self.no_topic(topic)) };
        let mut offsets = Vec::new();
        if self.inner.config.embedded {
            for partition in 0..count {
                offsets.push((partition, self.watermarks(topic, partition).await?.0));
            }
            return Ok(offsets);
        }
        let wanted = topic.to_owned();
        let found = self
            .ask_again(move |reader, timeout| {
                let mut times = TopicPartitionList::with_capacity(usize::try_from(count).unwrap_or(0));
                for partition in 0..count {
                    times.add_partition_offset(&wanted, partition, Offset::Offset(ms))?;
                }
                let found = reader.offsets_for_times(times, timeout)?;
                let mut offsets = Vec::with_capacity(found.count());
                for element in found.elements() {
                    element.error()?;
                    offsets.push((element.partition(), element.offset()));
                }
                Ok(offsets)
            })
            .await?;
        for (partition, offset) in found {
            let offset = match offset {
                Offset::Offset(offset) => offset,
                _ => self.watermarks(topic, partition).await?.1,
            };
            offsets.push((partition, offset));
        }
        Ok(offsets)
    }

    pub(crate) fn no_topic(&self, topic: &str) -> KafkaError {
        KafkaError::NoTopic { bootstrap: self.inner.config.bootstrap.clone(), topic: topic.to_owned() }
    }

    pub(crate) async fn admin(&self) -> Result<&crate::admin::Admin, KafkaError> {
        self.inner.admin.get_or_try_init(|| async { self.create(self.options(), KafkaLog) }).await
    }

    /// Asks again while a leader is being elected, at most [`REQUEST_TIMEOUT`] in all.
    async fn ask_again<T, F>(&self, question: F) -> Result<T, KafkaError>
    where
        T: Send + 'static,
        F: Fn(&Reader, Duration) -> Result<T, ClientError> + Clone + Send + 'static,
    {
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        loop {
            match self.ask(deadline - Instant::now(), question.clone()).await {
                Err(error) if error.is_transient() && Instant::now() + RETRY_PAUSE < deadline => {
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                answer => return answer,
            }
        }
    }

    /// librdkafka's questions block, so each is asked on a blocking thread.
    pub(crate) async fn ask<T, F>(&self, timeout: Duration, question: F) -> Result<T, KafkaError>
    where
        T: Send + 'static,
        F: FnOnce(&Reader, Duration) -> Result<T, ClientError> + Send + 'static,
    {
        let reader =
            self.inner.asking.get_or_try_init(|| async { self.create(self.options(), KafkaLog).map(Arc::new) }).await?;
        let reader = Arc::clone(reader);
        let answer = tokio::task::spawn_blocking(move || {
            let answer = question(&reader, timeout.max(Duration::from_millis(1)));
            // Its log lines wait in a queue until somebody polls.
            while reader.poll(Duration::ZERO).is_some() {}
            answer
        });
        match answer.await {
            Ok(answer) => Ok(answer?),
            // The question panicked, or the runtime is going away; neither leaves anything to answer.
            Err(_) => Err(KafkaError::Client(ClientError::Canceled)),
        }
    }

    fn create<C: ClientContext, T: rdkafka::config::FromClientConfigAndContext<C>>(
        &self,
        mut options: ClientConfig,
        context: C,
    ) -> Result<T, KafkaError> {
        for (name, value) in &self.inner.config.options {
            options.set(name.replace('_', "."), value.expose());
        }
        Ok(options.create_with_context(context)?)
    }

    fn options(&self) -> ClientConfig {
        let mut options = ClientConfig::new();
        options
            .set_log_level(RDKafkaLogLevel::Warning)
            .set("bootstrap.servers", &self.inner.config.bootstrap)
            .set("client.id", "nearcast")
            // A broker that comes back is found within a second, not ten.
            .set("reconnect.backoff.ms", "100")
            .set("reconnect.backoff.max.ms", "1000")
            // A broker that hangs, or whose host is gone without a word, is given up after this, and the new leader asked.
            // The default of a minute is what users would wait. Longer than an election among the brokers takes, through
            // which a live leader holds acknowledgements back.
            .set("socket.timeout.ms", "6000")
            .set("socket.connection.setup.timeout.ms", "6000")
            .set("topic.metadata.refresh.interval.ms", "30000")
            .set("socket.nagle.disable", "true");
        if is_local(&self.inner.config.bootstrap) {
            // `localhost` may resolve to an IPv6 address that no broker listens on.
            options.set("broker.address.family", "v4");
        }
        options
    }

    fn producer_options(&self, profile: &ProducerProfile) -> ClientConfig {
        let mut options = self.options();
        options
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("compression.type", "lz4")
            .set("partitioner", "murmur2_random")
            .set("linger.ms", profile.linger.as_millis().to_string())
            .set("delivery.timeout.ms", profile.delivery_timeout.as_millis().to_string())
            .set("batch.size", profile.batch_bytes.to_string())
            .set("queue.buffering.max.messages", profile.queue_records.to_string())
            .set("queue.buffering.max.kbytes", (profile.queue_bytes / 1024).max(1).to_string())
            .set("statistics.interval.ms", profile.statistics.as_millis().to_string());
        options
    }

    fn consumer_options(&self) -> ClientConfig {
        let mut options = self.options();
        options
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            // The default of a second stalls a consumer that has emptied its queue.
            .set("fetch.queue.backoff.ms", "10")
            // The prefetch is per partition, and looks like a leak when it is large.
            .set("queued.min.messages", "20000")
            .set("queued.max.messages.kbytes", "16384");
        if self.inner.config.embedded {
            // The mock lets a fetch that found nothing wait for the whole of this time, whatever comes in meanwhile.
            options.set("fetch.wait.max.ms", "10");
        }
        options
    }
}

/// Whether all brokers are on this machine.
fn is_local(bootstrap: &str) -> bool {
    bootstrap.split(',').all(|broker| {
        let broker = broker.trim();
        broker.starts_with("localhost:") || broker.starts_with("127.")
    })
}

/// The offset to read next, which is what Kafka commits: one after the last that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextOffset(i64);

impl NextOffset {
    /// After a processed record.
    pub fn after(processed: i64) -> Self {
        Self(processed + 1)
    }

    /// Exactly here: nothing before is to be read.
    pub fn at(offset: i64) -> Self {
        Self(offset)
    }

    /// The number, for `commit` and `seek`.
    pub fn value(self) -> i64 {
        self.0
    }
}

impl From<NextOffset> for Offset {
    fn from(next: NextOffset) -> Self {
        Self::Offset(next.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Readiness;

    fn config(options: &[(&str, &str)]) -> KafkaConfig {
        KafkaConfig {
            bootstrap: "127.0.0.1:1".to_owned(),
            embedded: false,
            startup_wait: Duration::from_millis(100),
            options: options.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value))).collect(),
        }
    }

    #[test]
    fn no_option_is_shown() {
        let kafka = Kafka::new(config(&[("sasl.password", "hunter2")]));
        assert!(!format!("{kafka:?} {:?}", kafka.config()).contains("hunter2"));
    }

    #[test]
    fn an_option_that_is_refused_is_named_and_its_value_is_not_shown() {
        let name_of = |options: &[(&str, &str)]| match Kafka::new(config(options)).reader() {
            Err(error @ KafkaError::Option { .. }) => format!("{error} {error:?}"),
            _ => panic!("an option is refused"),
        };
        let unknown = name_of(&[("sasl.passwort", "hunter2")]);
        assert!(unknown.contains("`sasl.passwort`") && !unknown.contains("hunter2"), "{unknown}");
        let invalid = name_of(&[("security_protocol", "hunter2")]);
        assert!(invalid.contains("`security.protocol`") && !invalid.contains("hunter2"), "{invalid}");
    }

    #[tokio::test]
    async fn says_what_is_absent_where_and_what_to_run() {
        let readiness = Readiness::default();
        let kafka = Kafka::new(config(&[]));
        let error = kafka.wait_until_up(&readiness.component("kafka")).await.unwrap_err().to_string();
        for part in ["Kafka does not answer at 127.0.0.1:1", "`make up`", "kafka.bootstrap"] {
            assert!(error.contains(part), "{part} in {error}");
        }
        assert!(!readiness.is_ready() && readiness.to_json().contains("make up"));
    }

    #[test]
    fn local_brokers_are_reached_by_ipv4() {
        assert!(is_local("localhost:9092") && is_local("127.0.0.1:1,localhost:2"));
        assert!(!is_local("kafka-0:9092") && !is_local("localhost:1,kafka-0:9092"));
    }

    #[test]
    fn the_next_offset_is_after_the_processed_one() {
        assert_eq!(NextOffset::after(41), NextOffset::at(42));
        assert_eq!(Offset::from(NextOffset::at(42)), Offset::Offset(42));
    }
}
