//! One user's nearby friends, as their phone is shown them.

use std::collections::HashMap;

use crate::simulate::frames::Upsert;
use crate::simulate::view::Step;

/// A friend whose distance changed by less than this since it was last told is not worth a line, metres.
const WORTH_TELLING_M: f64 = 1_000.0;
/// A reset's parts come within this, ms.
const RESET_MS: i64 = 2_000;

/// A friend nearby.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Neighbour {
    /// What they are called.
    pub(super) name: String,
    /// How far away, metres, as of sending.
    pub(super) distance_m: Option<f64>,
    /// When that was reported, in ms since the epoch.
    pub(super) at: i64,
    /// The position is a cell's centre.
    pub(super) approximate: bool,
    told_m: Option<f64>,
}

/// The list.
#[derive(Default)]
pub(super) struct Neighbours {
    held: HashMap<String, Neighbour>,
    /// Who was there before a reset that began then.
    before: Option<(i64, HashMap<String, Neighbour>)>,
}

impl Neighbours {
    /// Applies a step at `now` (ms since the epoch) and returns what there is to tell.
    pub(super) fn apply(&mut self, step: Step, now: i64) -> Option<String> {
        match step {
            Step::Cleared => {
                let mut before = std::mem::take(&mut self.held);
                if let Some((_, earlier)) = self.before.take() {
                    before.extend(earlier);
                }
                self.before = Some((now, before));
                None
            }
            Step::Gone { id, reason } => {
                let gone = self.held.remove(&id)?;
                Some(format!("- {} leaves ({reason})", gone.name))
            }
            Step::Put(upsert) => self.put(upsert),
        }
    }

    fn put(&mut self, upsert: Upsert) -> Option<String> {
        let Upsert { id, display_name, distance_m, at, approximate, .. } = upsert;
        let known = self.held.remove(&id).or_else(|| self.before.as_mut()?.1.remove(&id));
        let about = if approximate { ", approximate" } else { "" };
        let (line, told_m) = match known {
            None => (Some(format!("+ {display_name} appears {}{about}", kilometres(distance_m))), distance_m),
            Some(Neighbour { told_m, .. }) => match (told_m, distance_m) {
                (Some(told), Some(now)) if (told - now).abs() < WORTH_TELLING_M => (None, told_m),
                _ => (Some(format!("~ {display_name} moves, now {}{about}", kilometres(distance_m))), distance_m),
            },
        };
        self.held.insert(id, Neighbour { name: display_name, distance_m, at, approximate, told_m });
        line
    }

    /// Who was there before a reset and is not in it has left.
    pub(super) fn settle(&mut self, now: i64) -> Vec<String> {
        match self.before.take() {
            Some((began, before)) if now - began < RESET_MS => {
                self.before = Some((began, before));
                Vec::new()
            }
            Some((_, before)) => {
                before.into_values().map(|gone| format!("- {} leaves (not in the new list)", gone.name)).collect()
            }
            None => Vec::new(),
        }
    }

    /// Nearest first.
    pub(super) fn nearest(&self) -> Vec<&Neighbour> {
        let mut nearest: Vec<&Neighbour> = self.held.values().collect();
        let key = |neighbour: &Neighbour| neighbour.distance_m.unwrap_or(f64::INFINITY);
        nearest.sort_by(|a, b| key(a).total_cmp(&key(b)).then_with(|| a.name.cmp(&b.name)));
        nearest
    }
}

/// A distance for people.
pub(super) fn kilometres(metres: Option<f64>) -> String {
    metres.map_or("somewhere".to_owned(), |metres| format!("{:.1} km", metres / 1_000.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(id: &str, metres: f64) -> Step {
        let name = id.to_uppercase();
        let json = format!(r#"{{"id":"{id}","display_name":"{name}","lat":1,"lon":1,"distance_m":{metres},"at":5}}"#);
        Step::Put(serde_json::from_str(&json).unwrap())
    }

    fn gone(id: &str) -> Step {
        Step::Gone { id: id.to_owned(), reason: "out_of_range".to_owned() }
    }

    fn check(steps: Vec<(i64, Step)>, expect: &[&str]) -> Neighbours {
        let mut neighbours = Neighbours::default();
        let lines: Vec<String> = steps.into_iter().filter_map(|(now, step)| neighbours.apply(step, now)).collect();
        assert_eq!(lines, expect);
        neighbours
    }

    #[test]
    fn tells_who_appears_moves_and_leaves() {
        check(
            vec![(0, put("anna", 2_100.0)), (0, put("anna", 2_900.0)), (0, put("anna", 3_110.0)), (0, gone("anna"))],
            &["+ ANNA appears 2.1 km", "~ ANNA moves, now 3.1 km", "- ANNA leaves (out_of_range)"],
        );
        check(vec![(0, gone("bob"))], &[]);
    }

    #[test]
    fn a_reset_is_no_coming_and_going() {
        let mut neighbours = check(
            vec![(0, put("anna", 1_000.0)), (0, put("bob", 500.0)), (9, Step::Cleared), (9, put("anna", 1_100.0))],
            &["+ ANNA appears 1.0 km", "+ BOB appears 0.5 km"],
        );
        assert!(neighbours.settle(10).is_empty());
        assert_eq!(neighbours.settle(9 + RESET_MS), ["- BOB leaves (not in the new list)"]);
        assert!(neighbours.settle(i64::MAX).is_empty());
    }

    #[test]
    fn nearest_first() {
        let neighbours = check(
            vec![(0, put("anna", 2_000.0)), (0, put("bob", 500.0))],
            &["+ ANNA appears 2.0 km", "+ BOB appears 0.5 km"],
        );
        let names: Vec<&str> = neighbours.nearest().iter().map(|n| n.name.as_str()).collect();
        assert_eq!(names, ["BOB", "ANNA"]);
    }
}
