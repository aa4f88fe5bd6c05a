//! Bytes and time of a `nearby` frame in each format, for docs/adr/0005.
#![allow(clippy::print_stdout, missing_docs)]

use std::hint::black_box;
use std::time::Instant;

use nearcast_gateway::frames::{Entry, Nearby, ServerMessage};
use nearcast_schemas::delivery::{FriendPosition, ResetEntry};

const RUNS: u32 = 20;
const FRAMES: u32 = 5_000;

fn entry(i: u32) -> Entry {
    let position = FriendPosition {
        lat: 52.516_312_3 + f64::from(i) * 0.001_234_567,
        lon: 13.377_712_3 + f64::from(i) * 0.001_334_567,
        at: 1_767_225_590_000 + i64::from(i),
        coarse: false,
        accuracy_m: Some(5.0),
        speed_mps: Some(1.4),
        heading_deg: None,
    };
    let distance_dm = 18_932 + i32::try_from(i).unwrap_or_default() * 731;
    let friend = format!("u{:06}", 1_000 + i * 7_919);
    Entry::of_reset(ResetEntry { friend, display_name: format!("Friend {i}"), position, distance_dm }, 0)
}

/// Bytes of a frame, and the µs of the fastest run.
fn measure(encode: impl Fn() -> usize) -> (usize, f64) {
    let run = |_| {
        let begun = Instant::now();
        (0..FRAMES).for_each(|_| {
            black_box(encode());
        });
        begun.elapsed().as_secs_f64() * 1e6 / f64::from(FRAMES)
    };
    (encode(), (0..RUNS).map(run).fold(f64::INFINITY, f64::min))
}

fn main() {
    println!("friends  JSON B  µs     MessagePack B  µs");
    for friends in [1, 5, 20] {
        let upserts = (0..friends).map(entry).collect();
        let message = ServerMessage::Nearby(Nearby { upserts, ..Nearby::default() });
        let (json, json_us) = measure(|| message.encode().len());
        let (binary, binary_us) = measure(|| message.encode_binary().len());
        println!("{friends:>7}  {json:>6}  {json_us:<5.2}  {binary:>13}  {binary_us:.2}");
    }
}
