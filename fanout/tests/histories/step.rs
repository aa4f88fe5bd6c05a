//! What may happen in a history, and how often.

use nearcast_geo::Position;
use nearcast_schemas::event::Sharing;
use proptest::prelude::*;

pub const USERS: usize = 6;
pub const GATEWAYS: usize = 2;
pub const WORKERS: usize = 2;
pub const PARTITIONS: i32 = 3;
pub const TTL_MS: i64 = 600_000;

/// Which of a user's sessions a record is of.
#[derive(Clone, Copy, Debug)]
pub enum Which {
    /// The newest that reports.
    Latest,
    /// One that is superseded or has left, not long ago.
    Old,
    /// One that watches.
    Watching,
    /// None: a report over HTTP.
    None,
}

#[derive(Clone, Copy, Debug)]
pub struct EntryRule {
    pub friend: usize,
    pub coarse: bool,
    pub radius_m: i32,
    /// ms from now; 0 for no end.
    pub expires_in: i64,
}

/// One thing that happens.
#[derive(Clone, Debug)]
pub enum Step {
    Hello {
        user: usize,
        watching: bool,
        place: Option<Place>,
        gateway: usize,
        ahead: bool,
    },
    /// The hello once more, because nobody knows whether Kafka took it.
    HelloAgain {
        user: usize,
    },
    Fix {
        user: usize,
        which: Which,
        place: Place,
        old_mode: bool,
    },
    Presence {
        user: usize,
        which: Which,
        reset: bool,
    },
    Leave {
        user: usize,
        which: Which,
    },
    Mode {
        user: usize,
        sharing: Sharing,
        until_in: i64,
        discoverable: bool,
    },
    Erase {
        user: usize,
    },
    List {
        viewer: usize,
        radius_m: i32,
        entries: Vec<EntryRule>,
    },
    /// The list once more, as the sweeper does hourly.
    ListAgain {
        viewer: usize,
    },
    Unlist {
        viewer: usize,
    },
    Pass {
        ms: i64,
    },
    /// A partition goes to a worker. `late`: its old owner hears of it some steps later.
    Takeover {
        partition: i32,
        worker: usize,
        late: bool,
    },
    /// A worker begins anew from the log, or from its last copy and what came after it began.
    Restart {
        worker: usize,
        copy: bool,
    },
    /// A worker begins to copy what it knows, so many slots after each step.
    Copy {
        worker: usize,
        slots: usize,
    },
    /// What the next step sends to a gateway is lost, which the worker learns.
    Loss {
        gateway: usize,
    },
    /// What the next step sends to a gateway comes twice and in the wrong order, which the gateway learns.
    Mangle {
        gateway: usize,
    },
}

/// Metres east and north of the history's middle.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub east_m: f64,
    pub north_m: f64,
}

/// Middles where the geometry is plain and where it is not.
pub const MIDDLES: [(f64, f64); 5] = [(0.0, 0.0), (48.1, 11.6), (-17.8, 179.99), (89.97, 0.0), (-89.999, 100.0)];

impl Place {
    /// Roughly there: the oracle measures the result, not the way to it.
    pub fn around(self, middle: (f64, f64)) -> Position {
        const METRES_PER_DEGREE: f64 = 111_320.0;
        let lat = (middle.0 + self.north_m / METRES_PER_DEGREE).clamp(-90.0, 90.0);
        let round = lat.to_radians().cos().max(1e-4);
        let lon = (middle.1 + self.east_m / (METRES_PER_DEGREE * round) + 180.0).rem_euclid(360.0) - 180.0;
        Position::new(lat, lon).unwrap()
    }
}

fn place() -> impl Strategy<Value = Place> {
    // Many near each other, some just about the radius, some far.
    let metres = prop_oneof![4 => -5_000.0..5_000.0, 2 => -9_000.0..9_000.0, 1 => -60_000.0..60_000.0];
    (metres.clone(), metres).prop_map(|(east_m, north_m)| Place { east_m, north_m })
}

fn which() -> impl Strategy<Value = Which> {
    prop_oneof![8 => Just(Which::Latest), 2 => Just(Which::Old), 1 => Just(Which::Watching), 1 => Just(Which::None)]
}

fn entry() -> impl Strategy<Value = EntryRule> {
    let radius = prop_oneof![6 => Just(0), 1 => 1_000..12_000];
    let expires = prop_oneof![6 => Just(0), 1 => 1_000_i64..400_000];
    (0..USERS, prop::bool::weighted(0.2), radius, expires)
        .prop_map(|(friend, coarse, radius_m, expires_in)| EntryRule { friend, coarse, radius_m, expires_in })
}

fn sharing() -> impl Strategy<Value = Sharing> {
    prop_oneof![2 => Just(Sharing::Exact), 1 => Just(Sharing::Coarse), 2 => Just(Sharing::Hidden)]
}

pub fn step() -> impl Strategy<Value = Step> {
    let user = 0..USERS;
    let radius = prop_oneof![4 => Just(8_000), 1 => Just(0), 1 => 2_000..25_000];
    let until = prop_oneof![Just(0), 1_000_i64..500_000];
    let ms = prop_oneof![6 => 100_i64..5_000, 3 => 5_000_i64..150_000, 1 => 150_000_i64..700_000];
    prop_oneof![
        12 => (user.clone(), prop::bool::weighted(0.25), prop::option::weighted(0.8, place()), 0..GATEWAYS,
               prop::bool::weighted(0.1))
            .prop_map(|(user, watching, place, gateway, ahead)| Step::Hello { user, watching, place, gateway, ahead }),
        1 => user.clone().prop_map(|user| Step::HelloAgain { user }),
        30 => (user.clone(), which(), place(), prop::bool::weighted(0.1))
            .prop_map(|(user, which, place, old_mode)| Step::Fix { user, which, place, old_mode }),
        5 => (user.clone(), which(), any::<bool>())
            .prop_map(|(user, which, reset)| Step::Presence { user, which, reset }),
        4 => (user.clone(), which()).prop_map(|(user, which)| Step::Leave { user, which }),
        6 => (user.clone(), sharing(), until, prop::bool::weighted(0.7))
            .prop_map(|(user, sharing, until_in, discoverable)| Step::Mode { user, sharing, until_in, discoverable }),
        1 => user.clone().prop_map(|user| Step::Erase { user }),
        14 => (user.clone(), radius, prop::collection::vec(entry(), 0..USERS + 2))
            .prop_map(|(viewer, radius_m, entries)| Step::List { viewer, radius_m, entries }),
        1 => user.clone().prop_map(|viewer| Step::ListAgain { viewer }),
        1 => user.prop_map(|viewer| Step::Unlist { viewer }),
        16 => ms.prop_map(|ms| Step::Pass { ms }),
        3 => (0..PARTITIONS, 0..WORKERS, any::<bool>())
            .prop_map(|(partition, worker, late)| Step::Takeover { partition, worker, late }),
        3 => (0..WORKERS, prop::bool::weighted(0.7)).prop_map(|(worker, copy)| Step::Restart { worker, copy }),
        4 => (0..WORKERS, 1..USERS).prop_map(|(worker, slots)| Step::Copy { worker, slots }),
        2 => (0..GATEWAYS).prop_map(|gateway| Step::Loss { gateway }),
        2 => (0..GATEWAYS).prop_map(|gateway| Step::Mangle { gateway }),
    ]
}
