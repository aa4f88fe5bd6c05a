//! The contract between the parts of Nearcast: records, topics, keys, codecs, codes, and the one rule of who may be
//! shown to whom. It knows no Kafka client, no runtime and no database.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod coarse;
pub mod codec;
pub mod delivery;
pub mod deployment;
pub mod digest;
pub mod event;
pub mod ids;
pub mod internal;
pub mod list;
pub mod notice;
pub mod refusal;
pub mod rule;
pub mod topics;
