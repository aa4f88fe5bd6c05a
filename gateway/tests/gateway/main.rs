//! A gateway in this process, on an embedded Kafka cluster, with a small API and a worker driven by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod absent;
mod api;
mod bad_input;
mod deliveries;
mod drain;
mod log;
mod meanwhile;
mod notices;
mod phone;
mod real;
mod sessions;
mod upgrade;
mod worker;
mod wire;
mod world;
