//! Clocks that are wrong, on the real servers: phones that are an hour off, a gateway that is ten minutes slow, and one that
//! is ten minutes fast until its clock is set back by twenty. Order, age, expiry and the history's dates stay right.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "../run/mod.rs"]
mod run;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nearcast_runtime::clock::now_ms;
use run::socket::Socket;
use run::{PATIENCE, Running, Stack, free, good, nearcast, strs, until_body};
use serde_json::{Value, json};
use tempfile::TempDir;

const MINUTE_MS: i64 = 60_000;
/// Phones' clocks are corrected in steps of ten seconds.
const DATED_MS: i64 = 11_000;
/// What an age may be off: the clocks' own slack, and the way.
const AGED_MS: i64 = 5_000;
const TTL: Duration = Duration::from_secs(15);

#[track_caller]
fn near(what: &str, ms: &Value, expect_ms: i64, by_ms: i64) {
    let off_ms = ms.as_i64().unwrap_or_else(|| panic!("{what}: {ms}")) - expect_ms;
    assert!(off_ms.abs() <= by_ms, "{what} is {off_ms} ms off");
}

/// Clocks that processes go by in place of this machine's.
struct Clocks {
    folder: TempDir,
    library: PathBuf,
}

impl Clocks {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let library = folder.path().join("wrong_clock.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clocks/wrong_clock.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-ldl");
        assert!(compiler.status().expect("there is a C compiler").success());
        Self { folder, library }
    }

    /// A clock of this name is so many seconds ahead from now on.
    fn set(&self, name: &str, ahead_s: i64) {
        // Whoever looks meanwhile sees the one or the other.
        let new = self.folder.path().join("new");
        fs::write(&new, format!("{ahead_s}\n")).unwrap();
        fs::rename(new, self.folder.path().join(name)).unwrap();
    }

    /// The command goes by that clock.
    fn by(&self, name: &str, mut command: Command) -> Command {
        command.env("LD_PRELOAD", &self.library).env("WRONG_CLOCK", self.folder.path().join(name));
        command
    }
}

/// A phone whose own clock is off.
struct Phone {
    socket: Socket,
    ahead_ms: i64,
    n: i64,
}

impl Phone {
    /// Connects, and says `hello` from there.
    async fn come(ws: &str, token: &str, ahead_ms: i64, n: i64, lat: f64) -> Self {
        let socket = Socket::connect(ws, token).await;
        let mut phone = Self { socket, ahead_ms, n };
        let position = phone.fix(0, lat);
        phone.socket.send(json!({"type": "hello", "device": "d", "clock": phone.clock(), "position": position})).await;
        let welcome = phone.socket.expect("welcome").await;
        near("the server's time", &welcome["server_time"], now_ms(), AGED_MS);
        phone
    }

    fn clock(&self) -> i64 {
        now_ms() + self.ahead_ms
    }

    /// The next report, of so long ago.
    fn fix(&mut self, age_ms: i64, lat: f64) -> Value {
        self.n += 1;
        json!({"n": self.n, "lat": lat, "lon": 13.0, "time": self.clock() - age_ms})
    }

    async fn report(&mut self, lat: f64) {
        let mut report = self.fix(0, lat);
        (report["type"], report["clock"], report["ack"]) = (json!("location"), json!(self.clock()), json!(true));
        self.socket.send(report).await;
        assert_eq!(self.socket.expect("ack").await["result"], "published");
    }

    /// Waits until the friend is shown there, as of now.
    async fn sees(&mut self, friend: &str, lat: f64) {
        loop {
            let nearby = self.socket.expect("nearby").await;
            let upserts = nearby["upserts"].as_array().unwrap().iter();
            let mut of_friend = upserts.filter(|upsert| upsert["id"] == friend);
            if let Some(upsert) = of_friend.find(|upsert| (upsert["lat"].as_f64().unwrap() - lat).abs() < 1e-6) {
                return near("what is shown", &upsert["at"], now_ms(), AGED_MS);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_clocks_change_neither_order_nor_age_nor_dates() {
    let stack = Stack::new();
    let clocks = Clocks::new();
    for (name, ahead_s) in [("slow", -600), ("fast", 600), ("early", -1_800)] {
        clocks.set(name, ahead_s);
    }
    let (api, fanout, sink) = (free(), free(), free());
    let args = |command: &[&str], set: &[String]| {
        let mut args = stack.args(command);
        let ttl = [
            format!("deployment.friend_ttl_s={}", TTL.as_secs()),
            "deployment.max_silence_s=5".to_owned(),
            "deployment.report_interval_s=5".to_owned(),
            "deployment.coarse_period_s=10".to_owned(),
            "gateway.drain_spread_ms=0".to_owned(),
        ];
        for set in ttl.iter().chain(set) {
            args.extend(["--set".to_owned(), set.clone()]);
        }
        args
    };
    good(&strs(&args(&["topics", "create"], &[])));
    good(&strs(&args(&["migrate"], &[])));
    let mut services = Vec::new();
    for (service, set) in [
        ("api", format!("api.listen={api}")),
        ("fanout", format!("fanout.admin_listen={fanout}")),
        ("history-sink", format!("history_sink.admin_listen={sink}")),
    ] {
        services.push(Running::start(&strs(&args(&[service], &[set]))));
    }
    for address in [&api, &fanout, &sink] {
        until_body(&format!("http://{address}/readyz"), "\"ready\":true").await;
    }
    let mut gateway = async |id: &str| {
        let (ws, admin) = (free(), free());
        let set = [
            format!("gateway.id={id}"),
            format!("gateway.listen={ws}"),
            format!("gateway.admin_listen={admin}"),
            format!("gateway.api_url=http://{api}"),
        ];
        services.push(Running::of(clocks.by(id, nearcast(&strs(&args(&["gateway"], &set))))));
        until_body(&format!("http://{admin}/readyz"), "\"ready\":true").await;
        ws
    };
    let (slow, fast) = (gateway("slow").await, gateway("fast").await);

    // Tokens are judged by a gateway's own clock: these begin before the slow one's time and outlive the fast one's.
    let token = |user: &str| {
        let args = args(&["token", "--sub", user, "--ttl", "2h"], &[]);
        let output = clocks.by("early", nearcast(&strs(&args))).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let (alices, bobs) = (token("alice"), token("bob"));
    let http = reqwest::Client::new();
    let call = async |method: &str, path: &str, token: &str| {
        let call = http.request(method.parse().unwrap(), format!("http://{api}{path}")).bearer_auth(token);
        call.send().await.unwrap().error_for_status().unwrap().json::<Value>().await.unwrap()
    };
    for token in [&alices, &bobs] {
        call("GET", "/v1/me", token).await;
    }
    call("POST", "/v1/friends/bob/request", &alices).await;
    call("POST", "/v1/friends/alice/accept", &bobs).await;

    // A phone an hour ahead at the slow gateway, and one an hour behind at the fast one.
    let mut alice = Phone::come(&slow, &alices, 60 * MINUTE_MS, 0, 52.0).await;
    let mut bob = Phone::come(&fast, &bobs, -60 * MINUTE_MS, 0, 52.001).await;
    bob.sees("alice", 52.0).await;
    alice.sees("bob", 52.001).await;
    for lat in [52.002, 52.004, 52.006] {
        alice.report(lat).await;
        bob.sees("alice", lat).await;
    }

    // A night without network, sent in one message, and again through the other gateway because no answer came.
    let fixes: Vec<Value> = (0..500).map(|at| alice.fix((600 - at) * MINUTE_MS, 52.1)).collect();
    let sent_at = now_ms();
    let late = json!({"type": "locations", "clock": alice.clock(), "ack": true, "fixes": fixes});
    alice.socket.send(late.clone()).await;
    assert_eq!(alice.socket.expect("ack").await["count"], 500);
    let n = alice.n;
    let mut alice = Phone::come(&fast, &alices, 60 * MINUTE_MS, n, 52.008).await;
    bob.sees("alice", 52.008).await;
    alice.socket.send(late).await;
    assert_eq!(alice.socket.expect("ack").await["count"], 500);

    // The fast clock is set back, by twenty minutes.
    clocks.set("fast", -600);
    for lat in [52.010, 52.012] {
        alice.report(lat).await;
        bob.sees("alice", lat).await;
    }
    let reported_at = now_ms();

    // The history has each report once, dated as it was.
    let expected = 1 + 3 + 500 + 1 + 2;
    let begun = Instant::now();
    let history = loop {
        let from = now_ms() - 24 * 60 * MINUTE_MS;
        let to = now_ms() + 60 * MINUTE_MS;
        let page = call("GET", &format!("/v1/me/history?from={from}&to={to}&limit=1000"), &alices).await;
        let fixes = page["fixes"].as_array().unwrap().clone();
        if fixes.len() >= expected {
            break fixes;
        }
        assert!(begun.elapsed() < PATIENCE, "{} of {expected} reports are in the history", fixes.len());
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(history.len(), expected, "a report is one row");
    for fix in &history {
        let n = fix["n"].as_i64().unwrap();
        match fix["late"].as_bool().unwrap() {
            true => near("a late report", &fix["time"], sent_at - (600 - (n - 5)) * MINUTE_MS, DATED_MS),
            // Nobody had told the first gateway the time.
            false if n == 1 => {}
            false => near("a report", &fix["time"], fix["at"].as_i64().unwrap(), DATED_MS),
        }
    }

    // Whoever is silent is shown for as long as anybody else would be.
    drop(alice);
    loop {
        let nearby = bob.socket.expect("nearby").await;
        let removals = nearby["removals"].as_array().unwrap();
        if let Some(removal) = removals.iter().find(|removal| removal["id"] == "alice") {
            assert_eq!(removal["reason"], "silent");
            break;
        }
    }
    let shown = Duration::from_millis((now_ms() - reported_at) as u64);
    assert!(shown + Duration::from_secs(1) >= TTL && shown < 2 * TTL, "she was shown for {shown:?}");

    drop(bob);
    for service in services.into_iter().rev() {
        let (code, log) = service.stop();
        assert_eq!(code, 0, "{log}");
    }
    stack.clean().await;
}
