//! What the engine is compared with: joins as one would write them on the first day, on the same reports.
//!
//! They know users by number and keep tables by number, so that what is compared is the join and not the names. They
//! have no sessions, no lists that change, no precision, no expiry, no time to live and no hysteresis, all of which the
//! engine has.

use h3o::{CellIndex, LatLng, Resolution};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::measure::{Length, Rounds, Stopwatch, Work};
use crate::reports::{Report, Walk};
use crate::subject::{CHUNK, RADIUS_M};
use crate::world::World;

/// Mean radius of the Earth in metres.
const EARTH_M: f64 = 6_371_008.8;
/// Cells with edges of about 1.4 km.
const RESOLUTION: Resolution = Resolution::Seven;
/// Rings of cells around one's own beyond which nobody is within 8 km.
const RINGS: u32 = 6;

/// Degrees of latitude and longitude.
type Place = (f64, f64);

/// Everybody's friends, and where the baselines begin. Built once for all of them.
pub struct Start {
    ends: Vec<u64>,
    friends: Vec<u32>,
    /// `None` for users who are offline.
    places: Vec<Option<Place>>,
    inside: FxHashSet<(u32, u32)>,
}

impl Start {
    pub fn new(world: &World) -> Self {
        let mut places: Vec<_> = world.homes().into_iter().map(Some).collect();
        places.resize(world.registered as usize, None);
        let (mut ends, mut friends, mut numbers) = (vec![0], Vec::new(), Vec::new());
        friends.reserve_exact(world.size.users as usize * world.size.listed as usize);
        let mut inside = FxHashSet::default();
        for user in 0..world.size.users {
            world.friends(user, &mut numbers);
            friends.extend_from_slice(&numbers);
            ends.push(friends.len() as u64);
            for &friend in numbers.iter().filter(|&&friend| friend < user) {
                if let (Some(here), Some(there)) = (places[user as usize], places[friend as usize])
                    && haversine_m(here, there) <= f64::from(RADIUS_M)
                {
                    inside.insert((user, friend));
                    inside.insert((friend, user));
                }
            }
        }
        Self { ends, friends, places, inside }
    }

    fn friends(&self, user: u32) -> &[u32] {
        let user = user as usize;
        &self.friends[self.ends[user] as usize..self.ends[user + 1] as usize]
    }
}

/// Great-circle distance on the sphere in metres.
fn haversine_m(a: Place, b: Place) -> f64 {
    let (lat_a, lat_b) = (a.0.to_radians(), b.0.to_radians());
    let half_lat = ((lat_b - lat_a) / 2.0).sin();
    let half_lon = ((b.1 - a.1).to_radians() / 2.0).sin();
    let square = half_lat * half_lat + lat_a.cos() * lat_b.cos() * half_lon * half_lon;
    2.0 * EARTH_M * square.sqrt().asin()
}

/// What a viewer is to be told.
#[expect(dead_code, reason = "nobody reads it here, but a join that made less would not be one")]
struct Update {
    viewer: u32,
    friend: u32,
    /// Place and metres; `None` for a friend who is out of range.
    shown: Option<(Place, f64)>,
}

/// Who sees whom, and what is to be told of it.
pub struct Views {
    /// Viewer and friend.
    pub inside: FxHashSet<(u32, u32)>,
    updates: Vec<Update>,
    pub transitions: u64,
}

impl Views {
    fn new(start: &Start) -> Self {
        Self { inside: start.inside.clone(), updates: Vec::new(), transitions: 0 }
    }

    /// Decides whether a viewer sees a friend, who is at `place` and so many metres away. `moved`: it was the friend who
    /// moved, which the viewer is told.
    fn decide(&mut self, viewer: u32, friend: u32, place: Place, metres: f64, moved: bool) {
        if metres <= f64::from(RADIUS_M) {
            let entered = self.inside.insert((viewer, friend));
            self.transitions += u64::from(entered);
            if entered || moved {
                self.updates.push(Update { viewer, friend, shown: Some((place, metres)) });
            }
        } else if self.inside.remove(&(viewer, friend)) {
            self.transitions += 1;
            self.updates.push(Update { viewer, friend, shown: None });
        }
    }
}

/// A join.
pub trait Baseline {
    /// Takes a report; returns how many pairs of a viewer and a friend it decided.
    fn take(&mut self, report: &Report) -> u64;

    fn views(&mut self) -> &mut Views;
}

/// Lets everybody report to a baseline for some time. `end` is shown the state after the last report.
pub fn measure(
    world: &World,
    baseline: &mut impl Baseline,
    length: Length,
    end: impl FnOnce(&Walk<'_>, &Views),
) -> (Rounds, f64) {
    let mut walk = Walk::new(world);
    let mut reports = Vec::with_capacity(CHUNK);
    let rounds = Rounds::run(length, || chunk(&mut walk, &mut reports, baseline));
    let views = baseline.views();
    end(&walk, views);
    (rounds, views.transitions as f64 / walk.reports() as f64)
}

fn chunk(walk: &mut Walk<'_>, reports: &mut Vec<Report>, baseline: &mut impl Baseline) -> Work {
    reports.clear();
    reports.extend((0..CHUNK).map(|_| walk.step()));
    let watch = Stopwatch::start();
    let pairs = reports.iter().map(|report| baseline.take(report)).sum();
    // Whoever delivers takes them here.
    baseline.views().updates.clear();
    watch.stop(CHUNK as u64, pairs)
}

/// For each report: the distance of everybody who may see the user, and of everybody whom the user may see.
pub struct Naive<'a> {
    start: &'a Start,
    places: Vec<Option<Place>>,
    views: Views,
}

impl<'a> Naive<'a> {
    pub fn new(start: &'a Start) -> Self {
        Self { start, places: start.places.clone(), views: Views::new(start) }
    }
}

impl Baseline for Naive<'_> {
    fn take(&mut self, report: &Report) -> u64 {
        let (user, here) = (report.user, (report.lat, report.lon));
        self.places[user as usize] = Some(here);
        let mut pairs = 0;
        for &viewer in self.start.friends(user) {
            if let Some(there) = self.places[viewer as usize] {
                self.views.decide(viewer, user, here, haversine_m(there, here), true);
                pairs += 1;
            }
        }
        for &friend in self.start.friends(user) {
            if let Some(there) = self.places[friend as usize] {
                self.views.decide(user, friend, there, haversine_m(here, there), false);
                pairs += 1;
            }
        }
        pairs
    }

    fn views(&mut self) -> &mut Views {
        &mut self.views
    }
}

/// The same with one distance for both directions: right only as long as every friendship is mutual.
pub struct Mutual<'a>(pub Naive<'a>);

impl Baseline for Mutual<'_> {
    fn take(&mut self, report: &Report) -> u64 {
        let Naive { start, places, views } = &mut self.0;
        let (user, here) = (report.user, (report.lat, report.lon));
        places[user as usize] = Some(here);
        let mut pairs = 0;
        for &friend in start.friends(user) {
            if let Some(there) = places[friend as usize] {
                let metres = haversine_m(here, there);
                views.decide(friend, user, here, metres, true);
                views.decide(user, friend, there, metres, false);
                pairs += 2;
            }
        }
        pairs
    }

    fn views(&mut self) -> &mut Views {
        &mut self.0.views
    }
}

/// [`Mutual`] behind a filter: only of friends in a cell nearby is the distance computed.
pub struct Cells<'a> {
    start: &'a Start,
    places: Vec<Option<Place>>,
    cells: Vec<Option<CellIndex>>,
    /// The cells near a cell. Few cells have people, so that each is computed once.
    near: FxHashMap<CellIndex, FxHashSet<CellIndex>>,
    views: Views,
}

impl<'a> Cells<'a> {
    pub fn new(start: &'a Start) -> Self {
        let cells = start.places.iter().map(|place| place.map(cell)).collect();
        Self { start, places: start.places.clone(), cells, near: FxHashMap::default(), views: Views::new(start) }
    }
}

impl Baseline for Cells<'_> {
    fn take(&mut self, report: &Report) -> u64 {
        let (user, here) = (report.user, (report.lat, report.lon));
        self.places[user as usize] = Some(here);
        let now = cell(here);
        let before = self.cells[user as usize].replace(now).unwrap_or(now);
        for cell in [before, now] {
            self.near.entry(cell).or_insert_with(|| cell.grid_disk(RINGS));
        }
        let (near, near_before) = (&self.near[&now], &self.near[&before]);
        let mut pairs = 0;
        for &friend in self.start.friends(user) {
            let Some(there) = self.cells[friend as usize] else { continue };
            pairs += 2;
            // A friend who is far now and was far before is in no view of the two, and no set is asked.
            if (near.contains(&there) || now != before && near_before.contains(&there))
                && let Some(there) = self.places[friend as usize]
            {
                let metres = haversine_m(here, there);
                self.views.decide(friend, user, here, metres, true);
                self.views.decide(user, friend, there, metres, false);
            }
        }
        pairs
    }

    fn views(&mut self) -> &mut Views {
        &mut self.views
    }
}

fn cell((lat, lon): Place) -> CellIndex {
    LatLng::new(lat, lon).expect("walkers stay on the globe").to_cell(RESOLUTION)
}
