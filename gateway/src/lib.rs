//! The WebSocket edge: holds the sockets of clients, takes their reports into the log, and writes what workers decided.
//!
//! | question | module | I/O |
//! |---|---|---|
//! | what do frames look like? | [`frames`] | none |
//! | what may a client say when, and what is due when it says nothing? | [`session`] | none |
//! | which batches count, and is one missing? | [`epochs`] | none |
//! | which sessions are here? | [`routes`] | none |
//! | which deliveries count for one session? | [`feed`] | none |
//! | what waits to be written, and in what order? | [`outbox`], `waiting` | none |
//! | from a record to the feeds | [`deliveries`] | none |
//! | who is told when that the gateway goes away? | [`drain`] | none |
//! | one runtime a core | `cores` | tokio |
//! | who comes in, and TLS | `entrance` | tokio, rustls |
//! | sockets | `ws`, `socket`, `connection`, `hello`, `reports`, `link` | tokio, tungstenite |
//! | the gateway's topic | `kafka` | rdkafka |
//! | the API | `http` | reqwest |
//!
//! Invariant: a gateway knows neither friendships nor views. It asks the API at `hello` and at `subscribe`, obeys
//! notices, and passes on what workers write.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod config;
mod connection;
mod cores;
pub mod deliveries;
pub mod drain;
mod entrance;
pub mod epochs;
mod events;
pub mod feed;
pub mod frames;
mod gateway;
mod hello;
mod http;
mod kafka;
mod link;
pub mod outbox;
mod registry;
mod reports;
pub mod routes;
mod service;
pub mod session;
mod socket;
mod token;
mod waiting;
mod ws;

pub use config::{Config, ConfigError};
pub use entrance::{
    ForwardedHeader, ForwardedMalformed, Networks, ProxyError, ProxyProtocol, TlsError, forwarded_client,
    read_proxy_header,
};
pub use service::{Error, Parts, run, run_on, run_on_both};
pub use ws::PATH;
