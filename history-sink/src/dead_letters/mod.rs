//! Dead letters: what of them waits, and trying once more to store it.
//!
//! A letter that was stored at last is settled by a record beside it; a topic forgets no single record. Reading the topic
//! once says what waits: the last word about an origin counts.

mod letter;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use nearcast_runtime::kafka::{Kafka, KafkaError, Producer, ProducerProfile};
use nearcast_schemas::codec::Codec;
use nearcast_schemas::topics::Topics;
use rdkafka::consumer::Consumer;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc;

use self::letter::Entry as Laid;
pub use self::letter::{Letter, LetterCause, Origin};
use crate::events;
use crate::history::{History, HistoryError};
use crate::read::entry_of_record;
use crate::row::{Entry, Poison};

/// Letters that are tried at once.
const AT_ONCE: usize = 100;

/// How long the next record of the topic may take; there is one.
const RECORD_WAIT: Duration = Duration::from_secs(30);

/// What came of trying a letter once more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its row is in the history, or what it erases is erased.
    Stored,
    /// It can be read now, and asks for nothing.
    Nothing,
    /// It stays a dead letter.
    Stays(LetterCause),
}

/// Why dead letters could not be read or tried.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Kafka does not do what it is asked for.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The history does not answer. What was said to be stored is; try the rest again.
    #[error(transparent)]
    History(HistoryError),
    /// The topic holds less than the brokers say.
    #[error("the topic {0} could not be read to its end within 30 s; try again")]
    Unread(String),
}

/// The dead letters of one deployment.
pub struct DeadLetters {
    kafka: Kafka,
    topics: Topics,
    codec: Arc<Codec>,
    producer: Producer,
}

/// Where a letter lies.
type Place = (i32, i64);

impl DeadLetters {
    /// Those of these topics.
    ///
    /// # Errors
    /// When librdkafka refuses an option.
    pub fn new(kafka: Kafka, topics: Topics, codec: Arc<Codec>) -> Result<Self, Error> {
        let profile = ProducerProfile { linger: Duration::from_millis(5), ..ProducerProfile::default() };
        let producer = kafka.producer(&profile)?;
        Ok(Self { kafka, topics, codec, producer })
    }

    /// Calls `each` with every letter that waits, in the topic's order, and returns how many records of it are none.
    ///
    /// # Errors
    /// There is no such topic, or it cannot be read.
    pub async fn list(&self, mut each: impl FnMut(&Letter)) -> Result<usize, Error> {
        let (waiting, strange) = self.waiting().await?;
        let mut letters = self.read().await?;
        while let Some(read) = letters.recv().await {
            if let (place, Some(Laid::Letter(letter))) = read?
                && waiting.get(&letter.origin) == Some(&Last::Letter(place))
            {
                each(&letter);
            }
        }
        Ok(strange)
    }

    /// Tries those letters once more that `wanted` wants, by the sink's own way to the history, and tells `each` what came
    /// of it. A row has the original's append time, so that trying twice, or late, leaves what the sink would have left.
    /// Returns the origins of letters that were settled before and are still in the topic.
    ///
    /// # Errors
    /// The topic cannot be read or written, or the history does not answer. What `each` was told is done.
    pub async fn retry(
        &self,
        history: &dyn History,
        wanted: impl Fn(&Origin) -> bool,
        mut each: impl FnMut(&Letter, &Outcome),
    ) -> Result<Vec<Origin>, Error> {
        let (waiting, _) = self.waiting().await?;
        let mut letters = self.read().await?;
        let mut some = Vec::new();
        loop {
            let read = letters.recv().await;
            let ended = read.is_none();
            if let Some((place, Some(Laid::Letter(letter)))) = read.transpose()?
                && wanted(&letter.origin)
                && waiting.get(&letter.origin) == Some(&Last::Letter(place))
            {
                some.push((place, letter));
            }
            if ended || some.len() == AT_ONCE {
                self.retry_some(history, &some, &mut each).await?;
                some.clear();
            }
            if ended {
                let settled = waiting.into_iter().filter(|(origin, last)| *last == Last::Settled && wanted(origin));
                return Ok(settled.map(|(origin, _)| origin).collect());
            }
        }
    }

    async fn retry_some(
        &self,
        history: &dyn History,
        letters: &[(Place, Letter)],
        each: &mut impl FnMut(&Letter, &Outcome),
    ) -> Result<(), Error> {
        let mut outcomes = vec![Outcome::Nothing; letters.len()];
        let (mut rows, mut of_rows) = (Vec::new(), Vec::new());
        let mut away = None;
        for (at, (_, letter)) in letters.iter().enumerate() {
            match self.entry(letter) {
                Ok(Some(Entry::Row(row))) => {
                    rows.push(row);
                    of_rows.push(at);
                    outcomes[at] = Outcome::Stored;
                }
                Ok(Some(Entry::Erase { user, at: until })) => {
                    outcomes[at] = match history.erase(&user, until).await {
                        Ok(()) => Outcome::Stored,
                        Err(HistoryError::Refused(cause)) => Outcome::Stays(Poison::refused(cause).into()),
                        Err(error) => {
                            let stays = Outcome::Stays(Poison::refused(error.to_string()).into());
                            away = Some(error);
                            stays
                        }
                    };
                }
                Ok(None) => {}
                Err(poison) => outcomes[at] = Outcome::Stays(poison.into()),
            }
        }
        for (row, error) in history.write(&rows).await {
            outcomes[of_rows[row]] = Outcome::Stays(Poison::refused(error.to_string()).into());
            if matches!(error, HistoryError::Unavailable(_)) {
                away = Some(error);
            }
        }
        let topic = self.topics.dead_letters();
        let mut deliveries = Vec::new();
        for (((partition, _), letter), outcome) in letters.iter().zip(&outcomes) {
            if !matches!(outcome, Outcome::Stays(_)) {
                let sent = self.producer.send_result(letter.settled(&topic, *partition));
                deliveries.push(sent.map_err(|(error, _)| KafkaError::from(error))?);
            }
        }
        for delivery in deliveries {
            // Not answered: the producer has gone, which is this one.
            if let Ok(Err((error, _))) = delivery.await {
                return Err(KafkaError::from(error).into());
            }
        }
        for ((_, letter), outcome) in letters.iter().zip(&outcomes) {
            if away.is_none() || !matches!(outcome, Outcome::Stays(_)) {
                events::LetterRetried { outcome }.emit();
                each(letter, outcome);
            }
        }
        away.map_or(Ok(()), |error| Err(Error::History(error)))
    }

    fn entry(&self, letter: &Letter) -> Result<Option<Entry>, Poison> {
        if letter.origin.topic != self.topics.locations() {
            return Err(Poison::undecodable("it is of another topic than the location log"));
        }
        let Origin { partition, offset, .. } = letter.origin;
        let (key, value) = (letter.key.as_deref(), letter.value.as_deref());
        entry_of_record(&self.codec, key, value, letter.appended_at, partition, offset)
    }

    /// The last word about each origin, and how many records are neither letters nor words about them.
    async fn waiting(&self) -> Result<(HashMap<Origin, Last>, usize), Error> {
        let mut last = HashMap::new();
        let mut strange = 0;
        let mut letters = self.read().await?;
        while let Some(read) = letters.recv().await {
            match read? {
                (place, Some(Laid::Letter(letter))) => drop(last.insert(letter.origin, Last::Letter(place))),
                (_, Some(Laid::Settled(origin))) => drop(last.insert(origin, Last::Settled)),
                (_, None) => strange += 1,
            }
        }
        Ok((last, strange))
    }

    /// Reads the topic to where its end is now.
    async fn read(&self) -> Result<mpsc::Receiver<Result<(Place, Option<Laid>), Error>>, Error> {
        let topic = self.topics.dead_letters();
        let Some(partitions) = self.kafka.partition_count(&topic).await? else {
            let bootstrap = self.kafka.config().bootstrap.clone();
            return Err(KafkaError::NoTopic { bootstrap, topic }.into());
        };
        let mut from = TopicPartitionList::new();
        let mut ends = HashMap::new();
        for partition in 0..partitions {
            let (low, high) = self.kafka.watermarks(&topic, partition).await?;
            if high > low {
                from.add_partition_offset(&topic, partition, Offset::Offset(low)).map_err(KafkaError::from)?;
                ends.insert(partition, high);
            }
        }
        let reader = self.kafka.reader()?;
        reader.assign(&from).map_err(KafkaError::from)?;
        let (send, letters) = mpsc::channel(AT_ONCE);
        tokio::task::spawn_blocking(move || {
            while !ends.is_empty() {
                let read = match reader.poll(RECORD_WAIT) {
                    Some(Ok(message)) => {
                        let (partition, offset) = (message.partition(), message.offset());
                        let end = ends.get(&partition).copied().unwrap_or(0);
                        if offset + 1 >= end {
                            ends.remove(&partition);
                        }
                        if offset >= end {
                            continue;
                        }
                        Ok(((partition, offset), Laid::of(&message)))
                    }
                    Some(Err(error)) => Err(KafkaError::from(error).into()),
                    None => Err(Error::Unread(topic.clone())),
                };
                let failed = read.is_err();
                // Whoever asked may have gone.
                if send.blocking_send(read).is_err() || failed {
                    return;
                }
            }
        });
        Ok(letters)
    }
}

/// The last word about an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    Letter(Place),
    Settled,
}
