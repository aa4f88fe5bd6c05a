//! The store in memory, for the embedded mode: gone with the process.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use nearcast_schemas::event::Mode;

use crate::links::ShareLink;
use crate::pair::{Bond, Pair, PairIds, Side};
use crate::store::{
    Direction, Due, DueId, Friend, Head, List, ListChange, Profile, Published, Read, Request, RuleChange, Store,
    StoreError, User, Work,
};

/// Changes kept per viewer; the oldest go first.
const CHANGES_PER_VIEWER: usize = 1_000;

/// A store that forgets when the process ends.
#[derive(Default)]
pub struct MemoryStore {
    tables: Mutex<Tables>,
}

#[derive(Default)]
struct Tables {
    users: HashMap<String, User>,
    pairs: HashMap<PairIds, Pair>,
    requests: HashMap<(String, Direction), BTreeMap<String, i64>>,
    requests_version: HashMap<PairIds, i64>,
    lists: HashMap<String, (Head, BTreeMap<String, Friend>)>,
    changes: HashMap<String, BTreeMap<i64, RuleChange>>,
    links: BTreeMap<String, ShareLink>,
    due: BTreeMap<DueId, Due>,
    swept_to: HashMap<u8, i64>,
}

impl MemoryStore {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        // Nothing below panics between two changes that belong together.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn page<'a, V>(rows: &'a BTreeMap<String, V>, after: Option<&'a str>) -> impl Iterator<Item = (&'a String, &'a V)> {
    rows.iter().filter(move |(id, _)| after.is_none_or(|after| id.as_str() > after))
}

#[async_trait]
impl Store for MemoryStore {
    async fn user(&self, id: &str) -> Result<Option<User>, StoreError> {
        Ok(self.tables().users.get(id).cloned())
    }

    async fn create_user(&self, user: User) -> Result<User, StoreError> {
        Ok(self.tables().users.entry(user.id.clone()).or_insert(user).clone())
    }

    async fn set_profile(&self, id: &str, expect: &Profile, profile: &Profile) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        match tables.users.get_mut(id) {
            Some(user) if user.profile == *expect => {
                user.profile = profile.clone();
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    async fn set_mode(&self, id: &str, expect: i64, mode: &Mode) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        match tables.users.get_mut(id) {
            Some(user) if user.mode.version == expect => {
                user.mode = *mode;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    async fn pair(&self, ids: &PairIds, _read: Read) -> Result<Pair, StoreError> {
        Ok(self.tables().pairs.get(ids).cloned().unwrap_or_else(|| Pair::strangers(ids.clone())))
    }

    async fn set_pair(&self, pair: &Pair, expect: i64) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        if tables.pairs.get(&pair.ids).map_or(0, |row| row.version) != expect {
            return Ok(false);
        }
        tables.pairs.insert(pair.ids.clone(), pair.clone());
        Ok(true)
    }

    async fn set_requests(&self, pair: &Pair) -> Result<(), StoreError> {
        let mut tables = self.tables();
        let seen = tables.requests_version.entry(pair.ids.clone()).or_insert(0);
        if *seen > pair.version {
            return Ok(());
        }
        *seen = pair.version;
        for side in [Side::Low, Side::High] {
            let (user, other) = (pair.ids.id(side), pair.ids.id(side.other()));
            for direction in [Direction::Incoming, Direction::Outgoing] {
                let rows = tables.requests.entry((user.to_owned(), direction)).or_default();
                if pair.bond == Bond::Asked(asker(side, direction)) {
                    rows.insert(other.to_owned(), pair.since);
                } else {
                    rows.remove(other);
                }
            }
        }
        Ok(())
    }

    async fn requests(
        &self,
        user: &str,
        direction: Direction,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Request>, StoreError> {
        let tables = self.tables();
        let Some(rows) = tables.requests.get(&(user.to_owned(), direction)) else { return Ok(Vec::new()) };
        let requests = page(rows, after).map(|(other, since)| Request { other: other.clone(), since: *since });
        Ok(requests.take(limit).collect())
    }

    async fn head(&self, viewer: &str, _read: Read) -> Result<Head, StoreError> {
        Ok(self.tables().lists.get(viewer).map(|(head, _)| head.clone()).unwrap_or_default())
    }

    async fn friend(&self, viewer: &str, friend: &str) -> Result<Option<Friend>, StoreError> {
        Ok(self.tables().lists.get(viewer).and_then(|(_, friends)| friends.get(friend).cloned()))
    }

    async fn friends(&self, viewer: &str, after: Option<&str>, limit: usize) -> Result<Vec<Friend>, StoreError> {
        let tables = self.tables();
        let Some((_, friends)) = tables.lists.get(viewer) else { return Ok(Vec::new()) };
        Ok(page(friends, after).map(|(_, friend)| friend.clone()).take(limit).collect())
    }

    async fn list(&self, viewer: &str) -> Result<List, StoreError> {
        let tables = self.tables();
        let Some((head, friends)) = tables.lists.get(viewer) else { return Ok(List::default()) };
        Ok(List {
            version: head.version,
            radius_m: head.radius_m,
            published: head.published,
            friends: friends.values().cloned().collect(),
        })
    }

    async fn set_list(&self, viewer: &str, expect: &Head, change: &ListChange) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let (head, friends) = tables.lists.entry(viewer.to_owned()).or_default();
        if head.version != expect.version {
            return Ok(false);
        }
        head.version = change.change.version;
        head.radius_m = change.change.radius_after_m;
        head.friends = change.friends;
        head.change = Some(change.change.clone());
        match &change.row {
            Some((id, Some(friend))) => drop(friends.insert(id.clone(), friend.clone())),
            Some((id, None)) => drop(friends.remove(id)),
            None => {}
        }
        let changes = tables.changes.entry(viewer.to_owned()).or_default();
        changes.insert(change.change.version, change.change.clone());
        if changes.len() > CHANGES_PER_VIEWER {
            changes.pop_first();
        }
        Ok(true)
    }

    async fn set_published(&self, viewer: &str, published: Published) -> Result<(), StoreError> {
        self.tables().lists.entry(viewer.to_owned()).or_default().0.published = Some(published);
        Ok(())
    }

    async fn rule_changes(&self, viewer: &str, from_ms: i64) -> Result<Vec<RuleChange>, StoreError> {
        let tables = self.tables();
        let Some(changes) = tables.changes.get(viewer) else { return Ok(Vec::new()) };
        Ok(changes.values().filter(|change| change.at >= from_ms).cloned().collect())
    }

    async fn create_link(&self, link: &ShareLink) -> Result<(), StoreError> {
        self.tables().links.insert(link.viewer.clone(), link.clone());
        Ok(())
    }

    async fn link(&self, viewer: &str) -> Result<Option<ShareLink>, StoreError> {
        Ok(self.tables().links.get(viewer).cloned())
    }

    async fn links(&self, owner: &str) -> Result<Vec<ShareLink>, StoreError> {
        Ok(self.tables().links.values().filter(|link| link.owner == owner).cloned().collect())
    }

    async fn remove_link(&self, _owner: &str, viewer: &str) -> Result<(), StoreError> {
        self.tables().links.remove(viewer);
        Ok(())
    }

    async fn remove_list(&self, viewer: &str, expect: &Head) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let same = tables.lists.get(viewer).is_some_and(|(head, _)| head.version == expect.version);
        if same {
            tables.lists.remove(viewer);
            tables.changes.remove(viewer);
        }
        Ok(same)
    }

    async fn schedule(&self, at_ms: i64, work: &Work) -> Result<DueId, StoreError> {
        let id = DueId::random(at_ms);
        self.tables().due.insert(id.clone(), Due { id: id.clone(), at: at_ms, work: Some(work.clone()) });
        Ok(id)
    }

    async fn finish(&self, due: &DueId) -> Result<(), StoreError> {
        self.tables().due.remove(due);
        Ok(())
    }

    async fn due(&self, shard: u8, minute: i64) -> Result<Vec<Due>, StoreError> {
        let first = DueId { shard, minute, id: String::new() };
        let tables = self.tables();
        let found = tables.due.range(first..).take_while(|(id, _)| id.shard == shard && id.minute == minute);
        Ok(found.map(|(_, due)| due.clone()).collect())
    }

    async fn swept_to(&self, shard: u8) -> Result<Option<i64>, StoreError> {
        Ok(self.tables().swept_to.get(&shard).copied())
    }

    async fn set_swept_to(&self, shard: u8, minute: i64) -> Result<(), StoreError> {
        self.tables().swept_to.insert(shard, minute);
        Ok(())
    }
}

/// Who asked, seen from `side`, in a request of this direction.
fn asker(side: Side, direction: Direction) -> Side {
    match direction {
        Direction::Outgoing => side,
        Direction::Incoming => side.other(),
    }
}
