//! How a simulated person moves: rests, walks, rides and flies.

use std::f64::consts::TAU;

use nearcast_geo::{Position, straight_line_m};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::point::{Point, ahead, bearing};

/// Nobody rides or walks further than this from the town's centre, metres.
const TOWN_M: f64 = 20_000.0;
/// How far a phone's fix is off, at most, metres. Less than what is thinned out, as it is where the sky is open.
const NOISE_M: f64 = 3.0;

/// What somebody is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gait {
    /// Stays where they are.
    Rest,
    /// 0.8 to 2 m/s.
    Walk,
    /// 4 to 22 m/s: a bicycle to a car.
    Ride,
    /// 180 to 260 m/s, right across the town: a radius of 8 km is crossed in well under a minute.
    Fly,
}

impl Gait {
    /// Metres a second, lowest and highest.
    fn speeds(self) -> (f64, f64) {
        match self {
            Self::Rest => (0.0, 0.0),
            Self::Walk => (0.8, 2.0),
            Self::Ride => (4.0, 22.0),
            Self::Fly => (180.0, 260.0),
        }
    }

    /// How long it lasts, in seconds, lowest and highest; a flight lasts until it lands.
    fn lasts(self) -> (f64, f64) {
        match self {
            Self::Rest => (8.0, 60.0),
            Self::Walk | Self::Ride => (20.0, 120.0),
            Self::Fly => (600.0, 601.0),
        }
    }
}

/// One person's seeded way.
pub(crate) struct Walker {
    rng: ChaCha8Rng,
    /// Of its own, so that nobody goes elsewhere for being measured more often.
    noise: ChaCha8Rng,
    centre: Position,
    home: Position,
    at: Position,
    gait: Gait,
    speed_mps: f64,
    target: Position,
    left_s: f64,
    reported: Option<Point>,
}

impl Walker {
    /// The person numbered `index` of the town that `seed` makes, at home or in the air, some way into what they are doing.
    pub(crate) fn new(home: Position, centre: Position, seed: u64, index: u32) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // The graph draws from stream 0.
        rng.set_stream(1 + u64::from(index));
        let mut noise = rng.clone();
        noise.set_stream((3 << 32) + u64::from(index));
        let mut walker = Self {
            rng,
            noise,
            centre,
            home,
            at: home,
            gait: Gait::Rest,
            speed_mps: 0.0,
            target: home,
            left_s: 0.0,
            reported: None,
        };
        let gait = walker.draw([0.25, 0.2, 0.25, 0.3]);
        walker.begin(gait);
        let share = walker.rng.random::<f64>();
        walker.left_s *= share;
        if gait == Gait::Fly {
            let way_m = straight_line_m(home, walker.target);
            walker.at = ahead(home, bearing(home, walker.target), way_m * share);
        }
        walker
    }

    /// Lets `seconds` pass.
    pub(crate) fn advance(&mut self, seconds: f64) {
        let mut seconds = seconds;
        while seconds > 0.0 {
            let way_m = straight_line_m(self.at, self.target);
            let arrives_s = if self.speed_mps > 0.0 { way_m / self.speed_mps } else { f64::INFINITY };
            let step = seconds.min(self.left_s).min(arrives_s);
            if step >= arrives_s {
                self.at = self.target;
            } else if self.speed_mps > 0.0 {
                self.at = ahead(self.at, bearing(self.at, self.target), self.speed_mps * step);
            }
            seconds -= step;
            self.left_s -= step;
            if self.left_s <= 0.0 || step >= arrives_s {
                let gait = self.next_gait();
                self.begin(gait);
            }
        }
    }

    /// What the phone measures now: a few metres off, and never twice in a row the same point.
    pub(crate) fn measure(&mut self) -> Point {
        let off_m = NOISE_M * self.noise.random::<f64>();
        let point = Point::of(ahead(self.at, self.noise.random_range(0.0..TAU), off_m)).unlike(self.reported);
        self.reported = Some(point);
        point
    }

    /// Where the person is.
    pub(crate) fn position(&self) -> Position {
        self.at
    }

    /// Metres a second, as a phone would say.
    pub(crate) fn speed_mps(&self) -> f64 {
        self.speed_mps
    }

    fn next_gait(&mut self) -> Gait {
        match self.gait {
            Gait::Rest => self.draw([0.0, 0.35, 0.4, 0.25]),
            Gait::Fly => self.draw([0.3, 0.2, 0.3, 0.2]),
            Gait::Walk | Gait::Ride => self.draw([0.4, 0.2, 0.25, 0.15]),
        }
    }

    /// By the chances of resting, walking, riding and flying, whose sum is 1.
    fn draw(&mut self, chances: [f64; 4]) -> Gait {
        let mut draw = self.rng.random::<f64>();
        for (gait, chance) in [Gait::Rest, Gait::Walk, Gait::Ride].into_iter().zip(chances) {
            if draw < chance {
                return gait;
            }
            draw -= chance;
        }
        Gait::Fly
    }

    fn begin(&mut self, gait: Gait) {
        let (slowest, fastest) = gait.speeds();
        let (shortest, longest) = gait.lasts();
        self.gait = gait;
        self.speed_mps = slowest + (fastest - slowest) * self.rng.random::<f64>();
        self.left_s = shortest + (longest - shortest) * self.rng.random::<f64>();
        self.target = match gait {
            Gait::Rest => self.at,
            Gait::Fly => self.across(),
            Gait::Walk | Gait::Ride => self.about(),
        };
    }

    /// A place on the other side of the town.
    fn across(&mut self) -> Position {
        let opposite = bearing(self.at, self.centre);
        let metres = self.rng.random_range(8_000.0..16_000.0);
        ahead(self.centre, opposite + self.rng.random_range(-1.0..1.0), metres)
    }

    /// Home, or anywhere within half an hour's ride; home for who is too far out.
    fn about(&mut self) -> Position {
        if straight_line_m(self.at, self.centre) > TOWN_M || self.rng.random::<f64>() < 0.4 {
            // Somewhere near home, so that who is at home has a way too.
            return ahead(self.home, self.rng.random_range(0.0..TAU), 300.0);
        }
        let direction = self.rng.random_range(0.0..TAU);
        ahead(self.at, direction, self.rng.random_range(500.0..8_000.0))
    }
}

#[cfg(test)]
mod tests {
    use super::super::graph::{self, Graph};
    use super::*;

    fn walker(seed: u64, index: u32) -> Walker {
        let centre = Position::new(52.52, 13.405).unwrap();
        Walker::new(ahead(centre, 1.0, 4_000.0), centre, seed, index)
    }

    #[test]
    fn nobody_is_faster_than_they_move() {
        for index in 0..60 {
            let mut walker = walker(9, index);
            for _ in 0..600 {
                let (from, gait) = (walker.at, walker.gait);
                walker.advance(0.5);
                let mps = straight_line_m(from, walker.at) / 0.5;
                // A step in which the gait changes may have any of both speeds; the sphere is up to 0.7 % off.
                let fastest = gait.speeds().1.max(walker.gait.speeds().1);
                assert!(mps <= fastest * 1.01 + 0.01, "{mps} m/s while {gait:?}");
                if gait == walker.gait && gait != Gait::Rest && walker.target != walker.at {
                    assert!(walker.speed_mps >= gait.speeds().0, "{gait:?}");
                }
            }
        }
    }

    #[test]
    fn every_gait_is_seen_and_the_town_stays_together() {
        let mut seen = std::collections::HashMap::new();
        for index in 0..100 {
            let mut walker = walker(3, index);
            for _ in 0..300 {
                walker.advance(1.0);
                *seen.entry(format!("{:?}", walker.gait)).or_insert(0) += 1;
                assert!(straight_line_m(walker.at, walker.centre) < 30_000.0);
            }
        }
        for gait in ["Rest", "Walk", "Ride", "Fly"] {
            let share = f64::from(*seen.get(gait).unwrap_or(&0)) / 30_000.0;
            assert!((0.05..0.6).contains(&share), "{gait}: {share}");
        }
    }

    #[test]
    fn friends_cross_eight_kilometres_within_a_minute() {
        let centre = Position::new(52.52, 13.405).unwrap();
        let graph = Graph::build(200, 20, centre, 11);
        let pairs = graph::pairs(&graph.friends);
        let mut walkers: Vec<Walker> =
            (0..).zip(&graph.homes).map(|(i, &home)| Walker::new(home, centre, 11, i)).collect();
        let near = |walkers: &[Walker]| -> Vec<bool> {
            let metres = |&(a, b): &(u32, u32)| straight_line_m(walkers[a as usize].at, walkers[b as usize].at);
            pairs.iter().map(|pair| metres(pair) <= 8_000.0).collect()
        };
        let mut before = near(&walkers);
        let in_range = before.iter().filter(|&&near| near).count() as f64 / pairs.len() as f64;
        let mut crossings = 0;
        for _ in 0..12 {
            walkers.iter_mut().for_each(|walker| walker.advance(5.0));
            let now = near(&walkers);
            crossings += now.iter().zip(&before).filter(|(a, b)| a != b).count();
            before = now;
        }
        let share = crossings as f64 / pairs.len() as f64;
        assert!((0.2..0.8).contains(&in_range), "{in_range} of the pairs are in range");
        assert!(share > 0.2, "{share} crossings a pair and minute");
    }

    #[test]
    fn measures_near_the_truth_and_never_twice_the_same() {
        let mut walker = walker(1, 1);
        let mut last = None;
        for _ in 0..200 {
            let point = walker.measure();
            assert_ne!(Some(point), last);
            assert!(straight_line_m(point.position().unwrap(), walker.at) < NOISE_M * 1.01 + 0.02);
            last = Some(point);
        }
    }

    #[test]
    fn measuring_leads_nobody_elsewhere() {
        let (mut measured, mut unseen) = (walker(4, 4), walker(4, 4));
        for _ in 0..50 {
            measured.advance(5.0);
            measured.measure();
            unseen.advance(5.0);
        }
        assert!(straight_line_m(measured.position(), unseen.position()) < 0.01);
    }

    #[test]
    fn the_seed_and_the_index_decide() {
        let way = |seed, index| {
            let mut walker = walker(seed, index);
            (0..20)
                .map(|_| {
                    walker.advance(7.0);
                    walker.measure()
                })
                .collect::<Vec<_>>()
        };
        assert!(way(1, 1) == way(1, 1));
        assert!(way(1, 1) != way(1, 2));
        assert!(way(1, 1) != way(2, 1));
    }
}
