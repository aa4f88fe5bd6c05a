//! A store that counts and times what it is asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use nearcast_api::links::ShareLink;
use nearcast_api::pair::{Pair, PairIds};
use nearcast_api::store::{
    Direction, Due, DueId, Friend, Head, List, ListChange, Profile, Published, Read, Request, RuleChange, Store,
    StoreError, User, Work,
};
use nearcast_schemas::event::Mode;

/// What was asked how often, and for how long in all.
pub type Asked = BTreeMap<&'static str, (u64, Duration)>;

/// Counts and times what is asked of another store.
pub struct Counted {
    store: Arc<dyn Store>,
    asked: Mutex<Asked>,
}

impl Counted {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, asked: Mutex::default() }
    }

    /// What was asked since the last time.
    pub fn take(&self) -> Asked {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    async fn count<T>(&self, name: &'static str, call: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let answer = call.await;
        let mut asked = self.asked.lock().unwrap();
        let (count, time) = asked.entry(name).or_default();
        *count += 1;
        *time += begun.elapsed();
        answer
    }
}

/// The questions that cost Cassandra a round of consensus (a light-weight transaction).
pub const BY_CONSENSUS: [&str; 7] =
    ["create_user", "set_profile", "set_mode", "set_pair", "set_list", "pair settled", "head settled"];

/// How many rounds of consensus these were.
pub fn by_consensus(asked: &Asked) -> u64 {
    BY_CONSENSUS.iter().filter_map(|name| asked.get(name)).map(|(count, _)| count).sum()
}

/// The sweeper's questions, which come by the clock.
pub const BY_THE_CLOCK: [&str; 3] = ["due", "swept_to", "set_swept_to"];

macro_rules! counted {
    ($($name:ident($($arg:ident: $kind:ty),*) -> $answer:ty;)*) => {
        #[async_trait]
        impl Store for Counted {
            $(async fn $name(&self, $($arg: $kind),*) -> Result<$answer, StoreError> {
                self.count(stringify!($name), self.store.$name($($arg),*)).await
            })*

            async fn pair(&self, ids: &PairIds, read: Read) -> Result<Pair, StoreError> {
                let name = if read == Read::Settled { "pair settled" } else { "pair" };
                self.count(name, self.store.pair(ids, read)).await
            }

            async fn head(&self, viewer: &str, read: Read) -> Result<Head, StoreError> {
                let name = if read == Read::Settled { "head settled" } else { "head" };
                self.count(name, self.store.head(viewer, read)).await
            }
        }
    };
}

counted! {
    user(id: &str) -> Option<User>;
    create_user(user: User) -> User;
    set_profile(id: &str, expect: &Profile, profile: &Profile) -> bool;
    set_mode(id: &str, expect: i64, mode: &Mode) -> bool;
    set_pair(pair: &Pair, expect: i64) -> bool;
    set_requests(pair: &Pair) -> ();
    requests(user: &str, direction: Direction, after: Option<&str>, limit: usize) -> Vec<Request>;
    friend(viewer: &str, friend: &str) -> Option<Friend>;
    friends(viewer: &str, after: Option<&str>, limit: usize) -> Vec<Friend>;
    list(viewer: &str) -> List;
    set_list(viewer: &str, expect: &Head, change: &ListChange) -> bool;
    set_published(viewer: &str, published: Published) -> ();
    rule_changes(viewer: &str, from_ms: i64) -> Vec<RuleChange>;
    create_link(link: &ShareLink) -> ();
    link(viewer: &str) -> Option<ShareLink>;
    links(owner: &str) -> Vec<ShareLink>;
    remove_link(owner: &str, viewer: &str) -> ();
    remove_list(viewer: &str, expect: &Head) -> bool;
    schedule(at_ms: i64, work: &Work) -> DueId;
    finish(due: &DueId) -> ();
    due(shard: u8, minute: i64) -> Vec<Due>;
    swept_to(shard: u8) -> Option<i64>;
    set_swept_to(shard: u8, minute: i64) -> ();
}
