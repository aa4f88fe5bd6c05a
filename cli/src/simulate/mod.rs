//! `nearcast simulate`: phones over real WebSockets, and an audit of everything that they are shown.
//!
//! | file | idea | pure |
//! |---|---|---|
//! | `graph`, `movement`, `faults`, `mover`, `traces` | who is whose friend, where they go, when sockets drop | yes |
//! | `frames`, `view`, `outbox`, `sabotage` | a client written from docs/protocol.md | yes |
//! | `truth`, `audit`, `finding`, `pace`, `latency`, `ledger`, `report` | what must be seen, what is seen, the sums | yes |
//! | `ws`, `http`, `target`, `phone`, `fleet`, `console` | sockets, the REST API, services, tasks, the terminal | no |

pub mod args;
pub(crate) mod audit;
mod clock;
pub(crate) mod console;
mod faults;
pub(crate) mod finding;
pub(crate) mod fleet;
pub(crate) mod frames;
pub(crate) mod graph;
pub(crate) mod http;
mod latency;
pub(crate) mod ledger;
pub(crate) mod movement;
pub(crate) mod mover;
mod outbox;
mod pace;
pub(crate) mod phone;
mod point;
pub(crate) mod report;
pub(crate) mod run;
mod sabotage;
pub(crate) mod target;
mod traces;
mod truth;
pub(crate) mod view;
pub(crate) mod ws;

pub use run::run;
