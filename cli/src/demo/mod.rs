//! `nearcast demo`: everything in one process, simulated phones on real WebSockets, and one user's list as it lives.

pub mod args;
mod choice;
mod names;
mod neighbours;
mod rates;
mod scene;
mod screen;

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, bail};
use nearcast_runtime::clock::now_ms;
use nearcast_runtime::lifecycle::Shutdown;
use nearcast_runtime::telemetry::Metrics;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::args::DemoArgs;
use self::choice::liveliest;
use self::scene::{EMBEDDED, Scene};
use self::screen::Screen;
use crate::failure::Failure;
use crate::output::line;
use crate::settings::Settings;
use crate::simulate::fleet::{self, Play, Watchers};
use crate::simulate::graph::Graph;
use crate::simulate::http::Api;
use crate::simulate::ledger::Progress;
use crate::simulate::run::{run_name, set_up, town};
use crate::simulate::target;
use crate::simulate::trust;
use crate::simulate::view::Step;

/// The table is drawn this often.
const DRAW_EVERY: Duration = Duration::from_millis(250);
/// Phones are switched on at this rate a second.
const SWITCHED_ON_PER_S: f64 = 200.0;
/// Rates are taken, and plain lines printed, this often.
const READ_EVERY: Duration = Duration::from_secs(1);

/// Runs the demo until its time is over or somebody ends it; both are a good end, and the audit's verdict is said.
///
/// # Errors
/// When a service failed, or the users could not be made.
pub async fn run(args: DemoArgs, settings: Settings, metrics: Metrics, signals: Shutdown) -> Result<(), Failure> {
    line(format_args!("nearcast demo, {EMBEDDED}"));
    let sign = target::signer(&settings)?;
    let centre = args.centre.0;
    let graph = Graph::build(args.phones as usize, args.friends as usize, centre, args.seed);
    let radius_m = f64::from(settings.deployment.default_radius_m);
    let watched = liveliest(&graph, centre, args.seed, radius_m).ok_or_else(|| anyhow!("there are no phones"))?;
    let mut cast = town(run_name(), graph, centre, args.seed, SWITCHED_ON_PER_S);
    cast.names = (0..cast.users.len()).map(names::name).collect();
    let (target, stage) = target::embedded(settings, metrics.clone(), &signals).await?;
    line(format_args!("gateway {}  api {}  seed {}", target.ws.join(" "), target.api, args.seed));
    let over = stage.over().clone();
    let played = async {
        let tls = trust::client(None)?;
        let gateways = target.gateways(&tls)?;
        let api = Api::new(&target.api, &tls, Arc::clone(&sign))?;
        tokio::select! {
            made = set_up(&gateways, &api, &cast, None) => made?,
            () = over.begun() => return Ok(None),
        }
        let mut scene = Scene::of(cast.names[watched].clone());
        line(format_args!("you see what {} sees, who has {} friends", scene.name, cast.friends[watched].len()));
        let (window, steps) = mpsc::unbounded_channel();
        let (progress, changes) = watch::channel(Progress::default());
        let play = Play {
            duration: args.duration,
            seed: args.seed,
            report_every: args.report_every,
            drop_rate: args.drop_rate,
            away: None,
            slack: Duration::from_secs(2),
            sabotage: false,
            embedded: true,
        };
        let watchers = Watchers { progress, window: Some((watched as u32, window)), ledger: None, timeline: None };
        let fleet = fleet::run(cast, &play, gateways, sign, watchers, &over);
        let show = show(&mut scene, steps, changes, &metrics, &over);
        let (report, shown) = tokio::join!(fleet, show);
        shown?;
        report.map(Some)
    };
    let played = played.await;
    // A service that failed is why the demo did.
    stage.close().await?;
    match played? {
        Some(report) => line(format_args!("{}", report.table().trim_end())),
        None => line(format_args!("ended before the phones were switched on")),
    }
    Ok(())
}

/// Shows the list until the phones are gone.
async fn show(
    scene: &mut Scene,
    mut steps: mpsc::UnboundedReceiver<Step>,
    progress: watch::Receiver<Progress>,
    metrics: &Metrics,
    over: &Shutdown,
) -> anyhow::Result<()> {
    let mut screen = if std::io::stdout().is_terminal() { Some(Screen::take()?) } else { None };
    let mut ticks = interval(if screen.is_some() { DRAW_EVERY } else { READ_EVERY });
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut read_at = Instant::now();
    loop {
        tokio::select! {
            step = steps.recv() => {
                let Some(step) = step else { return Ok(()) };
                let told = scene.neighbours.apply(step, now_ms());
                if screen.is_none() {
                    tell(told);
                }
            }
            _ = ticks.tick() => {
                let told = scene.neighbours.settle(now_ms());
                scene.progress = progress.borrow().clone();
                if Instant::now() >= read_at {
                    read_at = Instant::now() + READ_EVERY - DRAW_EVERY / 2;
                    scene.read(&metrics.render(), now_ms());
                }
                match &mut screen {
                    Some(screen) => {
                        if screen.draw(scene, now_ms()).is_err() {
                            over.begin();
                            bail!("the terminal is gone");
                        }
                        if Screen::asked_to_leave()? {
                            over.begin();
                        }
                    }
                    None => {
                        tell(told);
                        line(format_args!("{}", scene.line()));
                    }
                }
            }
        }
    }
}

fn tell(lines: impl IntoIterator<Item = String>) {
    lines.into_iter().for_each(|told| line(format_args!("{told}")));
}
