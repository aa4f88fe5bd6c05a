//! Who lives where, and who is whose friend.

use std::f64::consts::TAU;

use nearcast_geo::{Position, straight_line_m};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::point::ahead;

/// Homes lie in clusters whose centres lie within this of the city's, metres.
const CITY_M: f64 = 14_000.0;
/// Typical distance of a home from its cluster's centre, metres.
const CLUSTER_M: f64 = 900.0;
/// People to a cluster.
const CLUSTER_SIZE: usize = 25;
/// Within this distance, metres, the chance of a friendship hardly depends on it; beyond, it falls by the square.
const NEAR_M: f64 = 4_000.0;

/// A seeded town.
pub(crate) struct Graph {
    /// Where each person lives.
    pub(crate) homes: Vec<Position>,
    /// Each person's friends, ascending. Symmetric.
    pub(crate) friends: Vec<Vec<u32>>,
}

impl Graph {
    /// `people` persons with `friends` friends each on average (everybody, if there are no more people than that),
    /// around `centre`. Friends live near each other more often than chance. The same seed gives the same town.
    pub(crate) fn build(people: usize, friends: usize, centre: Position, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let homes = homes(people, centre, &mut rng);
        let friends = if friends + 1 >= people { complete(people) } else { befriend(&homes, friends, &mut rng) };
        Self { homes, friends }
    }
}

/// Each friendship of a symmetric graph once, in an order in which neighbours have hardly anybody in common: whoever
/// makes several at once does not change one person's friends several times at once.
pub(crate) fn scattered(friends: &[Vec<u32>]) -> Vec<(u32, u32)> {
    let mut pairs = pairs(friends);
    pairs.shuffle(&mut ChaCha8Rng::seed_from_u64(0));
    pairs
}

/// Each friendship of a symmetric graph once, the lower index first.
pub(crate) fn pairs(friends: &[Vec<u32>]) -> Vec<(u32, u32)> {
    let of = |(a, list): (usize, &Vec<u32>)| {
        let a = a as u32;
        list.iter().filter(move |&&b| a < b).map(move |&b| (a, b)).collect::<Vec<_>>()
    };
    friends.iter().enumerate().flat_map(of).collect()
}

/// Everybody is everybody's friend.
pub(crate) fn complete(people: usize) -> Vec<Vec<u32>> {
    let people = people as u32;
    (0..people).map(|a| (0..people).filter(|&b| b != a).collect()).collect()
}

fn homes(people: usize, centre: Position, rng: &mut ChaCha8Rng) -> Vec<Position> {
    let clusters: Vec<Position> = (0..people.div_ceil(CLUSTER_SIZE).max(3))
        // The root makes the density even over the disc.
        .map(|_| ahead(centre, rng.random_range(0.0..TAU), CITY_M * rng.random::<f64>().sqrt()))
        .collect();
    (0..people)
        .map(|_| {
            let cluster = clusters[rng.random_range(0..clusters.len())];
            // The distance from the centre of a two-dimensional normal distribution is Rayleigh's.
            let metres = CLUSTER_M * (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
            ahead(cluster, rng.random_range(0.0..TAU), metres)
        })
        .collect()
}

/// Each person in random order picks half of the friends, weighted by distance, among those not yet befriended; being
/// picked gives the other half. So the mean is exact and the numbers differ as they do among people.
fn befriend(homes: &[Position], friends: usize, rng: &mut ChaCha8Rng) -> Vec<Vec<u32>> {
    let mut lists: Vec<Vec<u32>> = vec![Vec::new(); homes.len()];
    let mut order: Vec<usize> = (0..homes.len()).collect();
    order.shuffle(rng);
    for (turn, &me) in order.iter().enumerate() {
        let picks = if turn % 2 == 0 { friends.div_ceil(2) } else { friends / 2 };
        // Sampling without replacement by weight: the largest of ln(u) / w.
        // Efraimidis and Spirakis, "Weighted random sampling with a reservoir", IPL 97 (2006).
        let mut drawn: Vec<(f64, usize)> = (0..homes.len())
            .filter(|&other| other != me && !lists[me].contains(&(other as u32)))
            .map(|other| {
                let draw = (1.0 - rng.random::<f64>()).ln();
                (draw / weight(straight_line_m(homes[me], homes[other])), other)
            })
            .collect();
        drawn.sort_by(|a, b| b.0.total_cmp(&a.0));
        for &(_, other) in drawn.iter().take(picks) {
            lists[me].push(other as u32);
            lists[other].push(me as u32);
        }
    }
    for list in &mut lists {
        list.sort_unstable();
    }
    lists
}

fn weight(metres: f64) -> f64 {
    let far = metres / NEAR_M;
    1.0 / (1.0 + far * far)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn centre() -> Position {
        Position::new(52.52, 13.405).unwrap()
    }

    fn check_shape(graph: &Graph) {
        for (me, list) in graph.friends.iter().enumerate() {
            assert!(list.windows(2).all(|w| w[0] < w[1]), "ascending and no one twice");
            for &other in list {
                assert_ne!(other as usize, me);
                assert!(graph.friends[other as usize].contains(&(me as u32)), "symmetric");
            }
        }
    }

    #[test]
    fn the_mean_is_what_was_asked_for() {
        for (people, friends) in [(500, 20), (50, 10), (41, 7), (10, 1)] {
            let graph = Graph::build(people, friends, centre(), 42);
            check_shape(&graph);
            let mean = 2.0 * pairs(&graph.friends).len() as f64 / people as f64;
            assert!((mean - friends as f64).abs() <= 0.5, "{people} {friends}: {mean}");
        }
    }

    #[test]
    fn few_people_are_all_friends() {
        for (people, friends) in [(0, 5), (1, 5), (2, 1), (4, 3), (4, 100)] {
            let graph = Graph::build(people, friends, centre(), 1);
            check_shape(&graph);
            assert_eq!(pairs(&graph.friends).len(), people * people.saturating_sub(1) / 2);
        }
    }

    #[test]
    fn friends_live_nearer_than_chance() {
        let graph = Graph::build(400, 16, centre(), 7);
        let mean = |pairs: &[(u32, u32)]| {
            let metres = |&(a, b): &(u32, u32)| straight_line_m(graph.homes[a as usize], graph.homes[b as usize]);
            pairs.iter().map(metres).sum::<f64>() / pairs.len() as f64
        };
        let friends = mean(&pairs(&graph.friends));
        let anybody = mean(&pairs(&complete(400)));
        assert!(friends < 0.7 * anybody, "{friends} m against {anybody} m");
    }

    #[test]
    fn scattered_friendships_are_the_same_and_seldom_meet() {
        let graph = Graph::build(200, 20, centre(), 1);
        let scattered = scattered(&graph.friends);
        let meet = scattered.windows(2).filter(|w| w[0].0 == w[1].0 || w[0].1 == w[1].1).count();
        assert!(meet * 20 < scattered.len(), "{meet} of {}", scattered.len());
        let mut sorted = scattered;
        sorted.sort_unstable();
        assert_eq!(sorted, pairs(&graph.friends));
    }

    #[test]
    fn the_seed_decides() {
        let friends = |seed| Graph::build(100, 8, centre(), seed).friends;
        assert_eq!(friends(5), friends(5));
        assert_ne!(friends(5), friends(6));
    }
}
