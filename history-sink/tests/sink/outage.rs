//! The database is away: the log and who reads it go on, and the history catches up.

use std::sync::Arc;
use std::time::Duration;

use nearcast_runtime::clock::now_ms;
use nearcast_schemas::event::LocationKind;
use rdkafka::consumer::Consumer;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::log::{Log, PARTITIONS, cassandra, cassandra_address, cassandra_at, event, rows, test_prefix};

/// A way to Cassandra that can be cut.
struct Way {
    open: watch::Sender<bool>,
    address: String,
}

impl Way {
    async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (open, is_open) = watch::channel(true);
        tokio::spawn(async move {
            let mut links = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let (server, mut is_open) = (server.clone(), is_open.clone());
                links.spawn(async move {
                    if !*is_open.borrow() {
                        return;
                    }
                    let Ok(mut far) = TcpStream::connect(server).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = is_open.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        Self { open, address }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cassandra_down_the_log_goes_on_and_the_history_catches_up() {
    let log = Log::real().await;
    let way = Way::to(cassandra_address()).await;
    let history = Arc::new(cassandra_at(way.address.clone()).await);
    let users: Vec<_> = (0..10).map(|i| format!("down{i}-{}", test_prefix())).collect();
    let sink = log.start(history);
    // Who looks does so by another way.
    let history = cassandra().await;
    let report = async |from: i64, to: i64| {
        let mut deliveries = Vec::new();
        for n in from..to {
            for user in &users {
                let mut value = Vec::new();
                log.codec.encode_location(&event(n, now_ms() - 60_000 + n, LocationKind::Fix), &mut value);
                deliveries.push(log.send(user, &value));
            }
        }
        for delivery in deliveries {
            delivery.await.unwrap().unwrap();
        }
    };
    report(0, 50).await;
    for user in &users {
        rows(&history, user, 50).await;
    }

    way.open.send(false).unwrap();
    // Who reads the log for live positions notices nothing.
    let live = log.kafka.reader().unwrap();
    let mut ends = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        let (_, end) = log.kafka.watermarks(&log.topics.locations(), partition).await.unwrap();
        ends.add_partition_offset(&log.topics.locations(), partition, Offset::Offset(end)).unwrap();
    }
    live.assign(&ends).unwrap();
    report(50, 1_000).await;
    let seen = tokio::task::spawn_blocking(move || {
        let mut seen = 0;
        while seen < 9_500 {
            let message = live.poll(Duration::from_secs(10)).expect("live positions go on").unwrap();
            assert!(message.payload().is_some());
            seen += 1;
        }
        seen
    });
    assert_eq!(seen.await.unwrap(), 9_500);
    assert!(!sink.task.is_finished(), "the sink waits");
    assert!(log.committed().await <= 500, "nothing is committed that is not stored");

    way.open.send(true).unwrap();
    for user in &users {
        rows(&history, user, 1_000).await;
    }
    sink.stop().await;
    assert_eq!(log.committed().await, 10_000);
    log.delete().await;
}
