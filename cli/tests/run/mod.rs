//! Runs the real binary.
#![allow(dead_code, clippy::print_stdout)]

pub mod account;
pub mod log;
pub mod metrics;
pub mod phones;
pub mod socket;
pub mod whole;

use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

pub const PATIENCE: Duration = Duration::from_secs(60);

/// The binary with nothing of this machine's environment that configures it.
pub fn nearcast(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nearcast"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("NEARCAST_") {
            command.env_remove(name);
        }
    }
    command.args(args);
    command
}

/// What a command that ends by itself said, and its status.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

pub fn said(command: &mut Command) -> Said {
    let Output { status, stdout, stderr } = command.output().unwrap();
    Said {
        code: status.code().unwrap_or(-1),
        out: String::from_utf8(stdout).unwrap(),
        err: String::from_utf8(stderr).unwrap(),
    }
}

/// Runs it; it must succeed.
pub fn good(args: &[&str]) -> String {
    let said = said(&mut nearcast(args));
    assert_eq!(said.code, 0, "{args:?}: {}", said.err);
    said.out
}

/// Runs it; it must end with this status, say all of this, and print nothing.
#[track_caller]
pub fn bad(args: &[&str], code: i32, expect: &[&str]) {
    let said = said(&mut nearcast(args));
    assert_eq!(said.code, code, "{args:?}: {}{}", said.out, said.err);
    assert_eq!(said.out, "", "{args:?}");
    for part in expect {
        assert!(said.err.contains(part), "{args:?}: {part} in {}", said.err);
    }
}

/// A running service. Killed when it is dropped.
pub struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    pub fn start(args: &[&str]) -> Self {
        Self::of(nearcast(args))
    }

    /// The same of a command with an environment of its own.
    pub fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (send, lines) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines() {
                let Ok(line) = line else { return };
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, seen: Vec::new() }
    }

    /// Waits for a log line.
    pub fn until(&mut self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let line = match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => line,
                Err(_) => panic!("{part} was not said:\n{}", self.seen.join("\n")),
            };
            self.seen.push(line.clone());
            if line.contains(part) {
                return line;
            }
        }
    }

    /// Sends it a signal, such as `-STOP`.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, and returns its status and everything it logged.
    pub fn stop(self) -> (i32, String) {
        self.signal("-TERM");
        self.ended()
    }

    /// Waits for its end, and returns its status and everything it logged.
    pub fn ended(mut self) -> (i32, String) {
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        self.seen.extend(self.lines.iter());
        let mut out = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        assert_eq!(out, "", "services log, they print nothing");
        (code, self.seen.join("\n"))
    }

    /// Ends it by SIGKILL, and returns everything it logged.
    pub fn kill(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.seen.extend(self.lines.iter());
        self.seen.join("\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address that was free a moment ago, and that nobody is given by chance: ports from 32768 on are handed out to
/// whoever connects or asks for any, such as the brokers of an embedded deployment.
pub fn free() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Processes begin apart from each other.
    let begin = std::process::id().wrapping_mul(257);
    loop {
        let number = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let address = format!("127.0.0.1:{}", 12_000 + number % 16_000);
        if TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}

/// Waits until the body at a URL holds this, whatever its status.
pub async fn until_body(url: &str, part: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    let mut last = String::new();
    while Instant::now() < deadline {
        if let Ok(answer) = reqwest::get(url).await {
            last = answer.text().await.unwrap_or_default();
            if last.contains(part) {
                return last;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{url} did not say {part}: {last}");
}

fn at(variable: &str, default: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| default.to_owned())
}

/// The real servers, and a prefix that no other test has.
pub struct Stack {
    pub prefix: String,
    pub kafka: String,
    pub redis: String,
    pub cassandra: String,
}

impl Stack {
    /// Fails with what to run where a server is not there.
    pub fn new() -> Self {
        let stack = Self {
            prefix: format!("t{:016x}", RandomState::new().hash_one(())),
            kafka: at("NEARCAST_TEST_KAFKA", "127.0.0.1:29092"),
            redis: at("NEARCAST_TEST_REDIS", "redis://127.0.0.1:26379"),
            cassandra: at("NEARCAST_TEST_CASSANDRA", "127.0.0.1:29042"),
        };
        for server in [&stack.kafka, stack.redis.trim_start_matches("redis://"), &stack.cassandra] {
            assert!(std::net::TcpStream::connect(server).is_ok(), "nothing answers at {server}: run `make up`");
        }
        stack
    }

    /// `args` on this stack, with few partitions.
    pub fn args<'a>(&'a self, args: &[&'a str]) -> Vec<String> {
        let mut all: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        for (path, value) in [
            ("deployment.prefix", self.prefix.as_str()),
            ("kafka.bootstrap", &self.kafka),
            ("redis.nodes", &self.redis),
            ("cassandra.nodes", &self.cassandra),
            ("topics.locations_partitions", "2"),
            ("topics.visibility_partitions", "2"),
        ] {
            all.extend(["--set".to_owned(), format!("{path}={value}")]);
        }
        all
    }

    /// Deletes what the test made.
    pub async fn clean(&self) {
        let kafka = nearcast_runtime::kafka::Kafka::new(nearcast_runtime::kafka::KafkaConfig {
            bootstrap: self.kafka.clone(),
            embedded: false,
            startup_wait: PATIENCE,
            options: Default::default(),
        });
        for (topic, _) in kafka.topics(&format!("{}.", self.prefix)).await.unwrap() {
            kafka.delete_topic(&topic).await.unwrap();
        }
        let config = nearcast_runtime::cql::CqlConfig {
            nodes: vec![self.cassandra.clone()],
            keyspace: self.prefix.clone(),
            replication_factor: 1,
            datacenter: None,
            startup_wait: PATIENCE,
            username: None,
            password: None,
        };
        let session = nearcast_runtime::cql::connect(&config).await.unwrap();
        session.query_unpaged(format!("DROP KEYSPACE IF EXISTS {}", self.prefix), &[]).await.unwrap();
    }
}

pub fn strs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}
