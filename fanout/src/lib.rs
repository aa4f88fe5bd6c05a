//! The join of positions with friend lists: the engine and the worker around it.
//!
//! The [`engine`] is pure: records, lists and time in, decisions out. The worker ([`run`]) feeds it from Kafka and writes
//! what it decides to the gateways' topics. Of the sockets at the other end, and of any database, this crate knows
//! nothing.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod claims;
mod clock;
mod config;
mod deliveries;
pub mod engine;
mod intake;
mod kafka;
mod pace;
mod progress;
mod snapshot;
mod telemetry;
mod vitals;
mod worker;

pub use claims::{Claims, Order};
pub use clock::BrokerClock;
pub use config::{Config, ConfigError};
pub use progress::Stall;
pub use worker::{Error, Parts, run, run_on};
