//! Kafka to Cassandra or ScyllaDB: every position of the location log becomes one row of its user's history.
//!
//! Offsets are committed after the rows are written, and a row written twice is one row: nothing is skipped and
//! nothing doubled. A row is written as of its record's append time: an erasure that came later holds, whatever is read or
//! tried again.
//!
//! In order within a partition, in turn between partitions: after an outage each partition catches up as if it were alone
//! with a fair share of the database, and one that is not behind is stored at once. A backlog is read before what is new in
//! the same partition; nobody who is shown live positions waits for the history.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod batch;
mod commit;
pub mod cql;
pub mod dead_letters;
mod events;
pub mod history;
mod membership;
pub mod memory;
mod read;
mod reader;
mod row;
mod sink;
pub mod stored;
mod turns;
mod writer;

pub use sink::{Config, Error, Parts, run};
