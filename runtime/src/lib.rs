//! What every service needs to run: configuration, telemetry, lifecycle, Kafka, CQL, tokens, health. It knows nothing
//! of positions, friends or topics by name.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod admin;
pub mod auth;
pub mod clock;
pub mod config;
pub mod cql;
pub mod embedded;
pub mod health;
pub mod kafka;
mod kafka_error;
mod kafka_log;
pub mod lifecycle;
pub mod migrations;
pub mod secret;
pub mod telemetry;

pub use secret::Secret;
