//! Kafka to Cassandra or ScyllaDB: every position of the location log becomes one row of its user's history.
//!
//! Offsets are committed after the rows are written, and a row written twice is one row: nothing is skipped and
//! nothing doubled.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod batch;
mod commit;
pub mod cql;
mod events;
pub mod history;
pub mod memory;
mod reader;
mod row;
mod sink;
pub mod stored;
mod writer;

pub use sink::{Config, Error, Parts, run};
