//! `docs/codes.md` is what the code says. `NEARCAST_DOCS=write cargo test -p nearcast-schemas --test codes` writes it.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use nearcast_schemas::refusal::Refusal;

const HEAD: &str = "\
# Codes

Every refusal has a stable code. Over HTTP it comes with a status and the body `{\"code\", \"message\"}`; over the
WebSocket as an `error`, or as a `bye` followed by a close frame with the close code. Each is counted in the metrics
under its code. *Retry*: `never` (the same request will never succeed), `after` (again, after the time that comes with
it, else with back-off), or with a new token.

This page is generated from `schemas/src/refusal.rs`.

";

#[test]
fn the_page_of_codes_is_true() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/codes.md");
    let page = format!("{HEAD}{}", Refusal::table());
    if std::env::var("NEARCAST_DOCS").is_ok_and(|value| value == "write") {
        std::fs::write(path, &page).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(found == page, "docs/codes.md differs from the code; see the top of this file");
}
