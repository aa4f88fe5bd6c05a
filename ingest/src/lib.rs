//! The write path: validate, stamp, thin out, encode, publish, acknowledge; and the cache that it feeds.
//!
//! A report is **accepted** when Kafka has acknowledged it, or when it was thinned out because the log holds one close
//! by and not long ago. [`Pending`] resolves then and not before. What it takes effect on (thinning, the last position
//! in the cache) follows from Kafka's acknowledgement alone, whether or not anybody awaits the [`Pending`].
//!
//! | question | module |
//! |---|---|
//! | is it a report, and when was the phone there? | [`mod@validate`] |
//! | what does the phone's clock show, however long its message was under way? | [`PhoneClock`] |
//! | what do the brokers' clocks show? | `broker_clock` |
//! | may it be left out of the log? | [`thin`] |
//! | does a report with a higher number precede it? | [`order`] |
//! | what goes into the log, by session and without one? | [`Track`], [`Ingest`] |
//! | what was last known of somebody, and where is somebody connected? | [`Cache`] |
//!
//! Invariant: nothing here knows sockets or friendships.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod broker_clock;
mod cache;
mod coarse;
mod config;
mod events;
mod in_flight;
mod ingest;
mod kafka;
mod last_seen;
mod memory;
pub mod order;
mod pending;
mod phone_clock;
mod record;
mod redis;
mod redis_config;
mod redis_keys;
mod redis_link;
mod redis_writer;
pub mod thin;
mod track;
pub mod validate;

pub use self::redis::RedisCache;
pub use cache::{Cache, CacheError, LastSeen, MAX_SESSIONS, Session};
pub use config::{Config, ConfigError};
pub use ingest::{Ingest, IngestError, Unflushed};
pub use memory::MemoryCache;
pub use pending::{Appended, Outcome, Pending};
pub use phone_clock::PhoneClock;
pub use redis_config::{RedisConfig, RedisConfigError};
pub use redis_writer::RedisWriter;
pub use track::Track;
pub use validate::{AgeLimits, CLOCK_TOLERANCE_MS, Checked, RawFix, validate};
