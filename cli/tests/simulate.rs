//! `simulate` and `demo` in embedded mode: the whole way in one process, without any server.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod run;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use run::{bad, nearcast, said};
use serde_json::Value;

/// Each run judges whether everything is seen within two seconds: they take turns.
static TURN: Mutex<()> = Mutex::new(());

fn simulate(options: &str) -> (run::Said, Value) {
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let json = tempfile::NamedTempFile::new().unwrap();
    let mut command = nearcast(&["simulate", "--embedded", "--json", json.path().to_str().unwrap()]);
    let said = said(command.args(options.split_whitespace()));
    let report = std::fs::read_to_string(json.path()).unwrap();
    let report = serde_json::from_str(&report).unwrap_or_else(|_| panic!("no report: {}{}", said.out, said.err));
    (said, report)
}

fn count(report: &Value, field: &str) -> u64 {
    report[field].as_u64().unwrap_or_else(|| panic!("{field} is no count in {report}"))
}

#[test]
fn phones_that_drop_their_sockets_see_what_they_must() {
    let (said, report) = simulate("--phones 40 --friends 10 --duration 20s --seed 42 --drop-rate 1 --report-every 2s");
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    for field in ["missing", "wrong", "stale", "distances_off", "digest_mismatches", "reports_unacknowledged"] {
        assert_eq!(count(&report, field), 0, "{field}: {}", said.out);
    }
    assert_eq!(report["wrong_seconds"], 0.0);
    assert_eq!(count(&report, "phones"), 40);
    assert_eq!(count(&report, "reports_sent"), count(&report, "reports_acknowledged"), "{}", said.out);
    for field in ["drops", "reconnects", "updates_received", "reports_published", "reports_thinned"] {
        assert!(count(&report, field) > 0, "{field}: {}", said.out);
    }
    assert!(report["latency_ms"]["p99"].as_f64().unwrap() > 0.0, "{}", said.out);
    assert!(said.out.contains("clean"), "{}", said.out);
}

#[test]
fn the_audit_notices_one_update_in_a_thousand() {
    let (said, report) =
        simulate("--phones 40 --friends 16 --duration 25s --seed 7 --drop-rate 0 --report-every 4s --sabotage");
    assert!(count(&report, "updates_sabotaged") > 0, "{}", said.out);
    assert_eq!(said.code, 1, "{}{}", said.out, said.err);
    assert!(report["wrong_seconds"].as_f64().unwrap() > 0.0, "{}", said.out);
    assert_eq!(report["verdict"], "wrong");
}

#[test]
fn recordings_meet_and_part() {
    // Two users drive towards each other on one road, 16.7 km apart, and past each other, in two minutes.
    let mut csv = tempfile::Builder::new().suffix(".csv").tempfile().unwrap();
    writeln!(csv, "user,time,lat,lon").unwrap();
    for second in 0..=120 {
        // 0.15 degrees of the equator are 16.7 km; the antimeridian is in the middle.
        let way = 0.15 * f64::from(second) / 120.0;
        let lon = |east: f64| if east > 180.0 { east - 360.0 } else { east };
        writeln!(csv, "east,{},0.0,{}", second * 1_000, lon(179.925 + way)).unwrap();
        writeln!(csv, "west,{},0.0,{}", second * 1_000, lon(180.075 - way)).unwrap();
    }
    let options = "--speed 8 --phones-per-trace 2 --stagger 2s --report-every 500ms --drop-rate 0 --radius 3000";
    let (said, report) = simulate(&format!("--trace {} {options}", csv.path().display()));
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    assert_eq!(count(&report, "phones"), 4);
    assert!(count(&report, "removals_received") > 0, "friends parted: {}", said.out);
    assert!(report["in_range_pair_seconds"].as_f64().unwrap() > 1.0, "friends met: {}", said.out);
}

#[test]
fn what_cannot_be_run_is_said() {
    bad(&["simulate", "--embedded", "--ws", "ws://127.0.0.1:1/v1/ws"], 64, &["cannot be used with"]);
    bad(&["simulate", "--phones", "0"], 64, &["--phones"]);
    bad(&["simulate", "--trace", "/nowhere.gpx"], 1, &["/nowhere.gpx cannot be read"]);
    let said = said(&mut nearcast(&["simulate", "--phones", "2", "--api", "http://127.0.0.1:1"]));
    assert_eq!(said.code, 1);
    assert!(said.err.contains("http://127.0.0.1:1 does not answer"), "{}", said.err);
}

#[test]
fn the_demo_tells_who_comes_and_goes_and_ends_when_asked() {
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut demo = nearcast(&["demo", "--phones", "60", "--friends", "16", "--report-every", "1s"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(demo.stdout.take().unwrap());
    let mut lines = Vec::new();
    let until = |lines: &mut Vec<String>, out: &mut BufReader<_>, found: &dyn Fn(&str) -> bool| {
        loop {
            let mut line = String::new();
            assert!(BufRead::read_line(out, &mut line).unwrap() > 0, "ended early:\n{}", lines.concat());
            let done = found(&line);
            lines.push(line);
            if done {
                return;
            }
        }
    };
    until(&mut lines, &mut out, &|line| line.starts_with("+ ") && line.contains(" appears "));
    until(&mut lines, &mut out, &|line| line.contains("reports/s") && line.contains("audit: clean"));
    until(&mut lines, &mut out, &|line| line.starts_with("- ") && line.contains(" leaves (out_of_range)"));
    assert!(Command::new("kill").args(["-TERM", &demo.id().to_string()]).status().unwrap().success());
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    lines.push(rest);
    assert_eq!(demo.wait().unwrap().code(), Some(0), "{}", lines.concat());
    let text = lines.concat();
    assert!(text.contains("embedded mode") && text.contains("nothing is durable"), "{text}");
    assert!(text.lines().any(|line| line.contains("audit") && line.contains("clean: over")), "{text}");
}
