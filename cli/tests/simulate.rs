//! `simulate` and `demo` in embedded mode: the whole way in one process, without any server; and over TLS.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[allow(dead_code)]
#[path = "chaos/felt.rs"]
mod felt;
mod run;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use felt::{Felt, Recovery};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use run::{Running, bad, free, nearcast, said, strs, until_body};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::PrivateKeyDer;
use serde_json::Value;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Each run judges whether everything is seen within two seconds: they take turns.
static TURN: Mutex<()> = Mutex::new(());

fn simulate(options: &str) -> (run::Said, Value) {
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    reported(&["--embedded"], options)
}

fn reported(target: &[&str], options: &str) -> (run::Said, Value) {
    let json = tempfile::NamedTempFile::new().unwrap();
    let mut command = nearcast(&["simulate", "--json", json.path().to_str().unwrap()]);
    let said = said(command.args(target).args(options.split_whitespace()));
    let report = std::fs::read_to_string(json.path()).unwrap();
    let report = serde_json::from_str(&report).unwrap_or_else(|_| panic!("no report: {}{}", said.out, said.err));
    (said, report)
}

fn count(report: &Value, field: &str) -> u64 {
    report[field].as_u64().unwrap_or_else(|| panic!("{field} is no count in {report}"))
}

#[test]
fn phones_that_drop_their_sockets_see_what_they_must() {
    let (ledger, timeline) = (tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
    let (said, report) = simulate(&format!(
        "--phones 40 --friends 10 --duration 20s --seed 42 --drop-rate 1 --report-every 2s --ledger {} --timeline {}",
        ledger.path().display(),
        timeline.path().display()
    ));
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    for field in ["missing", "wrong", "stale", "distances_off", "digest_mismatches", "reports_unacknowledged"] {
        assert_eq!(count(&report, field), 0, "{field}: {}", said.out);
    }
    assert_eq!(report["wrong_seconds"], 0.0);
    assert_eq!(count(&report, "phones"), 40);
    assert_eq!(count(&report, "reports_sent"), count(&report, "reports_acknowledged"), "{}", said.out);
    for field in ["drops", "reconnects", "updates_received", "reports_published", "reports_thinned", "digests"] {
        assert!(count(&report, field) > 0, "{field}: {}", said.out);
    }
    assert!(report["latency_ms"]["p99"].as_f64().unwrap() > 0.0, "{}", said.out);
    assert!(said.out.contains("clean"), "{}", said.out);
    let read = |file: &tempfile::NamedTempFile| std::fs::read_to_string(file.path()).unwrap();
    let felt = Felt::of(&read(&timeline), &read(&ledger));
    assert!(felt.is_complete(40) && felt.wrong_at_last() == 0);
}

#[test]
fn a_fault_is_felt_until_nobody_waits() {
    let moment = |at_ms: i64, away: usize, wrong: usize| {
        format!("{{\"at_ms\":{at_ms},\"connected\":2,\"away\":{away},\"wrong\":{wrong}}}\n")
    };
    let check = |timeline: &str, ledger: &str, fault_s, healing_s| {
        let felt = Felt::of(timeline, ledger);
        assert_eq!(felt.recovery(10_000, 30_000), Recovery { fault_s, healing_s }, "{timeline}{ledger}");
    };
    let last = moment(60_000, 0, 0);
    check(&last, "", None, None);
    check(&last, "sent 0 1 11000\npublished 0 1 13000\n", None, None);
    check(&last, "sent 0 1 11000\npublished 0 1 13001\n", Some(3.001), None);
    // Before the fault is no matter of it.
    check(&(moment(9_000, 1, 0) + &last), "sent 0 1 2000\nstored 0 1 8000\n", None, None);
    // What goes on through the healing is the fault's, and what begins afterwards the healing's.
    let through: String = (0..100).map(|tick| moment(12_000 + 250 * tick, 0, 1)).collect();
    check(&(through.clone() + &last), "", Some(26.75), None);
    let again = through + &moment(38_500, 1, 0) + &last;
    check(&again, "", Some(26.75), Some(8.5));
    // A report without an answer is waited for until the last moment; a line that is not whole is none.
    let felt = Felt::of(&last, "sent 1 7 31000\nunknown 1 7 32000\npublished 1 7 330");
    assert_eq!((felt.longest_wait_s(10_000), felt.quiet_ms(), felt.wrong_at_last()), (29.0, 0, 0));
    assert_eq!(felt.recovery(10_000, 30_000), Recovery { fault_s: None, healing_s: Some(30.0) });
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

/// A certificate authority, and TLS of a server at `localhost` by it.
fn authority() -> (String, TlsAcceptor) {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
        .unwrap();
    (authority.pem(), TlsAcceptor::from(Arc::new(config)))
}

/// Ends TLS in front of a service, as a balancer does. Returns the port.
async fn tls_before(service: String, tls: TlsAcceptor) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (tls, service) = (tls.clone(), service.clone());
            tokio::spawn(async move {
                client.set_nodelay(true).unwrap();
                // Whoever refuses the certificate is gone by now.
                let Ok(mut client) = tls.accept(client).await else { return };
                let mut server = TcpStream::connect(service).await.unwrap();
                server.set_nodelay(true).unwrap();
                // A phone that cuts its socket is what the run is about.
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_spoken_to_whom_the_authority_vouches_for() {
    let (ws, admin, api, fanout, sink) = (free(), free(), free(), free(), free());
    let mut args = vec!["all".to_owned(), "--embedded".to_owned()];
    for set in [
        "fanout.digest_every=2s".to_owned(),
        format!("gateway.listen={ws}"),
        format!("gateway.admin_listen={admin}"),
        format!("gateway.api_url=http://{api}"),
        format!("api.listen={api}"),
        format!("fanout.admin_listen={fanout}"),
        format!("history_sink.admin_listen={sink}"),
    ] {
        args.extend(["--set".to_owned(), set]);
    }
    let service = Running::start(&strs(&args));
    for address in [&admin, &api, &fanout] {
        until_body(&format!("http://{address}/readyz"), "\"ready\":true").await;
    }
    let (pem, tls) = authority();
    let mut ca = tempfile::NamedTempFile::new().unwrap();
    ca.write_all(pem.as_bytes()).unwrap();
    let ca = ca.path().to_str().unwrap();
    let plain_ws = format!("ws://{ws}/v1/ws");
    let (ws, api) = (tls_before(ws, tls.clone()).await, tls_before(api, tls).await);
    let (ws, api) = (format!("wss://localhost:{ws}/v1/ws"), format!("https://localhost:{api}"));

    tokio::task::block_in_place(|| {
        let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let options = "--phones 20 --friends 8 --duration 8s --seed 5 --drop-rate 4 --report-every 1s";
        let (said, report) = reported(&["--ws", &ws, "--api", &api, "--ca", ca], options);
        assert_eq!(said.code, 0, "{}{}", said.out, said.err);
        assert_eq!(report["verdict"], "clean");
        for field in ["drops", "reconnects", "updates_received", "digests"] {
            assert!(count(&report, field) > 0, "{field}: {}", said.out);
        }
    });

    let by_address = api.replace("localhost", "127.0.0.1");
    for (target, url, remedy) in [
        (vec!["--ws", &ws, "--api", &api], &ws, "--ca FILE"),
        (vec!["--ws", &plain_ws, "--api", &api], &api, "--ca FILE"),
        (vec!["--ws", &ws, "--api", &by_address, "--ca", ca], &by_address, "connect by a name"),
    ] {
        let said = said(nearcast(&["simulate", "--phones", "2"]).args(&target));
        assert_eq!(said.code, 1, "{}{}", said.out, said.err);
        assert!(said.err.contains(&format!("{url}: the server's certificate is not accepted")), "{}", said.err);
        assert!(said.err.contains(remedy), "{}", said.err);
    }
    let (code, log) = service.stop();
    assert_eq!(code, 0, "{log}");
}

#[test]
fn what_cannot_be_run_is_said() {
    bad(&["simulate", "--embedded", "--ws", "ws://127.0.0.1:1/v1/ws"], 64, &["cannot be used with"]);
    bad(&["simulate", "--phones", "0"], 64, &["--phones"]);
    bad(&["simulate", "--embedded", "--ca", "ca.pem"], 64, &["cannot be used with"]);
    bad(&["simulate", "--trace", "/nowhere.gpx"], 1, &["/nowhere.gpx cannot be read"]);
    bad(&["simulate", "--ca", "/nowhere.pem"], 1, &["/nowhere.pem cannot be read"]);
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
