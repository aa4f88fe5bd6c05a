//! Random crowds against a plain computation: who is shown to whom, and how far.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};

use nearcast_fanout::engine::{AliasKey, Engine, Outbox, Settings, Stamp};
use nearcast_geo::{Cell, Coarsener, Position, Resolution, straight_line_m};
use nearcast_schemas::codec::LocationEventRef;
use nearcast_schemas::delivery::{Item, Stranger};
use nearcast_schemas::event::{Fix, LocationEvent, LocationKind, Mode, NO_SESSION, Role, Route, Sharing};
use nearcast_schemas::list::{Precision, VisibilityEntry, VisibilityList};
use nearcast_schemas::topics::partition_of;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const USERS: usize = 40;
const PARTITIONS: i32 = 3;
const MAX: usize = 4;
const MAX_RADIUS_M: i32 = 12_000;
const TTL_MS: i64 = 3_600_000;
const PERIOD_MS: u32 = 60_000;
const START_MS: i64 = 1_700_000_000_000;
/// A plain place, a pentagon of the grid, and the end of the longitudes.
const MIDDLES: [(f64, f64); 3] = [(48.1, 11.6), (64.7, 10.5), (-17.8, 179.99)];

struct User {
    name: String,
    mode: Mode,
    /// The cell in whose centre the user is, and how finely that report may ever be shown.
    at: Option<(Cell, Sharing)>,
    /// The session: offset of its hello, and handle.
    session: Option<(i64, i32)>,
    radius_m: i32,
    friends: BTreeSet<usize>,
    version: i64,
}

struct Crowd {
    rng: ChaCha8Rng,
    engine: Engine,
    out: Outbox,
    now_ms: i64,
    offset: i64,
    cells: Vec<Cell>,
    users: Vec<User>,
    /// What each session holds.
    phones: BTreeMap<i32, Vec<Stranger>>,
}

impl Crowd {
    fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (lat, lon) = *MIDDLES.choose(&mut rng).unwrap();
        let middle = Cell::of(Position::new(lat, lon).unwrap(), Resolution::Seven);
        let settings = Settings {
            ttl_ms: TTL_MS,
            max_radius_m: MAX_RADIUS_M,
            coarsener: Coarsener::new(Resolution::Seven, 100.0, PERIOD_MS).unwrap(),
            coarse_period_ms: i64::from(PERIOD_MS),
            digest_every_ms: 10_000,
            visibility_partitions: PARTITIONS,
            discovery_max: MAX,
            alias_key: AliasKey([seed, 1]),
        };
        let user = |n| User {
            name: format!("user-{n}"),
            mode: Mode::default(),
            at: None,
            session: None,
            radius_m: 0,
            friends: BTreeSet::new(),
            version: 0,
        };
        let mut crowd = Self {
            rng,
            engine: Engine::new(settings),
            out: Outbox::default(),
            now_ms: START_MS,
            offset: 0,
            cells: (0..5).flat_map(|steps| middle.ring(steps)).collect(),
            users: (0..USERS).map(user).collect(),
            phones: BTreeMap::new(),
        };
        for partition in 0..PARTITIONS {
            crowd.engine.own(partition, 1, &mut crowd.out);
        }
        crowd
    }

    fn send(&mut self, user: usize, kind: LocationKind, reset: bool) {
        let known = &self.users[user];
        let moves = matches!(kind, LocationKind::Hello | LocationKind::Fix);
        let center = known.at.filter(|_| moves).map(|(cell, _)| cell.center());
        let fix = center.map(|place| Fix {
            lat: place.lat_deg(),
            lon: place.lon_deg(),
            accuracy_m: None,
            speed_mps: None,
            heading_deg: None,
            altitude_m: None,
            device: "d".to_owned(),
            n: 1,
            device_time: 0,
            fixed_at: 0,
        });
        let route = known.session.filter(|_| kind != LocationKind::Mode).map(|(_, handle)| Route {
            gateway: "g".to_owned(),
            incarnation: 1,
            handle,
            role: Role::Reporting,
        });
        let session = match (&route, known.session) {
            (Some(_), Some((hello, _))) if kind != LocationKind::Hello => hello,
            _ => NO_SESSION,
        };
        let event =
            LocationEvent { kind, session, route, list_version: 0, reset, mode: known.mode, fix, gateway_time: 0 };
        let at = Stamp { offset: self.offset, append_ms: self.now_ms };
        self.offset += 1;
        self.engine.location(at, &known.name, &LocationEventRef::from(&event), &mut self.out);
    }

    fn step(&mut self) {
        let user = self.rng.random_range(0..USERS);
        match self.rng.random_range(0..10) {
            0..4 => self.report(user),
            4 | 5 => {
                let sharing =
                    *[Sharing::Exact, Sharing::Exact, Sharing::Coarse, Sharing::Hidden].choose(&mut self.rng).unwrap();
                let discoverable = self.rng.random_bool(0.8);
                let version = self.users[user].mode.version + 1;
                self.users[user].mode = Mode { sharing, until: 0, discoverable, version };
                self.send(user, LocationKind::Mode, false);
            }
            6 => self.list(user),
            7 if self.users[user].session.is_some() => {
                let asks = self.rng.random_bool(0.5);
                self.send(user, if asks { LocationKind::Presence } else { LocationKind::Leave }, asks);
                if !asks {
                    self.users[user].session = None;
                }
            }
            7 => self.report(user),
            _ => self.pass(i64::from(PERIOD_MS / 4)),
        }
        self.take();
        self.check_always();
    }

    /// The user is in some cell now, and connected.
    fn report(&mut self, user: usize) {
        let cell = *self.cells.choose(&mut self.rng).unwrap();
        self.users[user].at = Some((cell, self.users[user].mode.sharing));
        if self.users[user].session.is_some() {
            self.send(user, LocationKind::Fix, false);
        } else {
            let handle = self.phones.len() as i32 + 1;
            self.phones.insert(handle, Vec::new());
            self.users[user].session = Some((self.offset, handle));
            self.send(user, LocationKind::Hello, false);
        }
    }

    fn list(&mut self, user: usize) {
        let friends = self.rng.random_range(0..4);
        let friends: BTreeSet<_> = (0..friends).map(|_| self.rng.random_range(0..USERS)).collect();
        let entry = |&friend: &usize| VisibilityEntry {
            friend: format!("user-{friend}"),
            display_name: String::new(),
            precision: Precision::Exact,
            radius_m: 0,
            expires_at: 0,
        };
        let entries = friends.iter().map(entry).collect();
        let known = &mut self.users[user];
        known.version += 1;
        known.radius_m = *[0, 1_000, 5_000, 50_000].choose(&mut self.rng).unwrap();
        known.friends = friends;
        let list = VisibilityList::list(known.version, self.now_ms, known.radius_m, entries);
        let partition = partition_of(known.name.as_bytes(), PARTITIONS);
        self.engine.list(partition, self.now_ms, &known.name, &(&list).into(), &mut self.out);
    }

    fn pass(&mut self, ms: i64) {
        self.now_ms += ms;
        self.engine.sweep(self.now_ms, &mut self.out);
    }

    /// What was told reaches the phones.
    fn take(&mut self) {
        for item in self.out.take().into_iter().flat_map(|batch| batch.items.decode().unwrap()) {
            match item {
                Item::Reset(reset) if reset.part == 1 => self.phones.entry(reset.handle).or_default().clear(),
                Item::Strangers(list) => *self.phones.get_mut(&list.viewer).unwrap() = list.entries,
                _ => {}
            }
        }
    }

    /// The cell of whoever takes part.
    fn part(&self, user: usize) -> Option<Cell> {
        let User { mode, at, .. } = &self.users[user];
        let (cell, reported) = (*at)?;
        (mode.discoverable && mode.sharing != Sharing::Hidden && reported != Sharing::Hidden).then_some(cell)
    }

    fn are_friends(&self, a: usize, b: usize) -> bool {
        self.users[a].friends.contains(&b) || self.users[b].friends.contains(&a)
    }

    fn shown(&self, viewer: usize) -> Vec<usize> {
        let names = self.engine.strangers(&self.users[viewer].name).unwrap_or_default();
        names.iter().map(|name| name["user-".len()..].parse().unwrap()).collect()
    }

    fn check_always(&self) {
        self.engine.check().unwrap();
        let parts = (0..USERS).filter(|&user| self.part(user).is_some()).count();
        assert_eq!(self.engine.discoverable(), parts);
        for (viewer, user) in self.users.iter().enumerate() {
            let shown = self.shown(viewer);
            assert!(shown.is_empty() || self.part(viewer).is_some(), "{} sees and is not seen", user.name);
            for &stranger in &shown {
                assert!(self.part(stranger).is_some() && stranger != viewer && !self.are_friends(viewer, stranger));
            }
            if let Some((_, handle)) = user.session {
                assert_eq!(self.phones[&handle].len(), shown.len(), "the phone of {}", user.name);
            }
        }
    }

    /// Nobody moves, and everybody's instants come: then each list is the nearest.
    fn check_at_rest(&mut self) -> usize {
        for _ in 0..3 {
            self.pass(i64::from(PERIOD_MS));
            self.take();
        }
        self.check_always();
        let mut listed = 0;
        for viewer in 0..USERS {
            let Some((_, handle)) = self.users[viewer].session else { continue };
            // Without a list nothing tells friends from strangers.
            let expect = if self.users[viewer].version > 0 { self.nearest(viewer) } else { Vec::new() };
            let phone = &self.phones[&handle];
            let got: Vec<_> = phone.iter().map(|stranger| f64::from(stranger.distance_dm) / 10.0).collect();
            assert_eq!(got.len(), expect.len(), "{viewer}");
            assert!(got.iter().zip(&expect).all(|(got, expect)| (got - expect).abs() < 1.0), "{got:?} {expect:?}");
            let aliases: BTreeSet<_> = phone.iter().map(|stranger| stranger.alias).collect();
            assert_eq!(aliases.len(), phone.len());
            for (told, stranger) in phone.iter().zip(self.shown(viewer)) {
                let center = self.part(stranger).unwrap().center();
                assert_eq!((told.lat, told.lon), (center.lat_deg(), center.lon_deg()), "a cell's centre, nothing else");
                assert_eq!(told.at % i64::from(PERIOD_MS), 0);
            }
            listed += expect.len();
        }
        listed
    }

    /// The distances of those who must be on a list, in metres: of all within the last ring that is needed, the nearest.
    fn nearest(&self, viewer: usize) -> Vec<f64> {
        let Some(own) = self.part(viewer) else { return Vec::new() };
        let radius_m = match self.users[viewer].radius_m {
            0 => MAX_RADIUS_M,
            radius_m => radius_m.min(MAX_RADIUS_M),
        };
        // The mean distance of two neighbours' centres at this resolution.
        let rings = (f64::from(radius_m) / 2_436.0).ceil() as u32;
        let mut found = Vec::new();
        for steps in 0..=rings {
            let ring: BTreeSet<_> = own.ring(steps).into_iter().collect();
            for other in (0..USERS).filter(|&other| other != viewer && !self.are_friends(viewer, other)) {
                if let Some(cell) = self.part(other).filter(|cell| ring.contains(cell)) {
                    found.push(straight_line_m(own.center(), cell.center()));
                }
            }
            if found.len() >= MAX {
                break;
            }
        }
        found.sort_by(f64::total_cmp);
        found.truncate(MAX);
        found
    }
}

#[test]
fn lists_are_what_a_plain_computation_says() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut listed = 0;
    for round in 0..20 {
        let mut crowd = Crowd::new(seed.wrapping_add(round));
        for _ in 0..4 {
            for _ in 0..100 {
                crowd.step();
            }
            listed += crowd.check_at_rest();
        }
    }
    assert!(listed > 1_000, "{listed} strangers in all lists: nothing was compared");
}
