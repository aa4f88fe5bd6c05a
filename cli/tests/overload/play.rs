//! What is done, and what is looked at meanwhile.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use nearcast_runtime::auth::Signer;
use nearcast_schemas::refusal::Refusal;
use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until};

use crate::Plan;
use crate::crowd::{Crowd, Pace};
use crate::ledger;
use crate::pairs::{Pairs, friend, mover};
use crate::phone::{NO_ANSWER, TIMEOUT, now_ms};
use crate::report::{Phase, Report};
use crate::run::account::account;
use crate::services::{Services, signer};

/// Between two looks at processes and their metrics.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The system has to be itself again within this, however busy the machine is.
const RECOVERS_WITHIN: Duration = Duration::from_secs(120);
/// The history catches up from the log within this, or something is wrong with it.
const STORED_WITHIN: Duration = Duration::from_secs(1_200);
/// Memory of one process after the first half of the load may grow by this and this much more: what is full is full.
const GROWTH: f64 = 1.5;
const GROWTH_BYTES: f64 = 96.0 * 1_048_576.0;

/// How the deployment was at one time.
#[derive(Clone, Debug)]
pub struct Sample {
    pub at_ms: i64,
    pub resident: Vec<(&'static str, u64)>,
    /// Reports that wait for Kafka in the gateway.
    pub in_flight: f64,
    /// How far the worker is behind the log, in seconds.
    pub lag_s: f64,
    /// Records of reports that are not in the history yet.
    pub not_stored: f64,
}

impl Sample {
    async fn take(services: &Services) -> Self {
        let (gateway, fanout, sink) =
            tokio::join!(services.metrics("gateway"), services.metrics("fanout"), services.metrics("history-sink"));
        let published = ["outcome=\"published\"", "outcome=\"stored\""]
            .map(|outcome| gateway.sum("nearcast_ingest_reports_total", outcome));
        Self {
            at_ms: now_ms(),
            resident: services.resident(),
            in_flight: gateway.sum("nearcast_ingest_in_flight", ""),
            lag_s: fanout.max("nearcast_fanout_lag_seconds"),
            not_stored: published.iter().sum::<f64>() - sink.sum("nearcast_history_sink_rows_stored_total", ""),
        }
    }

    /// Nothing is behind: the pairs alone report.
    fn is_calm(&self, plan: Plan) -> bool {
        self.in_flight <= (10 * plan.pairs) as f64 && self.lag_s < 1.0
    }
}

/// Plays it; whether all was well.
pub async fn play(plan: Plan) -> bool {
    let services = Services::start().await;
    let signer = signer();
    let users: Vec<String> = (0..plan.phones).map(|phone| format!("c{phone}")).collect();
    befriend(&services, &signer, plan, &users).await;
    println!("{} users are friends", plan.phones + 2 * plan.pairs);
    let pairs = Pairs::start(&services.ws, &signer, plan.pairs).await;
    let crowd = Crowd::start(&services.ws, &signer, &users, Pace::Rest).await;
    println!("all are connected");
    let mut report = Report::default();

    report.begins(Phase::Calm);
    watch(&services, &mut report, plan.probe / 2).await;
    report.begins(Phase::Probe);
    crowd.report(Pace::Answered(plan.unanswered));
    // The first third warms up.
    watch(&services, &mut report, plan.probe / 3).await;
    let (accepted, begun) = (crowd.counts.accepted.load(Ordering::Relaxed), Instant::now());
    watch(&services, &mut report, plan.probe * 2 / 3).await;
    let accepted = crowd.counts.accepted.load(Ordering::Relaxed) - accepted;
    let takes = accepted as f64 / begun.elapsed().as_secs_f64();
    crowd.report(Pace::Rest);
    until_calm(&services, &mut report, plan).await.expect("the probe is over");
    println!("the machine takes {takes:.0} reports/s");

    take_latencies(&crowd);
    let sent = || [&crowd.counts.sent, &crowd.counts.accepted].map(|count| count.load(Ordering::Relaxed));
    let before = sent();
    let came_back = crowd.counts.came_back.load(Ordering::Relaxed);
    let refused = crowd.counts.refusals.all();
    report.begins(Phase::Load);
    let begun = Instant::now();
    crowd.report(Pace::Every(Duration::from_secs_f64(plan.phones as f64 / (2.0 * takes))));
    let mut storms = 0;
    while begun.elapsed() < plan.load {
        let left = plan.load.saturating_sub(begun.elapsed());
        watch(&services, &mut report, plan.storm_every.min(left)).await;
        // The last one comes back while there is load.
        if plan.load.saturating_sub(begun.elapsed()) >= plan.storm_every / 2 {
            crowd.storm();
            storms += 1;
            println!("{:.0} s: storm {storms}", begun.elapsed().as_secs_f64());
        }
    }
    let loaded = begun.elapsed();
    crowd.report(Pace::Rest);
    report.begins(Phase::After);
    let after = sent();
    let taken = after[1] - before[1];
    let calm = until_calm(&services, &mut report, plan).await;
    // The pairs go on for a while as before.
    watch(&services, &mut report, plan.probe).await;

    report.load(takes, loaded, [after[0] - before[0], taken], storms);
    report.came_back = crowd.counts.came_back.load(Ordering::Relaxed) - came_back;
    let all = crowd.counts.refusals.all();
    report.refused = less(&all, &refused);
    report.latencies = take_latencies(&crowd);
    let (pair_books, shown, unseen) = pairs.end().await;
    let mut books = crowd.end().await;
    books.extend(pair_books);
    report.shown = shown;
    report.recovered(calm);

    // What must be so.
    let gateway = services.metrics("gateway").await;
    let mut findings =
        unseen.into_iter().map(|unseen| format!("accepted and never shown: {unseen}")).collect::<Vec<_>>();
    for (code, count) in &all {
        if [NO_ANSWER, TIMEOUT].contains(&code.as_str()) {
            continue;
        }
        let counted = gateway.sum("nearcast_gateway_refusals_total", &format!("code=\"{code}\""));
        if Refusal::from_code(code).is_none() {
            findings.push(format!("{code} is no stable code"));
        } else if counted < *count as f64 {
            findings.push(format!("phones heard {code} {count} times, the gateway counts {counted}"));
        }
    }
    if calm.is_none() {
        findings.push(format!("not itself again {RECOVERS_WITHIN:?} after the load"));
    }
    findings.extend(report.memory(GROWTH, GROWTH_BYTES));
    report.findings = findings;
    report.print(plan);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name(format!("{}.json", plan.name));
    report.write(plan, &path);
    // What the log holds is safe; how long the history needs for it is a figure.
    match until_stored(&services, &mut report).await {
        Some(stored) => report.stored(stored),
        None => report.findings.push(format!("the history is behind {STORED_WITHIN:?} after the load")),
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    ledger::write(file.path(), &books);
    // Fails when it does not close.
    let closed = account(&services.stack, file.path());
    report.account(&closed, books.iter().map(ledger::Book::accepted).sum());
    report.print_account();
    report.write(plan, &path);
    services.end().await;
    report.findings.is_empty()
}

/// Looks at the deployment for so long.
async fn watch(services: &Services, report: &mut Report, time: Duration) {
    let until = Instant::now() + time;
    loop {
        report.samples.push(Sample::take(services).await);
        let next = Instant::now() + LOOK_EVERY;
        sleep_until(next.min(until)).await;
        if next >= until {
            return;
        }
    }
}

/// Waits until nothing is behind. When that was, if it was.
async fn until_calm(services: &Services, report: &mut Report, plan: Plan) -> Option<i64> {
    let begun = Instant::now();
    while begun.elapsed() < RECOVERS_WITHIN {
        let sample = Sample::take(services).await;
        report.samples.push(sample.clone());
        if sample.is_calm(plan) {
            return Some(sample.at_ms);
        }
        sleep(LOOK_EVERY / 2).await;
    }
    None
}

/// Waits until the history holds what the log does. Nobody reports any more. When that was, if it was.
async fn until_stored(services: &Services, report: &mut Report) -> Option<i64> {
    let begun = Instant::now();
    while begun.elapsed() < STORED_WITHIN {
        let sample = Sample::take(services).await;
        report.samples.push(sample.clone());
        if sample.not_stored <= 0.0 {
            return Some(sample.at_ms);
        }
        sleep(LOOK_EVERY).await;
    }
    None
}

fn take_latencies(crowd: &Crowd) -> Vec<u32> {
    std::mem::take(&mut *crowd.counts.latencies.lock().unwrap_or_else(PoisonError::into_inner))
}

fn less(all: &BTreeMap<String, u64>, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let less = all.iter().map(|(code, count)| (code.clone(), count - before.get(code).copied().unwrap_or(0)));
    less.filter(|(_, count)| *count > 0).collect()
}

/// Makes everybody friends by the REST API: the crowd in a ring, the pairs two and two.
async fn befriend(services: &Services, signer: &Signer, plan: Plan, users: &[String]) {
    const AT_ONCE: usize = 16;
    let http = reqwest::Client::new();
    let call = |method: &'static str, user: String, path: String| {
        let token = signer.sign(&user, Duration::from_secs(600), &[]).unwrap();
        let url = format!("http://{}{path}", services.api);
        let request = http.request(method.parse().unwrap(), url).bearer_auth(token);
        async move {
            let answer = request.send().await.unwrap();
            let status = answer.status();
            let body: Value = answer.json().await.unwrap_or_default();
            assert!(status.is_success(), "{method} {path}: {status} {body}");
        }
    };
    let of_pairs = (0..plan.pairs).flat_map(|pair| [mover(pair), friend(pair)]);
    let everybody = users.iter().cloned().chain(of_pairs);
    let registered = stream::iter(everybody.map(|user| call("GET", user, "/v1/me".to_owned())));
    registered.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    let ring = (0..users.len()).flat_map(|user| (1..=plan.friends / 2).map(move |step| (user, step)));
    let ring = ring.map(|(user, step)| (users[user].clone(), users[(user + step) % users.len()].clone()));
    let friends = ring.chain((0..plan.pairs).map(|pair| (mover(pair), friend(pair))));
    let made = stream::iter(friends.map(|(one, other)| {
        let asked = call("POST", one.clone(), format!("/v1/friends/{other}/request"));
        let accepted = call("POST", other, format!("/v1/friends/{one}/accept"));
        async move {
            asked.await;
            accepted.await;
        }
    }));
    made.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}
