//! Pure modules take events and time as arguments. This test fails when one of them names I/O or a clock.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::path::{Path, PathBuf};

/// Folders and files, from the root of the repository. A folder counts with everything below.
const PURE: &[&str] = &[
    "geo/src",
    "schemas/src",
    "ingest/src/coarse.rs",
    "ingest/src/last_seen.rs",
    "ingest/src/order.rs",
    "ingest/src/phone_clock.rs",
    "ingest/src/record.rs",
    "ingest/src/thin.rs",
    "ingest/src/validate.rs",
    "fanout/src/engine",
    "fanout/src/claims.rs",
    "fanout/src/clock.rs",
    "fanout/src/intake.rs",
    "fanout/src/progress.rs",
    "fanout/src/snapshot/format.rs",
    "gateway/src/deliveries.rs",
    "gateway/src/drain.rs",
    "gateway/src/epochs.rs",
    "gateway/src/feed.rs",
    "gateway/src/frames.rs",
    "gateway/src/frames",
    "gateway/src/outbox.rs",
    "gateway/src/routes.rs",
    "gateway/src/session.rs",
    "gateway/src/waiting.rs",
    "api/src/pair.rs",
    "api/src/rules.rs",
    "history-sink/src/commit.rs",
    "history-sink/src/row.rs",
    "history-sink/src/turns.rs",
    "cli/src/audit/account.rs",
    "cli/src/audit/books.rs",
    "cli/src/audit/finding.rs",
    "cli/src/audit/judge.rs",
    "cli/src/audit/ledger.rs",
    "cli/src/simulate/audit.rs",
    "cli/src/simulate/faults.rs",
    "cli/src/simulate/finding.rs",
    "cli/src/simulate/frames.rs",
    "cli/src/simulate/graph.rs",
    "cli/src/simulate/latency.rs",
    "cli/src/simulate/ledger.rs",
    "cli/src/simulate/movement.rs",
    "cli/src/simulate/mover.rs",
    "cli/src/simulate/outbox.rs",
    "cli/src/simulate/pace.rs",
    "cli/src/simulate/report.rs",
    "cli/src/simulate/sabotage.rs",
    "cli/src/simulate/traces.rs",
    "cli/src/simulate/truth.rs",
    "cli/src/simulate/view.rs",
    "cli/src/demo/choice.rs",
    "cli/src/demo/neighbours.rs",
    "cli/src/demo/rates.rs",
    "cli/src/demo/scene.rs",
    "cli/src/simulate/point.rs",
];

/// Crates and clocks that a pure module has no use for.
const FORBIDDEN: &[&str] = &[
    "tokio",
    "tokio_util",
    "tokio_tungstenite",
    "rdkafka",
    "redis",
    "scylla",
    "reqwest",
    "axum",
    "nearcast_runtime",
    "std::net",
    "std::fs",
    "std::thread",
    "std::env",
    "Instant",
    "SystemTime",
];

#[test]
fn pure_modules_do_no_io_and_read_no_clock() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    for pure in PURE {
        let files = files(&root.join(pure));
        assert!(!files.is_empty(), "{pure} is not there: change the list in this test");
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            for (number, name) in forbidden(&text) {
                found.push(format!("{}:{number} names {name}", file.strip_prefix(root).unwrap().display()));
            }
        }
    }
    assert!(found.is_empty(), "pure modules take events and time as arguments:\n{}", found.join("\n"));
}

fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_dir() {
        let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        return entries.flat_map(|entry| files(&entry)).collect();
    }
    let pure = path.extension().is_some_and(|extension| extension == "rs") && path.is_file();
    if pure { vec![path.to_owned()] } else { Vec::new() }
}

/// Line numbers and names. Comments may name what they like, and so may tests, which end a file.
fn forbidden(text: &str) -> Vec<(usize, &'static str)> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut found = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let line = line.split("//").next().unwrap_or_default();
        for name in FORBIDDEN {
            if paths(line).any(|path| path == *name || path.starts_with(&format!("{name}::"))) {
                found.push((number + 1, *name));
            }
        }
    }
    found
}

/// The paths in a line, such as `std::net::SocketAddr`; each with all its tails, so that `time::Instant` is `Instant`.
/// A name alone counts where it is imported or is a type.
fn paths(line: &str) -> impl Iterator<Item = &str> {
    let import = line.trim_start().trim_start_matches("pub ").starts_with("use ");
    line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
        .filter(move |word| import || word.contains("::") || word.starts_with(char::is_uppercase))
        .flat_map(|word| word.match_indices("::").map(move |(at, _)| &word[at + 2..]).chain([word]))
}

#[test]
fn finds_what_it_looks_for() {
    let check = |text: &str, expect: &[&str]| {
        let names: Vec<_> = forbidden(text).into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, expect, "{text}");
    };
    check("use tokio::sync::mpsc;", &["tokio"]);
    check("let x = redis::cmd(\"GET\");", &["redis"]);
    check("let at = std::time::Instant::now();", &["Instant"]);
    check("fn f(now: SystemTime) {}", &["SystemTime"]);
    check("use std::net::SocketAddr;", &["std::net"]);
    check("pub use axum;", &["axum"]);
    check("// tokio::spawn, Instant::now\nlet redis = 1;\nstruct Instantly;", &[]);
    check("use std::collections::BTreeMap;\n#[cfg(test)]\nmod tests {\n    use std::fs;", &[]);
}
