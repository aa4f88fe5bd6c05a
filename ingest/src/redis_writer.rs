//! What writes to Redis in the background.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::Either;
use futures_util::stream::FuturesUnordered;
use nearcast_runtime::health::Component;
use nearcast_runtime::lifecycle::Shutdown;
use nearcast_schemas::event::Mode;
use tokio::sync::{Notify, mpsc};
use tokio::time::MissedTickBehavior;

use crate::cache::{LastSeen, Session};
use crate::events::{CacheWrite, CacheWritten};
use crate::in_flight::Permit;
use crate::redis::Store;

/// Writes on their way at once; the connections pipeline them.
const AT_ONCE: usize = 1_024;
/// Between two looks whether Redis answers.
const PROBE_EVERY: Duration = Duration::from_millis(500);
/// Users whose pauses and erasures are kept until Redis is back.
const OWED_AT_MOST: usize = 100_000;
/// Of these users, how many are served after each look.
const OWED_A_PROBE: usize = 4_096;

/// One thing to write about a user.
#[derive(Clone)]
pub(crate) enum Write {
    Position(LastSeen),
    Mode(Mode),
    /// Append time of the erasure.
    Erasure(i64),
    Session(Session),
    NoSession(Session),
}

impl Write {
    pub fn what(&self) -> CacheWrite {
        match self {
            Self::Position(_) => CacheWrite::Position,
            Self::Mode(_) => CacheWrite::Mode,
            Self::Erasure(_) => CacheWrite::Erasure,
            Self::Session(_) | Self::NoSession(_) => CacheWrite::Session,
        }
    }

    /// Somebody would be shown against their will if this were lost; of everything else the next report brings another.
    pub fn is_owed(&self) -> bool {
        matches!(self, Self::Mode(_) | Self::Erasure(_))
    }
}

/// A write that waits.
pub(crate) struct Job {
    pub user: String,
    pub write: Write,
    pub permit: Permit,
}

/// Writes to Redis in the background, and looks whether it answers.
#[must_use = "without it nothing reaches Redis"]
pub struct RedisWriter {
    store: Arc<Store>,
    jobs: mpsc::UnboundedReceiver<Job>,
}

/// What a user is owed because it could not be written.
#[derive(Clone, Copy, Default)]
struct Owed {
    mode: Option<Mode>,
    erased_at: Option<i64>,
}

impl std::fmt::Debug for RedisWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisWriter").field("redis", &self.store.link.names()).finish_non_exhaustive()
    }
}

impl RedisWriter {
    pub(crate) fn new(store: Arc<Store>, jobs: mpsc::UnboundedReceiver<Job>) -> Self {
        Self { store, jobs }
    }

    /// Runs until the shutdown begins; then writes what waits and returns. Services that write while they drain want
    /// a shutdown here that begins after they have ended.
    ///
    /// The component is degraded while Redis does not answer: everything goes on without it, with empty first answers.
    ///
    /// # Errors
    /// None; the type fits [`nearcast_runtime::lifecycle::Tasks::spawn`].
    pub async fn run(mut self, component: Component, shutdown: Shutdown) -> Result<(), Infallible> {
        let mut writing = FuturesUnordered::new();
        let mut owed: HashMap<String, Owed> = HashMap::new();
        let answers = Notify::new();
        // Beside the writes and not between them: a write may hold what this waits for, and the other way round.
        let looking = look(&self.store, &component, &answers);
        tokio::pin!(looking);
        let (mut closing, mut open) = (false, true);
        while open || !writing.is_empty() {
            tokio::select! {
                Some(unwritten) = writing.next() => if let Some((user, more)) = unwritten {
                    owe(&mut owed, user, more);
                },
                job = self.jobs.recv(), if open && writing.len() < AT_ONCE => match job {
                    Some(job) => writing.push(Either::Left(do_job(&self.store, job))),
                    None => open = false,
                },
                () = answers.notified() => {
                    let due: Vec<String> = owed.keys().take(OWED_A_PROBE).cloned().collect();
                    let due = due.into_iter().filter_map(|user| owed.remove_entry(&user));
                    writing.extend(due.map(|(user, owed)| Either::Right(pay(&self.store, user, owed))));
                }
                _ = &mut looking => {}
                () = shutdown.begun(), if !closing => {
                    closing = true;
                    // What waits is still received.
                    self.jobs.close();
                }
            }
        }
        for (user, owed) in owed {
            pay(&self.store, user, owed).await;
        }
        shutdown.begun().await;
        Ok(())
    }
}

/// Looks again and again whether Redis answers, and says when it does.
async fn look(store: &Store, component: &Component, answers: &Notify) -> Infallible {
    let mut looks = tokio::time::interval(PROBE_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        match store.link.probe().await {
            Ok(()) => {
                component.ready();
                answers.notify_one();
            }
            Err(error) => component.degraded(format!(
                "no answer from Redis at {}: {error}; start it (locally: `make up`) or set redis.nodes",
                store.link.names()
            )),
        }
    }
}

/// Does one write; returns what is owed if it failed.
async fn do_job(store: &Store, Job { user, write, permit }: Job) -> Option<(String, Owed)> {
    let failed = store.write(&user, &write).await.is_err();
    drop(permit);
    match write {
        Write::Mode(mode) if failed => Some((user, Owed { mode: Some(mode), erased_at: None })),
        Write::Erasure(at) if failed => Some((user, Owed { mode: None, erased_at: Some(at) })),
        _ => None,
    }
}

/// Writes what is owed to a user; returns what still is.
async fn pay(store: &Store, user: String, mut owed: Owed) -> Option<(String, Owed)> {
    // The erasure first, because it forgets the mode.
    if let Some(at) = owed.erased_at
        && store.write(&user, &Write::Erasure(at)).await.is_ok()
    {
        owed.erased_at = None;
    }
    if let Some(mode) = owed.mode
        && owed.erased_at.is_none()
        && store.write(&user, &Write::Mode(mode)).await.is_ok()
    {
        owed.mode = None;
    }
    (owed.mode.is_some() || owed.erased_at.is_some()).then_some((user, owed))
}

/// Keeps what could not be written until Redis is back.
fn owe(owed: &mut HashMap<String, Owed>, user: String, more: Owed) {
    if owed.len() >= OWED_AT_MOST && !owed.contains_key(&user) {
        let what = if more.erased_at.is_some() { CacheWrite::Erasure } else { CacheWrite::Mode };
        return CacheWritten { what, result: "dropped" }.emit();
    }
    let known = owed.entry(user).or_default();
    known.erased_at = known.erased_at.max(more.erased_at);
    known.mode = known.mode.into_iter().chain(more.mode).max_by_key(|mode| mode.version);
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearcast_schemas::event::Sharing;

    fn mode(version: i64) -> Owed {
        let mode = Mode { sharing: Sharing::Hidden, until: 0, discoverable: false, version };
        Owed { mode: Some(mode), erased_at: None }
    }

    #[test]
    fn the_highest_version_and_the_latest_erasure_are_owed() {
        let mut owed = HashMap::new();
        for more in [mode(2), mode(3), mode(1), Owed { mode: None, erased_at: Some(7) }] {
            owe(&mut owed, "alice".to_owned(), more);
        }
        owe(&mut owed, "alice".to_owned(), Owed { mode: None, erased_at: Some(6) });
        let alice = owed["alice"];
        assert_eq!((alice.mode.map(|mode| mode.version), alice.erased_at), (Some(3), Some(7)));
    }

    #[test]
    fn what_is_owed_is_bounded() {
        let mut owed = HashMap::new();
        for user in 0..OWED_AT_MOST + 5 {
            owe(&mut owed, user.to_string(), mode(1));
        }
        assert_eq!(owed.len(), OWED_AT_MOST);
        owe(&mut owed, "0".to_owned(), mode(2));
        assert_eq!(owed["0"].mode.map(|mode| mode.version), Some(2), "who is owed something already");
    }
}
