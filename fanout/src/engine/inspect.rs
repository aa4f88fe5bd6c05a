//! Questions about the engine's state, for metrics, explanations and checks.

use std::collections::{BTreeMap, BTreeSet};

use nearcast_schemas::digest::ViewDigest;
use nearcast_schemas::event::Sharing;
use nearcast_schemas::list::Precision;

use super::Engine;
use super::links::Says;
use super::people::{Id, Single};
use super::stats::Stats;
use super::timers::Due;

/// One friend in a view.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    /// The friend's user id.
    pub friend: String,
    /// The friend is shown by the centre of the cell.
    pub coarse: bool,
}

/// Two parts of the engine's state that contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the engine's state contradicts itself: {0}")]
pub struct Broken(String);

impl Engine {
    /// Counts since the start.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The latest time that the engine was told, ms since the epoch.
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// Users who are online: with a position, a session, or a record within the time to live.
    pub fn users(&self) -> usize {
        self.slots.len()
    }

    /// Users whom anything refers to, be it an entry of a list.
    pub fn known(&self) -> usize {
        self.people.len()
    }

    /// Viewers whose lists are held.
    pub fn viewers(&self) -> usize {
        self.partitions.iter().map(|partition| partition.viewers.len()).sum()
    }

    /// Partitions that are owned, with their epochs.
    pub fn owned(&self) -> Vec<(i32, i64)> {
        let epochs = self.partitions.iter().enumerate();
        epochs.filter_map(|(partition, row)| Some((partition as i32, row.epoch?))).collect()
    }

    /// Whether the partition is owned.
    pub fn owns(&self, partition: i32) -> bool {
        self.partitions.get(partition as usize).is_some_and(|row| row.epoch.is_some())
    }

    /// The id and the incarnation of a gateway process that a batch or [`Engine::gateways`] names by number.
    pub fn gateway(&self, number: u32) -> (&str, i64) {
        self.gateways.name(number)
    }

    /// Gateway processes that a session is routed to, by number.
    pub fn gateways(&self) -> impl Iterator<Item = u32> {
        (0..self.gateways.len() as u32).filter(|&number| self.gateways.sessions(number) > 0)
    }

    /// The view of an owned viewer with a connected session, by the friends' ids; `None` for anybody else.
    pub fn view(&self, viewer: &str) -> Option<Vec<Seen>> {
        let id = self.people.find(viewer)?;
        let slot = self.people.slot(id)?;
        if !self.slots.hot(slot).is_active() || self.partitions[self.slots.partition(slot)].epoch.is_none() {
            return None;
        }
        let seen = |(friend, precision, _)| Seen {
            friend: self.people.name(friend).to_string(),
            coarse: precision == Precision::Coarse,
        };
        let mut view: Vec<_> = self.in_view(id).into_iter().map(seen).collect();
        view.sort_unstable();
        Some(view)
    }

    /// Users who take part in discovery.
    pub fn discoverable(&self) -> usize {
        self.crowd.len()
    }

    /// The strangers that a viewer was told last, nearest first, by their user ids; `None` for whoever was told of none.
    pub fn strangers(&self, viewer: &str) -> Option<Vec<String>> {
        let told = self.crowd.told(self.people.find(viewer)?)?;
        Some(told.near.iter().map(|near| self.people.name(near.stranger).to_owned()).collect())
    }

    /// Bytes of the blocks that hold the friend lists, first those that are in use, then all that are held.
    pub fn list_bytes(&self) -> (usize, usize) {
        self.people.list_bytes()
    }

    /// Checks that the parts of the state agree: both ends of each friendship, slots, views, lists, what is kept beside,
    /// and that whoever is known is known for something.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn check(&self) -> Result<(), Broken> {
        self.check_slots()?;
        self.check_lists()?;
        self.check_crowd()?;
        let (mut coarse, mut special) = (BTreeMap::<Id, u32>::new(), 0);
        for (&(_, friend), _) in self.special.iter().filter(|(_, rules)| rules.precision == Precision::Coarse) {
            *coarse.entry(friend).or_default() += 1;
        }
        let mut known = 0;
        for id in self.people.ids() {
            known += 1;
            special += self.check_links(id)?;
            if self.people.find(self.people.name(id)) != Some(id) {
                return self.broken("name", id);
            }
            if self.people.coarse_entries(id) != coarse.get(&id).copied().unwrap_or(0) {
                return self.broken("coarse entries", id);
            }
            let timed = [Single::Coarse, Single::Digest].into_iter().any(|timer| self.people.runs(id, timer));
            let used = self.people.slot(id).is_some() || self.people.viewer(id).is_some() || timed;
            if !used && self.people.links(id).is_empty() {
                return self.broken("use", id);
            }
        }
        if special != self.special.len() || known != self.people.len() {
            return Err(Broken("totals".to_owned()));
        }
        Ok(())
    }

    fn broken<T>(&self, what: &str, id: Id) -> Result<T, Broken> {
        Err(Broken(format!("{what} of {}", self.people.name(id))))
    }

    fn check_slots(&self) -> Result<(), Broken> {
        let mut routed = 0;
        for slot in self.slots.used() {
            let (id, hot) = (self.slots.id(slot), self.slots.hot(slot));
            if self.people.slot(id) != Some(slot) || self.partition_of(id) != self.slots.partition(slot) {
                return self.broken("slot", id);
            }
            if hot.is_coarse() != self.coarse.contains_key(&id) || hot.is_coarse() && hot.place().is_none() {
                return self.broken("coarse position", id);
            }
            if hot.is_coarse() && self.slots.cold(slot).reported_as() == Sharing::Hidden {
                return self.broken("coarse position of a hidden report", id);
            }
            let sessions = self.slots.sessions(slot, self.now_ms).iter().count();
            routed += sessions;
            if hot.is_active() && sessions == 0 || hot.is_connected() != (sessions > 0) {
                return self.broken("activity", id);
            }
        }
        let counted: usize = self.gateways().map(|number| self.gateways.sessions(number) as usize).sum();
        if routed != counted || self.slots.used().count() != self.slots.len() {
            return Err(Broken("totals of slots".to_owned()));
        }
        Ok(())
    }

    /// Whoever takes part may, by the cell that is shown, and whoever was told of strangers is a viewer of this worker.
    fn check_crowd(&self) -> Result<(), Broken> {
        self.crowd.check().or_else(|(what, id)| self.broken(what, id))?;
        for slot in self.slots.used() {
            let (id, hot) = (self.slots.id(slot), self.slots.hot(slot));
            let takes_part = self.is_discoverable(slot) && hot.sharing() != Sharing::Hidden;
            let cell = self.coarse.get(&id).filter(|_| takes_part).map(|coarse| coarse.shown().cell);
            if self.crowd.cell(id) != cell {
                return self.broken("part in discovery", id);
            }
        }
        for (viewer, told) in self.crowd.listed() {
            let owned = self.partitions[self.partition_of(viewer)].epoch.is_some();
            let befriended = |stranger| self.people.position(viewer, stranger).is_some();
            if !owned || self.viewer(viewer).is_none() || told.near.iter().any(|near| befriended(near.stranger)) {
                return self.broken("list of strangers", viewer);
            }
        }
        Ok(())
    }

    fn check_lists(&self) -> Result<(), Broken> {
        for (partition, row) in self.partitions.iter().enumerate() {
            for (at, viewer) in row.viewers.iter().enumerate() {
                if self.people.viewer(viewer.id) != Some(at as u32) || self.partition_of(viewer.id) != partition {
                    return self.broken("list", viewer.id);
                }
                let radius_m = self.people.slot(viewer.id).map(|slot| self.slots.hot(slot).radius_m());
                if radius_m.is_some_and(|radius_m| radius_m != viewer.radius_m) {
                    return self.broken("radius", viewer.id);
                }
            }
        }
        for due in self.timers.iter() {
            if let Due::User(timer, id) = due
                && !self.people.runs(id, timer)
            {
                return self.broken("timer", id);
            }
        }
        Ok(())
    }

    /// Both ends of each of the user's links, and that slots stand for those who are online; how many of the user's
    /// entries have rules of their own.
    fn check_links(&self, id: Id) -> Result<usize, Broken> {
        let (links, online) = self.people.links_split(id);
        let own = self.people.slot(id);
        let (mut special, mut digest) = (0, ViewDigest::default());
        let mut others = BTreeSet::new();
        for (at, link) in links.iter().enumerate() {
            let other = if at < online { self.slots.id(link.slot()) } else { link.id() };
            let belongs = own.is_some() && self.people.slot(other).is_some();
            if belongs != (at < online) || link.is_over() || !others.insert(other) {
                return self.broken("link", id);
            }
            let Some(back) = self.people.position(other, id).map(|at| self.people.links(other)[at]) else {
                return self.broken("friendship", id);
            };
            let views = if at < online { &[Says::InView, Says::Shown][..] } else { &[] };
            let agree = |&says: &Says| link.says(says) == back.says(says.back());
            if ![Says::Sees, Says::Seen, Says::Special].iter().chain(views).all(agree) {
                return self.broken("ends", id);
            }
            let rules = [(id, other), (other, id)].map(|pair| self.special.contains_key(&pair));
            if link.says(Says::Special) != (rules[0] || rules[1]) || rules[0] && !link.says(Says::Sees) {
                return self.broken("rules", id);
            }
            special += usize::from(rules[0]);
            let active = own.is_some_and(|slot| self.slots.hot(slot).is_active());
            if at < online && link.says(Says::InView) && !(link.says(Says::Sees) && active) {
                return self.broken("view", id);
            }
            if link.says(Says::Sees) && self.viewer(id).is_none() {
                return self.broken("entry", id);
            }
            if at < online && link.says(Says::InView) {
                digest.add(self.people.name(other));
            }
        }
        if self.viewer(id).is_some_and(|viewer| viewer.digest != digest) {
            return self.broken("digest", id);
        }
        Ok(special)
    }
}
