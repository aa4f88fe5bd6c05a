//! A run: all phones, and the audit beside them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use nearcast_runtime::lifecycle::Shutdown;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::clock::{Clock, until};
use super::ledger::{Ledger, Progress, Told};
use super::ledger_file::LedgerFile;
use super::mover::Mover;
use super::pace::Pace;
use super::phone::{Common, Phone, Sign, Window};
use super::report::{Facts, Report};
use super::sabotage::Sabotage;
use super::timeline::Timeline;
use super::truth::Micros;
use super::ws::Address;

/// How often lists are compared with what they must be.
const INSPECT_EVERY: Duration = Duration::from_millis(250);
/// How often the progress is told.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// After the last report answers may take this long, beyond the slack.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// Phones close their sockets within this.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);
/// What the auditor takes up at once.
const AT_ONCE: usize = 4_096;

/// Who takes part.
pub(crate) struct Cast {
    /// The run's name.
    pub(crate) run: String,
    /// User ids.
    pub(crate) users: Vec<String>,
    /// What they are called.
    pub(crate) names: Vec<String>,
    /// Each one's friends.
    pub(crate) friends: Vec<Vec<u32>>,
    /// Each one's way.
    pub(crate) movers: Vec<Mover>,
}

impl Cast {
    /// When the last phone is switched on, seconds since the run began.
    pub(crate) fn complete_s(&self) -> f64 {
        self.movers.iter().map(Mover::starts_s).fold(0.0, f64::max)
    }
}

/// How it is played.
#[derive(Clone, Debug)]
pub(crate) struct Play {
    /// How long phones report after the last was switched on; without it, until the shutdown.
    pub(crate) duration: Option<Duration>,
    /// The seed.
    pub(crate) seed: u64,
    /// A phone reports about this often.
    pub(crate) report_every: Duration,
    /// Sockets lost a minute and socket.
    pub(crate) drop_rate: f64,
    /// How long whoever closes the app stays away; without it, as little as after any loss.
    pub(crate) away: Option<Duration>,
    /// How long a change may take to be seen.
    pub(crate) slack: Duration,
    /// Phones lose one update in a thousand.
    pub(crate) sabotage: bool,
    /// Everything runs in this process.
    pub(crate) embedded: bool,
}

/// Whoever watches a run.
pub(crate) struct Watchers {
    /// Gets the progress each second.
    pub(crate) progress: watch::Sender<Progress>,
    /// Looks at this phone's list.
    pub(crate) window: Option<(u32, Window)>,
    /// Keeps what is sent and acknowledged.
    pub(crate) ledger: Option<Arc<LedgerFile>>,
    /// Is told how phones fare.
    pub(crate) timeline: Option<Timeline>,
}

/// Runs the phones to the end, or until `shutdown`, and reports.
///
/// # Errors
/// When a phone's task panicked: then nothing that was found can be relied on.
pub(crate) async fn run(
    cast: Cast,
    play: &Play,
    gateways: Vec<Address>,
    sign: Sign,
    watchers: Watchers,
    shutdown: &Shutdown,
) -> anyhow::Result<Report> {
    let clock = Clock::start();
    let (ledger, told) = mpsc::unbounded_channel();
    let (quiet, end) = (CancellationToken::new(), CancellationToken::new());
    let indices = cast.users.iter().cloned().zip(0..).collect();
    let common = Arc::new(Common {
        clock,
        gateways,
        sign,
        indices,
        play: play.clone(),
        sabotage: play.sabotage.then(Sabotage::default),
        ledger,
        file: watchers.ledger,
        quiet: quiet.clone(),
        end: end.clone(),
    });
    let friends_mean = cast.friends.iter().map(Vec::len).sum::<usize>() as f64 / cast.friends.len().max(1) as f64;
    let complete_s = cast.complete_s();
    let progress = watchers.progress.subscribe();
    let slack = play.slack.as_micros() as Micros;
    let auditor =
        tokio::spawn(audit(Ledger::new(&cast.friends), slack, clock, told, watchers.progress, watchers.timeline));
    let mut phones = JoinSet::new();
    for ((index, user), mover) in (0..).zip(cast.users.iter().cloned()).zip(cast.movers) {
        let window = watchers.window.as_ref().filter(|(of, _)| *of == index).map(|(_, window)| window.clone());
        phones.spawn(Phone::new(Arc::clone(&common), index, user, mover, window).run());
    }
    drop((common, watchers.window));

    let over_at = play.duration.map(|duration| clock.instant_at(complete_s) + duration);
    let failure = tokio::select! {
        () = until(over_at) => None,
        () = shutdown.begun() => None,
        // Phones that the server retired do not end a run.
        failure = failed(&mut phones) => Some(failure),
    };
    if let Some(failure) = failure {
        return Err(failure).context("a simulated phone failed");
    }
    let duration_s = clock.elapsed_s();
    quiet.cancel();
    tokio::select! {
        () = settled(progress, play.slack) => {}
        () = shutdown.begun() => {}
    }
    let interrupted = shutdown.is_begun() && play.duration.is_some();
    end.cancel();
    let closing = async {
        while let Some(ended) = phones.join_next().await {
            ended.context("a simulated phone failed")?;
        }
        anyhow::Ok(())
    };
    match timeout(CLOSE_WITHIN, closing).await {
        Ok(closed) => closed?,
        Err(_) => phones.abort_all(),
    }
    while phones.join_next().await.is_some() {}
    let (ledger, pace) = auditor.await.context("the audit failed")??;
    let facts = Facts {
        run: cast.run,
        seed: play.seed,
        users: cast.users,
        friends: friends_mean,
        duration_s,
        embedded: play.embedded,
        sabotage: play.sabotage,
        interrupted,
    };
    Ok(Report::of(facts, &ledger, &pace))
}

/// Owns the ledger: takes what phones tell, inspects, and tells the progress, until the last phone has gone.
async fn audit(
    mut ledger: Ledger,
    slack: Micros,
    clock: Clock,
    mut told: mpsc::UnboundedReceiver<Told>,
    progress: watch::Sender<Progress>,
    mut timeline: Option<Timeline>,
) -> anyhow::Result<(Ledger, Pace)> {
    let mut pace = Pace::new(INSPECT_EVERY.as_micros() as Micros, slack);
    let mut ticks = interval(INSPECT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut batch = Vec::with_capacity(AT_ONCE);
    let mut tell_at = Instant::now();
    loop {
        tokio::select! {
            count = told.recv_many(&mut batch, AT_ONCE) => {
                if count == 0 {
                    return Ok((ledger, pace));
                }
                batch.drain(..).for_each(|told| ledger.take(told));
            }
            _ = ticks.tick() => {
                let now = clock.now();
                // What the phones saw before this instant counts before it is judged.
                while let Ok(told) = told.try_recv() {
                    ledger.take(told);
                }
                let wide = pace.tick(now);
                ledger.inspect(now, wide);
                if let Some(timeline) = &mut timeline {
                    timeline.write(&ledger.moment(now, Timeline::SLACK + wide - slack))?;
                }
                if Instant::now() >= tell_at {
                    tell_at += TELL_EVERY;
                    progress.send_replace(ledger.progress(clock.elapsed()));
                }
            }
        }
    }
}

/// Returns when every report was answered, or answers are not to be expected any more; the slack has passed in any
/// case, so that the last changes are judged too.
async fn settled(mut progress: watch::Receiver<Progress>, slack: Duration) {
    tokio::time::sleep(slack + INSPECT_EVERY * 2).await;
    // Without an auditor there is nothing to wait for.
    let _ = timeout(ANSWERS_WITHIN, progress.wait_for(|progress| progress.unacknowledged == 0)).await;
}

/// Returns when a phone panicked.
async fn failed(phones: &mut JoinSet<()>) -> JoinError {
    loop {
        match phones.join_next().await {
            Some(Ok(())) => {}
            Some(Err(failure)) => return failure,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
#[path = "fleet_tests.rs"]
mod tests;
