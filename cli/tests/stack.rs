//! The command line on the real servers.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod run;

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::config::ClientConfig;
use rdkafka::producer::FutureRecord;
use rdkafka::{Offset, TopicPartitionList};
use run::{Running, Stack, free, good, nearcast, said, strs, until_body};

#[tokio::test]
async fn topics_are_made_listed_and_tidied() {
    let stack = Stack::new();
    let prefix = &stack.prefix;
    let create = stack.args(&["topics", "create"]);
    let made = good(&strs(&create));
    assert!(made.contains(&format!("{prefix}.locations: made with 2 partitions")), "{made}");
    let again = good(&strs(&create));
    assert_eq!(again.matches("was there").count(), 3, "{again}");

    let mut other = create.clone();
    other.extend(["--set".to_owned(), "topics.visibility_partitions=4".to_owned()]);
    let differs = said(&mut nearcast(&strs(&other)));
    assert_eq!(differs.code, 1);
    assert!(differs.out.contains(&format!("{prefix}.visibility: partitions is 2, not 4")), "{}", differs.out);
    assert!(differs.err.contains("not as configured"), "{}", differs.err);

    let kafka = nearcast_runtime::kafka::Kafka::new(nearcast_runtime::kafka::KafkaConfig {
        bootstrap: stack.kafka.clone(),
        embedded: false,
        startup_wait: run::PATIENCE,
        options: Default::default(),
    });
    let topic = |id: &str| format!("{prefix}.gateway.{id}");
    let producer = kafka.producer(&Default::default()).unwrap();
    for (id, records) in [("0", 1), ("1", 1), ("2", 0), ("3", 1)] {
        kafka.ensure_topic(&topic(id), 1, &[]).await.unwrap();
        for _ in 0..records {
            let topic = topic(id);
            let record = FutureRecord::<(), _>::to(&topic).partition(0).payload("a delivery");
            producer.send_result(record).map_err(|(error, _)| error).unwrap().await.unwrap().unwrap();
        }
    }
    // As if nobody had written to them for minutes.
    let mut old = TopicPartitionList::new();
    for id in ["0", "1"] {
        old.add_partition_offset(&topic(id), 0, Offset::End).unwrap();
    }
    let mut options = ClientConfig::new();
    let admin: AdminClient<_> = options.set("bootstrap.servers", &stack.kafka).create().unwrap();
    let deleted = admin.delete_records(&old, &AdminOptions::new()).await.unwrap();
    assert!(deleted.elements().iter().all(|partition| partition.error().is_ok()), "{deleted:?}");

    let listed = good(&strs(&stack.args(&["topics", "list"])));
    assert_eq!(listed.lines().count(), 8, "{listed}");
    let told = good(&strs(&stack.args(&["topics", "gc", "--keep", "0"])));
    for (id, fate) in [("0", "kept\n"), ("1", "unused\n"), ("2", "kept, because nothing"), ("3", "kept, because some")]
    {
        assert!(told.contains(&format!("{}: {fate}", topic(id))), "{told}");
    }
    let deleted = good(&strs(&stack.args(&["topics", "gc", "--keep", "0", "--delete"])));
    assert!(deleted.contains("gateway.1: deleted") && !deleted.contains("locations"), "{deleted}");
    for id in ["0", "2", "3"] {
        assert_eq!(kafka.partition_count(&topic(id)).await.unwrap(), Some(1), "{id}");
    }
    stack.clean().await;
}

#[tokio::test]
async fn migrate_makes_the_tables_once() {
    let stack = Stack::new();
    let migrate = stack.args(&["migrate"]);
    let first = good(&strs(&migrate));
    assert!(first.contains("api: applied 1") && first.contains("history: applied 1"), "{first}");
    let again = good(&strs(&migrate));
    assert_eq!(again.matches("applied before").count(), 2, "{again}");
    stack.clean().await;
}

#[tokio::test]
async fn a_service_without_its_tables_says_what_to_run() {
    let stack = Stack::new();
    let mut args = stack.args(&["history-sink"]);
    args.extend(["--set".to_owned(), format!("history_sink.admin_listen={}", free())]);
    let said = said(&mut nearcast(&strs(&args)));
    assert_eq!(said.code, 1);
    assert!(said.err.contains("run `nearcast migrate`"), "{}", said.err);
}

#[tokio::test]
async fn all_prepares_runs_warns_and_drains() {
    let stack = Stack::new();
    let (ws, admin, api, fanout, sink) = (free(), free(), free(), free(), free());
    let mut args = stack.args(&["all"]);
    for set in [
        // Reachable by others, with the public secret.
        format!("gateway.listen={}", ws.replace("127.0.0.1", "0.0.0.0")),
        format!("gateway.admin_listen={admin}"),
        format!("gateway.api_url=http://{api}"),
        format!("api.listen={api}"),
        format!("fanout.admin_listen={fanout}"),
        format!("history_sink.admin_listen={sink}"),
        // Nobody is there.
        "redis.nodes=redis://127.0.0.1:1".to_owned(),
    ] {
        args.extend(["--set".to_owned(), set]);
    }
    let mut service = Running::start(&strs(&args));
    service.until("anybody can sign tokens");
    for address in [&admin, &api, &fanout, &sink] {
        until_body(&format!("http://{address}/readyz"), "\"ready\":true").await;
    }
    for address in [&admin, &api] {
        until_body(&format!("http://{address}/readyz"), "\"cache\":{\"state\":\"degraded\"").await;
    }
    let (code, log) = service.stop();
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("no answer from Redis at"), "Redis is absent, and nobody said so:\n{log}");
    assert!(log.contains("redis.nodes") && log.contains("`make up`"), "{log}");
    assert!(log.contains("configuration=") && !log.contains("known to everybody"), "{log}");
    stack.clean().await;
}
