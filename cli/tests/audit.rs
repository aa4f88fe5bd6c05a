//! The account of reports on the real servers: it closes, and whatever is done to log or history is listed.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod run;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nearcast_runtime::cql::{self, CqlConfig};
use nearcast_schemas::codec::{Codec, SchemaIds};
use nearcast_schemas::event::{LocationEvent, LocationKind};
use run::log::report;
use run::phones::Phones;
use run::whole::Whole;
use run::{PATIENCE, Said, bad, nearcast, said, strs};
use scylla::value::{CqlDate, CqlTimestamp};
use serde_json::Value;

/// All services in one process.
struct World {
    whole: Whole,
    options: Vec<String>,
    begun_ms: i64,
    cassandra: CqlConfig,
}

impl World {
    async fn start() -> Self {
        let begun_ms = nearcast_runtime::clock::now_ms();
        let whole = Whole::start(&[]).await;
        let options = vec![
            format!("--ws=ws://{}/v1/ws", whole.ws),
            format!("--api=http://{}", whole.api),
            "--friends=6".to_owned(),
            "--report-every=500ms".to_owned(),
        ];
        let cassandra = CqlConfig {
            nodes: vec![whole.stack.cassandra.clone()],
            keyspace: whole.stack.prefix.clone(),
            replication_factor: 1,
            datacenter: None,
            startup_wait: PATIENCE,
            username: None,
            password: None,
        };
        Self { whole, options, begun_ms, cassandra }
    }

    fn phones(&self, options: &[&str], ledger: &Path) -> Phones {
        let mut all = self.options.clone();
        all.extend(options.iter().map(|option| (*option).to_owned()));
        all.push(format!("--ledger={}", ledger.display()));
        Phones::start(20, &all)
    }

    fn audit(&self, to: &str, options: &[&str]) -> Said {
        let from = self.begun_ms.to_string();
        let mut args = self.whole.stack.args(&["audit", "--from", &from, "--to", to]);
        args.extend(options.iter().map(|option| (*option).to_owned()));
        said(&mut nearcast(&strs(&args)))
    }

    /// The account until now as JSON, which must end with this status.
    #[track_caller]
    fn account(&self, code: i32, options: &[&str]) -> Value {
        self.account_until("now", code, options)
    }

    #[track_caller]
    fn account_until(&self, to: &str, code: i32, options: &[&str]) -> Value {
        let said = self.audit(to, &[&["--json"], options].concat());
        assert_eq!(said.code, code, "{}{}", said.out, said.err);
        serde_json::from_str(&said.out).unwrap()
    }

    /// Appends a record by hand.
    async fn append(&self, user: &str, value: &[u8]) -> (i32, i64) {
        run::log::append(&self.whole.stack, user, value).await
    }

    async fn metrics(&self) -> String {
        reqwest::get(format!("http://{}/metrics", self.whole.admin)).await.unwrap().text().await.unwrap()
    }
}

/// The sum over all labels, or over one that follows the name in braces.
fn metric(metrics: &str, name: &str) -> u64 {
    let (name, label) = name.split_once('{').unwrap_or((name, ""));
    run::metrics::sum(metrics, name, label.trim_end_matches('}')) as u64
}

fn found(account: &Value, what: &str) -> Vec<(String, i64)> {
    let of_kind = account["findings"].as_array().unwrap().iter().filter(|finding| finding["what"] == what);
    of_kind.map(|finding| (finding["user"].as_str().unwrap().to_owned(), finding["n"].as_i64().unwrap())).collect()
}

/// A user who is erased after the range has nothing left of it.
async fn an_erasure_explains(world: &World, user: &str, ledgers: &[&str]) {
    let before = nearcast_runtime::clock::now_ms().to_string();
    let of_user = world.account_until(&before, 0, &["--user", user]);
    let reports = of_user["log"]["reports"].as_u64().unwrap();
    assert!(reports > 0 && of_user["history"]["erased"] == 0, "{of_user}");
    let mut bytes = Vec::new();
    let erase = LocationEvent { kind: LocationKind::Erase, fix: None, ..report(user, 0) };
    Codec::new(SchemaIds::default()).encode_location(&erase, &mut bytes);
    world.append(user, &bytes).await;
    // The first waits until the sink has obeyed.
    for to in ["now", before.as_str()] {
        let account = world.account_until(to, 0, ledgers);
        assert_eq!(account["history"]["erased"], reports, "{account}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_account_closes_and_every_change_is_listed() {
    let world = World::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (whole, killed) = (folder.path().join("whole"), folder.path().join("killed"));

    // Phones that lose their sockets send again; others die with their process.
    let phones = world.phones(&["--duration=8s", "--drop-rate=6", "--seed=3"], &whole);
    let (code, simulated) = phones.ended();
    assert_eq!(code, 0, "{simulated}");
    let dying = world.phones(&["--duration=600s", "--drop-rate=0", "--seed=4"], &killed);
    let deadline = Instant::now() + PATIENCE;
    // The file is there once the phones' users are.
    while fs::read_to_string(&killed).unwrap_or_default().matches("\npublished ").count() < 200 {
        assert!(Instant::now() < deadline, "phones report");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // By SIGKILL.
    drop(dying);
    // A record that nobody can read.
    let broken = world.append("nobody", b"nothing of ours").await;
    let ledgers = ["--ledger", whole.to_str().unwrap(), "--ledger", killed.to_str().unwrap()];

    let account = world.account(0, &ledgers);
    assert_eq!((&account["verdict"], &account["differences"]), (&"clean".into(), &0.into()), "{account}");
    let count = |part: &str, field: &str| account[part][field].as_u64().unwrap();
    assert_eq!(account["users"], 40);
    assert_eq!((count("ledger", "outside"), count("log", "in_no_ledger")), (0, 0));
    for (field, of) in [("published", "reports_published"), ("thinned", "reports_thinned")] {
        assert!(count("ledger", field) >= simulated[of].as_u64().unwrap(), "{field}: {account}");
    }
    assert!(count("ledger", "published") > 200 && count("ledger", "thinned") > 0, "{account}");
    assert_eq!(count("log", "reports"), count("history", "reports"));
    assert_eq!(account["dead_lettered"], 1);
    let dead = &account["findings"][0];
    assert_eq!((&dead["partition"], &dead["offset"]), (&broken.0.into(), &broken.1.into()), "{account}");

    // The stages' own counters meet.
    let metrics = world.metrics().await;
    let (as_now, late) = (count("log", "as_now"), count("log", "late"));
    assert_eq!(metric(&metrics, "nearcast_ingest_reports_total{outcome=\"published\"}"), as_now);
    assert_eq!(metric(&metrics, "nearcast_ingest_reports_total{outcome=\"stored\"}"), late);
    assert!(metric(&metrics, "nearcast_ingest_reports_total{outcome=\"thinned\"}") >= count("ledger", "thinned"));
    let joined = metric(&metrics, "nearcast_fanout_reports_joined_total");
    let superseded = metric(&metrics, "nearcast_fanout_records_ignored_total{cause=\"superseded\"}");
    assert!(joined <= as_now && joined + superseded >= as_now, "{joined} and {superseded} of {as_now}");
    assert_eq!(metric(&metrics, "nearcast_fanout_records_ignored_total{cause=\"history\"}"), late);
    let queued = metric(&metrics, "nearcast_gateway_updates_queued_total");
    let written = metric(&metrics, "nearcast_gateway_updates_written_total");
    let conflated = metric(&metrics, "nearcast_gateway_updates_conflated_total");
    assert!(written > 0 && written + conflated <= queued, "{written} and {conflated} of {queued}");
    assert!(metric(&metrics, "nearcast_gateway_reset_positions_written_total") > 0, "lists began");
    assert_eq!(metric(&metrics, "nearcast_history_sink_rows_stored_total"), as_now + late);
    assert_eq!(metric(&metrics, "nearcast_history_sink_dead_letters_total"), 1);

    // One user alone.
    let one = simulated["users"][0].as_str().unwrap();
    let of_one = world.account(0, &[&ledgers[..], &["--user", one]].concat());
    assert_eq!(of_one["users"], 1);
    assert!(of_one["log"]["reports"].as_u64().unwrap() < count("log", "reports"));

    let session: Arc<_> = cql::connect(&world.cassandra).await.unwrap();
    an_erasure_explains(&world, simulated["users"][1].as_str().unwrap(), &ledgers).await;

    // What is done to the history and the log.
    let rows = session
        .query_unpaged("SELECT user_id, n FROM history LIMIT 1000", &[])
        .await
        .unwrap()
        .into_rows_result()
        .unwrap();
    let rows: BTreeSet<(String, i64)> = rows.rows::<(String, i64)>().unwrap().map(Result::unwrap).collect();
    let mut rows = rows.into_iter();
    let (deleted, doubled) = (rows.next().unwrap(), rows.next().unwrap());
    let where_ = "user_id = ? AND day = ? AND fixed_at = ? AND device = ? AND n = ?";
    let key = "user_id, day, fixed_at, device, n";
    let text = format!(
        "SELECT {key}, lat, lon, appended_at, log_partition, log_offset FROM history WHERE n = ? AND user_id = ? ALLOW FILTERING"
    );
    type Row = (String, CqlDate, CqlTimestamp, String, i64, f64, f64, CqlTimestamp, i32, i64);
    let row = |(user, n): (String, i64)| {
        let (session, text) = (Arc::clone(&session), text.clone());
        async move {
            let found = session.query_unpaged(text, (n, user)).await.unwrap().into_rows_result().unwrap();
            found.first_row::<Row>().unwrap()
        }
    };
    let (user, day, at, device, n, ..) = row(deleted.clone()).await;
    session.query_unpaged(format!("DELETE FROM history WHERE {where_}"), (user, day, at, device, n)).await.unwrap();
    let mut again = row(doubled.clone()).await;
    again.2.0 += 1;
    let insert = format!(
        "INSERT INTO history ({key}, lat, lon, appended_at, log_partition, log_offset) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    );
    session.query_unpaged(insert.clone(), again).await.unwrap();
    let mut forged_row = row(doubled.clone()).await;
    forged_row.4 = 1_000_000;
    session.query_unpaged(insert, forged_row).await.unwrap();
    let mut bytes = Vec::new();
    Codec::new(SchemaIds::default()).encode_location(&report(one, 2_000_000), &mut bytes);
    let forged = world.append(one, &bytes).await;
    let lost = "published 0 3000000";
    let lie = fs::read_to_string(&whole).unwrap() + &format!("sent 0 3000000 {0}\n{lost} {0}\n", world.begun_ms + 1);
    fs::write(&whole, lie).unwrap();

    let account = world.account(1, &ledgers);
    assert_eq!((&account["verdict"], &account["differences"]), (&"differences".into(), &5.into()), "{account}");
    assert_eq!(found(&account, "not_stored"), [deleted]);
    assert_eq!(found(&account, "stored_twice"), std::slice::from_ref(&doubled));
    assert_eq!(found(&account, "not_in_log"), [(doubled.0, 1_000_000)]);
    assert_eq!(found(&account, "never_sent"), [(one.to_owned(), 2_000_000)]);
    assert_eq!(found(&account, "lost"), [(one.to_owned(), 3_000_000)]);
    let said = world.audit("now", &ledgers);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("5 DIFFERENCES"), "{}", said.err);
    let line = format!(
        "user {one} device {one}-phone n 2000000 partition {} offset {}: in the log, and never sent by its phone",
        forged.0, forged.1
    );
    assert!(said.out.lines().any(|told| told == line), "{line} in {}", said.out);
    assert!(!said.out.contains("48.137") && !said.out.contains("52.5"), "{}", said.out);
    world.whole.stop().await;
}

/// All Rust below a folder, tests aside.
fn sources(folder: &Path, into: &mut String) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            sources(&entry, into);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            *into += &fs::read_to_string(entry).unwrap();
        }
    }
}

#[test]
fn the_page_names_metrics_that_there_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut code = String::new();
    for part in ["ingest", "fanout", "gateway", "history-sink"] {
        sources(&root.join(part).join("src"), &mut code);
    }
    let page = fs::read_to_string(root.join("docs/accounting.md")).unwrap();
    let words = page.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
    let names: BTreeSet<_> = words.filter(|word| word.starts_with("nearcast_")).collect();
    assert!(names.len() >= 11, "{names:?}");
    for name in names {
        assert!(code.contains(&format!("\"{name}\"")), "{name} is no metric");
    }
}

#[test]
fn what_cannot_be_audited_is_said() {
    bad(&["audit", "--to", "now"], 64, &["--from"]);
    bad(&["audit", "--from", "soon", "--to", "now"], 64, &["2026-01-31T12:00:00Z"]);
    bad(&["audit", "--from", "now", "--to", "1h"], 64, &["--from must be before --to"]);
    bad(&["audit", "--from", "1h", "--to", "now", "--ledger", "/nowhere"], 1, &["/nowhere cannot be read"]);
    bad(&["audit", "--from", "1h", "--to", "now", "--ledger", "/etc/hostname"], 1, &["is no ledger"]);
    bad(&["audit", "--from", "1h", "--to", "now", "--user", "a b"], 64, &["white space"]);
    let set = ["--set", "kafka.bootstrap=127.0.0.1:1", "--set", "kafka.startup_wait=100ms"];
    let args = [&["audit", "--from", "1h", "--to", "now"][..], &set].concat();
    bad(&args, 1, &["Kafka does not answer"]);
}
