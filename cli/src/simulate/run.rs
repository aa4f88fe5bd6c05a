//! From the command line to the report.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, anyhow, bail};
use nearcast_geo::Position;
use nearcast_runtime::lifecycle::Shutdown;
use nearcast_runtime::telemetry::Metrics;
use tokio::sync::watch;

use super::args::SimulateArgs;
use super::console::{self, say, show};
use super::fleet::{self, Cast, Play, Watchers};
use super::graph::{self, Graph};
use super::http::Api;
use super::ledger::Progress;
use super::ledger_file::LedgerFile;
use super::movement::Walker;
use super::mover::Mover;
use super::phone::Sign;
use super::report::Report;
use super::target::{self, Stage, Target};
use super::timeline::Timeline;
use super::traces::Trace;
use super::trust;
use super::ws::Address;
use crate::failure::Failure;
use crate::settings::Settings;

/// How long phones report unless it is said.
const DURATION: Duration = Duration::from_secs(60);
/// Phones are switched on at this rate a second, as they would not all be at one moment.
const SWITCHED_ON_PER_S: f64 = 50.0;

/// Simulates, prints the table, writes the JSON.
///
/// # Errors
/// When the run could not be made, or the audit is not clean.
pub async fn run(args: SimulateArgs, settings: Settings, metrics: Metrics, signals: Shutdown) -> Result<(), Failure> {
    let sign = target::signer(&settings)?;
    let cast = cast(&args)?;
    let duration = args.duration.or_else(|| played_after(&cast)).unwrap_or(DURATION);
    let (target, stage) = if args.embedded {
        target::embedded(settings, metrics, &signals).await?
    } else {
        (target::deployment(&settings, &args.ws, args.api.as_deref()), Stage::none(&signals))
    };
    let played = play(&args, cast, duration, &target, sign, stage.over()).await;
    // The services drain whether the run went well or not; a service that failed is why the run did.
    stage.close().await?;
    let report = played?;
    say(report.table().trim_end());
    if let Some(file) = &args.json {
        write(file, &report)?;
    }
    if report.passed() { Ok(()) } else { Err(anyhow!("the audit: {}", report.sentence()).into()) }
}

async fn play(
    args: &SimulateArgs,
    cast: Cast,
    duration: Duration,
    target: &Target,
    sign: Sign,
    over: &Shutdown,
) -> anyhow::Result<Report> {
    let tls = trust::client(args.ca.as_deref())?;
    let gateways = target.gateways(&tls)?;
    let api = Api::new(&target.api, &tls, Arc::clone(&sign))?;
    let whose = if args.embedded { "embedded services" } else { "a deployment" };
    let (phones, at) = (cast.users.len(), target.ws.join(", "));
    say(&format!("run {}: seed {}, {phones} phones, {whose} at {at}", cast.run, args.seed));
    if args.sabotage && args.report_every <= args.slack + Duration::from_secs(1) {
        say("note: at this rate a dropped update is often replaced before the slack is over; use --report-every 5s");
    }
    tokio::select! {
        made = set_up(&gateways, &api, &cast, args.radius) => made?,
        () = over.begun() => bail!("interrupted while users and friendships were made"),
    }
    let play = Play {
        duration: Some(duration),
        seed: args.seed,
        report_every: args.report_every,
        drop_rate: args.drop_rate,
        away: args.away,
        slack: args.slack,
        sabotage: args.sabotage,
        embedded: args.embedded,
    };
    let ledger = args.ledger.as_deref().map(|file| LedgerFile::create(file, &cast.users)).transpose()?.map(Arc::new);
    let timeline = args.timeline.as_deref().map(Timeline::create).transpose()?;
    let (progress, watched) = watch::channel(Progress::default());
    let telling = tokio::spawn(console::tell(watched));
    let watchers = Watchers { progress, window: None, ledger: ledger.clone(), timeline };
    let report = fleet::run(cast, &play, gateways, sign, watchers, over).await;
    telling.await.context("the progress could not be shown")?;
    if let Some(ledger) = ledger {
        ledger.end()?;
    }
    report
}

/// A look at the gateways' certificates, users, friendships, and a look at whether they are there.
pub(crate) async fn set_up(gateways: &[Address], api: &Api, cast: &Cast, radius_m: Option<u32>) -> anyhow::Result<()> {
    for gateway in gateways {
        gateway.check().await?;
    }
    let pairs = graph::scattered(&cast.friends);
    let began = std::time::Instant::now();
    let (users, friendships) = (cast.users.len(), pairs.len());
    api.make_users(&cast.users, &cast.names, radius_m, |n| show(&format!("{n}/{users} users"))).await?;
    api.make_friends(&cast.users, &pairs, |n| show(&format!("{n}/{friendships} friendships"))).await?;
    api.check_friends(&cast.users, &cast.friends).await?;
    say(&format!("{users} users and {friendships} friendships in {:.1} s", began.elapsed().as_secs_f64()));
    Ok(())
}

/// The cast that the options describe.
fn cast(args: &SimulateArgs) -> anyhow::Result<Cast> {
    let run = run_name();
    if args.trace.is_empty() {
        let graph = Graph::build(args.phones as usize, args.friends as usize, args.centre.0, args.seed);
        return Ok(town(run, graph, args.centre.0, args.seed, SWITCHED_ON_PER_S));
    }
    let mut movers = Vec::new();
    let mut names = Vec::new();
    for file in &args.trace {
        let opened = File::open(file).with_context(|| format!("{} cannot be read", file.display()))?;
        for trace in Trace::read(file, BufReader::new(opened))? {
            let trace = Arc::new(trace);
            say(&format!("{}: {} fixes over {:.0} s", trace.name, trace.len(), trace.lasts_s()));
            for phone in 0..args.phones_per_trace {
                let starts_s = args.stagger.as_secs_f64() * f64::from(phone);
                movers.push(Mover::play(Arc::clone(&trace), args.speed, starts_s));
                names.push(format!("{} {}", trace.name, phone + 1).chars().take(64).collect());
            }
        }
    }
    let users = user_ids(&run, args.seed, movers.len());
    Ok(Cast { run, users, names, friends: graph::complete(movers.len()), movers })
}

/// A town of walkers, who switch their phones on at a rate a second.
pub(crate) fn town(run: String, graph: Graph, centre: Position, seed: u64, on_per_s: f64) -> Cast {
    let phones = graph.homes.len();
    let mover = |(index, &home)| {
        let starts_s = f64::from(index) / on_per_s;
        Mover::walk(Walker::new(home, centre, seed, index), starts_s)
    };
    let movers = (0..).zip(&graph.homes).map(mover).collect();
    let users = user_ids(&run, seed, phones);
    let names = (0..phones).map(|index| format!("Phone {index}")).collect();
    Cast { run, users, names, friends: graph.friends, movers }
}

/// Two runs with one seed must not meet: their users differ by the time of the run.
pub(crate) fn run_name() -> String {
    let ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    format!("{:x}", ms ^ (u128::from(std::process::id()) << 20))
}

fn user_ids(run: &str, seed: u64, count: usize) -> Vec<String> {
    (0..count).map(|index| format!("s{seed}-{index:04}-{run}")).collect()
}

/// How long it takes until the last recording was played, and the last change was seen.
fn played_after(cast: &Cast) -> Option<Duration> {
    let last_end_s = cast.movers.iter().filter_map(Mover::ends_s).reduce(f64::max)?;
    Some(Duration::from_secs_f64((last_end_s - cast.complete_s()).max(0.0)) + Duration::from_secs(5))
}

fn write(file: &Path, report: &Report) -> anyhow::Result<()> {
    let json = serde_json::to_string_pretty(report)?;
    std::fs::write(file, json + "\n").with_context(|| format!("the report could not be written to {}", file.display()))
}

#[cfg(test)]
mod tests {
    use nearcast_schemas::ids::check_id;

    use super::*;

    #[test]
    fn user_ids_are_ids_and_differ_by_run() {
        let ids = user_ids(&run_name(), u64::MAX, 3);
        assert!(ids.iter().all(|id| check_id(id).is_ok()), "{ids:?}");
        assert_ne!(user_ids("a", 1, 1), user_ids("b", 1, 1));
    }
}
