//! What is fuzzed: one function a target. Each takes bytes and panics when a promise is broken, so that libFuzzer
//! (`fuzz/libfuzzer`), an ordinary test (`tests/corpora.rs`) and a debugger can all call it. See the README beside.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is what a target has to say")]

mod answers;
mod entrance;
mod frames;
mod hello;
mod keys;
mod memory;
mod records;
mod session;
mod tokens;
mod tree;

pub use entrance::entrance;
pub use frames::frames;
pub use hello::hello;
pub use keys::keys;
pub use records::records;
pub use session::session;
pub use tokens::tokens;

/// A target.
pub type Target = fn(&[u8]);

/// All of them, by the names of their corpora.
pub const TARGETS: [(&str, Target); 7] = [
    ("entrance", entrance),
    ("frames", frames),
    ("hello", hello),
    ("keys", keys),
    ("records", records),
    ("session", session),
    ("tokens", tokens),
];
