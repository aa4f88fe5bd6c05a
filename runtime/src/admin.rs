//! Topics: made with their settings, compared, listed, deleted.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use tokio::time::Instant;

use crate::kafka::{Kafka, KafkaError, KafkaLog, REQUEST_TIMEOUT, RETRY_PAUSE};

/// The client for it.
pub(crate) type Admin = AdminClient<KafkaLog>;

/// What [`Kafka::ensure_topic`] found or did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ensured {
    /// It was made.
    Created,
    /// It was there, as asked for.
    Existed,
    /// It was there, in another way; it was left alone.
    Differs(Vec<Difference>),
}

/// One thing in which a topic is not as asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// `partitions`, or Kafka's name of the setting.
    pub setting: String,
    /// What was asked for.
    pub wanted: String,
    /// What it is.
    pub found: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is {}, not {}", self.setting, self.found, self.wanted)
    }
}

impl Kafka {
    /// Makes a topic with these settings and the cluster's own replication factor, unless it is there, and waits until
    /// it can be used. Two at once make one. Embedded: says only whether it is there.
    ///
    /// # Errors
    /// When the cluster refuses or does not answer. Embedded: [`KafkaError::NoTopic`].
    pub async fn ensure_topic(
        &self,
        name: &str,
        partitions: i32,
        settings: &[(&str, String)],
    ) -> Result<Ensured, KafkaError> {
        if let Some(found) = self.partition_count(name).await? {
            return self.compare(name, partitions, found, settings).await;
        }
        if self.config().embedded {
            return Err(self.no_topic(name));
        }
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(-1));
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        let results = self.admin().await?.create_topics([&topic], &options()).await?;
        let created = match results.into_iter().next() {
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => false,
            Some(Err((_, code))) => return Err(refused("create", name, code)),
            Some(Ok(_)) | None => true,
        };
        let found = self.wait_for_leaders(name).await?;
        if created { Ok(Ensured::Created) } else { self.compare(name, partitions, found, settings).await }
    }

    /// Deletes a topic and returns whether there was one.
    ///
    /// # Errors
    /// When the cluster refuses or does not answer.
    pub async fn delete_topic(&self, name: &str) -> Result<bool, KafkaError> {
        let results = self.admin().await?.delete_topics(&[name], &options()).await?;
        match results.into_iter().next() {
            Some(Err((_, RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic))) => Ok(false),
            Some(Err((_, code))) => Err(refused("delete", name, code)),
            Some(Ok(_)) | None => Ok(true),
        }
    }

    /// All topics whose name begins with `prefix`, with their partitions, by name.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub async fn topics(&self, prefix: &str) -> Result<Vec<(String, i32)>, KafkaError> {
        let prefix = prefix.to_owned();
        self.ask(REQUEST_TIMEOUT, move |reader, timeout| {
            let metadata = reader.fetch_metadata(None, timeout)?;
            let mut topics: Vec<_> = metadata
                .topics()
                .iter()
                .filter(|topic| topic.name().starts_with(&prefix) && topic.error().is_none())
                .map(|topic| (topic.name().to_owned(), i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX)))
                .collect();
            topics.sort();
            Ok(topics)
        })
        .await
    }

    /// A fresh topic is known before it has leaders.
    async fn wait_for_leaders(&self, name: &str) -> Result<i32, KafkaError> {
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        loop {
            let wanted = name.to_owned();
            let led = self
                .ask(REQUEST_TIMEOUT, move |reader, timeout| {
                    let metadata = reader.fetch_metadata(Some(&wanted), timeout)?;
                    let partitions = metadata.topics().first().map(|topic| topic.partitions()).unwrap_or_default();
                    let led = !partitions.is_empty() && partitions.iter().all(|partition| partition.leader() >= 0);
                    Ok(led.then(|| i32::try_from(partitions.len()).unwrap_or(i32::MAX)))
                })
                .await?;
            if let Some(count) = led {
                return Ok(count);
            }
            if Instant::now() >= deadline {
                return Err(refused("create", name, RDKafkaErrorCode::LeaderNotAvailable));
            }
            tokio::time::sleep(RETRY_PAUSE.min(Duration::from_millis(50))).await;
        }
    }

    async fn compare(
        &self,
        name: &str,
        partitions: i32,
        found: i32,
        settings: &[(&str, String)],
    ) -> Result<Ensured, KafkaError> {
        let mut differences = Vec::new();
        if found != partitions {
            differences.push(Difference {
                setting: "partitions".to_owned(),
                wanted: partitions.to_string(),
                found: found.to_string(),
            });
        }
        if !settings.is_empty() && !self.config().embedded {
            let described = self.admin().await?.describe_configs([&ResourceSpecifier::Topic(name)], &options()).await?;
            let resource = match described.into_iter().next() {
                Some(Ok(resource)) => resource,
                Some(Err(code)) => return Err(refused("describe", name, code)),
                None => return Err(self.no_topic(name)),
            };
            for (setting, wanted) in settings {
                let found = resource.get(setting).and_then(|entry| entry.value.clone()).unwrap_or_default();
                if !same(wanted, &found) {
                    differences.push(Difference { setting: (*setting).to_owned(), wanted: wanted.clone(), found });
                }
            }
        }
        Ok(if differences.is_empty() { Ensured::Existed } else { Ensured::Differs(differences) })
    }
}

/// Lists such as `compact,delete` are equal in any order.
fn same(wanted: &str, found: &str) -> bool {
    let sorted = |list: &str| {
        let mut items: Vec<_> = list.split(',').map(|item| item.trim().to_owned()).collect();
        items.sort();
        items
    };
    sorted(wanted) == sorted(found)
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT)).operation_timeout(Some(REQUEST_TIMEOUT))
}

fn refused(what: &'static str, topic: &str, code: RDKafkaErrorCode) -> KafkaError {
    KafkaError::Refused { what, topic: topic.to_owned(), code }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_equal_in_any_order() {
        assert!(same("compact,delete", "delete, compact") && same("1", "1"));
        assert!(!same("compact,delete", "delete") && !same("1", "11"));
    }
}
