//! The whole service in this process: over HTTP, on an embedded Kafka, with a store in memory or in real Cassandra.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod cassandra;
mod cors;
mod cost;
mod counted;
mod degraded;
mod history;
mod internal;
mod life;
mod links;
mod lists;
mod nearby;
mod openapi;
mod races;
mod refusals;
mod sign_out;
mod store;
mod sweep;
mod world;
