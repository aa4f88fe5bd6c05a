//! What is measured.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use crate::phones::{Crowd, Phones, Speaks};
use crate::process::{Server, Serves};
use crate::secure::Secure;
use crate::stage::Stage;

/// A server with its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    Nearcast,
    Tls,
    Deaf,
    Arrivals,
    Echo,
    SmallEcho,
}

/// As `nearcast config default` has it.
const COALESCE_MS: u32 = 20;
/// Between two updates of a friend; longer than changes are gathered.
const ROUND: Duration = Duration::from_millis(60);

/// Entries of a full frame.
const FULL: usize = 20;
/// How often a walking phone reports, on average, and how often a worker sends what it has.
const REPORT_EVERY: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(10);

struct Size {
    connections: usize,
    active: usize,
    rounds: u64,
    idle: Duration,
}

impl Case {
    pub const ALL: [Self; 6] = [Self::Nearcast, Self::Tls, Self::Deaf, Self::Arrivals, Self::Echo, Self::SmallEcho];

    pub fn name(self) -> &'static str {
        match self {
            Self::Nearcast => "gateway",
            Self::Tls => "gateway_tls",
            Self::Deaf => "deaf",
            Self::Arrivals => "arrivals",
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
            Self::Nearcast => gateway(&size, None).await,
            Self::Tls => gateway(&size, Some(&Secure::make())).await,
            Self::Deaf => deaf(&size).await,
            Self::Arrivals => arrivals(&size).await,
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
    let crowd = Crowd { count: size.connections, active: size.active, ..Crowd::default() };
    let mut phones = Phones::connect(server.addr, Speaks::Echo, &crowd).await;
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

/// Number of the first of those who are there from the beginning; behind all others.
const FIRST: usize = 100_000;

/// Everybody is connected and has a list.
async fn ready(stage: &mut Stage, server: &Server, crowd: &Crowd) -> Phones {
    let mut phones = Phones::connect(server.addr, Speaks::Nearcast, crowd).await;
    stage.read_hellos(stage.seats.len() + crowd.count);
    stage.reset_all().await;
    let all = crowd.count as u64;
    phones.until("a list for each", |counts| counts.lists.load(Ordering::Relaxed) >= all).await;
    phones
}

async fn gateway(size: &Size, secure: Option<&Secure>) -> Vec<Value> {
    let row = |case: &str, size: &Size| {
        let mut row = row(case, size);
        row["tls"] = secure.is_some().into();
        row
    };
    let mut stage = Stage::set_up().await;
    let tls = secure.map(|secure| secure.folder().to_owned());
    let (kafka, api) = (stage.kafka(), stage.api.clone());
    let server = Server::start(&Serves::Gateway { kafka, api, tls, coalesce_ms: COALESCE_MS });
    let tls = secure.map(Secure::connector);
    // Some are there from the beginning, so that what the first of them bring along is not counted for the others: pools
    // and queues of the clients of Kafka, Redis and the API.
    let first = Crowd { first: FIRST, count: size.connections / 5, tls: tls.clone(), ..Crowd::default() };
    let _first = ready(&mut stage, &server, &first).await;
    let (before, _) = idle(&server, size).await;
    let coming = Since::now(&server);
    let crowd = Crowd { count: size.connections, active: size.active, tls, ..Crowd::default() };
    let mut phones = ready(&mut stage, &server, &crowd).await;
    let mut rows = vec![row("idle", size)];
    rows[0]["cpu_us_per_connection"] = coming.per(size.connections as f64).into();
    let (resident, used) = idle(&server, size).await;
    rows[0]["bytes_per_connection"] = ((resident - before) / size.connections as f64).into();
    rows[0]["cpu_us_per_idle_minute"] = used.into();

    let mut said = row("in", size);
    said["cpu_us_per_message"] = say(&server, &mut phones, size).await.into();
    rows.push(said);
    for friends in [1, 5, 20] {
        let counts = phones.counts.clone();
        let read = || (counts.frames.load(Ordering::Relaxed), counts.entries.load(Ordering::Relaxed));
        let (frames, entries) = read();
        let updates = (size.active * friends) as u64;
        let since = Since::now(&server);
        for round in 1..=size.rounds {
            let next = Instant::now() + ROUND;
            stage.move_friends(size.active, friends).await;
            // Before the next, which would replace what was not written.
            let all = entries + round * updates;
            phones.until("each update", |counts| counts.entries.load(Ordering::Relaxed) >= all).await;
            sleep_until(next).await;
        }
        let updates = updates * size.rounds;
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

/// All friends of all clients move, first with all clients reading, then with a tenth of them that do not.
async fn deaf(size: &Size) -> Vec<Value> {
    let mut stage = Stage::set_up().await;
    let (kafka, api) = (stage.kafka(), stage.api.clone());
    let server = Server::start(&Serves::Gateway { kafka, api, tls: None, coalesce_ms: COALESCE_MS });
    let deaf = size.connections / 10;
    let mut phones = ready(&mut stage, &server, &Crowd { count: size.connections, deaf, ..Crowd::default() }).await;
    let mut rows = Vec::new();
    for (name, deaf) in [("all_read", 0), ("some_never_read", deaf)] {
        if deaf > 0 {
            phones.deafen();
        }
        let before = server.resident();
        for _ in 0..size.rounds {
            let next = Instant::now() + 16 * ROUND;
            let hear = ((size.connections - deaf) * FULL) as u64;
            let expected = phones.counts.entries.load(Ordering::Relaxed) + hear;
            phones.counts.moved();
            stage.move_friends(size.connections, FULL).await;
            phones.until("each update", |counts| counts.entries.load(Ordering::Relaxed) >= expected).await;
            sleep_until(next).await;
        }
        let mut row = row(name, size);
        row["never_read"] = deaf.into();
        row["p99_us"] = phones.counts.take_p99_us().into();
        row["grown_bytes"] = (server.resident() - before).into();
        rows.push(row);
    }
    rows
}

/// Friends who move on their own, as often as walking phones report: frames and time with changes gathered and without.
async fn arrivals(size: &Size) -> Vec<Value> {
    let mut rows = Vec::new();
    for (near, coalesce_ms) in [(4, 0), (4, COALESCE_MS), (40, 0), (40, COALESCE_MS)] {
        let mut stage = Stage::set_up().await;
        let (kafka, api) = (stage.kafka(), stage.api.clone());
        let server = Server::start(&Serves::Gateway { kafka, api, tls: None, coalesce_ms });
        let crowd = Crowd { count: size.active, ..Crowd::default() };
        let mut phones = ready(&mut stage, &server, &crowd).await;
        let since = Since::now(&server);
        stage.move_at_random(near, size.rounds, REPORT_EVERY, TICK).await;
        // What comes behind all else: some moved twice before it was written once, so nobody knows how many updates come.
        stage.move_last(size.active).await;
        let all = size.active as u64;
        phones.until("the last", |counts| counts.last.load(Ordering::Relaxed) >= all).await;
        let (frames, updates) =
            (phones.counts.frames.load(Ordering::Relaxed), phones.counts.entries.load(Ordering::Relaxed));
        let used = since.per(updates as f64);
        let mut row = row(&format!("near_{near}_window_{coalesce_ms}ms"), size);
        row["connections"] = size.active.into();
        row["cpu_us_per_update"] = used.into();
        row["cpu_us_per_frame"] = (used * updates as f64 / frames as f64).into();
        row["entries_per_frame"] = (updates as f64 / frames as f64).into();
        rows.push(row);
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
