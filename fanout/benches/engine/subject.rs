//! The engine as the worker drives it: hellos, lists, ownership, resets, and then reports.

use std::time::{Duration, Instant};

use nearcast_fanout::engine::{Engine, Outbox, Settings, Stats};
use nearcast_geo::{Coarsener, Resolution};
use nearcast_schemas::list::{Precision, VisibilityEntry, VisibilityList};
use nearcast_schemas::topics::partition_of;

use crate::log::Records;
use crate::measure::{Length, Memory, Rounds, Stopwatch, Work, available};
use crate::reports::{REPORT_EVERY_MS, Report, START_MS, Walk};
use crate::world::{World, write_display_name, write_id};

/// Records between two deliveries: what a worker reads in a tick of 10 ms at 200 000 records a second.
pub const CHUNK: usize = 2_048;
/// Radius of every viewer, in metres.
pub const RADIUS_M: i32 = 8_000;
/// Partitions of the visibility topic.
const PARTITIONS: i32 = 64;
const COARSE_PERIOD_MS: u32 = 300_000;
/// As a worker sends them in a tick.
const RESETS: (usize, usize) = (500, 65_536);
/// Users between two looks at the machine's memory.
const LOOK_EVERY: u32 = 65_536;
/// A machine with less left, in bytes, would soon end some process, and it may be another.
const LEAST_AVAILABLE: u64 = 1 << 30;

/// The engine in a world, with everything that it says thrown away.
pub struct Subject<'a> {
    world: &'a World,
    pub engine: Engine,
    out: Outbox,
    pub walk: Walk<'a>,
    records: Records,
    reports: i64,
}

/// What the set-up cost.
#[derive(Clone, Copy, Debug)]
pub struct SetUp {
    /// Before anything was given to the engine.
    pub empty: Memory,
    /// Everybody has a session and a position, and nobody a list.
    pub users: Memory,
    /// Entries of all lists.
    pub friendships: u64,
    /// From the first hello to the last reset.
    pub wall: Duration,
    /// Of that, the engine's taking of lists with entries, by the wall.
    pub listing: Duration,
}

/// What the reports cost.
pub struct Measured {
    /// The engine: slots, pairs, views, outputs, timers.
    pub join: Rounds,
    /// From bytes to what the engine takes.
    pub decode: Work,
    /// The harness's own: making up the reports and encoding them.
    pub prepare: Work,
    pub before: Stats,
    pub after: Stats,
    pub memory: Memory,
}

impl<'a> Subject<'a> {
    /// An engine that owns every viewer. Its memory is told apart from the harness's, which is all there before.
    pub fn new(world: &'a World) -> (Self, SetUp) {
        let mut records = Records::new();
        let walk = Walk::new(world);
        // The buffers reach their size.
        for user in 0..world.size.users.min(CHUNK as u32) {
            records.hello(Report { user, lat: 0.0, lon: 0.0, append_ms: START_MS });
        }
        records.decode(&mut Vec::with_capacity(CHUNK));
        let settings = Settings {
            ttl_ms: 600_000,
            max_radius_m: 20_000,
            coarsener: Coarsener::new(Resolution::Seven, 100.0, COARSE_PERIOD_MS).expect("rules that can be kept"),
            coarse_period_ms: i64::from(COARSE_PERIOD_MS),
            digest_every_ms: 60_000,
            visibility_partitions: PARTITIONS,
            discovery_max: 20,
            alias_key: nearcast_fanout::engine::AliasKey([1, 2]),
        };
        let (began, empty) = (Instant::now(), Memory::now());
        let mut subject =
            Self { world, engine: Engine::new(settings), out: Outbox::default(), walk, records, reports: 0 };
        subject.hellos();
        let users = Memory::now();
        let (friendships, listing) = subject.lists(|user, friends| world.friends(user, friends));
        subject.own();
        (subject, SetUp { empty, users, friendships, wall: began.elapsed(), listing })
    }

    fn hellos(&mut self) {
        let users = self.world.size.users;
        for first in (0..users).step_by(CHUNK) {
            self.records.clear();
            for user in first..users.min(first + CHUNK as u32) {
                let (lat, lon) = self.walk.places()[user as usize];
                let append_ms = START_MS + i64::from(user) * REPORT_EVERY_MS / i64::from(users);
                self.records.hello(Report { user, lat, lon, append_ms });
            }
            let mut decoded = Vec::with_capacity(CHUNK);
            self.records.decode(&mut decoded);
            self.engine.locations(&decoded, &mut self.out);
            drop(self.out.take());
            look(first.is_multiple_of(LOOK_EVERY), first);
        }
    }

    /// Publishes everybody's list, with the friends that `friends` puts into its argument; returns how many, and how long
    /// the engine took.
    fn lists(&mut self, friends: impl Fn(u32, &mut Vec<u32>)) -> (u64, Duration) {
        let now_ms = START_MS + REPORT_EVERY_MS;
        let mut list = VisibilityList::list(1, now_ms, RADIUS_M, Vec::new());
        let (mut numbers, mut viewer) = (Vec::new(), String::new());
        let (mut entries, mut taking) = (0, Duration::ZERO);
        for user in 0..self.world.size.users {
            friends(user, &mut numbers);
            list.entries.truncate(numbers.len());
            for (at, &friend) in numbers.iter().enumerate() {
                if at == list.entries.len() {
                    list.entries.push(entry());
                }
                write_id(friend, &mut list.entries[at].friend);
                write_display_name(friend, &mut list.entries[at].display_name);
            }
            write_id(user, &mut viewer);
            let partition = partition_of(viewer.as_bytes(), PARTITIONS);
            let began = Instant::now();
            self.engine.list(partition, now_ms, &viewer, &(&list).into(), &mut self.out);
            taking += began.elapsed();
            entries += numbers.len() as u64;
            look(user.is_multiple_of(LOOK_EVERY), user);
        }
        (entries, taking)
    }

    fn own(&mut self) {
        for partition in 0..PARTITIONS {
            self.engine.own(partition, 1, &mut self.out);
        }
        while self.engine.resets(RESETS.0, RESETS.1, &mut self.out) {
            drop(self.out.take());
        }
        drop(self.out.take());
    }

    /// Lets everybody report for some time.
    pub fn measure(&mut self, length: Length) -> Measured {
        let before = *self.engine.stats();
        let (mut prepare, mut decode) = (Work::default(), Work::default());
        let join = Rounds::run(length, || {
            let (preparing, decoding, joining) = self.chunk();
            prepare.add(&preparing);
            decode.add(&decoding);
            joining
        });
        Measured { join, decode, prepare, before, after: *self.engine.stats(), memory: Memory::now() }
    }

    /// One tick of the worker: some records are decoded, joined, and what was decided is taken.
    fn chunk(&mut self) -> (Work, Work, Work) {
        let watch = Stopwatch::start();
        self.records.clear();
        for _ in 0..CHUNK {
            let report = self.walk.step();
            self.records.fix(i64::from(self.world.size.users) + self.reports, report);
            self.reports += 1;
        }
        let preparing = watch.stop(CHUNK as u64, 0);
        let now_ms = self.records.last_ms();
        let mut decoded = Vec::with_capacity(CHUNK);
        let watch = Stopwatch::start();
        self.records.decode(&mut decoded);
        let decoding = watch.stop(CHUNK as u64, 0);

        let checks = self.engine.stats().pair_checks;
        let watch = Stopwatch::start();
        self.engine.locations(&decoded, &mut self.out);
        self.engine.sweep(now_ms, &mut self.out);
        drop(self.out.take());
        let mut joining = watch.stop(CHUNK as u64, 0);
        joining.pairs = self.engine.stats().pair_checks - checks;
        (preparing, decoding, joining)
    }
}

fn entry() -> VisibilityEntry {
    VisibilityEntry {
        friend: String::new(),
        display_name: String::new(),
        precision: Precision::Exact,
        radius_m: 0,
        expires_at: 0,
    }
}

/// Ends the process before the machine has no memory left.
fn look(now: bool, user: u32) {
    if now && available() < LEAST_AVAILABLE {
        let gigabytes = Memory::now().resident as f64 / 1e9;
        crate::fail(&format!("the machine's memory is used up: {gigabytes:.1} GB here, at user {user}"));
    }
}
