//! One fault from beginning to end.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::fault::Fault;
use crate::harm::{Harming, Stage};
use crate::now_ms;
use crate::phones::Phones;
use crate::whole::{until_stored, until_whole};

/// Phones live so long before the fault.
const BEFORE: Duration = Duration::from_secs(5);
/// After the slack of the fault they live on for so long, so that whatever it left is judged.
const AFTER: Duration = Duration::from_secs(5);
/// Nothing is felt for so long: it is over.
const QUIET_MS: i64 = 5_000;
/// Otherwise it never will be, beyond the slack of the fault.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What `nearcast audit` waits for a sink.
const AUDIT_WAIT: &str = "60s";

/// What came of a fault.
#[derive(Clone, Debug, Default)]
pub struct Row {
    pub fault: &'static str,
    pub target: String,
    pub acknowledged: u64,
    pub lost: u64,
    pub duplicated: u64,
    /// Differences that the audit found besides.
    pub other_differences: u64,
    pub wrong_views: u64,
    pub digest_mismatches: u64,
    pub recovery_seconds: Option<f64>,
    pub healing_seconds: Option<f64>,
    pub history_seconds: Option<f64>,
    pub away_at_most: usize,
    pub longest_wait_s: f64,
    pub slack_s: f64,
    /// What did not come back, or could not be done.
    pub troubles: Vec<String>,
    /// Why it was not played.
    pub not_run: Option<String>,
    /// What the phones and the audit say.
    pub simulate: Value,
    pub audit: Value,
}

impl Row {
    pub fn of(fault: Fault) -> Self {
        Self {
            fault: fault.what(),
            target: fault.whom().to_owned(),
            slack_s: fault.slack().as_secs_f64(),
            ..Self::default()
        }
    }

    pub fn not_run(fault: Fault, why: &str) -> Self {
        Self { not_run: Some(why.to_owned()), ..Self::of(fault) }
    }

    /// It was played; all sides agree, every view was right, and everything came back.
    pub fn is_clean(&self) -> bool {
        let wrong = self.lost + self.duplicated + self.other_differences + self.wrong_views + self.digest_mismatches;
        self.not_run.is_none() && self.troubles.is_empty() && wrong == 0 && self.acknowledged > 0
    }

    pub fn json(&self) -> Value {
        json!({
            "fault": self.fault,
            "target": self.target,
            "clean": self.is_clean(),
            "acknowledged": self.acknowledged,
            "lost": self.lost,
            "duplicated": self.duplicated,
            "other_differences": self.other_differences,
            "wrong_views": self.wrong_views,
            "digest_mismatches": self.digest_mismatches,
            "recovery_seconds": self.recovery_seconds,
            "healing_seconds": self.healing_seconds,
            "history_seconds": self.history_seconds,
            "away_at_most": self.away_at_most,
            "longest_wait_seconds": self.longest_wait_s,
            "slack_seconds": self.slack_s,
            "troubles": self.troubles,
            "not_run": self.not_run,
            "simulate": self.simulate,
            "audit": self.audit,
        })
    }
}

/// Plays a fault on a cluster that is itself, and leaves the cluster so.
pub async fn play(stage: &Stage<'_>, fault: Fault, seed: u64, directory: &Path) -> Row {
    let mut row = Row::of(fault);
    if let (Fault::DiskFull, Err(why)) = (fault, stage.disk) {
        return Row::not_run(fault, why);
    }
    fs::create_dir_all(directory).unwrap();
    let begun_ms = now_ms();
    let mut harming = match Harming::prepare(stage, fault).await {
        Ok(harming) => harming,
        Err(trouble) => return Row { troubles: vec![trouble], ..row },
    };
    if let Err(trouble) = until_whole(stage.cluster, &stage.brokers).await {
        row.troubles.push(trouble);
    }
    let options = [
        format!("--ws=wss://{}/v1/ws", harming.edge()),
        format!("--api=https://{}", stage.cluster.edge()),
        format!("--ca={}", stage.cluster.authority().display()),
    ];
    match Phones::start(&options, seed, fault.slack(), directory).await {
        Ok(phones) => under_phones(&mut row, stage, &mut harming, phones, begun_ms).await,
        Err(trouble) => row.troubles.push(trouble),
    }
    if let Some(part) = harming.part() {
        let from = stage.cluster.directory.join(part.directory());
        for log in ["log.before", "log"] {
            let _ = fs::copy(from.join(log), directory.join(format!("{}.{log}", part.directory())));
        }
    }
    if !row.is_clean() {
        for (name, log) in stage.cluster.logs() {
            let _ = fs::copy(log, directory.join(name + ".log"));
        }
    }
    row.troubles.extend(harming.undo().await.err());
    row
}

async fn under_phones(row: &mut Row, stage: &Stage<'_>, harming: &mut Harming<'_>, phones: Phones, begun_ms: i64) {
    sleep(BEFORE).await;
    row.troubles.extend(harming.aim().await.err());
    row.target = harming.target();
    let fault_ms = now_ms();
    row.troubles.extend(harming.harm().await.err());
    let healed_ms = now_ms();
    row.troubles.extend(harming.heal().await.err());
    // Everything of it is back from here on: what the history takes is its own.
    let back = Instant::now();
    let (whole, stored) = tokio::join!(until_whole(stage.cluster, &stage.brokers), async {
        until_stored(&stage.brokers).await.map(|()| back.elapsed().as_secs_f64())
    });
    row.troubles.extend(whole.err());
    match stored {
        Ok(seconds) => row.history_seconds = Some(seconds),
        Err(trouble) => row.troubles.push(trouble),
    }
    let slack = Duration::from_secs_f64(row.slack_s);
    let deadline = Instant::now() + PATIENCE + slack;
    let judged_ms = fault_ms + (slack + AFTER).as_millis() as i64;
    let mut felt = phones.felt();
    while felt.quiet_ms() < QUIET_MS || now_ms() < judged_ms {
        if Instant::now() > deadline {
            row.troubles.push("users still feel it".to_owned());
            break;
        }
        sleep(LOOK_EVERY).await;
        felt = phones.felt();
    }
    let recovery = felt.recovery(fault_ms, healed_ms);
    (row.recovery_seconds, row.healing_seconds) = (recovery.fault_s, recovery.healing_s);
    row.away_at_most = felt.away_at_most();
    row.longest_wait_s = felt.longest_wait_s(fault_ms);
    let ledger = phones.ledger();
    match phones.end().await {
        Ok(simulated) => views(row, &simulated, felt.wrong_at_last()),
        Err(trouble) => row.troubles.push(trouble),
    }
    match audit(stage, begun_ms, &ledger).await {
        Ok(account) => accounts(row, account),
        Err(trouble) => row.troubles.push(trouble),
    }
}

/// What the phones found.
fn views(row: &mut Row, simulated: &Value, wrong_at_last: usize) {
    let count = |field: &str| simulated[field].as_u64().unwrap_or(0);
    let wrong: u64 = ["missing", "wrong", "stale", "distances_off"].into_iter().map(count).sum();
    row.wrong_views = wrong.max(wrong_at_last as u64);
    row.digest_mismatches = count("digest_mismatches");
    if simulated["verdict"] != "clean" && wrong == 0 {
        row.troubles.push(format!("the phones say: {}", simulated["verdict"]));
    }
    let mut kept = serde_json::Map::new();
    for field in [
        "verdict",
        "seed",
        "missing",
        "wrong",
        "stale",
        "distances_off",
        "wrong_seconds",
        "digests",
        "syncs",
        "resets_received",
        "reports_sent",
        "reports_acknowledged",
        "in_range_pair_seconds",
        "audit_pauses",
        "audit_paused_s",
        "drops",
        "losses",
        "reconnects",
        "errors",
        "latency_ms",
        "stages_ms",
        "examples",
    ] {
        kept.insert(field.to_owned(), simulated[field].clone());
    }
    row.simulate = Value::Object(kept);
}

/// What `nearcast audit` found.
fn accounts(row: &mut Row, account: Value) {
    let of_ledger = |field: &str| account["ledger"][field].as_u64().unwrap_or(0);
    row.acknowledged = ["published", "thinned", "stored"].into_iter().map(of_ledger).sum();
    let found = |kind: &str| account["counts"][kind].as_u64().unwrap_or(0);
    row.lost = ["lost", "only_late", "not_stored", "not_yet_stored"].into_iter().map(found).sum();
    row.duplicated = found("stored_twice");
    let differences = account["differences"].as_u64().unwrap_or(0);
    row.other_differences = differences - row.lost - row.duplicated + found("dead_lettered");
    if account["verdict"] == "nothing" {
        row.troubles.push("nothing was audited".to_owned());
    }
    row.audit = account;
}

async fn audit(stage: &Stage<'_>, from_ms: i64, ledger: &Path) -> Result<Value, String> {
    let (from, ledger) = (from_ms.to_string(), ledger.display().to_string());
    let args = ["run", "audit", "--from", &from, "--to", "now", "--json", "--wait", AUDIT_WAIT, "--ledger", &ledger];
    let output = stage.cluster.output(stage.cluster.command("nearcast.sh", &args)).await;
    let said = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&said).map_err(|_| format!("the audit: {said}{}", String::from_utf8_lossy(&output.stderr)))
}
