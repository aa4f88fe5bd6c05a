//! What is said of the rows.

use serde_json::Value;

use crate::table::{Column, number, table};

const SPEED: &[Column] = &[
    ("users", "users", 1.0, 0),
    ("listed", "friends_listed", 1.0, 0),
    ("online", "friends_online", 1.0, 0),
    ("Mpairs/s", "pairs_per_second", 1e6, 1),
    ("slowest", "pairs_per_second_slowest", 1e6, 1),
    ("fastest", "pairs_per_second_fastest", 1e6, 1),
    ("on CPU", "on_cpu", 1.0, 2),
    ("/CPU s", "pairs_per_cpu_second", 1e6, 1),
    ("ns/pair", "ns_per_pair", 1.0, 1),
    ("krec/s", "records_per_second", 1e3, 0),
    ("naive", "naive_pairs_per_second", 1e6, 1),
    ("mutual", "naive_mutual_pairs_per_second", 1e6, 1),
    ("H3", "h3_pairs_per_second", 1e6, 1),
    ("x naive", "times_naive", 1.0, 1),
    ("x mutual", "times_naive_mutual", 1.0, 1),
    ("x H3", "times_h3", 1.0, 1),
];

const REST: &[Column] = &[
    ("users", "users", 1.0, 0),
    ("B/user", "bytes_per_user", 1.0, 0),
    ("B/friend", "bytes_per_friendship", 1.0, 1),
    ("GB", "bytes_in_all", 1e9, 2),
    ("GB huge", "bytes_in_huge_pages", 1e9, 2),
    ("GB harness", "bytes_of_harness", 1e9, 2),
    ("in range", "share_in_range", 1.0, 3),
    ("pairs", "pairs_per_record", 1.0, 1),
    ("upserts", "upserts_per_record", 1.0, 2),
    ("removals", "removals_per_record", 1.0, 4),
    ("set-up s", "set_up_seconds", 1.0, 0),
    ("kentries/s", "list_entries_per_second", 1e3, 0),
];

const DECODE: &[Column] =
    &[("users", "users", 1.0, 0), ("krec/s", "records_per_second", 1e3, 0), ("ns/rec", "ns_per_record", 1.0, 0)];

/// Prints the rows as plain tables.
pub fn print(rows: &[Value]) {
    let (decode, join): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row["case"] == "decode");
    table(
        "The join on one thread: medians of five rounds, in million pairs/s, and joins of the first day (x: by CPU time)",
        SPEED,
        &join,
    );
    table("Memory, and what was asked of it (pairs, upserts and removals a record)", REST, &join);
    table("Decoding, which is no part of the join", DECODE, &decode);
    for case in ["all_online", "tenth_online"] {
        let mut figures = join.iter().filter(|row| row["case"] == case);
        let (Some(first), Some(last)) = (figures.next(), figures.next_back()) else { continue };
        let growth = number(last, "ns_per_pair") / number(first, "ns_per_pair");
        println!("\n{case}: {growth:.1} times the ns/pair at {} users than at {}", last["users"], first["users"]);
    }
}
