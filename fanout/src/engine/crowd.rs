//! Who takes part in discovery and where, and who is shown to whom.
//!
//! All of it is about cells: where in its cell anybody is, is not in here.

use nearcast_geo::Cell;
use rustc_hash::FxHashMap;

use super::people::Id;

/// A stranger as one viewer was told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Near {
    pub(super) stranger: Id,
    /// Opaque, for this viewer alone.
    pub(super) alias: u64,
    pub(super) cell: Cell,
    /// ms since the epoch.
    pub(super) at_ms: i64,
    pub(super) distance_dm: i32,
}

/// What a viewer was told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Nearest first.
    pub(super) near: Vec<Near>,
    /// Holds until then, however often the viewer asks; ms since the epoch.
    pub(super) until_ms: i64,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    cell: Cell,
    /// The place among those of the cell.
    at: u32,
}

/// Those who take part, by cell, and the lists of those of them who are viewers of this worker.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    members: FxHashMap<Id, Member>,
    cells: FxHashMap<Cell, Vec<Id>>,
    told: FxHashMap<Id, Told>,
    /// Whose lists somebody is on.
    viewers: FxHashMap<Id, Vec<Id>>,
}

impl Crowd {
    /// How many take part.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// The cell of somebody who takes part.
    pub(super) fn cell(&self, id: Id) -> Option<Cell> {
        self.members.get(&id).map(|member| member.cell)
    }

    /// Those of a cell.
    pub(super) fn of(&self, cell: Cell) -> &[Id] {
        self.cells.get(&cell).map_or(&[], Vec::as_slice)
    }

    /// Takes part from now on, or in another cell than before.
    pub(super) fn put(&mut self, id: Id, cell: Cell) {
        self.take_out(id);
        let there = self.cells.entry(cell).or_default();
        self.members.insert(id, Member { cell, at: there.len() as u32 });
        there.push(id);
    }

    fn take_out(&mut self, id: Id) -> bool {
        let Some(Member { cell, at }) = self.members.remove(&id) else { return false };
        let Some(there) = self.cells.get_mut(&cell) else { return false };
        there.swap_remove(at as usize);
        if let Some(moved) = there.get(at as usize).and_then(|moved| self.members.get_mut(moved)) {
            moved.at = at;
        }
        if there.is_empty() {
            self.cells.remove(&cell);
        }
        true
    }

    /// Takes part no longer. Returns whether the user's own list had anybody on it, and the viewers on whose lists the
    /// user was, which are without the user now. `None` where the user did not take part.
    pub(super) fn leave(&mut self, id: Id) -> Option<(bool, Vec<Id>)> {
        if !self.take_out(id) {
            return None;
        }
        let had_list = self.forget(id);
        let viewers = self.viewers.remove(&id).unwrap_or_default();
        for viewer in &viewers {
            if let Some(told) = self.told.get_mut(viewer) {
                told.near.retain(|near| near.stranger != id);
            }
        }
        Some((had_list, viewers))
    }

    /// What a viewer was told, if anything.
    pub(super) fn told(&self, viewer: Id) -> Option<&Told> {
        self.told.get(&viewer)
    }

    /// The viewers with lists, in no order.
    pub(super) fn listed(&self) -> impl Iterator<Item = (Id, &Told)> {
        self.told.iter().map(|(&viewer, told)| (viewer, told))
    }

    /// Those on whose lists somebody is.
    pub(super) fn viewers(&self, stranger: Id) -> &[Id] {
        self.viewers.get(&stranger).map_or(&[], Vec::as_slice)
    }

    /// Lets a viewer's list be this one; whether it says something else than before.
    pub(super) fn tell(&mut self, viewer: Id, told: Told) -> bool {
        let before = self.told.remove(&viewer).unwrap_or_default();
        self.unsee(viewer, &before.near);
        for near in &told.near {
            self.viewers.entry(near.stranger).or_default().push(viewer);
        }
        let news = before.near != told.near;
        self.told.insert(viewer, told);
        news
    }

    /// Takes somebody off a viewer's list; whether they were on it.
    pub(super) fn part(&mut self, viewer: Id, stranger: Id) -> bool {
        let Some(told) = self.told.get_mut(&viewer) else { return false };
        let Some(at) = told.near.iter().position(|near| near.stranger == stranger) else { return false };
        let near = told.near.remove(at);
        self.unsee(viewer, &[near]);
        true
    }

    /// Forgets a viewer's list; whether anybody was on it.
    pub(super) fn forget(&mut self, viewer: Id) -> bool {
        let Some(Told { near, .. }) = self.told.remove(&viewer) else { return false };
        self.unsee(viewer, &near);
        !near.is_empty()
    }

    fn unsee(&mut self, viewer: Id, near: &[Near]) {
        for Near { stranger, .. } in near {
            let Some(viewers) = self.viewers.get_mut(stranger) else { continue };
            viewers.retain(|known| *known != viewer);
            if viewers.is_empty() {
                self.viewers.remove(stranger);
            }
        }
    }

    /// What contradicts itself: the name of a part, and whose it is.
    pub(super) fn check(&self) -> Result<(), (&'static str, Id)> {
        let held: usize = self.cells.values().map(Vec::len).sum();
        for (&id, member) in &self.members {
            if self.of(member.cell).get(member.at as usize) != Some(&id) || held != self.members.len() {
                return Err(("cell", id));
            }
        }
        for (viewer, told) in self.listed() {
            if self.cell(viewer).is_none() {
                return Err(("strangers of somebody who takes no part", viewer));
            }
            for Near { stranger, .. } in &told.near {
                if self.cell(*stranger).is_none() || *stranger == viewer || !self.viewers(*stranger).contains(&viewer) {
                    return Err(("stranger", *stranger));
                }
            }
        }
        let seen: usize = self.viewers.values().map(Vec::len).sum();
        let shown: usize = self.told.values().map(|told| told.near.len()).sum();
        match self.viewers.keys().next() {
            Some(&stranger) if seen != shown => Err(("viewers of a stranger", stranger)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearcast_geo::{Position, Resolution};

    fn cell(lat: f64) -> Cell {
        Cell::of(Position::new(lat, 0.0).unwrap(), Resolution::Seven)
    }

    fn told(strangers: &[u32]) -> Told {
        let near =
            |&id: &u32| Near { stranger: Id::new(id), alias: u64::from(id), cell: cell(0.0), at_ms: 0, distance_dm: 0 };
        Told { near: strangers.iter().map(near).collect(), until_ms: 0 }
    }

    #[test]
    fn whoever_leaves_is_on_no_list() {
        let mut crowd = Crowd::default();
        let [a, b, c] = [0, 1, 2].map(Id::new);
        for id in [a, b, c] {
            crowd.put(id, cell(0.0));
        }
        assert!(crowd.tell(a, told(&[1, 2])) && crowd.tell(b, told(&[2])) && crowd.tell(c, told(&[0])));
        assert!(!crowd.tell(b, told(&[2])), "no news");
        assert_eq!(crowd.check(), Ok(()));
        crowd.put(c, cell(1.0));
        assert_eq!((crowd.of(cell(0.0)), crowd.of(cell(1.0))), (&[a, b][..], &[c][..]));
        assert_eq!(crowd.leave(c), Some((true, vec![a, b])));
        assert_eq!(crowd.leave(c), None);
        assert_eq!(crowd.told(a).map(|told| told.near.len()), Some(1));
        assert_eq!(crowd.check(), Ok(()));
        assert!(crowd.part(a, b) && !crowd.part(a, b));
        assert_eq!(crowd.leave(a), Some((false, Vec::new())), "nobody was left on the list");
        assert!(!crowd.forget(b), "nor on this one");
        assert_eq!((crowd.check(), crowd.len()), (Ok(()), 1));
    }
}
