//! Whose list is worth looking at.

use nearcast_geo::{Position, straight_line_m};

use crate::simulate::graph::Graph;
use crate::simulate::movement::Walker;

/// How far ahead is looked, seconds, and in which steps.
const AHEAD_S: u32 = 60;
const STEP_S: u32 = 5;

/// The person to whom most friends come or from whom most go within the next minute; the seed knows. None in an empty
/// town.
pub(super) fn liveliest(graph: &Graph, centre: Position, seed: u64, radius_m: f64) -> Option<usize> {
    let mut walkers: Vec<Walker> =
        (0..).zip(&graph.homes).map(|(index, &home)| Walker::new(home, centre, seed, index)).collect();
    let mut near = nearness(graph, &walkers, radius_m);
    let mut changes = vec![0_usize; walkers.len()];
    for _ in 0..AHEAD_S / STEP_S {
        walkers.iter_mut().for_each(|walker| walker.advance(f64::from(STEP_S)));
        let now = nearness(graph, &walkers, radius_m);
        for ((count, before), now) in changes.iter_mut().zip(&near).zip(&now) {
            *count += before.iter().zip(now).filter(|(before, now)| before != now).count();
        }
        near = now;
    }
    (0..changes.len()).max_by_key(|&person| changes[person])
}

/// Of each person, which friends are in range.
fn nearness(graph: &Graph, walkers: &[Walker], radius_m: f64) -> Vec<Vec<bool>> {
    let of = |(me, friends): (usize, &Vec<u32>)| {
        let in_range =
            |&friend: &u32| straight_line_m(walkers[me].position(), walkers[friend as usize].position()) <= radius_m;
        friends.iter().map(in_range).collect()
    };
    graph.friends.iter().enumerate().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_liveliest_list_changes_often() {
        let centre = Position::new(52.52, 13.405).unwrap();
        let graph = Graph::build(200, 20, centre, 1);
        let person = liveliest(&graph, centre, 1, 8_000.0).unwrap();
        let mut walkers: Vec<Walker> =
            (0..).zip(&graph.homes).map(|(i, &home)| Walker::new(home, centre, 1, i)).collect();
        let before = nearness(&graph, &walkers, 8_000.0).swap_remove(person);
        walkers.iter_mut().for_each(|walker| walker.advance(30.0));
        let after = nearness(&graph, &walkers, 8_000.0).swap_remove(person);
        let changed = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        assert!(changed >= 3, "{changed} of {}", before.len());
        assert_eq!(liveliest(&Graph::build(0, 5, centre, 1), centre, 1, 8_000.0), None);
    }
}
