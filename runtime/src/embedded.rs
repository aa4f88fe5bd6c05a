//! A Kafka cluster inside this process, for demonstrations and tests: librdkafka's mock. It keeps 5 MiB a partition and
//! forgets everything at its end. It has no admin API, no offsets for times, no compaction and no append time.

use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::error::KafkaError as ClientError;
use rdkafka::mocking::MockCluster;

use crate::kafka::{KafkaConfig, KafkaError};

/// The cluster; it ends when this is dropped.
#[derive(Debug)]
pub struct Embedded {
    bootstrap: String,
    /// `None` only while it is dropped.
    orders: Option<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

struct Order {
    topic: String,
    partitions: i32,
    done: mpsc::Sender<Result<(), ClientError>>,
}

impl Embedded {
    /// Starts a cluster of one broker with these topics, given by name and partitions.
    ///
    /// # Errors
    /// When the mock does not start or refuses a topic.
    pub fn start(topics: &[(String, i32)]) -> Result<Self, KafkaError> {
        let (orders, todo) = mpsc::channel::<Order>();
        let (started, start) = mpsc::channel();
        // The mock's handle cannot change threads, so it stays on one of its own.
        let thread = std::thread::Builder::new()
            .name("embedded-kafka".to_owned())
            .spawn(move || {
                let cluster = match MockCluster::new(1) {
                    Ok(cluster) => cluster,
                    Err(error) => return drop(started.send(Err(error))),
                };
                if started.send(Ok(cluster.bootstrap_servers())).is_err() {
                    return;
                }
                for order in todo {
                    // Whoever gave the order may have gone.
                    let _ = order.done.send(cluster.create_topic(&order.topic, order.partitions, 1));
                }
            })
            .map_err(|error| KafkaError::Client(ClientError::ClientCreation(error.to_string())))?;
        let bootstrap = start.recv().unwrap_or(Err(ClientError::Canceled))?;
        let embedded = Self { bootstrap, orders: Some(orders), thread: Some(thread) };
        for (topic, partitions) in topics {
            embedded.create_topic(topic, *partitions)?;
        }
        Ok(embedded)
    }

    /// Makes one more topic.
    ///
    /// # Errors
    /// When the mock refuses, such as for a topic that is there.
    pub fn create_topic(&self, topic: &str, partitions: i32) -> Result<(), KafkaError> {
        let (done, answer) = mpsc::channel();
        let order = Order { topic: topic.to_owned(), partitions, done };
        let sent = self.orders.as_ref().is_some_and(|orders| orders.send(order).is_ok());
        if !sent {
            return Err(KafkaError::Client(ClientError::Canceled));
        }
        Ok(answer.recv().unwrap_or(Err(ClientError::Canceled))?)
    }

    /// How to reach it.
    pub fn config(&self) -> KafkaConfig {
        KafkaConfig {
            bootstrap: self.bootstrap.clone(),
            embedded: true,
            startup_wait: Duration::from_secs(10),
            options: Default::default(),
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // It ends once there are no more orders; a panic of it was printed by then.
            let _ = thread.join();
        }
    }
}
