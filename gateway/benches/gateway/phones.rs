//! The clients: a task each, which does what the current round asks of it and counts what comes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::stage::{LAST, user};

/// How long what must happen may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// Clients that are on their way in at the same time.
const COMING: usize = 64;

/// A connection, encrypted or not.
pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}
type Socket = WebSocketStream<Box<dyn Wire>>;

/// What came to all clients together.
#[derive(Debug, Default)]
pub struct Counts {
    pub lists: AtomicU64,
    pub frames: AtomicU64,
    pub entries: AtomicU64,
    pub answers: AtomicU64,
    /// Updates of the friend who moves last.
    pub last: AtomicU64,
    /// How long updates took since the last `moved`; us.
    pub late_us: Mutex<Vec<u64>>,
    moved: Mutex<Option<Instant>>,
}

impl Counts {
    /// From now on, updates are timed.
    pub fn moved(&self) {
        *self.moved.lock().unwrap() = Some(Instant::now());
    }

    fn late(&self) {
        if let Some(moved) = *self.moved.lock().unwrap() {
            self.late_us.lock().unwrap().push(u64::try_from(moved.elapsed().as_micros()).unwrap());
        }
    }

    /// The time that 99 of 100 updates took at most, in us, of those so far, which are forgotten.
    pub fn take_p99_us(&self) -> f64 {
        let mut late = std::mem::take(&mut *self.late_us.lock().unwrap());
        late.sort_unstable();
        late[(late.len() * 99).div_ceil(100) - 1] as f64
    }
}

/// Who come.
#[derive(Clone, Default)]
pub struct Crowd {
    /// Number of the first one.
    pub first: usize,
    pub count: usize,
    /// The first so many say something each round.
    pub active: usize,
    /// The last so many read nothing any more, once told so.
    pub deaf: usize,
    pub tls: Option<TlsConnector>,
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
    deaf: watch::Sender<bool>,
    active: usize,
    tasks: JoinSet<()>,
}

impl Phones {
    /// Connects them.
    pub async fn connect(addr: SocketAddr, speaks: Speaks, crowd: &Crowd) -> Self {
        let counts = Arc::new(Counts::default());
        let (round, rounds) = watch::channel(0);
        let (deaf, is_deaf) = watch::channel(false);
        let coming = Arc::new(Semaphore::new(COMING));
        let mut tasks = JoinSet::new();
        for number in 0..crowd.count {
            let permit = Arc::clone(&coming).acquire_owned().await.unwrap();
            let (counts, rounds) = (Arc::clone(&counts), (number < crowd.active).then(|| rounds.clone()));
            let is_deaf = (number >= crowd.count - crowd.deaf).then(|| is_deaf.clone());
            let (first, tls) = (crowd.first, crowd.tls.clone());
            tasks.spawn(async move {
                let number = first + number;
                let mut socket = come(addr, speaks, number, is_deaf.is_some(), tls).await;
                if speaks == Speaks::Nearcast {
                    let hello = json!({"type": "hello", "device": "d", "position": report(number, 0)});
                    socket.send(Message::text(hello.to_string())).await.unwrap();
                }
                drop(permit);
                let deaf = async {
                    match is_deaf {
                        Some(mut is_deaf) => is_deaf.wait_for(|deaf| *deaf).await.map_or((), drop),
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = live(&mut socket, speaks, number, rounds, &counts) => {}
                    () = deaf => std::future::pending().await,
                }
            });
        }
        let all = u32::try_from(COMING).unwrap();
        drop(coming.acquire_many(all).await.unwrap());
        Self { counts, round, deaf, active: crowd.active, tasks }
    }

    /// Those who may be deaf are.
    pub fn deafen(&self) {
        self.deaf.send_replace(true);
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

async fn come(addr: SocketAddr, speaks: Speaks, number: usize, deaf: bool, tls: Option<TlsConnector>) -> Socket {
    let mut request = "ws://localhost/v1/ws".into_client_request().unwrap();
    if speaks == Speaks::Nearcast {
        let bearer = HeaderValue::from_str(&format!("Bearer {}", crate::stage::token(&user(number)))).unwrap();
        request.headers_mut().insert("authorization", bearer);
    }
    let config = WebSocketConfig::default().read_buffer_size(1_024).write_buffer_size(1_024);
    let stream = if deaf {
        let socket = TcpSocket::new_v4().unwrap();
        // Its system takes little that it has not read.
        socket.set_recv_buffer_size(4_096).unwrap();
        socket.connect(addr).await.unwrap()
    } else {
        TcpStream::connect(addr).await.unwrap()
    };
    stream.set_nodelay(true).unwrap();
    let stream: Box<dyn Wire> = match tls {
        Some(tls) => Box::new(tls.connect("localhost".try_into().unwrap(), stream).await.unwrap()),
        None => Box::new(stream),
    };
    timeout(PATIENCE, client_async_with_config(request, stream, Some(config))).await.unwrap().unwrap().0
}

/// A report of a client in a round; it moves far enough not to be thinned out.
fn report(number: usize, round: u64) -> serde_json::Value {
    let time = nearcast_runtime::clock::now_ms();
    json!({"n": round, "lat": 0.001 * round as f64, "lon": 0.001 * number as f64, "time": time, "accuracy_m": 5})
}

async fn live(
    socket: &mut Socket,
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
        counts.late();
        add(&counts.last, u64::from(text.contains(LAST)));
        add(&counts.entries, text.matches("\"distance_m\"").count() as u64);
    } else {
        assert!(!text.starts_with(r#"{"type":"error""#) && !text.starts_with(r#"{"type":"bye""#), "{text}");
    }
}
