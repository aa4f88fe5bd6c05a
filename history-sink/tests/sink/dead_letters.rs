//! Poison, where it lies, and trying it once more.

use std::sync::Arc;

use nearcast_history_sink::dead_letters::{DeadLetters, Letter, Origin, Outcome};
use nearcast_history_sink::history::History;
use nearcast_runtime::clock::now_ms;
use nearcast_schemas::event::LocationKind;

use crate::log::{Log, cassandra, event, rows, test_prefix};

async fn list(letters: &DeadLetters) -> Vec<Letter> {
    let mut found = Vec::new();
    assert_eq!(letters.list(|letter| found.push(letter.clone())).await.unwrap(), 0);
    found
}

async fn retry(letters: &DeadLetters, history: &dyn History) -> (Vec<(Origin, Outcome)>, usize) {
    let mut told = Vec::new();
    let each = |letter: &Letter, outcome: &Outcome| told.push((letter.origin.clone(), outcome.clone()));
    let settled = letters.retry(history, |_| true, each).await.unwrap();
    (told, settled.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_stored_at_last_is_stored_as_of_then_and_the_rest_stays() {
    let log = Log::real().await;
    let history = Arc::new(cassandra().await);
    let (user, gone) = (format!("poison-{}", test_prefix()), format!("gone-{}", test_prefix()));
    let sink = log.start(history.clone());
    let now = now_ms();
    // Another build's records, to this sink: it learns their schema's id afterwards.
    let mut later = Vec::new();
    log.codec.encode_location(&event(1, now, LocationKind::Fix), &mut later);
    later[1..5].copy_from_slice(&77_u32.to_be_bytes());
    let first = log.append(&user, &later).await;
    let erased = log.append(&gone, &later).await;
    // What Cassandra refuses for good, among rows that it takes.
    let mut large = event(2, now, LocationKind::Fix);
    large.fix.as_mut().unwrap().device = "x".repeat(70_000);
    let mut value = Vec::new();
    log.codec.encode_location(&large, &mut value);
    let refused = log.append(&user, &value).await;
    let untimed = log.append_report(&user, 3, i64::MIN, LocationKind::Backfill).await;
    let no_key = log.append_keyless(b"bytes").await;
    log.report(&user, 4, now + 1, LocationKind::Fix).await;
    log.report(&gone, 0, now, LocationKind::Erase).await;
    let last = rows(&*history, &user, 1).await[0].appended_at;

    let letters = log.dead_letters(log.codec.clone());
    let found = loop {
        let found = list(&letters).await;
        if found.len() == 5 {
            break found;
        }
    };
    let kind = |(partition, offset): (i32, i64)| {
        let letter = found.iter().find(|letter| (letter.origin.partition, letter.origin.offset) == (partition, offset));
        let letter = letter.expect("it is there");
        assert!(!letter.poison.cause.is_empty() && letter.poison.cause.len() < 1_000);
        assert!(letter.appended_at.is_some_and(|at| at >= now - 60_000 && at <= now_ms() + 60_000));
        letter.poison.kind.clone()
    };
    assert_eq!(
        [first, erased, refused, untimed, no_key].map(kind),
        ["undecodable", "undecodable", "refused", "untimed", "undecodable"]
    );
    let letter = found.iter().find(|letter| (letter.origin.partition, letter.origin.offset) == first).unwrap();
    assert_eq!(
        (letter.key.as_deref(), letter.value.as_deref(), letter.user()),
        (Some(user.as_bytes()), Some(&later[..]), Some(&*user))
    );
    let keyless = found.iter().find(|letter| letter.key.is_none()).unwrap();
    assert_eq!(keyless.value.as_deref(), Some(&b"bytes"[..]));
    rows(&*history, &gone, 0).await;

    let (told, settled) = retry(&letters, &*history).await;
    assert!(
        told.len() == 5 && settled == 0 && told.iter().all(|(_, outcome)| matches!(outcome, Outcome::Stays(_))),
        "{told:?}"
    );

    // The id is known now.
    let letters = log.dead_letters(log.codec_of(77));
    let (told, _) = retry(&letters, &*history).await;
    let stored: Vec<_> = told.iter().filter(|(_, outcome)| *outcome == Outcome::Stored).collect();
    assert_eq!(stored.len(), 2, "{told:?}");
    let found = rows(&*history, &user, 2).await;
    assert_eq!((found[0].n, found[0].partition, found[0].offset), (1, first.0, first.1));
    assert!(found[0].appended_at <= last, "as of when the log got it");
    rows(&*history, &gone, 0).await;

    let (told, settled) = retry(&letters, &*history).await;
    assert_eq!((told.len(), settled), (3, 2), "what was stored is not tried again");
    assert_eq!(list(&letters).await.len(), 3);
    sink.stop().await;
    log.delete().await;
}

/// A thousand of them take no longer than a thousand rows.
#[tokio::test(flavor = "multi_thread")]
async fn many_at_once() {
    let log = Log::real().await;
    let history = Arc::new(nearcast_history_sink::memory::MemoryHistory::default());
    let deliveries: Vec<_> = (0..1_000).map(|i| log.send(&format!("u{i}"), b"not avro")).collect();
    for delivery in deliveries {
        delivery.await.unwrap().unwrap();
    }
    log.report("after", 1, now_ms(), LocationKind::Fix).await;
    let sink = log.start(history.clone());
    rows(&*history, "after", 1).await;
    sink.stop().await;
    assert_eq!(log.committed().await, 1_001);
    assert_eq!(list(&log.dead_letters(log.codec.clone())).await.len(), 1_000);
    log.delete().await;
}
