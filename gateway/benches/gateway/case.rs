//! What is measured.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use crate::phones::{Phones, Speaks};
use crate::process::{Serves, Server};
use crate::stage::Stage;

/// A server with its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    Nearcast,
    Echo,
    SmallEcho,
}

/// Between two updates of a friend; longer than changes are gathered.
const ROUND: Duration = Duration::from_millis(60);

struct Size {
    connections: usize,
    active: usize,
    rounds: u64,
    idle: Duration,
}

impl Case {
    pub const ALL: [Self; 3] = [Self::Nearcast, Self::Echo, Self::SmallEcho];

    pub fn name(self) -> &'static str {
        match self {
            Self::Nearcast => "gateway",
            Self::Echo => "echo",
            Self::SmallEcho => "echo_small",
        }
    }

    /// The rows of the case.
    pub async fn run(self, short: bool) -> Vec<Value> {
        let size = if short {
            Size { connections: 200, active: 50, rounds: 5, idle: Duration::from_millis(200) }
        } else {
            Size { connections: 10_000, active: 1_000, rounds: 50, idle: Duration::from_secs(60) }
        };
        eprintln!("{}: {} connections", self.name(), size.connections);
        match self {
            Self::Nearcast => gateway(&size).await,
            Self::Echo => echo(self.name(), &Serves::Echo, &size).await,
            Self::SmallEcho => echo(self.name(), &Serves::SmallEcho, &size).await,
        }
    }
}

/// What the server has used since the last time.
struct Since<'a> {
    server: &'a Server,
    cpu_us: f64,
}

impl<'a> Since<'a> {
    fn now(server: &'a Server) -> Self {
        Self { server, cpu_us: server.cpu_us() }
    }

    fn per(&self, count: f64) -> f64 {
        (self.server.cpu_us() - self.cpu_us) / count
    }
}

fn row(case: &str, size: &Size) -> Value {
    json!({"case": case, "tls": false, "connections": size.connections})
}

async fn echo(name: &str, serves: &Serves, size: &Size) -> Vec<Value> {
    let server = Server::start(serves);
    let before = server.resident();
    let coming = Since::now(&server);
    let mut phones = Phones::connect(server.addr, Speaks::Echo, size.connections, size.active).await;
    let came = coming.per(size.connections as f64);
    // Each buffer is touched once.
    phones.say().await;
    let bytes = (server.resident() - before) / size.connections as f64;
    let (idle, used) = idle(&server, size).await;
    let said = say(&server, &mut phones, size).await;
    let mut rows = vec![row(&format!("{name}_idle"), size), row(&format!("{name}_in"), size)];
    rows[0]["bytes_per_connection"] = bytes.into();
    rows[0]["bytes_after"] = idle.into();
    rows[0]["cpu_us_per_connection"] = came.into();
    rows[0]["cpu_us_per_idle_minute"] = used.into();
    rows[1]["cpu_us_per_message"] = said.into();
    rows
}

async fn gateway(size: &Size) -> Vec<Value> {
    let mut stage = Stage::set_up().await;
    let server = Server::start(&Serves::Gateway { kafka: stage.kafka(), api: stage.api.clone() });
    // The first client finds all parts there.
    drop(Phones::connect(server.addr, Speaks::Nearcast, 1, 0).await);
    let before = server.resident();
    let coming = Since::now(&server);
    let mut phones = Phones::connect(server.addr, Speaks::Nearcast, size.connections, size.active).await;
    stage.read_hellos(size.connections);
    stage.reset_all().await;
    let all = size.connections as u64;
    phones.until("a list for each", |counts| counts.lists.load(Ordering::Relaxed) >= all).await;
    let mut rows = vec![row("idle", size)];
    rows[0]["cpu_us_per_connection"] = coming.per(size.connections as f64).into();
    let bytes = (server.resident() - before) / size.connections as f64;
    let (_, used) = idle(&server, size).await;
    rows[0]["bytes_per_connection"] = bytes.into();
    rows[0]["cpu_us_per_idle_minute"] = used.into();

    let mut said = row("in", size);
    said["cpu_us_per_message"] = say(&server, &mut phones, size).await.into();
    rows.push(said);
    for friends in [1, 5, 20] {
        let counts = phones.counts.clone();
        let read = || (counts.frames.load(Ordering::Relaxed), counts.entries.load(Ordering::Relaxed));
        let (frames, entries) = read();
        let updates = size.active as u64 * friends as u64 * size.rounds;
        let since = Since::now(&server);
        for _ in 0..size.rounds {
            let next = Instant::now() + ROUND;
            stage.move_friends(size.active, friends).await;
            sleep_until(next).await;
        }
        phones.until("each update", |counts| counts.entries.load(Ordering::Relaxed) >= entries + updates).await;
        let used = since.per(updates as f64);
        let (frames, entries) = (read().0 - frames, read().1 - entries);
        let mut out = row(&format!("out_{friends}"), size);
        out["cpu_us_per_update"] = used.into();
        out["cpu_us_per_frame"] = (used * entries as f64 / frames as f64).into();
        out["entries_per_frame"] = (entries as f64 / frames as f64).into();
        rows.push(out);
    }
    rows
}

/// Bytes and microseconds a connection and minute while nothing is said.
async fn idle(server: &Server, size: &Size) -> (f64, f64) {
    let since = Since::now(server);
    sleep(size.idle).await;
    let used = since.per(size.connections as f64) * 60.0 / size.idle.as_secs_f64();
    (server.resident(), used)
}

/// Microseconds a message of the active ones.
async fn say(server: &Server, phones: &mut Phones, size: &Size) -> f64 {
    let since = Since::now(server);
    for _ in 0..size.rounds {
        let next = Instant::now() + ROUND;
        phones.say().await;
        sleep_until(next).await;
    }
    since.per((size.active as u64 * size.rounds) as f64)
}
