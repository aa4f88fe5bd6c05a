//! The log, the dead letters and how far the sink is, read from Kafka.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use nearcast_runtime::kafka::{Kafka, KafkaLog};
use nearcast_schemas::topics::Topics;
use rdkafka::consumer::Consumer;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};

/// A broker that brings nothing for so long brings nothing more.
const SILENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(200);
const ASK: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// A part of a partition: from the first offset to before the second.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub partition: i32,
    pub start: i64,
    pub end: i64,
}

/// Reads a span, record by record, on this thread.
///
/// # Errors
/// When Kafka does not bring all of it, or `each` fails.
pub fn read(
    kafka: &Kafka,
    topic: &str,
    span: Span,
    mut each: impl FnMut(&BorrowedMessage<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    if span.start >= span.end {
        return Ok(());
    }
    let reader = kafka.reader()?;
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(topic, span.partition, Offset::Offset(span.start))?;
    reader.assign(&from)?;
    let mut heard = Instant::now();
    let mut trouble = None;
    loop {
        match reader.poll(POLL) {
            Some(Ok(message)) => {
                heard = Instant::now();
                if message.offset() < span.end {
                    each(&message)?;
                }
                if message.offset() + 1 >= span.end {
                    break;
                }
            }
            // The client goes on trying.
            Some(Err(error)) => trouble = Some(error),
            None => {}
        }
        if heard.elapsed() > SILENCE {
            let why = trouble.map_or("it may have been deleted meanwhile".to_owned(), |error| error.to_string());
            bail!("partition {} of {topic} ends before offset {}: {why}", span.partition, span.end);
        }
    }
    reader.unassign()?;
    Ok(())
}

/// Where the range begins and ends in each partition, and whether the log begins later than the range.
///
/// # Errors
/// When Kafka does not answer or has no such topic.
pub async fn spans(kafka: &Kafka, topic: &str, from_ms: i64, to_ms: i64) -> anyhow::Result<Vec<(Span, bool)>> {
    let starts = kafka.offsets_at(topic, from_ms).await?;
    let ends: HashMap<i32, i64> = kafka.offsets_at(topic, to_ms).await?.into_iter().collect();
    let mut spans = Vec::with_capacity(starts.len());
    for (partition, start) in starts {
        let (low, high) = kafka.watermarks(topic, partition).await?;
        let end = ends.get(&partition).copied().unwrap_or(high);
        spans.push((Span { partition, start: start.max(low), end }, low > 0 && start <= low));
    }
    spans.sort_by_key(|(span, _)| span.partition);
    Ok(spans)
}

/// The records of the log that are among the dead letters since then, by partition.
///
/// # Errors
/// When Kafka does not answer, or there are more than `most`.
pub async fn dead_letters(
    kafka: &Kafka,
    topics: &Topics,
    since_ms: i64,
    most: usize,
) -> anyhow::Result<HashMap<i32, HashSet<i64>>> {
    let (topic, of) = (topics.dead_letters(), topics.locations());
    if kafka.partition_count(&topic).await?.is_none() {
        return Ok(HashMap::new());
    }
    let mut spans = Vec::new();
    for (partition, start) in kafka.offsets_at(&topic, since_ms).await? {
        spans.push(Span { partition, start, end: kafka.watermarks(&topic, partition).await?.1 });
    }
    let kafka = kafka.clone();
    let reading = tokio::task::spawn_blocking(move || {
        let mut found: HashMap<i32, HashSet<i64>> = HashMap::new();
        let mut count = 0;
        for span in spans {
            read(&kafka, &topic, span, |message| {
                let Some((partition, offset)) = origin(message, &of) else { return Ok(()) };
                count += 1;
                if count > most {
                    bail!("there are more than {most} dead letters; raise --max-records");
                }
                found.entry(partition).or_default().insert(offset);
                Ok(())
            })?;
        }
        anyhow::Ok(found)
    });
    reading.await.context("the dead letters were not read to the end")?
}

/// Which record of the topic a dead letter was.
fn origin(message: &BorrowedMessage<'_>, topic: &str) -> Option<(i32, i64)> {
    let headers = message.headers()?;
    let header = |name: &str| {
        let value = headers.iter().find(|header| header.key == name)?.value?;
        std::str::from_utf8(value).ok()
    };
    if header("topic")? != topic {
        return None;
    }
    Some((header("partition")?.parse().ok()?, header("offset")?.parse().ok()?))
}

/// Waits, for so long at most, until the sink is done with the spans. How far it is by partition.
///
/// # Errors
/// When Kafka does not answer.
pub async fn until_stored(
    kafka: &Kafka,
    topics: &Topics,
    spans: &[(Span, bool)],
    wait: Duration,
) -> anyhow::Result<HashMap<i32, i64>> {
    let deadline = Instant::now() + wait;
    // Asks alone, and joins nothing: the classic protocol asks of any group.
    let asking = kafka.group_member(&topics.history_group(), KafkaLog, &[("group.protocol", "classic")])?;
    let asking = std::sync::Arc::new(asking);
    loop {
        let (asking, topic) = (std::sync::Arc::clone(&asking), topics.locations());
        let partitions: Vec<i32> = spans.iter().map(|(span, _)| span.partition).collect();
        let answer = tokio::task::spawn_blocking(move || {
            let mut asked = TopicPartitionList::with_capacity(partitions.len());
            for partition in partitions {
                asked.add_partition(&topic, partition);
            }
            asking.committed_offsets(asked, ASK)
        });
        let answer = answer.await.context("the sink's offsets were not read")?;
        let committed: HashMap<i32, i64> = answer
            .map_err(|error| anyhow!("Kafka does not say how far the history sink is: {error}"))?
            .elements()
            .iter()
            .filter_map(|element| match element.offset() {
                Offset::Offset(offset) => Some((element.partition(), offset)),
                _ => None,
            })
            .collect();
        let is_done = |span: &Span| {
            span.start >= span.end || committed.get(&span.partition).is_some_and(|offset| *offset >= span.end)
        };
        if spans.iter().all(|(span, _)| is_done(span)) || Instant::now() >= deadline {
            return Ok(committed);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
