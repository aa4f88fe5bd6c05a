use nearcast_schemas::codec::LocationEventRef;
use nearcast_schemas::event::{Fix, LocationEvent, LocationKind, Mode, NO_SESSION, Role, Route};

use super::super::books::Place;
use super::super::finding::Findings;
use super::super::ledger::{HEADER, Ledger};
use super::*;

/// Everybody is in the one partition.
const USER: &str = "alice";
const DEVICE: &str = "phone";

/// The range: offsets 100 to 199, appended at ten times that.
const TERMS: Terms = Terms {
    partition: 0,
    start: 100,
    end: 200,
    from_ms: 1_000,
    to_ms: 2_000,
    expired_ms: -1_000_000,
    committed: Some(200),
};

fn event(kind: LocationKind, session: i64, n: Option<i64>) -> LocationEvent {
    let fix = n.map(|n| Fix {
        lat: 48.137,
        lon: 11.575,
        accuracy_m: None,
        speed_mps: None,
        heading_deg: None,
        altitude_m: None,
        device: DEVICE.into(),
        n,
        device_time: 900,
        // A late one is of a minute before it was sent.
        fixed_at: if kind == LocationKind::Backfill { -60_000 } else { 1_000 },
    });
    let route = Route { gateway: "g".into(), incarnation: 1, handle: 1, role: Role::Reporting };
    let mode = Mode::default();
    LocationEvent { kind, session, route: Some(route), list_version: 0, reset: false, mode, fix, gateway_time: 1 }
}

/// A log, a history, a ledger and dead letters.
struct World {
    books: Books,
    next: i64,
    rows: Vec<StoredRow>,
    ledger: String,
    dead: HashSet<i64>,
    terms: Terms,
}

impl World {
    /// Reports 1 to 4 of one session: shown as now, thinned, sent again, late.
    fn clean() -> Self {
        let books = Books::new(0, 1, TERMS.start, 100, Findings::new(10));
        let ledger = format!("{HEADER}\nphone 0 {USER} {DEVICE}\n");
        let mut world = Self { books, next: TERMS.start, rows: Vec::new(), ledger, dead: HashSet::new(), terms: TERMS };
        let session = world.log(LocationKind::Hello, NO_SESSION, Some(1));
        world.row(1, session);
        world.told("published", 1);
        world.told("thinned", 2);
        let first = world.log(LocationKind::Fix, session, Some(3));
        world.log(LocationKind::Backfill, session, Some(3));
        world.row(3, first);
        world.told("unknown", 3);
        world.told("stored", 3);
        let late = world.log(LocationKind::Backfill, session, Some(4));
        world.row(4, late);
        world.told("stored", 4);
        world.log(LocationKind::Presence, session, None);
        world
    }

    fn log(&mut self, kind: LocationKind, session: i64, n: Option<i64>) -> i64 {
        let offset = self.next;
        self.next += 1;
        let event = event(kind, session, n);
        self.books.take(place(offset), USER, &LocationEventRef::from(&event)).unwrap();
        offset
    }

    fn row(&mut self, n: i64, offset: i64) {
        self.rows.push(StoredRow { device: DEVICE.into(), n, appended_at: offset * 10, partition: 0, offset });
    }

    fn told(&mut self, word: &str, n: i64) {
        if !self.ledger.contains(&format!("sent 0 {n} ")) {
            self.ledger += &format!("sent 0 {n} 1000\n");
        }
        self.ledger += &format!("{word} 0 {n} 1500\n");
    }

    fn account(mut self) -> Account {
        self.books.close();
        let mut ledger = Ledger::default();
        ledger.read(self.ledger.as_bytes(), 100).unwrap();
        let mut account = Account::new(10);
        account.findings = self.books.findings.clone();
        judge(&self.terms, &self.books, USER, ledger.of(USER), &self.rows, &self.dead, &mut account);
        account
    }
}

fn place(offset: i64) -> Place {
    Place { offset, appended_at: offset * 10 }
}

/// What is found when this is done to a clean world: kind, number and offset.
#[track_caller]
fn check(change: impl FnOnce(&mut World), expect: &[(Kind, i64, Option<i64>)]) -> Account {
    let mut world = World::clean();
    change(&mut world);
    let account = world.account();
    let found: Vec<_> = account
        .findings
        .listed()
        .iter()
        .map(|finding| (finding.kind, finding.n.unwrap_or(-1), finding.offset))
        .collect();
    assert_eq!(found, expect);
    assert_eq!(account.closes(), expect.iter().all(|(kind, ..)| !kind.is_difference()));
    account
}

#[test]
fn what_agrees_is_clean_and_counted() {
    let account = check(|_| (), &[]);
    let ledger = account.ledger;
    assert_eq!((ledger.sent, ledger.published, ledger.thinned, ledger.stored), (4, 1, 1, 2));
    let log = account.log;
    assert_eq!((log.reports, log.records, log.as_now, log.late, log.in_no_ledger), (3, 4, 2, 2, 0));
    assert_eq!((account.history.reports, account.history.rows), (3, 3));
    assert!(account.sentence().contains("clean: 3 reports"), "{}", account.sentence());
}

#[test]
fn what_was_acknowledged_is_in_the_log() {
    check(|world| world.told("published", 9), &[(Kind::Lost, 9, None)]);
    check(|world| world.told("stored", 9), &[(Kind::Lost, 9, None)]);
    for word in ["thinned", "refused", "declined", "unknown"] {
        check(|world| world.told(word, 9), &[]);
    }
    check(|world| world.told("published", 4), &[(Kind::OnlyLate, 4, Some(103))]);
}

#[test]
fn what_is_in_the_log_was_sent() {
    let forged = |world: &mut World| {
        let offset = world.log(LocationKind::Fix, 100, Some(8));
        world.row(8, offset);
    };
    check(forged, &[(Kind::NeverSent, 8, Some(105))]);
    // Of a phone that no ledger knows nothing can be said.
    let account = check(
        |world| {
            forged(world);
            world.ledger = format!("{HEADER}\nphone 0 {USER} other\n");
        },
        &[],
    );
    assert_eq!(account.log.in_no_ledger, 4);
}

#[test]
fn a_session_is_in_order() {
    let lower = |world: &mut World| {
        let offset = world.log(LocationKind::Fix, 100, Some(2));
        world.row(2, offset);
    };
    check(lower, &[(Kind::OutOfOrder, 2, Some(105))]);
    // The same again is a report sent again; another session counts for itself, and REST has none.
    check(
        |world| {
            world.log(LocationKind::Fix, 100, Some(3));
            let session = world.log(LocationKind::Hello, NO_SESSION, None);
            let offset = world.log(LocationKind::Fix, session, Some(2));
            world.row(2, offset);
            world.log(LocationKind::Fix, NO_SESSION, Some(1));
            world.log(LocationKind::Fix, 99, Some(1));
        },
        &[],
    );
    let unbegun = |world: &mut World| {
        world.log(LocationKind::Fix, 104, Some(3));
    };
    check(unbegun, &[(Kind::NoSession, 3, Some(105))]);
}

#[test]
fn each_report_is_in_the_history_once() {
    check(|world| drop(world.rows.remove(1)), &[(Kind::NotStored, 3, Some(101))]);
    let twice = |world: &mut World| {
        let again = world.rows[0].clone();
        world.rows.push(again);
    };
    check(twice, &[(Kind::StoredTwice, 1, Some(100))]);
    // Of a report sent twice either record will do.
    check(|world| world.rows[1].offset = 102, &[]);
    check(|world| world.rows[1].offset = 100, &[(Kind::NotInLog, 3, Some(100))]);
    check(|world| world.row(9, 150), &[(Kind::NotInLog, 9, Some(150))]);
    check(|world| world.rows[0].partition = 7, &[(Kind::NotInLog, 1, Some(100))]);
}

#[test]
fn rows_of_other_times_are_not_judged() {
    let account = check(
        |world| {
            world.row(8, 50);
            world.row(9, 250);
            // Of a topic that was there before this one.
            world.row(10, 150);
            world.rows.last_mut().unwrap().appended_at = 10;
        },
        &[],
    );
    assert_eq!((account.history.older, account.history.newer), (2, 1));
    // A report that was acknowledged in the range, by clocks that differ, and is in the log right after it.
    check(
        |world| {
            world.told("published", 9);
            world.row(9, 200);
        },
        &[],
    );
}

#[test]
fn reports_of_other_times_are_not_judged() {
    let account = check(
        |world| {
            world.ledger += "sent 0 8 999\npublished 0 8 1000\nsent 0 9 1999\npublished 0 9 2000\n";
        },
        &[],
    );
    assert_eq!((account.ledger.outside, account.ledger.sent), (2, 4));
}

#[test]
fn a_sink_that_has_not_come_to_it_is_told_from_one_that_left_it_out() {
    for (committed, kind) in [(Some(102), Kind::NotStored), (Some(101), Kind::NotYetStored), (None, Kind::NotYetStored)]
    {
        let change = |world: &mut World| {
            world.terms.committed = committed;
            world.rows.remove(1);
        };
        check(change, &[(kind, 3, Some(101))]);
    }
}

#[test]
fn dead_letters_and_age_explain() {
    let buried = |world: &mut World| {
        world.rows.remove(2);
        world.dead.insert(103);
    };
    let account = check(buried, &[(Kind::DeadLettered, 4, Some(103))]);
    assert_eq!(account.findings.differences(), 0);
    let aged = |world: &mut World| {
        world.rows.clear();
        world.terms.expired_ms = 500;
    };
    // The late one is of before that.
    let account = check(aged, &[(Kind::NotStored, 1, Some(100)), (Kind::NotStored, 3, Some(101))]);
    assert_eq!(account.history.expired, 1);
}

#[test]
fn erased_is_erased() {
    let erase = |world: &mut World| {
        world.log(LocationKind::Erase, NO_SESSION, None);
    };
    let account = check(
        |world| {
            erase(world);
            world.rows.clear();
        },
        &[],
    );
    assert_eq!(account.history.erased, 3);
    check(erase, &[(1, 100), (3, 101), (4, 103)].map(|(n, at)| (Kind::NotErased, n, Some(at))));
    // The sink has not come to the erasure.
    check(
        |world| {
            erase(world);
            world.terms.committed = Some(105);
            world.rows.remove(1);
        },
        &[],
    );
    // A row from before the range has to go too.
    check(
        |world| {
            erase(world);
            world.rows.clear();
            world.row(0, 50);
        },
        &[(Kind::NotErased, 0, Some(50))],
    );
    // What comes afterwards is there, but for late fixes from before.
    check(
        |world| {
            erase(world);
            world.rows.clear();
            for n in [5, 6] {
                world.told("stored", n);
            }
            world.log(LocationKind::Fix, 100, Some(5));
            world.log(LocationKind::Backfill, 100, Some(6));
        },
        &[(Kind::NotStored, 5, Some(106))],
    );
}

#[test]
fn records_where_they_do_not_belong() {
    let event = event(LocationKind::Fix, NO_SESSION, Some(5));
    // Of two partitions, one is not the user's.
    let wrong = 1 - nearcast_schemas::topics::partition_of(USER.as_bytes(), 2);
    let mut books = Books::new(wrong, 2, 100, 1, Findings::new(10));
    books.take(place(100), USER, &LocationEventRef::from(&event)).unwrap();
    books.undecodable(place(101), USER, false);
    books.undecodable(place(102), USER, true);
    let kinds: Vec<_> = books.findings.listed().iter().map(|finding| (finding.kind, finding.n)).collect();
    assert_eq!(kinds, [(Kind::WrongPartition, Some(5)), (Kind::Undecodable, None), (Kind::DeadLettered, None)]);
    assert_eq!((books.findings.differences(), books.of(USER)), (2, &[][..]));
}

#[test]
fn too_many_are_refused_with_what_to_do() {
    let event = event(LocationKind::Fix, NO_SESSION, Some(5));
    let mut books = Books::new(0, 1, 100, 1, Findings::new(10));
    books.take(place(100), USER, &LocationEventRef::from(&event)).unwrap();
    let error = books.take(place(101), USER, &LocationEventRef::from(&event)).unwrap_err().to_string();
    assert!(error.contains("partition 0 has more than 1 reports") && error.contains("--user"), "{error}");
}

#[test]
fn findings_are_told_without_a_place_and_not_without_end() {
    let mut world = World::clean();
    (20..40).for_each(|n| world.told("stored", n));
    let account = world.account();
    let table = account.table("the range");
    assert!(table.contains("user alice device phone n 20 partition 0 offset -: acknowledged, and not in the log"));
    assert!(table.contains("and 10 more") && table.contains("20 DIFFERENCES"), "{table}");
    let json = account.json("the range").to_string();
    assert!(!table.contains("48.1") && !json.contains("48.1"));
    assert!(json.contains(r#""what":"lost""#) && json.contains(r#""lost":20"#), "{json}");
}

#[test]
fn nothing_is_no_account() {
    let account = Account::new(1);
    assert!(!account.closes() && account.sentence().contains("--from"));
    assert_eq!(account.json("r")["verdict"], "nothing");
}
