//! The caller's own history, by time and page.

use nearcast_history_sink::history::{History, HistoryRow};
use serde_json::{Value, json};

use crate::world::{World, pluck};

const BEGIN: i64 = 1_700_000_000_000;

fn row(user: &str, n: i64) -> HistoryRow {
    HistoryRow {
        user: user.into(),
        fixed_at: BEGIN + n * 1_000,
        device: "d".into(),
        n,
        lat: 1.5,
        lon: 2.5,
        accuracy_m: Some(4.0),
        speed_mps: None,
        heading_deg: None,
        altitude_m: None,
        device_time: BEGIN + n * 1_000 + 7,
        appended_at: BEGIN + n * 1_000 + 9,
        partition: 0,
        offset: n,
        late: n == 3,
    }
}

#[tokio::test]
async fn a_history_is_read_by_its_owner_alone() {
    let world = World::start().await;
    let rows: Vec<HistoryRow> = (0..25).map(|n| row("alice", n)).chain([row("bob", 99)]).collect();
    world.history.store(&rows).await.unwrap();

    let (from, to) = (BEGIN, BEGIN + 25_000);
    let path = format!("/v1/me/history?from={from}&to={to}&limit=10");
    let (mut numbers, mut next) = (Vec::new(), path.clone());
    for expect in [10, 10, 5] {
        let page = world.get("alice", &next).await;
        let found = pluck(&page["fixes"], "n");
        assert_eq!(found.len(), expect);
        numbers.extend(found);
        next = format!("{path}&cursor={}", page["next_cursor"].as_str().unwrap_or("none"));
    }
    assert!(next.ends_with("none"));
    assert_eq!(numbers, (0..25).map(|n| json!(n)).collect::<Vec<Value>>());

    let page = world.get("alice", "/v1/me/history?from=2023-11-14T22:13:23Z&to=2023-11-14T23:13:24%2B01:00").await;
    let expect = json!({"device": "d", "n": 3, "lat": 1.5, "lon": 2.5, "time": BEGIN + 3_000, "device_time": BEGIN + 3_007,
                        "at": BEGIN + 3_009, "late": true, "accuracy_m": 4.0});
    assert_eq!(page, json!({"fixes": [expect], "next_cursor": null}), "`to` is not in the range");
    assert_eq!(world.get("alice", "/v1/me/history").await["fixes"], json!([]), "the last day");
    world.stop().await;
}
