//! The whole way on the real servers: audited phones, and what the log and the history hold afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod run;

use std::path::{Path, PathBuf};
use std::process::Command;

use run::account::{accepted, account};
use run::whole::Whole;
use run::{Said, nearcast, said};
use serde_json::Value;
use tempfile::NamedTempFile;
use tokio::sync::Mutex;

/// Each run judges whether everything is seen within two seconds: they take turns.
static TURN: Mutex<()> = Mutex::const_new(());

/// Every service in one process on the real servers.
struct Deployment(Whole);

impl Deployment {
    async fn start() -> Self {
        // So that a short run compares some.
        Self(Whole::start(&["fanout.digest_every=3s"]).await)
    }

    /// What was said, the report, and the ledger.
    fn simulate(&self, options: &[&str]) -> (Said, Value, NamedTempFile) {
        let (json, ledger) = (NamedTempFile::new().unwrap(), NamedTempFile::new().unwrap());
        let (ws, api) = (format!("ws://{}/v1/ws", self.0.ws), format!("http://{}", self.0.api));
        let files = [json.path().to_str().unwrap(), ledger.path().to_str().unwrap()];
        let args = ["simulate", "--json", files[0], "--ledger", files[1], "--ws", &ws, "--api", &api];
        let said = said(&mut nearcast(&[&args, options].concat()));
        let report = std::fs::read_to_string(json.path()).unwrap();
        let report = serde_json::from_str(&report).unwrap_or_else(|_| panic!("no report: {}{}", said.out, said.err));
        (said, report, ledger)
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
    let (said, report, ledger) = deployment.simulate(&options.split_whitespace().collect::<Vec<_>>());
    assert_clean(&said, &report);
    assert!(report["drops"].as_u64().unwrap() > 0, "{}", said.out);
    assert!(accepted(&account(&deployment.0.stack, ledger.path())) > 0);
    deployment.0.stop().await;
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
    let (said, report, ledger) = deployment.simulate(&options);
    assert_clean(&said, &report);
    assert!(report["removals_received"].as_u64().unwrap() > 0, "nobody parted: {}", said.out);
    assert!(accepted(&account(&deployment.0.stack, ledger.path())) > 0);
    deployment.0.stop().await;
}
