//! A phone that stays connected as the protocol says, and holds its list.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rand::Rng;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::client::{Edge, Socket};
use crate::world::View;

/// The first pause after a loss, doubled each time, up to the second.
const BACK_OFF: Duration = Duration::from_secs(1);
const BACK_OFF_AT_MOST: Duration = Duration::from_secs(60);
/// The answer to a hello has to come within this time, or the connection is given up.
const WELCOME_WITHIN: Duration = Duration::from_secs(20);

/// What a phone knows and remembers.
#[derive(Clone, Default)]
pub struct State {
    /// Of the session; none while there is none.
    pub gateway: Option<u32>,
    /// Connections that ended without the phone's will, and those of them that ended with `bye`.
    pub lost: u32,
    pub byes: Vec<String>,
    /// Attempts that failed: why.
    pub failed: Vec<String>,
    pub view: View,
    /// The whole list has come since the last connect.
    pub whole: bool,
    /// What it should hold.
    pub expected: View,
    /// When the last connection was lost, when the next one was open, welcomed, and held the right list.
    pub lost_at: Option<Instant>,
    pub open_at: Option<Instant>,
    pub welcome_at: Option<Instant>,
    pub right_at: Option<Instant>,
}

impl State {
    pub fn is_right(&self) -> bool {
        let near = |(a, b): (&(f64, f64), &(f64, f64))| (a.0 - b.0).abs() < 1e-5 && (a.1 - b.1).abs() < 1e-5;
        self.gateway.is_some()
            && self.whole
            && self.view.keys().eq(self.expected.keys())
            && self.view.values().zip(self.expected.values()).all(near)
    }
}

enum Order {
    /// Leave and come back.
    Reconnect,
    /// Be here from now on.
    Move((f64, f64)),
}

/// Ends when it is dropped.
pub struct Phone {
    state: Arc<Mutex<State>>,
    orders: mpsc::UnboundedSender<Order>,
    task: JoinHandle<()>,
}

impl Drop for Phone {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Phone {
    pub fn start(edge: Arc<Edge>, user: &str, at: (f64, f64), expected: View) -> Self {
        let state = Arc::new(Mutex::new(State { expected, ..State::default() }));
        let (orders, receiver) = mpsc::unbounded_channel();
        let token = edge.token(user);
        let running = Running { token, edge, at, n: now_ms(), state: Arc::clone(&state), orders: receiver };
        Self { state, orders, task: tokio::spawn(running.run()) }
    }

    pub fn state(&self) -> State {
        lock(&self.state).clone()
    }

    pub fn is(&self, condition: impl Fn(&State) -> bool) -> bool {
        condition(&lock(&self.state))
    }

    /// Should hold this from now on.
    pub fn expect(&self, view: View) {
        let mut state = lock(&self.state);
        state.right_at = None;
        state.expected = view;
        state.note();
    }

    pub fn move_to(&self, at: (f64, f64)) {
        self.orders.send(Order::Move(at)).unwrap();
    }

    pub fn reconnect(&self) {
        lock(&self.state).forget_connection();
        self.orders.send(Order::Reconnect).unwrap();
    }
}

impl State {
    fn forget_connection(&mut self) {
        (self.gateway, self.whole) = (None, false);
        (self.open_at, self.welcome_at, self.right_at) = (None, None, None);
        self.lost_at = Some(Instant::now());
        self.view.clear();
    }

    fn note(&mut self) {
        if self.right_at.is_none() && self.is_right() {
            self.right_at = Some(Instant::now());
        }
    }

    fn hear(&mut self, nearby: &Value) {
        let reset = &nearby["reset"];
        if reset["part"] == 1 {
            self.view.clear();
        }
        for removal in nearby["removals"].as_array().into_iter().flatten() {
            self.view.remove(removal["id"].as_str().unwrap());
        }
        for upsert in nearby["upserts"].as_array().into_iter().flatten() {
            let at = (upsert["lat"].as_f64().unwrap(), upsert["lon"].as_f64().unwrap());
            self.view.insert(upsert["id"].as_str().unwrap().to_owned(), at);
        }
        if reset.is_object() && reset["provisional"] != true && reset["part"] == reset["parts"] {
            self.whole = true;
        }
        self.note();
    }
}

struct Running {
    edge: Arc<Edge>,
    token: String,
    at: (f64, f64),
    n: i64,
    state: Arc<Mutex<State>>,
    orders: mpsc::UnboundedReceiver<Order>,
}

impl Running {
    async fn run(mut self) {
        let mut back_off = BACK_OFF;
        loop {
            let as_browser = rand::rng().random_bool(0.5);
            let pause = match self.edge.open(&self.token, as_browser).await {
                Ok(socket) => {
                    let (welcomed, pause) = self.stay(socket).await;
                    if welcomed {
                        back_off = BACK_OFF;
                    }
                    pause
                }
                Err(why) => {
                    lock(&self.state).failed.push(why);
                    None
                }
            };
            let pause = pause.unwrap_or_else(|| {
                let pause = back_off.mul_f64(rand::rng().random_range(0.5..1.0));
                back_off = (2 * back_off).min(BACK_OFF_AT_MOST);
                pause
            });
            sleep(pause).await;
        }
    }

    /// Uses a socket to its end; whether there was a session, and how long to stay away where that was said.
    async fn stay(&mut self, mut socket: Socket) -> (bool, Option<Duration>) {
        lock(&self.state).open_at = Some(Instant::now());
        socket.say(&self.hello()).await;
        let give_up = Instant::now() + WELCOME_WITHIN;
        let mut say_again = None;
        let (mut welcomed, mut pause) = (false, None);
        loop {
            tokio::select! {
                order = self.orders.recv() => match order {
                    Some(Order::Reconnect) => return (welcomed, Some(Duration::ZERO)),
                    Some(Order::Move(at)) => {
                        self.at = at;
                        if welcomed {
                            let report = self.position();
                            let mut message = json!({ "type": "location" });
                            message.as_object_mut().unwrap().extend(report.as_object().unwrap().clone());
                            socket.say(&message).await;
                        }
                    }
                    None => return (welcomed, None),
                },
                () = tokio::time::sleep_until(say_again.unwrap_or(give_up)), if !welcomed => {
                    if say_again.take().is_none() {
                        lock(&self.state).failed.push("no_welcome".to_owned());
                        return (false, None);
                    }
                    socket.say(&self.hello()).await;
                }
                heard = socket.hear() => {
                    let Some(heard) = heard else { break };
                    let mut state = lock(&self.state);
                    match heard["type"].as_str().unwrap() {
                        "welcome" => {
                            let session = heard["session"].as_str().unwrap();
                            // The balancer and the gateway agree on who it is.
                            assert_eq!(session.split('.').next(), Some(socket.gateway.to_string().as_str()));
                            welcomed = true;
                            state.gateway = Some(socket.gateway);
                            state.welcome_at = Some(Instant::now());
                        }
                        "nearby" => state.hear(&heard),
                        "bye" => {
                            state.byes.push(heard["code"].as_str().unwrap().to_owned());
                            pause = heard["reconnect_in_ms"].as_u64().map(Duration::from_millis);
                        }
                        "error" => {
                            state.failed.push(heard["code"].as_str().unwrap().to_owned());
                            let after = heard["retry_after_ms"].as_u64().unwrap_or(500);
                            say_again = Some(Instant::now() + Duration::from_millis(after));
                        }
                        _ => {}
                    }
                }
            }
        }
        let mut state = lock(&self.state);
        state.lost += 1;
        state.forget_connection();
        (welcomed, pause)
    }

    fn hello(&mut self) -> Value {
        json!({ "type": "hello", "device": "phone", "position": self.position() })
    }

    fn position(&mut self) -> Value {
        self.n += 1;
        let (lat, lon) = self.at;
        json!({ "n": self.n, "lat": lat, "lon": lon, "time": now_ms() })
    }
}

fn now_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap()
}
