//! Phones that report as fast as they are told to, and come back when they lose their sockets.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use nearcast_runtime::auth::Signer;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_tungstenite::tungstenite::Message;

use crate::ledger::Book;
use crate::phone::{NO_ANSWER, Refusals, Socket, connect, cut, hello, now_ms, number, report, word};
use crate::run::PATIENCE;

const DEVICE: &str = "d";
/// New phones a second while nobody is in a hurry.
const COMING_PER_S: u64 = 200;
/// A phone that is behind its schedule by more keeps only its newest report.
const BEHIND: Duration = Duration::from_secs(1);

/// How often phones report.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    Rest,
    /// Again while fewer than so many are unanswered.
    Answered(usize),
    /// So often, whatever is answered.
    Every(Duration),
}

#[derive(Debug, Default)]
pub struct Counts {
    pub sent: AtomicU64,
    pub accepted: AtomicU64,
    /// Sessions that are welcomed now.
    pub welcomed: AtomicU64,
    /// Sockets that came back after they were lost.
    pub came_back: AtomicU64,
    pub refusals: Refusals,
    /// From the sending to the acknowledgement, in ms.
    pub latencies: Mutex<Vec<u32>>,
}

/// Phones; they end with it.
pub struct Crowd {
    pub counts: Arc<Counts>,
    pace: watch::Sender<Pace>,
    storm: watch::Sender<u64>,
    ended: watch::Sender<bool>,
    phones: JoinSet<Book>,
}

impl Crowd {
    /// Switches these users' phones on and waits until each is welcomed.
    pub async fn start(ws: &str, signer: &Signer, users: &[String], pace: Pace) -> Self {
        let (pace, paces) = watch::channel(pace);
        let (storm, storms) = watch::channel(0);
        let (ended, end) = watch::channel(false);
        let counts = Arc::new(Counts::default());
        let mut phones = JoinSet::new();
        for (index, user) in users.iter().enumerate() {
            let phone = Phone {
                index: index as u64,
                ws: ws.to_owned(),
                token: signer.sign(user, Duration::from_secs(7_200), &[]).unwrap(),
                pace: paces.clone(),
                storm: storms.clone(),
                end: end.clone(),
                counts: Arc::clone(&counts),
                known: Mutex::new(Known {
                    book: Book { user: user.clone(), device: DEVICE, ..Book::default() },
                    ..Known::default()
                }),
                answered: Notify::new(),
            };
            phones.spawn(phone.live());
            sleep(Duration::from_micros(1_000_000 / COMING_PER_S)).await;
        }
        let begun = Instant::now();
        while counts.welcomed.load(Ordering::Relaxed) < users.len() as u64 {
            assert!(begun.elapsed() < PATIENCE, "{counts:?}: not all are welcomed");
            sleep(Duration::from_millis(20)).await;
        }
        Self { counts, pace, storm, ended, phones }
    }

    pub fn report(&self, pace: Pace) {
        self.pace.send_replace(pace);
    }

    /// A third of the phones lose their sockets, each time others.
    pub fn storm(&self) {
        self.storm.send_modify(|storm| *storm += 1);
    }

    /// Switches them off; what they know of their reports.
    pub async fn end(self) -> Vec<Book> {
        self.ended.send_replace(true);
        self.phones.join_all().await
    }
}

struct Phone {
    index: u64,
    ws: String,
    token: String,
    pace: watch::Receiver<Pace>,
    storm: watch::Receiver<u64>,
    end: watch::Receiver<bool>,
    counts: Arc<Counts>,
    known: Mutex<Known>,
    answered: Notify,
}

#[derive(Default)]
struct Known {
    book: Book,
    /// What this session sent and heard nothing of: number, place in the book, when.
    pending: VecDeque<(i64, usize, Instant)>,
}

impl Phone {
    async fn live(self) -> Book {
        let (mut end, mut storm) = (self.end.clone(), self.storm.clone());
        tokio::select! {
            _ = end.wait_for(|ended| *ended) => {}
            () = async {
                let mut again = false;
                loop {
                    storm.borrow_and_update();
                    match connect(&self.ws, &self.token).await {
                        Ok(socket) => {
                            if again {
                                self.counts.came_back.fetch_add(1, Ordering::Relaxed);
                            }
                            self.serve(socket, &mut storm).await;
                        }
                        Err(code) => {
                            self.counts.refusals.count(&code);
                            self.pause(1_000).await;
                        }
                    }
                    again = true;
                }
            } => {}
        }
        self.known.into_inner().unwrap_or_else(PoisonError::into_inner).book
    }

    /// About so many ms, for each phone another time.
    async fn pause(&self, ms: u64) {
        sleep(Duration::from_millis(ms / 2 + (self.index * 7_919 + 13) % ms.max(1))).await;
    }

    /// Until the socket is lost.
    async fn serve(&self, socket: Socket, storm: &mut watch::Receiver<u64>) {
        let (mut write, mut read) = socket.split();
        let mut welcomed = false;
        let lost = tokio::select! {
            () = async {
                if self.join(&mut write, &mut read).await.is_some() {
                    welcomed = true;
                    self.counts.welcomed.fetch_add(1, Ordering::Relaxed);
                    tokio::select! {
                        _ = self.say(&mut write) => {}
                        () = self.hear(&mut read) => {}
                    }
                }
            } => false,
            () = async {
                while storm.changed().await.is_ok() {
                    if *storm.borrow_and_update() % 3 == self.index % 3 {
                        return;
                    }
                }
            } => true,
        };
        if welcomed {
            self.counts.welcomed.fetch_sub(1, Ordering::Relaxed);
        }
        if lost && let Ok(socket) = write.reunite(read) {
            cut(&socket);
        }
        self.known().pending.clear();
        self.answered.notify_one();
        if !lost {
            self.pause(1_000).await;
        }
    }

    /// Says hello until it is welcomed.
    async fn join(&self, write: &mut SplitSink<Socket, Message>, read: &mut SplitStream<Socket>) -> Option<()> {
        loop {
            let n = self.next();
            write.send(hello(DEVICE, n, n)).await.ok()?;
            loop {
                let Some(Ok(message)) = read.next().await else {
                    self.counts.refusals.count(NO_ANSWER);
                    return None;
                };
                let Ok(text) = message.to_text() else { continue };
                if text.starts_with(r#"{"type":"welcome""#) {
                    self.heard(n, word(text, "result").and_then(known_word));
                    return Some(());
                }
                if self.is_over(text) {
                    return None;
                }
                if text.starts_with(r#"{"type":"error""#) {
                    self.refused(text);
                    break;
                }
            }
            self.pause(2_000).await;
        }
    }

    async fn say(&self, write: &mut SplitSink<Socket, Message>) -> Option<()> {
        let mut pace = self.pace.clone();
        let mut next = Instant::now();
        loop {
            let now_pace = *pace.borrow_and_update();
            match now_pace {
                Pace::Rest => {
                    pace.changed().await.ok()?;
                    // Not all at once.
                    next = Instant::now();
                    if let Pace::Every(every) = *pace.borrow() {
                        next += every.mul_f64((self.index % 97) as f64 / 97.0);
                    }
                    continue;
                }
                Pace::Answered(most) => {
                    tokio::select! {
                        () = async { while self.known().pending.len() >= most { self.answered.notified().await } } => {}
                        changed = pace.changed() => {
                            changed.ok()?;
                            continue;
                        }
                    }
                }
                Pace::Every(every) => {
                    tokio::select! {
                        () = sleep_until(next) => {}
                        changed = pace.changed() => {
                            changed.ok()?;
                            continue;
                        }
                    }
                    next += every;
                    if next + BEHIND < Instant::now() {
                        next = Instant::now();
                    }
                }
            }
            let n = self.next();
            self.counts.sent.fetch_add(1, Ordering::Relaxed);
            write.send(report(n, n)).await.ok()?;
        }
    }

    async fn hear(&self, read: &mut SplitStream<Socket>) {
        while let Some(Ok(message)) = read.next().await {
            let Ok(text) = message.to_text() else { continue };
            if text.starts_with(r#"{"type":"ack""#) {
                if let Some(n) = number(text) {
                    self.heard(n, word(text, "result").and_then(known_word));
                }
            } else if text.starts_with(r#"{"type":"error""#) {
                self.refused(text);
            } else if self.is_over(text) {
                return;
            }
        }
    }

    fn is_over(&self, text: &str) -> bool {
        let over = text.starts_with(r#"{"type":"bye""#);
        if over {
            self.counts.refusals.count(word(text, "code").unwrap_or("(bye without a code)"));
        }
        over
    }

    fn refused(&self, text: &str) {
        let code = word(text, "code").unwrap_or("(error without a code)");
        self.counts.refusals.count(code);
        if let Some(n) = number(text) {
            self.heard(n, Some(if code == "unknown" { "unknown" } else { "declined" }));
        }
    }

    /// The number of the next report, which is about to be sent.
    fn next(&self) -> i64 {
        let mut known = self.known();
        let n = known.book.reports.len() as i64 + 1;
        known.book.reports.push((n, now_ms(), None));
        known.pending.push_back((n, n as usize - 1, Instant::now()));
        n
    }

    fn heard(&self, n: i64, answer: Option<&'static str>) {
        let mut known = self.known();
        let Some(at) = known.pending.iter().position(|(pending, ..)| *pending == n) else { return };
        let Some((_, place, sent)) = known.pending.remove(at) else { return };
        known.book.reports[place].2 = answer;
        drop(known);
        if matches!(answer, Some("published" | "thinned" | "stored")) {
            self.counts.accepted.fetch_add(1, Ordering::Relaxed);
            let ms = u32::try_from(sent.elapsed().as_millis()).unwrap_or(u32::MAX);
            self.counts.latencies.lock().unwrap_or_else(PoisonError::into_inner).push(ms);
        }
        self.answered.notify_one();
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an acknowledgement says, as a ledger says it.
fn known_word(result: &str) -> Option<&'static str> {
    ["published", "thinned", "stored"].into_iter().find(|known| *known == result)
}
