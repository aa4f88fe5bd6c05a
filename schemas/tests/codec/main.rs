//! The hand-written codec against apache-avro, against hostile bytes, against checked-in bytes, and against the
//! schemas of other builds.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod blocks;
mod equality;
mod evolution;
mod golden;
mod hostile;
mod reference;
mod strategies;
