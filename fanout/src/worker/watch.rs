//! Asks Kafka how far the log goes, and ends the worker when it cannot go on: partitions that became more, an engine or a
//! partition that stands still.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nearcast_runtime::health::{Component, Condition};
use nearcast_runtime::kafka::{Kafka, KafkaError};
use nearcast_runtime::lifecycle::Shutdown;
use tokio::sync::watch;

use crate::progress::{Ends, Watchdog};
use crate::vitals::Vitals;
use crate::worker::Error;

/// Between two questions while the worker catches up, and after.
const EVERY: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(5)];

/// A topic whose partitions may not change while a worker runs.
pub(crate) struct Fixed {
    pub(crate) topic: String,
    pub(crate) partitions: i32,
}

/// What it takes to watch a worker.
pub(crate) struct Watch {
    pub(crate) kafka: Kafka,
    pub(crate) locations: Fixed,
    pub(crate) visibility: Fixed,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) ends: watch::Sender<Option<Ends>>,
    pub(crate) replay: Component,
    pub(crate) broker: Component,
    pub(crate) stall_after: Duration,
    pub(crate) began: Instant,
}

impl Watch {
    pub(crate) async fn run(self, stop: Shutdown) -> Result<(), Error> {
        let mut dog = Watchdog::new(self.stall_after);
        let mut absent_since = None;
        loop {
            let ready = self.replay.condition() == Condition::Ready;
            tokio::select! {
                () = stop.begun() => return Ok(()),
                () = tokio::time::sleep(EVERY[usize::from(ready)]) => {}
            }
            let answer = tokio::select! {
                () = stop.begun() => return Ok(()),
                answer = self.ask() => answer,
            };
            let ends = match answer {
                Ok(ends) => {
                    self.broker.ready();
                    absent_since = None;
                    Some(ends)
                }
                Err(Error::Kafka(error)) => {
                    self.broker.degraded(format!("no answer from Kafka: {error}"));
                    None
                }
                // A broker that has just come back does not know its topics yet.
                Err(Error::Partitions { found: 0, topic, before }) => {
                    self.broker.degraded(format!("Kafka says that there is no topic {topic}"));
                    let since = *absent_since.get_or_insert(self.began.elapsed());
                    if self.began.elapsed().saturating_sub(since) >= self.stall_after {
                        return Err(Error::Partitions { found: 0, topic, before });
                    }
                    None
                }
                Err(error) => return Err(error),
            };
            if let Some(ends) = &ends {
                self.ends.send_replace(Some(ends.clone()));
            }
            let held_up = self.vitals.was_held_up();
            let seen = ends.as_ref().filter(|_| !held_up);
            if let Some(stall) = dog.look(self.vitals.loops(), &self.vitals.next(), seen, self.began.elapsed()) {
                return Err(Error::Stalled(stall));
            }
        }
    }

    /// The ends of the locations, after a look at the partition counts.
    async fn ask(&self) -> Result<Ends, Error> {
        for fixed in [&self.locations, &self.visibility] {
            let found = self.kafka.partition_count(&fixed.topic).await?;
            if found != Some(fixed.partitions) {
                let found = found.unwrap_or(0);
                return Err(Error::Partitions { topic: fixed.topic.clone(), before: fixed.partitions, found });
            }
        }
        let asked_at = self.began.elapsed();
        Ok(Ends { asked_at, offsets: ends(&self.kafka, &self.locations).await? })
    }
}

async fn ends(kafka: &Kafka, fixed: &Fixed) -> Result<Vec<i64>, KafkaError> {
    let mut offsets = Vec::new();
    for partition in 0..fixed.partitions {
        offsets.push(kafka.watermarks(&fixed.topic, partition).await?.1);
    }
    Ok(offsets)
}
