//! What a short run must show: that the contenders do the same work and come to the same views, which are right.

use std::collections::BTreeMap;
use std::path::Path;

use nearcast_geo::{Position, geodesic_m, straight_line_m};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rustc_hash::FxHashSet;
use serde_json::Value;

use crate::baseline::Views;
use crate::case::SHORT;
use crate::measure::Rounds;
use crate::reports::Walk;
use crate::subject::{RADIUS_M, Subject};
use crate::world::{SEED, World, write_id};

/// Users whose pairs are looked at for the share of those in range.
const SAMPLE: u32 = 5_000;
/// Pairs in range are at least so many of all, or the workload is easier than it claims to be.
const LEAST_IN_RANGE: f64 = 0.1;
/// The sphere's radius is wrong by so much of the distance, at most, on one of its sides: 48 m at 8 km.
const SPHERE: f64 = 0.006;

/// Where the pairs are when the last report is in.
pub struct Truth {
    places: Vec<(f64, f64)>,
    /// Of each pair of a viewer and a friend who are online, metres along the ellipsoid.
    metres: BTreeMap<(u32, u32), f64>,
    /// The views of the first baseline.
    views: std::cell::OnceCell<FxHashSet<(u32, u32)>>,
}

/// The share of pairs that are in range, by a sample.
pub fn share_in_range(world: &World, walk: &Walk<'_>) -> f64 {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED ^ 2);
    let (mut pairs, mut inside, mut friends) = (0_u32, 0_u32, Vec::new());
    for _ in 0..SAMPLE {
        let user = rng.random_range(0..world.size.users);
        world.friends(user, &mut friends);
        let here = position(walk.places()[user as usize]);
        for &friend in friends.iter().filter(|&&friend| world.is_online(friend)) {
            pairs += 1;
            let there = position(walk.places()[friend as usize]);
            inside += u32::from(straight_line_m(here, there) <= f64::from(RADIUS_M));
        }
    }
    let share = f64::from(inside) / f64::from(pairs);
    assert!(share >= LEAST_IN_RANGE, "{share} of the pairs are in range");
    share
}

/// Checks the engine's views by the geodesic distance of every pair. Between the radius and 1.025 times the radius
/// either answer is right.
pub fn engine(world: &World, subject: &Subject<'_>) -> Truth {
    subject.engine.check().unwrap();
    let places = subject.walk.places().to_vec();
    let (mut metres, mut friends, mut id) = (BTreeMap::new(), Vec::new(), String::new());
    let mut listed = 0;
    for user in 0..world.size.users {
        world.friends(user, &mut friends);
        listed += friends.len();
        write_id(user, &mut id);
        let view = subject.engine.view(&id).expect("everybody has a view");
        let mut seen: FxHashSet<u32> = view.iter().map(|seen| seen.friend[1..].parse().unwrap()).collect();
        for &friend in friends.iter().filter(|&&friend| world.is_online(friend)) {
            let distance = geodesic_m(position(places[user as usize]), position(places[friend as usize]));
            let is_seen = seen.remove(&friend);
            // The way along the ellipsoid is half a millimetre longer than the straight line that decides.
            assert!(is_seen || distance > f64::from(RADIUS_M), "{user} does not see {friend}, {distance} m away");
            assert!(
                !is_seen || distance < f64::from(RADIUS_M) * 1.025 + 0.001,
                "{user} sees {friend}, {distance} m away"
            );
            metres.insert((user, friend), distance);
        }
        assert!(seen.is_empty(), "{user} sees {seen:?}, who are no friends or offline");
    }
    let mutual = metres.keys().all(|&(viewer, friend)| metres.contains_key(&(friend, viewer)));
    assert!(mutual, "a friendship is not mutual");
    let expected = world.size.users as usize * world.size.listed as usize;
    assert!(listed > expected * 99 / 100, "{listed} entries of {expected}");
    Truth { places, metres, views: std::cell::OnceCell::new() }
}

impl Truth {
    /// Checks a baseline's views by the same distances: outside of the sphere's error they are right, and so the same as
    /// the engine's outside of the band.
    pub fn check_baseline(&self, walk: &Walk<'_>, views: &Views) {
        assert!(walk.places() == self.places, "the baseline got other reports than the engine");
        let radius_m = f64::from(RADIUS_M);
        for (pair, &distance) in &self.metres {
            let is_seen = views.inside.contains(pair);
            assert!(is_seen || distance > radius_m * (1.0 - SPHERE), "{pair:?} are {distance} m apart");
            assert!(!is_seen || distance < radius_m * (1.0 + SPHERE), "{pair:?} are {distance} m apart");
        }
        assert!(views.inside.iter().all(|pair| self.metres.contains_key(pair)), "a view of somebody offline");
        assert!(views.transitions > 0, "nobody came or went");
        self.views.set(views.inside.clone()).expect("there is one first baseline");
    }

    /// Checks that another baseline, which computes the same distances, has the same views.
    pub fn check_same(&self, views: &Views) {
        assert!(self.views.get() == Some(&views.inside), "two baselines differ");
    }
}

/// Checks that everybody decided the same pairs.
pub fn same_work(engine: &Rounds, baselines: &[&Rounds]) {
    let expected = engine.total();
    for baseline in baselines {
        let found = baseline.total();
        assert_eq!((found.records, found.pairs), (expected.records, expected.pairs), "not the same pairs");
    }
}

/// Checks that the file of a short run says what it must.
pub fn rows(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    let rows = file["rows"].as_array().unwrap();
    for case in SHORT {
        let of_case = |row: &&Value| format!("{}:{}", row["case"].as_str().unwrap(), row["users"]) == case.to_string();
        let Some(row) = rows.iter().find(of_case) else { continue };
        let figures = [
            "friends_online",
            "pairs_per_second",
            "naive_pairs_per_second",
            "h3_pairs_per_second",
            "ns_per_pair",
            "bytes_per_user",
            "bytes_per_friendship",
            "records_per_second",
        ];
        for figure in figures {
            assert!(row[figure].as_f64().is_some_and(|number| number > 0.0), "{case}: {figure} is {}", row[figure]);
        }
        let share = row["share_in_range"].as_f64().unwrap();
        let outputs = row["upserts_per_record"].as_f64().unwrap();
        assert!((LEAST_IN_RANGE..0.5).contains(&share), "{case}: {share} of the pairs are in range");
        let removals = row["removals_per_record"].as_f64().unwrap();
        assert!(removals > 0.001, "{case}: {removals} removals a record");
        assert!(outputs >= LEAST_IN_RANGE * 40.0 * 0.9, "{case}: {outputs} outputs a record");
    }
}

fn position((lat, lon): (f64, f64)) -> Position {
    Position::new(lat, lon).expect("walkers stay on the globe")
}
