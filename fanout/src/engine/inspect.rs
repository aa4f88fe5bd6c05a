//! Questions about the engine's state, for metrics, explanations and checks.

use std::collections::BTreeMap;

use nearcast_schemas::digest::ViewDigest;
use nearcast_schemas::event::Sharing;
use nearcast_schemas::list::Precision;

use super::Engine;
use super::people::Id;
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
        self.viewers.len()
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
        if !self.slots.hot(slot).is_active()
            || self.partitions[self.slots.cold(slot).partition as usize].epoch.is_none()
        {
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

    /// Checks that the parts of the state agree: both ends of each friendship, counts, digests, references.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn check(&self) -> Result<(), Broken> {
        let mut references: BTreeMap<Id, u32> = BTreeMap::new();
        let mut coarse: BTreeMap<Id, u32> = BTreeMap::new();
        let mut links = 0;
        let broken = |what: &str, id: Id| Err(Broken(format!("{what} of {}", self.people.name(id))));
        for (slot, cold) in self.slots.rows() {
            *references.entry(cold.id).or_default() += 1;
            if self.people.slot(cold.id) != Some(slot) {
                return broken("slot", cold.id);
            }
            let hot = self.slots.hot(slot);
            if hot.is_coarse() != self.coarse.contains_key(&cold.id) || hot.is_coarse() && hot.place().is_none() {
                return broken("coarse position", cold.id);
            }
            if hot.is_coarse() && cold.report.sharing == Sharing::Hidden {
                return broken("coarse position of a hidden report", cold.id);
            }
            if hot.is_active() && cold.sessions.is_empty() {
                return broken("activity", cold.id);
            }
        }
        for (&id, viewer) in &self.viewers {
            *references.entry(id).or_default() += 1;
            if !self.partitions[self.partition_of(id) as usize].viewers.contains(&id) {
                return broken("partition", id);
            }
            let (mut inside, mut digest) = (0, ViewDigest::default());
            for link in &viewer.friends {
                *references.entry(link.id()).or_default() += 1;
                links += 1;
                let back: Vec<_> = self.people.watchers(link.id()).iter().filter(|back| back.id() == id).collect();
                if back.len() != 1
                    || back[0].is_inside() != link.is_inside()
                    || back[0].is_special() != link.is_special()
                    || link.is_special() != viewer.special.contains_key(&link.id())
                {
                    return broken("friendship", id);
                }
                if link.is_inside() {
                    inside += 1;
                    digest.add(self.people.name(link.id()));
                }
            }
            for (friend, _) in viewer.special.iter().filter(|(_, rules)| rules.precision == Precision::Coarse) {
                *coarse.entry(*friend).or_default() += 1;
            }
            if (inside, digest) != (viewer.inside, viewer.digest) || !viewer.friends.is_sorted_by_key(|link| link.id())
            {
                return broken("view", id);
            }
        }
        for due in self.timers.iter() {
            *references.entry(due.id()).or_default() += 1;
            if let Due::User(timer, id) = *due
                && !self.people.runs(id, timer)
            {
                return broken("timer", id);
            }
        }
        let mut back = 0;
        for (id, held) in self.people.references() {
            back += self.people.watchers(id).len();
            if references.get(&id).copied().unwrap_or(0) != held {
                return broken("references", id);
            }
            if coarse.get(&id).copied().unwrap_or(0) != self.people.coarse_entries(id) {
                return broken("coarse entries", id);
            }
        }
        let routed: usize = self.slots.rows().map(|(_, cold)| cold.sessions.iter().count()).sum();
        let counted: usize = self.gateways().map(|number| self.gateways.sessions(number) as usize).sum();
        if back != links || references.len() != self.people.len() || routed != counted {
            return Err(Broken("totals".to_owned()));
        }
        Ok(())
    }
}
