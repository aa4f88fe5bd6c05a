//! A gateway in this process, on an embedded Kafka cluster, with a small API and a worker driven by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod absent;
mod api;
mod bad_input;
mod broker;
mod counted;
mod deliveries;
mod departures;
mod drain;
mod limits;
mod log;
mod meanwhile;
mod notices;
mod outage;
mod phone;
mod proxies;
mod real;
mod sessions;
mod tls;
mod tokens;
mod upgrade;
mod wire;
mod worker;
mod world;
