//! Each gateway is restarted in turn, while phones report and audit what they are shown.

use std::time::Duration;

use serde_json::Value;

use crate::Plan;
use crate::deployment::Deployment;
use crate::run::account::{accepted, account};
use crate::run::phones::Phones;

/// What a gateway needs to end beyond the spread, on a machine that is busy: far less than its grace.
const BEYOND_THE_SPREAD: Duration = Duration::from_secs(8);

pub async fn play(deployment: &mut Deployment, plan: Plan) {
    let ledger = tempfile::NamedTempFile::new().unwrap();
    let options = [
        format!("--ws=ws://{}/v1/ws", deployment.ws(0)),
        format!("--ws=ws://{}/v1/ws", deployment.ws(1)),
        format!("--api=http://{}", deployment.api),
        format!("--friends={}", plan.friends),
        format!("--report-every={}", plan.report_every),
        format!("--duration={}s", plan.duration.as_secs()),
        // Whoever loses a socket loses it to a drain.
        "--drop-rate=0".to_owned(),
        "--seed=12".to_owned(),
        format!("--ledger={}", ledger.path().display()),
    ];
    let phones = Phones::start(plan.phones, &options);
    let mut each = deployment.until_sessions(plan.phones).await;
    assert!(each.iter().all(|count| *count > 0), "phones at both: {each:?}");
    let mut drained = 0;
    for round in 0..plan.rounds {
        for gateway in [0, 1] {
            let of_it = each[gateway];
            // After the first drain the phones are all at the other gateway: each of them hears `bye`.
            assert!((round, gateway) == (0, 0) || of_it == plan.phones, "{each:?}");
            let ended = deployment.stop_gateway(gateway);
            println!("gateway {} drained {of_it} sessions and ended after {:.1?}", gateway + 1, ended.took);
            assert!(ended.took < plan.drain_spread + BEYOND_THE_SPREAD, "{:?}", ended.took);
            assert!(ended.log.contains("in_time=true"), "{}", ended.log);
            assert!(!ended.log.contains("left without an answer"), "{}", ended.log);
            drained += of_it;
            deployment.start_gateway(gateway).await;
            each = deployment.until_sessions(plan.phones).await;
        }
    }
    let (code, report) = phones.ended();
    assert_eq!(code, 0, "the audit is not clean");
    for field in ["missing", "wrong", "stale", "digest_mismatches", "reports_refused", "reports_unacknowledged"] {
        assert_eq!(report[field], 0, "{field}");
    }
    assert!(report["digests"].as_u64().unwrap() > 0);
    // Nothing went wrong but that each was told to go as often as it was drained.
    assert_eq!(report["errors"], serde_json::json!({ "drain": drained }));
    assert_eq!((&report["losses"], &report["reconnects"]), (&drained.into(), &drained.into()));
    let account = account(&deployment.stack, ledger.path());
    assert_eq!(account["ledger"]["sent"], report["reports_sent"]);
    let count = accepted(&account);
    let away = &report["stages_ms"]["away"];
    let ms = |name: &str| away[name].as_f64().unwrap_or_default();
    println!(
        "rolling: {drained} times a phone was told to go; away p50 {:.0} ms, p99 {:.0} ms, max {:.0} ms; {count} reports \
         acknowledged as being in the log, all there, {} of them late; no view was wrong over {} pair-seconds",
        ms("p50"),
        ms("p99"),
        ms("max"),
        report["reports_stored"],
        Value::from(report["in_range_pair_seconds"].as_f64().unwrap_or_default().round()),
    );
}
