//! REST: users, friends, sharing, history; the internal endpoint for gateways; the publisher of visibility lists.
//!
//! | question | module |
//! |---|---|
//! | what are two users to each other, and what follows from a step? | [`pair`] |
//! | who may see whom, and who is nearby? | [`rules`] |
//! | what is kept, and where? | [`store`], [`memory`], [`cql`] |
//! | how does a change reach everybody who must know? | `changes`, `lists`, `sweep` |
//! | who sees whom through a share link? | [`links`] |
//! | what is said over HTTP? | `rest` |
//!
//! Invariant: what a viewer sees follows from the pairs' canonical rows and the profiles; lists, requests and the
//! visibility log are derived, and derived again after any crash.
//!
//! Invariant: an answer to a change that takes something away is sent after the log and the gateways have it.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod changes;
mod config;
pub mod cql;
mod events;
mod failure;
mod kafka;
pub mod links;
mod lists;
pub mod memory;
pub mod pair;
mod rest;
pub mod rules;
mod server;
mod service;
mod sign_out;
pub mod store;
mod sweep;
pub mod tables;
mod turns;

pub use config::{Config, ConfigError};
pub use cql::CqlStore;
pub use memory::MemoryStore;
pub use server::{Error, Parts, run, run_on};
pub use store::Store;
pub use tables::MIGRATIONS;
