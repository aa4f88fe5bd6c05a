//! `nearcast audit`: what phones sent, the log and the history, compared report by report.
//!
//! | file | idea | pure |
//! |---|---|---|
//! | `ledger` | what phones sent and were told, as a file | yes |
//! | `books` | what the log holds of a partition, compactly | yes |
//! | `judge`, `finding`, `account` | one user's reports from all sides, what differs, the sums | yes |
//! | `kafka` | the log, the dead letters, how far the sink is | no |
//! | `run` | a partition after the other, and the answer | no |
//!
//! A user's records are in one partition: each is read, judged against its users' rows, and forgotten.

mod account;
pub mod args;
mod books;
mod finding;
mod judge;
mod kafka;
pub mod ledger;
mod run;

pub use run::run;
