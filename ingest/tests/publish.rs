//! What reaches the log, in real Kafka and in the embedded cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use nearcast_ingest::{Cache, Checked, Ingest, MemoryCache, Outcome, Pending};
use nearcast_runtime::clock::now_ms;
use nearcast_runtime::embedded::Embedded;
use nearcast_runtime::kafka::Kafka;
use nearcast_schemas::codec::Codec;
use nearcast_schemas::deployment::Deployment;
use nearcast_schemas::event::{LocationEvent, LocationKind, Mode, NO_SESSION, Role, Sharing};
use nearcast_schemas::refusal::Refusal;
use nearcast_schemas::topics::{Topics, partition_of};
use rdkafka::consumer::Consumer;
use rdkafka::message::{Message, Timestamp};
use rdkafka::{Offset, TopicPartitionList};

use support::{mode, raw, route};

const PARTITIONS: i32 = 6;

/// A log, and the write path into it.
struct World {
    name: &'static str,
    kafka: Kafka,
    deployment: Deployment,
    cache: Arc<MemoryCache>,
    ingest: Ingest,
    _embedded: Option<Embedded>,
}

/// One record as it lies in the log.
struct Found {
    partition: i32,
    offset: i64,
    timestamp: Timestamp,
    key: String,
    event: LocationEvent,
}

impl World {
    fn new(name: &'static str, kafka: Kafka, deployment: Deployment, embedded: Option<Embedded>) -> Self {
        let cache = Arc::new(MemoryCache::new(&deployment));
        let codec = Codec::default();
        let ingest = Ingest::new(&support::config(), &deployment, codec, &kafka, cache.clone()).unwrap();
        Self { name, kafka, deployment, cache, ingest, _embedded: embedded }
    }

    async fn real() -> Self {
        let deployment = support::deployment();
        let kafka = support::kafka().await;
        let spec = Topics::new(&deployment.prefix).locations_spec(PARTITIONS);
        kafka.ensure_topic(&spec.name, spec.partitions, &spec.settings).await.unwrap();
        Self::new("real", kafka, deployment, None)
    }

    fn embedded() -> Self {
        let deployment = support::deployment();
        let topic = Topics::new(&deployment.prefix).locations();
        let embedded = Embedded::start(&[(topic, PARTITIONS)]).unwrap();
        Self::new("embedded", Kafka::new(embedded.config()), deployment, Some(embedded))
    }

    fn topic(&self) -> String {
        Topics::new(&self.deployment.prefix).locations()
    }

    fn checked(&self, n: i64, lat: f64) -> Checked {
        let now = now_ms();
        self.ingest.validate(&raw(n, lat, now), "d1", None, now).unwrap()
    }

    fn late(&self, n: i64, lat: f64) -> Checked {
        let now = now_ms();
        self.ingest.validate(&raw(n, lat, now - 3_600_000), "d1", None, now).unwrap()
    }

    /// The user's partition from its beginning, once it has this many records.
    async fn records(&self, user: &str, count: usize) -> Vec<Found> {
        let partition = partition_of(user.as_bytes(), PARTITIONS);
        let (topic, kafka) = (self.topic(), self.kafka.clone());
        let read = move || {
            let reader = kafka.reader().unwrap();
            let mut assignment = TopicPartitionList::new();
            assignment.add_partition_offset(&topic, partition, Offset::Beginning).unwrap();
            reader.assign(&assignment).unwrap();
            let (codec, begun, mut found) = (Codec::default(), Instant::now(), Vec::new());
            while found.len() < count {
                assert!(begun.elapsed() < Duration::from_secs(30), "{} of {count} records", found.len());
                let Some(message) = reader.poll(Duration::from_millis(100)) else { continue };
                let message = message.unwrap();
                found.push(Found {
                    partition: message.partition(),
                    offset: message.offset(),
                    timestamp: message.timestamp(),
                    key: String::from_utf8(message.key().unwrap().to_vec()).unwrap(),
                    event: codec.decode_location(message.payload().unwrap()).unwrap().to_owned(),
                });
            }
            found
        };
        let found = tokio::task::spawn_blocking(read).await.unwrap();
        let (_, end) = self.kafka.watermarks(&self.topic(), partition).await.unwrap();
        assert_eq!(end, i64::try_from(count).unwrap(), "{}: the log has no more", self.name);
        found
    }

    async fn done(self) {
        self.ingest.flush(Duration::from_secs(30)).await.unwrap();
        if self._embedded.is_none() {
            self.kafka.delete_topic(&self.topic()).await.unwrap();
        }
    }
}

/// The place of a published report.
async fn place(pending: Result<Pending<Outcome>, Refusal>) -> nearcast_ingest::Appended {
    match pending.unwrap().await.unwrap() {
        Outcome::Published(appended) => appended,
        other => panic!("{}", other.name()),
    }
}

#[tokio::test]
async fn records_say_who_where_and_when_in_real_kafka() {
    records_say_who_where_and_when(World::real().await).await;
}

#[tokio::test]
async fn records_say_who_where_and_when_in_the_embedded_cluster() {
    records_say_who_where_and_when(World::embedded()).await;
}

async fn records_say_who_where_and_when(world: World) {
    for partition in 0..3 {
        let mut users = (0..).map(|number| format!("Ünal-{number}"));
        let user = &users.find(|user| partition_of(user.as_bytes(), PARTITIONS) == partition).unwrap();
        let track = world.ingest.session(user, route(Role::Reporting));
        let (how, before) = (mode(Sharing::Coarse, 3), now_ms());
        let first = world.checked(1, 48.0);
        let hello = track.hello(42, how, Some(first.clone()), 1_001).unwrap().await.unwrap();
        assert_eq!(track.session(), Some(hello.offset));
        let second = world.checked(2, 49.0);
        let fix = place(track.report(second.clone(), 1_002)).await;
        let presence = track.presence(true, 1_003).unwrap().await.unwrap();
        let leave = track.leave(1_004).unwrap().await.unwrap();

        let found = world.records(user, 4).await;
        let base = LocationEvent {
            kind: LocationKind::Hello,
            session: NO_SESSION,
            route: Some(route(Role::Reporting)),
            list_version: 42,
            reset: false,
            mode: how,
            fix: Some(first.fix),
            gateway_time: 1_001,
        };
        let session = LocationEvent { session: hello.offset, list_version: 0, ..base.clone() };
        let expect = [
            base,
            LocationEvent { kind: LocationKind::Fix, fix: Some(second.fix), gateway_time: 1_002, ..session.clone() },
            LocationEvent {
                kind: LocationKind::Presence,
                reset: true,
                fix: None,
                gateway_time: 1_003,
                ..session.clone()
            },
            LocationEvent { kind: LocationKind::Leave, fix: None, gateway_time: 1_004, ..session },
        ];
        for ((found, expect), appended) in found.iter().zip(expect).zip([hello, fix, presence, leave]) {
            assert_eq!(found.event, expect, "{} {user}", world.name);
            assert_eq!(&found.key, user);
            assert_eq!(found.partition, partition);
            assert_eq!((found.partition, found.offset), (appended.partition, appended.offset));
            assert_eq!(found.timestamp.to_millis(), Some(appended.at), "{}: the time comes with the ack", world.name);
            assert!((before..=now_ms()).contains(&appended.at), "{}: {before} {}", world.name, appended.at);
            if world.name == "real" {
                assert_eq!(found.timestamp, Timestamp::LogAppendTime(appended.at));
            }
        }
    }
    world.done().await;
}

#[tokio::test]
async fn a_users_reports_stay_in_order_in_real_kafka() {
    a_users_reports_stay_in_order(World::real().await).await;
}

#[tokio::test]
async fn a_users_reports_stay_in_order_in_the_embedded_cluster() {
    a_users_reports_stay_in_order(World::embedded()).await;
}

async fn a_users_reports_stay_in_order(world: World) {
    let track = world.ingest.session("alice", route(Role::Reporting));
    track.hello(1, Mode::default(), None, now_ms()).unwrap().await.unwrap();
    // Nobody awaits the first acknowledgement before the last call; all report the same place, and none is thinned.
    let pending: Vec<_> = (1..=1_000).map(|n| track.report(world.checked(n, 48.0), now_ms()).unwrap()).collect();
    for (index, pending) in pending.into_iter().enumerate() {
        let Ok(Outcome::Published(appended)) = pending.await else { panic!("{}: report {index}", world.name) };
        assert_eq!(appended.offset, i64::try_from(index).unwrap() + 1);
    }
    let found = world.records("alice", 1_001).await;
    assert_eq!(found[0].event.fix, None, "a hello without a position");
    for (n, found) in (1..).zip(&found[1..]) {
        assert_eq!(found.event.fix.as_ref().unwrap().n, n, "{}", world.name);
    }
    assert_eq!(world.ingest.waiting(), 0);
    world.done().await;
}

#[tokio::test]
async fn small_moves_are_acknowledged_and_left_out_in_real_kafka() {
    small_moves_are_acknowledged_and_left_out(World::real().await).await;
}

#[tokio::test]
async fn small_moves_are_acknowledged_and_left_out_in_the_embedded_cluster() {
    small_moves_are_acknowledged_and_left_out(World::embedded()).await;
}

async fn small_moves_are_acknowledged_and_left_out(world: World) {
    let track = world.ingest.session("alice", route(Role::Reporting));
    let begun = now_ms();
    track.hello(1, Mode::default(), Some(world.checked(1, 48.0)), begun).unwrap().await.unwrap();
    let report = async |n: i64, lat: f64, now: i64| track.report(world.checked(n, lat), now).unwrap().await.unwrap();
    // A ten-thousandth of a degree is 11 m.
    assert_eq!(report(2, 48.000_05, begun + 1).await, Outcome::Thinned);
    assert_eq!(report(3, 48.000_2, begun + 2).await.name(), "published");
    assert_eq!(report(4, 48.000_2, begun + 2 + 180_000).await, Outcome::Thinned);
    assert_eq!(report(5, 48.000_2, begun + 2 + 180_001).await.name(), "published", "the silence is over");
    track.set_mode(mode(Sharing::Hidden, 1));
    assert_eq!(report(6, 48.000_2, begun + 180_004).await.name(), "published", "another mode");
    track.set_mode(mode(Sharing::Exact, 0));
    assert_eq!(track.mode(), mode(Sharing::Hidden, 1), "a lower version");
    assert_eq!(report(7, 48.000_2, begun + 180_005).await, Outcome::Thinned);

    // Nobody awaits this one, and it counts all the same.
    drop(track.report(world.checked(8, 48.001), begun + 180_006).unwrap());
    world.ingest.flush(Duration::from_secs(30)).await.unwrap();
    assert_eq!(report(9, 48.001, begun + 180_007).await, Outcome::Thinned);

    // When a pause ends by itself, nobody may see what was reported before: the next report is not left out.
    track.set_mode(Mode { until: begun + 180_010, ..mode(Sharing::Hidden, 2) });
    assert_eq!(report(10, 48.001, begun + 180_008).await.name(), "published");
    assert_eq!(report(11, 48.001, begun + 180_009).await, Outcome::Thinned);
    assert_eq!(report(12, 48.001, begun + 180_010).await.name(), "published");
    assert_eq!(report(13, 48.001, begun + 180_011).await, Outcome::Thinned);

    let numbers: Vec<i64> =
        world.records("alice", 7).await.iter().map(|found| found.event.fix.as_ref().unwrap().n).collect();
    assert_eq!(numbers, [1, 3, 5, 6, 8, 10, 12]);
    let seen = world.cache.positions(&["alice".to_owned()]).await.unwrap().remove(0).unwrap();
    assert_eq!((seen.position.lat, seen.mode.version), (48.001, 2));
    world.done().await;
}

#[tokio::test]
async fn late_reports_are_history_in_real_kafka() {
    late_reports_are_history(World::real().await).await;
}

#[tokio::test]
async fn late_reports_are_history_in_the_embedded_cluster() {
    late_reports_are_history(World::embedded()).await;
}

async fn late_reports_are_history(world: World) {
    let track = world.ingest.session("alice", route(Role::Reporting));
    // A hello with a late position is a hello without one.
    let hello = track.hello(1, Mode::default(), Some(world.late(10, 10.0)), now_ms()).unwrap().await.unwrap();
    let report = async |checked: Checked| track.report(checked, now_ms()).unwrap().await.unwrap();
    assert_eq!(report(world.checked(20, 20.0)).await.name(), "published");
    assert_eq!(report(world.late(21, 21.0)).await, Outcome::Stored, "late by its time");
    assert_eq!(report(world.checked(19, 19.0)).await, Outcome::Stored, "late by its number");
    assert_eq!(report(world.checked(20, 20.0)).await, Outcome::Thinned, "sent again");
    let batch = (100..600).map(|n| world.late(n, 30.0)).collect();
    assert_eq!(track.backfill(batch, now_ms()).unwrap().await, Ok(Outcome::Stored));
    assert_eq!(track.backfill(Vec::new(), now_ms()).unwrap().await, Ok(Outcome::Stored));

    let found = world.records("alice", 505).await;
    let kinds: Vec<LocationKind> = found.iter().map(|found| found.event.kind).collect();
    use LocationKind::{Backfill, Fix, Hello};
    assert_eq!(kinds[..5], [Backfill, Hello, Fix, Backfill, Backfill]);
    assert_eq!((found[1].offset, &found[1].event.fix), (hello.offset, &None));
    let numbers: Vec<i64> = found.iter().filter_map(|found| found.event.fix.as_ref()).map(|fix| fix.n).collect();
    assert_eq!(numbers[..4], [10, 20, 21, 19]);
    assert_eq!(numbers[4..], (100..600).collect::<Vec<_>>());
    assert!(found[5..].iter().all(|found| found.event.kind == Backfill && found.event.session == hello.offset));
    let seen = world.cache.positions(&["alice".to_owned()]).await.unwrap().remove(0).unwrap();
    assert_eq!(seen.position.lat, 20.0, "late reports are not shown as now");
    world.done().await;
}

#[tokio::test]
async fn reports_modes_and_erasures_without_a_session_in_real_kafka() {
    reports_modes_and_erasures_without_a_session(World::real().await).await;
}

#[tokio::test]
async fn reports_modes_and_erasures_without_a_session_in_the_embedded_cluster() {
    reports_modes_and_erasures_without_a_session(World::embedded()).await;
}

async fn reports_modes_and_erasures_without_a_session(world: World) {
    let seen = async || world.cache.positions(&["alice".to_owned()]).await.unwrap().remove(0);
    let (exact, paused) = (mode(Sharing::Exact, 1), mode(Sharing::Hidden, 2));
    let report = |checked: Checked| world.ingest.report_without_session("alice", checked, exact, None, now_ms());
    let first = place(report(world.checked(1, 48.0))).await;
    let found = seen().await.unwrap();
    assert_eq!((found.position.at, found.session, found.mode), (first.at, NO_SESSION, exact));
    let coarse = found.coarse.unwrap();
    assert!(coarse.coarse && coarse.at <= first.at && coarse.lat != 48.0);
    assert_eq!(report(world.late(2, 47.0)).unwrap().await, Ok(Outcome::Stored));
    assert_eq!(seen().await.unwrap().position.lat, 48.0);

    world.ingest.mode("alice", paused, now_ms()).await.unwrap();
    assert_eq!(seen().await.unwrap().mode, paused);
    place(report(world.checked(3, 49.0))).await;
    let found = seen().await.unwrap();
    assert_eq!((found.position.lat, found.mode), (49.0, paused), "it does not know the pause");
    world.ingest.erase("alice", now_ms()).await.unwrap();
    assert_eq!(seen().await, None);

    use LocationKind::{Backfill, Erase, Fix, Mode};
    let found = world.records("alice", 5).await;
    let kinds: Vec<LocationKind> = found.iter().map(|found| found.event.kind).collect();
    assert_eq!(kinds, [Fix, Backfill, Mode, Fix, Erase], "{}", world.name);
    assert!(found.iter().all(|found| found.event.session == NO_SESSION && found.event.route.is_none()));
    assert_eq!(found[2].event.mode, paused);
    world.done().await;
}

#[tokio::test]
async fn a_session_goes_by_its_rules() {
    let world = World::embedded();
    let reporting = world.ingest.session("alice", route(Role::Reporting));
    assert_eq!(reporting.report(world.checked(1, 48.0), now_ms()).unwrap_err(), Refusal::HelloExpected);
    assert_eq!(reporting.presence(false, now_ms()).unwrap_err(), Refusal::HelloExpected);
    assert_eq!(reporting.leave(now_ms()).unwrap_err(), Refusal::HelloExpected);
    let hello = reporting.hello(1, Mode::default(), None, now_ms()).unwrap();
    assert_eq!(reporting.hello(1, Mode::default(), None, now_ms()).unwrap_err(), Refusal::HelloRepeated);
    hello.await.unwrap();
    assert_eq!(reporting.hello(1, Mode::default(), None, now_ms()).unwrap_err(), Refusal::HelloRepeated);

    let watching = world.ingest.session("alice", route(Role::Watching));
    let with_position = watching.hello(1, Mode::default(), Some(world.checked(1, 48.0)), now_ms());
    assert_eq!(with_position.unwrap_err(), Refusal::NotReporting);
    let hello = watching.hello(1, Mode::default(), None, now_ms()).unwrap().await.unwrap();
    assert!(hello.offset > reporting.session().unwrap());
    assert_eq!(watching.report(world.checked(1, 48.0), now_ms()).unwrap_err(), Refusal::NotReporting);
    assert_eq!(watching.backfill(vec![world.late(1, 48.0)], now_ms()).unwrap_err(), Refusal::NotReporting);
    watching.presence(false, now_ms()).unwrap().await.unwrap();
}

#[tokio::test]
async fn an_older_session_moves_the_cache_no_more() {
    let world = World::embedded();
    let older = world.ingest.session("alice", route(Role::Reporting));
    older.hello(1, Mode::default(), None, now_ms()).unwrap().await.unwrap();
    let newer = world.ingest.session("alice", route(Role::Reporting));
    newer.hello(1, Mode::default(), Some(world.checked(1, 50.0)), now_ms()).unwrap().await.unwrap();
    place(older.report(world.checked(2, 51.0), now_ms())).await;
    let seen = world.cache.positions(&["alice".to_owned()]).await.unwrap().remove(0).unwrap();
    assert_eq!((seen.position.lat, Some(seen.session)), (50.0, newer.session()));
}
