//! The issuer's keys, fetched from their address, kept, and fetched again.

use std::convert::Infallible;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{counter, gauge};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use tokio::sync::watch;
use tokio::time::Instant;

use super::config::{AuthConfig, KeyError};
use super::jwks::KeySet;
use crate::health::{Component, Readiness};
use crate::lifecycle::Shutdown;

/// An issuer has to answer within this time: as long as a client waits for its handshake, and no longer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Larger answers are no JWK Set.
const MAX_BYTES: usize = 1 << 20;
/// After a failure it is tried again after a second, then after twice as long each time, up to this.
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// How often the age of the keys is told anew.
const TELL_EVERY: Duration = Duration::from_secs(15);

/// How long to wait for what.
#[derive(Clone, Copy, Debug)]
struct Times {
    refresh: Duration,
    pause: Duration,
    max_age: Duration,
}

/// The issuer's keys. Shared by all who verify in this process.
pub(super) struct Issuer {
    url: Url,
    client: Client,
    times: Times,
    /// There are no other keys.
    alone: bool,
    state: Mutex<State>,
    /// Counts the answers and failures.
    done: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    keys: Option<(Arc<KeySet>, Instant)>,
    /// One is under way.
    flying: bool,
    /// When a token was last a reason to ask.
    asked_at: Option<Instant>,
    tried_at: Option<Instant>,
    /// In a row.
    failures: u32,
    failure: String,
}

/// Why keys were not fetched.
struct Failed {
    outcome: &'static str,
    why: String,
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("url", &self.shown()).finish_non_exhaustive()
    }
}

impl Issuer {
    /// For the keys at an address. Nothing is fetched yet. `alone`: there are no others.
    pub fn new(url: Url, config: &AuthConfig, alone: bool) -> Result<Arc<Self>, KeyError> {
        // An answer that leads elsewhere may lead to where anybody can write.
        let client = Client::builder().timeout(TIMEOUT).connect_timeout(TIMEOUT).redirect(Policy::none());
        // This machine is behind no proxy.
        let client = if url.scheme() == "http" { client.no_proxy() } else { client };
        let client = client.build().map_err(|error| KeyError::Http(error.to_string()))?;
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let times = Times {
            refresh: seconds(config.jwks_refresh_s),
            pause: seconds(config.jwks_pause_s),
            max_age: seconds(config.jwks_max_age_s),
        };
        let (done, _) = watch::channel(0);
        Ok(Arc::new(Self { url, client, times, alone, state: Mutex::default(), done }))
    }

    /// The keys, if there are any that are not too old.
    pub fn keys(&self) -> Option<Arc<KeySet>> {
        self.lock().usable(&self.times)
    }

    /// Whether the last try to fetch them failed.
    pub fn is_failing(&self) -> bool {
        self.lock().failures > 0
    }

    /// A token names a key that is not known: fetches them, unless a token had them fetched a short while ago. Whoever
    /// asks meanwhile waits for the same answer.
    pub async fn ask(self: &Arc<Self>) {
        self.fetched(|state| {
            let soon = state.asked_at.is_some_and(|asked| asked.elapsed() < self.times.pause);
            if !soon {
                state.asked_at = Some(Instant::now());
            }
            !soon
        })
        .await;
    }

    /// Fetches them; an answer that is under way will do.
    async fn refresh(self: &Arc<Self>) {
        self.fetched(|_| true).await;
    }

    async fn fetched(self: &Arc<Self>, may: impl FnOnce(&mut State) -> bool) {
        let mut done = {
            let mut state = self.lock();
            if !state.flying {
                if !may(&mut state) {
                    return;
                }
                state.flying = true;
                // A task of its own: it goes on when the client that was its reason goes away.
                tokio::spawn(Arc::clone(self).fetch());
            }
            self.done.subscribe()
        };
        // The sender is here, so that it cannot be gone.
        let _ = done.changed().await;
    }

    async fn fetch(self: Arc<Self>) {
        let got = self.get().await;
        let outcome = match &got {
            Ok(_) => "fetched",
            Err(failed) => failed.outcome,
        };
        counter!("nearcast_auth_jwks_fetches_total", "outcome" => outcome).increment(1);
        {
            let mut state = self.lock();
            let now = Instant::now();
            state.flying = false;
            state.tried_at = Some(now);
            match got {
                Ok(keys) => {
                    tracing::debug!(keys = keys.len(), "the issuer's keys are fetched");
                    state.keys = Some((Arc::new(keys), now));
                    state.failures = 0;
                    state.failure.clear();
                }
                Err(failed) => {
                    state.failures = state.failures.saturating_add(1);
                    state.failure = failed.why;
                }
            }
        }
        self.done.send_modify(|done| *done += 1);
    }

    async fn get(&self) -> Result<KeySet, Failed> {
        // The address is named without what an error adds to it, and the answer not at all.
        let unreachable = |error: reqwest::Error| Failed { outcome: "unreachable", why: causes(&error.without_url()) };
        let mut response = self.client.get(self.url.clone()).send().await.map_err(unreachable)?;
        let status = response.status();
        if !status.is_success() {
            return Err(Failed { outcome: "refused", why: format!("it answered {status}") });
        }
        let unusable = |why: &str| Failed { outcome: "unusable", why: why.to_owned() };
        let mut document = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if document.len() + chunk.len() > MAX_BYTES {
                return Err(unusable("the answer is too large"));
            }
            document.extend_from_slice(&chunk);
        }
        KeySet::parse(&document).map_err(unusable)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The address as it may be shown: a query may hold a key.
    fn shown(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        url.set_fragment(None);
        url.into()
    }

    /// Says how it goes. The sentences hold no ages: what differs each time would be logged each time.
    fn tell(&self, component: &Component) {
        let state = self.lock();
        if let Some((_, at)) = &state.keys {
            gauge!("nearcast_auth_jwks_age_seconds").set(at.elapsed().as_secs_f64());
        }
        let usable = state.usable(&self.times).is_some();
        let failed = || format!("the issuer's keys at {} cannot be fetched: {}", self.shown(), state.failure);
        match (usable, state.failures) {
            (true, 0) => component.ready(),
            // The first try is under way.
            (false, 0) => {}
            (true, _) => component.degraded(format!(
                "{}; the last ones serve until they are {} s old; see auth.jwks_url",
                failed(),
                self.times.max_age.as_secs()
            )),
            (false, _) if self.alone => {
                component.not_ready(format!("{}; no token can be verified; see auth.jwks_url", failed()));
            }
            (false, _) => component.degraded(format!(
                "{}; only tokens signed with a configured key are taken; see auth.jwks_url",
                failed()
            )),
        }
    }
}

impl State {
    fn usable(&self, times: &Times) -> Option<Arc<KeySet>> {
        self.keys.as_ref().filter(|(_, at)| at.elapsed() < times.max_age).map(|(keys, _)| Arc::clone(keys))
    }

    /// When they are to be fetched, whether or not anybody asks; none: now.
    fn due_at(&self, times: &Times) -> Option<Instant> {
        let wait = match self.failures {
            0 => times.refresh,
            failures => backoff(failures).min(times.refresh),
        };
        self.tried_at.map(|tried| tried + wait)
    }
}

fn backoff(failures: u32) -> Duration {
    let doubled = 1_u64 << failures.saturating_sub(1).min(10);
    Duration::from_secs(doubled).min(MAX_BACKOFF)
}

/// Keeps the issuer's keys fresh, and says how it goes.
#[derive(Debug)]
pub struct Keeper {
    issuer: Arc<Issuer>,
    component: Component,
}

impl Keeper {
    pub(super) fn new(issuer: Arc<Issuer>, readiness: &Readiness) -> Self {
        Self { issuer, component: readiness.component("keys") }
    }

    /// Fetches the keys at once, then again and again until the shutdown begins. It does not fail: an issuer that does
    /// not answer is asked again.
    ///
    /// # Errors
    /// None.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), Infallible> {
        tokio::select! {
            () = shutdown.begun() => {}
            never = self.keep() => match never {},
        }
        Ok(())
    }

    async fn keep(&self) -> Infallible {
        let mut done = self.issuer.done.subscribe();
        loop {
            let due_at = self.issuer.lock().due_at(&self.issuer.times);
            if due_at.is_none_or(|at| at <= Instant::now()) {
                self.issuer.refresh().await;
                self.issuer.tell(&self.component);
                continue;
            }
            self.issuer.tell(&self.component);
            let tell_at = Instant::now() + TELL_EVERY;
            tokio::select! {
                // Somebody's token had them fetched.
                _ = done.changed() => {}
                () = tokio::time::sleep_until(due_at.unwrap_or(tell_at).min(tell_at)) => {}
            }
        }
    }
}

/// An error and what caused it, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times() -> Times {
        Times { refresh: Duration::from_secs(300), pause: Duration::from_secs(30), max_age: Duration::from_secs(3_600) }
    }

    #[tokio::test(start_paused = true)]
    async fn keys_serve_until_they_are_too_old() {
        let mut state = State { keys: Some((Arc::default(), Instant::now())), ..State::default() };
        state.failures = 9;
        tokio::time::advance(Duration::from_secs(3_599)).await;
        assert!(state.usable(&times()).is_some());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(state.usable(&times()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_tried_again_soon_and_then_less_often() {
        let mut state = State::default();
        assert_eq!(state.due_at(&times()), None, "at once");
        let now = Instant::now();
        state.tried_at = Some(now);
        for (failures, seconds) in [(0, 300), (1, 1), (2, 2), (3, 4), (5, 16), (6, 30), (u32::MAX, 30)] {
            state.failures = failures;
            assert_eq!(state.due_at(&times()), Some(now + Duration::from_secs(seconds)), "{failures}");
        }
        let often = Times { refresh: Duration::from_secs(10), ..times() };
        assert_eq!(state.due_at(&often), Some(now + Duration::from_secs(10)));
    }
}
