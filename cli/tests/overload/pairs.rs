//! Friends who look on: what a mover's phone reported, and when the friend was shown it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use nearcast_runtime::auth::Signer;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::crowd::{Crowd, Pace};
use crate::ledger::Book;
use crate::phone::{connect, hello, now_ms};

/// So often movers report.
const EVERY: Duration = Duration::from_millis(250);

/// The first time when each report of a mover was shown to the friend, by mover and number; ms since the epoch.
type Seen = BTreeMap<(String, i64), i64>;

/// Movers and those who look on; they end with it.
pub struct Pairs {
    movers: Crowd,
    seen: Arc<Mutex<Seen>>,
    _friends: JoinSet<()>,
}

/// A report that was accepted.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    pub sent_ms: i64,
    /// None: the friend was shown a newer one in its place.
    pub took_ms: Option<i64>,
}

impl Pairs {
    /// Each mover `m<i>` has the friend `w<i>`.
    pub async fn start(ws: &str, signer: &Signer, count: usize) -> Self {
        let seen = Arc::new(Mutex::new(Seen::new()));
        let mut friends = JoinSet::new();
        for pair in 0..count {
            let token = signer.sign(&friend(pair), Duration::from_secs(7_200), &[]).unwrap();
            friends.spawn(look_on(ws.to_owned(), token, Arc::clone(&seen)));
        }
        let users: Vec<String> = (0..count).map(mover).collect();
        let movers = Crowd::start(ws, signer, &users, Pace::Every(EVERY)).await;
        Self { movers, seen, _friends: friends }
    }

    /// Ends the movers; what they know of their reports, what became of each that was accepted, and the pairs in which the
    /// last one was never shown.
    pub async fn end(self) -> (Vec<Book>, Vec<Shown>, Vec<String>) {
        self.movers.report(Pace::Rest);
        let counts = Arc::clone(&self.movers.counts);
        // What is under way arrives, or does not.
        let mut last = 0;
        for _ in 0..60 {
            sleep(Duration::from_millis(500)).await;
            let known = self.lock().len() as u64 + counts.accepted.load(std::sync::atomic::Ordering::Relaxed);
            if known == last {
                break;
            }
            last = known;
        }
        let seen = self.lock().clone();
        let books = self.movers.end().await;
        let (mut shown, mut unseen) = (Vec::new(), Vec::new());
        for book in &books {
            let accepted = book.reports.iter().filter(|(_, _, answer)| *answer == Some("published"));
            let mut newest = 0;
            for (n, sent_ms, _) in accepted {
                newest = *n;
                let at = seen.get(&(book.user.clone(), *n));
                shown.push(Shown { sent_ms: *sent_ms, took_ms: at.map(|at| (at - sent_ms).max(0)) });
            }
            let of_mover = seen.range((book.user.clone(), 0)..=(book.user.clone(), i64::MAX));
            if of_mover.map(|((_, n), _)| *n).max().unwrap_or(0) < newest {
                unseen.push(format!("{}: report {newest}", book.user));
            }
        }
        (books, shown, unseen)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub fn mover(pair: usize) -> String {
    format!("m{pair}")
}

pub fn friend(pair: usize) -> String {
    format!("w{pair}")
}

/// Keeps what it is shown, on one socket after the other.
async fn look_on(ws: String, token: String, seen: Arc<Mutex<Seen>>) {
    let mut n = 0;
    loop {
        n += 1;
        let Ok(mut socket) = connect(&ws, &token).await else {
            sleep(Duration::from_secs(1)).await;
            continue;
        };
        let _ = socket.send(hello("d", n, 0)).await;
        while let Some(Ok(message)) = socket.next().await {
            let Ok(text) = message.to_text() else { continue };
            if !text.starts_with(r#"{"type":"nearby""#) {
                if text.starts_with(r#"{"type":"error""#) {
                    break;
                }
                continue;
            }
            let message: Value = serde_json::from_str(text).unwrap();
            let now = now_ms();
            for entry in message["upserts"].as_array().into_iter().flatten() {
                // The report's number, which the mover's phone says there.
                let (Some(id), Some(tag)) = (entry["id"].as_str(), entry["accuracy_m"].as_f64()) else { continue };
                seen.lock().unwrap_or_else(PoisonError::into_inner).entry((id.to_owned(), tag as i64)).or_insert(now);
            }
        }
        sleep(Duration::from_millis(500)).await;
    }
}
