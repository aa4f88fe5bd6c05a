//! The clients: a task each, which does what the current round asks of it and counts what comes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::stage::user;

/// How long what must happen may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// Clients that are on their way in at the same time.
const COMING: usize = 64;

/// What came to all clients together.
#[derive(Debug, Default)]
pub struct Counts {
    pub lists: AtomicU64,
    pub frames: AtomicU64,
    pub entries: AtomicU64,
    pub answers: AtomicU64,
}

/// What a client says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// `hello`, and reports.
    Nearcast,
    /// As many bytes as a report has, which come back.
    Echo,
}

/// Connected clients; they end with it.
pub struct Phones {
    pub counts: Arc<Counts>,
    round: watch::Sender<u64>,
    active: usize,
    tasks: JoinSet<()>,
}

impl Phones {
    /// Connects `count` clients, of whom the first `active` say something each round.
    pub async fn connect(addr: SocketAddr, speaks: Speaks, count: usize, active: usize) -> Self {
        let counts = Arc::new(Counts::default());
        let (round, rounds) = watch::channel(0);
        let coming = Arc::new(Semaphore::new(COMING));
        let mut tasks = JoinSet::new();
        for number in 0..count {
            let permit = Arc::clone(&coming).acquire_owned().await.unwrap();
            let (counts, rounds) = (Arc::clone(&counts), (number < active).then(|| rounds.clone()));
            tasks.spawn(async move {
                let mut socket = come(addr, speaks, number).await;
                if speaks == Speaks::Nearcast {
                    let hello = json!({"type": "hello", "device": "d", "position": report(number, 0)});
                    socket.send(Message::text(hello.to_string())).await.unwrap();
                }
                drop(permit);
                live(socket, speaks, number, rounds, &counts).await;
            });
        }
        let all = u32::try_from(COMING).unwrap();
        drop(coming.acquire_many(all).await.unwrap());
        Self { counts, round, active, tasks }
    }

    /// All active clients say something; returns once all are answered.
    pub async fn say(&mut self) {
        let expected = self.counts.answers.load(Ordering::Relaxed) + self.active as u64;
        self.round.send_modify(|round| *round += 1);
        self.until("an answer to each", |counts| counts.answers.load(Ordering::Relaxed) >= expected).await;
    }

    /// Waits until the counts are right.
    pub async fn until(&mut self, what: &str, right: impl Fn(&Counts) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !right(&self.counts) {
            assert!(Instant::now() < deadline, "{what} did not come: {:?}", self.counts);
            assert!(self.tasks.try_join_next().is_none(), "a client was let down");
            sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn come(addr: SocketAddr, speaks: Speaks, number: usize) -> WebSocketStream<TcpStream> {
    let mut request = format!("ws://{addr}/v1/ws").into_client_request().unwrap();
    if speaks == Speaks::Nearcast {
        let bearer = HeaderValue::from_str(&format!("Bearer {}", crate::stage::token(&user(number)))).unwrap();
        request.headers_mut().insert("authorization", bearer);
    }
    let config = WebSocketConfig::default().read_buffer_size(1_024).write_buffer_size(1_024);
    let stream = TcpStream::connect(addr).await.unwrap();
    stream.set_nodelay(true).unwrap();
    timeout(PATIENCE, client_async_with_config(request, stream, Some(config))).await.unwrap().unwrap().0
}

/// A report of a client in a round; it moves far enough not to be thinned out.
fn report(number: usize, round: u64) -> serde_json::Value {
    let time = nearcast_runtime::clock::now_ms();
    json!({"n": round, "lat": 0.001 * round as f64, "lon": 0.001 * number as f64, "time": time, "accuracy_m": 5})
}

async fn live(
    mut socket: WebSocketStream<TcpStream>,
    speaks: Speaks,
    number: usize,
    mut rounds: Option<watch::Receiver<u64>>,
    counts: &Counts,
) {
    loop {
        let next = async {
            match &mut rounds {
                Some(rounds) => rounds.changed().await.map(|()| *rounds.borrow_and_update()),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            round = next => {
                let Ok(round) = round else { return };
                let mut message = report(number, round);
                message["type"] = "location".into();
                message["ack"] = true.into();
                if socket.send(Message::text(message.to_string())).await.is_err() {
                    return;
                }
            }
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => count(&text, speaks, counts),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return,
            },
        }
    }
}

fn count(text: &str, speaks: Speaks, counts: &Counts) {
    let add = |counter: &AtomicU64, count: u64| counter.fetch_add(count, Ordering::Relaxed);
    if speaks == Speaks::Echo || text.starts_with(r#"{"type":"ack""#) {
        add(&counts.answers, 1);
    } else if text.starts_with(r#"{"type":"nearby","reset""#) {
        // The first answer is provisional, and another list comes.
        add(&counts.lists, u64::from(!text.contains("\"provisional\"")));
    } else if text.starts_with(r#"{"type":"nearby""#) {
        add(&counts.frames, 1);
        add(&counts.entries, text.matches("\"distance_m\"").count() as u64);
    } else {
        assert!(!text.starts_with(r#"{"type":"error""#) && !text.starts_with(r#"{"type":"bye""#), "{text}");
    }
}
