//! `nearcast simulate`: phones over real WebSockets, and an audit of everything that they are shown.
//!
//! | file | idea | pure |
//! |---|---|---|
//! | `graph`, `movement`, `faults`, `mover`, `traces` | who is whose friend, where they go, when sockets drop | yes |
//! | `frames`, `view`, `outbox`, `sabotage` | a client written from docs/protocol.md | yes |
//! | `truth`, `audit`, `finding`, `pace`, `latency`, `ledger`, `report` | what must be seen, what is seen, the sums | yes |
//! | `trust`, `ws`, `http`, `target` | TLS, sockets, the REST API, services | no |
//! | `ledger_file` | what was sent and acknowledged, for `nearcast audit` | no |
//! | `timeline` | how phones fare, moment by moment | no |
//! | `phone`, `fleet`, `clock`, `console`, `run` | tasks, time, the terminal, all together | no |

pub mod args;
mod audit;
mod clock;
mod console;
mod faults;
mod finding;
pub(crate) mod fleet;
pub(crate) mod frames;
pub(crate) mod graph;
pub(crate) mod http;
mod latency;
pub(crate) mod ledger;
mod ledger_file;
pub(crate) mod movement;
mod mover;
mod outbox;
mod pace;
mod phone;
mod point;
mod report;
pub(crate) mod run;
mod sabotage;
pub(crate) mod target;
mod timeline;
mod traces;
pub(crate) mod trust;
mod truth;
pub(crate) mod view;
pub(crate) mod ws;

pub use run::run;
