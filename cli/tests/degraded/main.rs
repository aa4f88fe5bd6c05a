//! What goes on while a server is away, over the whole way: Redis, Cassandra or Kafka, cut off or silent.
//!
//! Redis and Cassandra are those of `make up`, reached by a way that the test can close. Kafka names its own address to its
//! clients, so it is a broker of the test's own, which is stopped for a while. `docs/degradation.md` says the same for people.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

#[path = "../../../gateway/tests/gateway/broker.rs"]
mod broker;
mod cassandra;
mod deployment;
mod kafka;
#[allow(dead_code, reason = "another test uses the rest")]
#[path = "../gateways/phone.rs"]
mod phone;
mod redis;
#[path = "../run/mod.rs"]
mod run;
mod way;

use tokio::sync::Mutex;

/// Each test judges how soon a move is seen: they take turns.
static TURN: Mutex<()> = Mutex::const_new(());

/// What `broker` asks for.
mod world {
    pub use crate::run::PATIENCE;
}
