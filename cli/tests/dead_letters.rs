//! Dead letters on the real servers: listed, tried again, and in the history at last.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod run;

use std::time::Instant;

use nearcast_schemas::codec::{Codec, SchemaIds};
use run::log::{append, report};
use run::whole::Whole;
use run::{PATIENCE, Said, Stack, bad, nearcast, said, strs};
use serde_json::Value;

/// Of a later build, whose schema has an id that nobody here knows.
const ITS_ID: u32 = 77;

fn of_a_later_build() -> Vec<u8> {
    let mut bytes = Vec::new();
    let codec = Codec::new(SchemaIds { location_event: ITS_ID, ..SchemaIds::default() });
    codec.encode_location(&report("alice", 1), &mut bytes);
    bytes
}

fn dead_letters(stack: &Stack, args: &[&str]) -> Said {
    let args = stack.args(&[&["dead-letters"], args].concat());
    let said = said(&mut nearcast(&strs(&args)));
    assert!(!said.out.contains("48.137"), "{}", said.out);
    said
}

fn listed(stack: &Stack) -> Vec<Value> {
    let said = dead_letters(stack, &["list", "--json"]);
    assert_eq!(said.code, 0, "{}", said.err);
    said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_stored_is_listed_and_stored_at_last() {
    let whole = Whole::start(&[]).await;
    let stack = &whole.stack;
    assert_eq!(dead_letters(stack, &["list"]).out, "0 waiting\n");
    let name = |(partition, offset)| format!("{}.locations[{partition}]@{offset}", stack.prefix);
    let later = name(append(stack, "alice", &of_a_later_build()).await);
    let broken = name(append(stack, "bob", b"nothing of ours").await);
    let deadline = Instant::now() + PATIENCE;
    while listed(stack).len() < 2 {
        assert!(Instant::now() < deadline, "the sink puts them aside");
    }
    let letters = listed(stack);
    let alice = letters.iter().find(|letter| letter["letter"] == *later).unwrap();
    assert_eq!((&alice["user"], &alice["kind"]), (&"alice".into(), &"undecodable".into()));
    assert!(alice["appended_at"].is_i64() && alice["cause"].as_str().unwrap().contains("77"), "{alice}");
    let said = dead_letters(stack, &["list"]);
    assert!(
        said.out.ends_with("2 waiting\n") && said.out.contains(&format!("{later} of alice, of 20")),
        "{}",
        said.out
    );

    // Nobody knows the schema yet.
    let said = dead_letters(stack, &["retry"]);
    assert_eq!(said.code, 1, "{}", said.out);
    assert!(said.out.ends_with("0 settled, 2 stay\n") && said.err.contains("2 stay dead letters"), "{}", said.out);
    let known = format!("schema_ids.location_event={ITS_ID}");
    let said = dead_letters(stack, &["retry", &later, "--set", &known]);
    assert_eq!((said.code, said.out), (0, format!("stored: {later}\n1 settled, 0 stay\n")), "{}", said.err);
    let said = dead_letters(stack, &["retry", &later, "--set", &known]);
    assert_eq!((said.code, said.out), (0, format!("stored before: {later}\n0 settled, 0 stay\n")), "{}", said.err);
    let unknown = name((0, 1_000_000));
    let said = dead_letters(stack, &["retry", &unknown]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains(&format!("no such dead letters: {unknown}")), "{}", said.err);
    let letters = listed(stack);
    assert!(letters.len() == 1 && letters[0]["letter"] == *broken, "{letters:?}");

    // Its row is there, and whoever reads the log with the id agrees.
    let args = ["audit", "--from", "1h", "--to", "now", "--json", "--user", "alice", "--set", &known];
    let audited = self::said(&mut nearcast(&strs(&stack.args(&args))));
    let account: Value = serde_json::from_str(&audited.out).unwrap();
    assert_eq!((audited.code, &account["history"]["reports"]), (0, &1.into()), "{account}");
    whole.stop().await;
}

#[test]
fn what_is_no_letter_is_said() {
    bad(&["dead-letters", "retry", "locations/3/4"], 64, &["TOPIC[PARTITION]@OFFSET"]);
    let set = ["--set", "kafka.bootstrap=127.0.0.1:1", "--set", "kafka.startup_wait=100ms"];
    bad(&[&["dead-letters", "list"][..], &set].concat(), 1, &["Kafka does not answer"]);
    let stack = Stack::new();
    bad(&strs(&stack.args(&["dead-letters", "list"])), 1, &[".dead-letters", "nearcast topics create"]);
}
