//! The whole way on the real servers: audited phones, and what the log and the history hold afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nearcast_runtime::cql::{self, CqlConfig};
use nearcast_runtime::kafka::{Kafka, KafkaConfig};
use nearcast_schemas::codec::{Codec, SchemaIds};
use nearcast_schemas::event::LocationKind;
use nearcast_schemas::topics::Topics;
use rdkafka::consumer::Consumer;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use run::{PATIENCE, Running, Said, Stack, free, nearcast, said, strs, until_body};
use serde_json::Value;
use tokio::sync::Mutex;

/// Each run judges whether everything is seen within two seconds: they take turns.
static TURN: Mutex<()> = Mutex::const_new(());

/// Every service in one process on the real servers.
struct Deployment {
    stack: Stack,
    service: Running,
    ws: String,
    api: String,
}

impl Deployment {
    async fn start() -> Self {
        let stack = Stack::new();
        let (ws, admin, api, fanout, sink) = (free(), free(), free(), free(), free());
        let mut args = stack.args(&["all"]);
        for set in [
            format!("gateway.listen={ws}"),
            format!("gateway.admin_listen={admin}"),
            format!("gateway.api_url=http://{api}"),
            format!("api.listen={api}"),
            format!("fanout.admin_listen={fanout}"),
            format!("history_sink.admin_listen={sink}"),
            // So that a short run compares some.
            "fanout.digest_every=3s".to_owned(),
        ] {
            args.extend(["--set".to_owned(), set]);
        }
        let service = Running::start(&strs(&args));
        for address in [&admin, &api, &fanout, &sink] {
            until_body(&format!("http://{address}/readyz"), "\"ready\":true").await;
        }
        Self { stack, service, ws, api }
    }

    fn simulate(&self, options: &[&str]) -> (Said, Value) {
        let json = tempfile::NamedTempFile::new().unwrap();
        let (ws, api) = (format!("ws://{}/v1/ws", self.ws), format!("http://{}", self.api));
        let args = ["simulate", "--json", json.path().to_str().unwrap(), "--ws", &ws, "--api", &api];
        let said = said(&mut nearcast(&[&args, options].concat()));
        let report = std::fs::read_to_string(json.path()).unwrap();
        let report = serde_json::from_str(&report).unwrap_or_else(|_| panic!("no report: {}{}", said.out, said.err));
        (said, report)
    }

    async fn end(self) {
        let (code, log) = self.service.stop();
        assert_eq!(code, 0, "{log}");
        self.stack.clean().await;
    }

    /// (user, device, n) of every position in the log, and those that were shown as now.
    async fn log(&self) -> (BTreeSet<(String, String, i64)>, BTreeMap<String, usize>) {
        let kafka = Kafka::new(KafkaConfig {
            bootstrap: self.stack.kafka.clone(),
            embedded: false,
            startup_wait: PATIENCE,
            options: Default::default(),
        });
        let topic = Topics::new(&self.stack.prefix).locations();
        let mut from = TopicPartitionList::new();
        let mut ends = BTreeMap::new();
        for partition in 0..kafka.partition_count(&topic).await.unwrap().unwrap() {
            let (low, high) = kafka.watermarks(&topic, partition).await.unwrap();
            from.add_partition_offset(&topic, partition, Offset::Offset(low)).unwrap();
            if high > low {
                ends.insert(partition, high);
            }
        }
        let reader = kafka.reader().unwrap();
        reader.assign(&from).unwrap();
        let codec = Codec::new(SchemaIds::default());
        let (mut all, mut live) = (BTreeSet::new(), BTreeSet::new());
        while !ends.is_empty() {
            let Some(message) = reader.poll(PATIENCE) else { panic!("the log ends early") };
            let message = message.unwrap();
            let user = String::from_utf8(message.key().unwrap().to_vec()).unwrap();
            let event = codec.decode_location(message.payload().unwrap()).unwrap();
            if let Some(fix) = &event.fix {
                let report = (user, fix.device.to_string(), fix.n);
                if event.kind != LocationKind::Backfill {
                    live.insert(report.clone());
                }
                all.insert(report);
            }
            if ends.get(&message.partition()).is_some_and(|end| message.offset() + 1 >= *end) {
                ends.remove(&message.partition());
            }
        }
        let mut by_user = BTreeMap::new();
        for (user, ..) in live {
            *by_user.entry(user).or_default() += 1;
        }
        (all, by_user)
    }

    /// Waits until the history holds as many reports as the log, and returns them.
    async fn history(&self, reports: usize) -> BTreeSet<(String, String, i64)> {
        let session = cql::connect(&CqlConfig {
            nodes: vec![self.stack.cassandra.clone()],
            keyspace: self.stack.prefix.clone(),
            replication_factor: 1,
            datacenter: None,
            startup_wait: PATIENCE,
            username: None,
            password: None,
        })
        .await
        .unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let query = format!("SELECT user_id, device, n FROM {}.history", self.stack.prefix);
            let rows = session.query_unpaged(query, &[]).await.unwrap().into_rows_result().unwrap();
            let rows: Vec<_> = rows.rows::<(String, String, i64)>().unwrap().map(Result::unwrap).collect();
            let distinct: BTreeSet<_> = rows.iter().cloned().collect();
            assert_eq!(rows.len(), distinct.len(), "a report is one row");
            if distinct.len() >= reports || Instant::now() > deadline {
                return distinct;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Every report that was acknowledged as published is in the log, and the history is the log.
    async fn account(&self, report: &Value) {
        let (log, live) = self.log().await;
        let history = self.history(log.len()).await;
        assert_eq!(history, log, "the history holds each report of the log, and nothing else");
        let users = report["users"].as_array().unwrap();
        let published = report["published_by_user"].as_array().unwrap();
        assert_eq!(users.len(), published.len());
        for (user, published) in users.iter().zip(published) {
            let found = live.get(user.as_str().unwrap()).copied().unwrap_or_default();
            assert!(found as u64 >= published.as_u64().unwrap(), "{user}: {published} published, {found} in the log");
        }
    }
}

#[track_caller]
fn assert_clean(said: &Said, report: &Value) {
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    for field in ["missing", "wrong", "stale", "digest_mismatches"] {
        assert_eq!(report[field], 0, "{field}: {}", said.out);
    }
    assert_eq!(report["wrong_seconds"], 0.0);
    for field in ["updates_received", "digests"] {
        assert!(report[field].as_u64().unwrap() > 0, "{field}: {}", said.out);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn phones_see_what_they_must_and_nothing_accepted_is_lost() {
    let _turn = TURN.lock().await;
    let deployment = Deployment::start().await;
    let options = "--phones 60 --friends 10 --duration 30s --seed 11 --drop-rate 1 --report-every 2s";
    let (said, report) = deployment.simulate(&options.split_whitespace().collect::<Vec<_>>());
    assert_clean(&said, &report);
    assert!(report["drops"].as_u64().unwrap() > 0, "{}", said.out);
    deployment.account(&report).await;
    deployment.end().await;
}

/// A drive, a hike and a walk around a lake, from the source distribution of the Python package `gpxpy`.
const RECORDINGS: [&str; 3] = ["around-visnjan-with-car.gpx", "korita-zbevnica.gpx", "cerknicko-jezero.gpx"];

/// Fetches the recordings once.
fn recordings() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("recordings");
    let files = RECORDINGS.map(|name| folder.join("gpxpy-1.6.2/test_files").join(name));
    if !files.iter().all(|file| file.exists()) {
        std::fs::create_dir_all(&folder).unwrap();
        let run = |program: &str, args: &[&str]| {
            let status = Command::new(program).args(args).current_dir(&folder).status();
            assert!(status.is_ok_and(|status| status.success()), "{program} {args:?}: run `make setup`");
        };
        run("pip3", &["download", "--quiet", "--no-deps", "--no-binary", ":all:", "gpxpy==1.6.2"]);
        run("tar", &["xzf", "gpxpy-1.6.2.tar.gz"]);
    }
    files.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_ways_meet_and_part() {
    let files = recordings();
    let _turn = TURN.lock().await;
    let deployment = Deployment::start().await;
    // At 150 times the pace a hike of hours takes a minute and a half, and friends who set out one after the other are
    // farther apart than a kilometre on the way.
    let mut options = vec!["--speed", "150", "--stagger", "6s", "--phones-per-trace", "3", "--radius", "1000"];
    options.extend(["--report-every", "500ms", "--duration", "90s", "--seed", "3"]);
    for file in &files {
        options.extend(["--trace", file.to_str().unwrap()]);
    }
    let (said, report) = deployment.simulate(&options);
    assert_clean(&said, &report);
    assert!(report["removals_received"].as_u64().unwrap() > 0, "nobody parted: {}", said.out);
    deployment.account(&report).await;
    deployment.end().await;
}
