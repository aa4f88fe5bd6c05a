//! What is kept about users, and the trait behind which Cassandra, ScyllaDB or memory keep it.
//!
//! Every change of something that has a version is a compare-and-set; the loops around them are in
//! [`crate::lists`] and [`crate::changes`], the same for every store.

use async_trait::async_trait;
use nearcast_schemas::event::Mode;
use nearcast_schemas::list::VisibilityEntry;
use serde::{Deserialize, Serialize};

use crate::links::ShareLink;
use crate::pair::{Pair, PairIds, Share};

/// What a user says about themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// For people.
    pub display_name: String,
    /// An http or https address.
    pub picture_url: Option<String>,
    /// The radius the user wants, in metres; `None` for the deployment's.
    pub radius_m: Option<u32>,
}

/// A registered user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The id, 1 to 64 bytes.
    pub id: String,
    /// What the user says about themselves.
    pub profile: Profile,
    /// How the user shares with everybody.
    pub mode: Mode,
    /// In ms since the epoch.
    pub created_at: i64,
}

/// One friend, as a row of a viewer's list. Derived from the pair's canonical row and the friend's profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Friend {
    /// The friend's id.
    pub id: String,
    /// What the friend is called.
    pub display_name: String,
    /// What the friend shares with the viewer.
    pub theirs: Share,
    /// What the viewer shares with the friend.
    pub mine: Share,
    /// When they became friends, in ms since the epoch.
    pub since: i64,
}

/// What the visibility log is known to hold of a viewer's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// The list's version.
    pub version: i64,
    /// When, in ms since the epoch.
    pub at: i64,
}

/// A viewer's list without its friends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Grows with each change and is at least the time of the change in ms since the epoch, so that somebody who is
    /// erased and comes again is not taken for their older self; 0 where nothing ever changed.
    pub version: i64,
    /// The radius the viewer wants, as in [`Profile::radius_m`].
    pub radius_m: Option<u32>,
    /// How many friends the list holds.
    pub friends: u32,
    /// What the log holds; `None` for nothing.
    pub published: Option<Published>,
    /// The change that made this version.
    pub change: Option<RuleChange>,
}

/// A viewer's whole list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    /// As in [`Head::version`].
    pub version: i64,
    /// As in [`Head::radius_m`].
    pub radius_m: Option<u32>,
    /// As in [`Head::published`].
    pub published: Option<Published>,
    /// All friends, by id.
    pub friends: Vec<Friend>,
}

/// One change of one viewer's list, kept as long as the location log, so that the rules in force at a time can be found
/// by undoing the later ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleChange {
    /// The version that it made.
    pub version: i64,
    /// When, in ms since the epoch.
    pub at: i64,
    /// About whom; `None` when the viewer's own radius changed.
    pub friend: Option<String>,
    /// What the viewer could see of the friend before.
    pub before: Option<VisibilityEntry>,
    /// What the viewer can see of the friend from now on.
    pub after: Option<VisibilityEntry>,
    /// The radius that the viewer wanted before.
    pub radius_before_m: Option<u32>,
    /// The radius that the viewer wants from now on.
    pub radius_after_m: Option<u32>,
}

/// The next version of a list. Its version and radius are in `change`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListChange {
    /// The friend's row: `Some` to write it, `None` to remove it. No pair where only the radius changes.
    pub row: Option<(String, Option<Friend>)>,
    /// How many friends the list then holds.
    pub friends: u32,
    /// Why.
    pub change: RuleChange,
}

/// Which requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Others asked this user.
    Incoming,
    /// This user asked.
    Outgoing,
}

/// A friend request that waits for an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The other user.
    pub other: String,
    /// Since when, in ms since the epoch.
    pub since: i64,
}

/// Something that must be done by somebody at some time, also when the process that wrote it is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Bring what is derived from a pair's canonical row in line with it.
    Pair(PairIds),
    /// Bring what is derived from a user's profile in line with it.
    Profile(String),
    /// Tell the log and the gateways again how this user shares.
    Mode(String),
    /// Publish this viewer's list again if the viewer is live.
    Refresh(String),
    /// Bring the list of this share link in line with the link.
    Link(String),
}

/// The name of a scheduled [`Work`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DueId {
    /// 0 to [`SHARDS`] - 1.
    pub shard: u8,
    /// Minutes since the epoch in which it is due.
    pub minute: i64,
    /// Any unique text.
    pub id: String,
}

/// A scheduled [`Work`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Its name.
    pub id: DueId,
    /// When it is due, in ms since the epoch.
    pub at: i64,
    /// What is to be done; `None` for what only a newer version knows.
    pub work: Option<Work>,
}

/// Parts into which scheduled work is divided.
pub const SHARDS: u8 = 16;

/// How certain a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// Sees every change that was answered.
    Answered,
    /// First settles a change whose writer went away in the middle, so that it cannot take effect later. Costs as much
    /// as a change.
    Settled,
}

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No answer, or not in time: whether a write took effect is unknown.
    #[error("the user database does not answer: {0}")]
    Unavailable(String),
    /// The database holds or refuses what this version does not expect.
    #[error("the user database: {0}")]
    Broken(String),
}

/// Where users, friendships and lists are kept.
#[async_trait]
pub trait Store: Send + Sync {
    /// A user by id.
    async fn user(&self, id: &str) -> Result<Option<User>, StoreError>;

    /// Registers a user unless there is one of this id; returns the one there is then.
    async fn create_user(&self, user: User) -> Result<User, StoreError>;

    /// Replaces the profile of a registered user, if it still is `expect`.
    async fn set_profile(&self, id: &str, expect: &Profile, profile: &Profile) -> Result<bool, StoreError>;

    /// Replaces how a registered user shares, if the version still is `expect`.
    async fn set_mode(&self, id: &str, expect: i64, mode: &Mode) -> Result<bool, StoreError>;

    /// The pair's canonical row; [`Pair::strangers`] where there is none.
    async fn pair(&self, ids: &PairIds, read: Read) -> Result<Pair, StoreError>;

    /// Replaces the pair's canonical row, if its version still is `expect` (0 for no row).
    async fn set_pair(&self, pair: &Pair, expect: i64) -> Result<bool, StoreError>;

    /// Brings both users' request rows in line with the pair. An older pair than the last one seen changes nothing.
    async fn set_requests(&self, pair: &Pair) -> Result<(), StoreError>;

    /// One user's requests by the other's id, at most `limit`, after `after` if given.
    async fn requests(
        &self,
        user: &str,
        direction: Direction,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Request>, StoreError>;

    /// A viewer's list without its friends.
    async fn head(&self, viewer: &str, read: Read) -> Result<Head, StoreError>;

    /// One friend's row in a viewer's list.
    async fn friend(&self, viewer: &str, friend: &str) -> Result<Option<Friend>, StoreError>;

    /// A page of a viewer's list by id, at most `limit`, after `after` if given.
    async fn friends(&self, viewer: &str, after: Option<&str>, limit: usize) -> Result<Vec<Friend>, StoreError>;

    /// A viewer's whole list, all of one version.
    async fn list(&self, viewer: &str) -> Result<List, StoreError>;

    /// Makes the next version of a viewer's list, if the version still is that of `expect`. First settles a change whose
    /// writer went away in the middle, as [`Read::Settled`] does.
    async fn set_list(&self, viewer: &str, expect: &Head, change: &ListChange) -> Result<bool, StoreError>;

    /// Remembers what the log holds of a viewer's list.
    async fn set_published(&self, viewer: &str, published: Published) -> Result<(), StoreError>;

    /// A viewer's changes whose time is at least `from_ms`, by version, the one that made the current version included.
    async fn rule_changes(&self, viewer: &str, from_ms: i64) -> Result<Vec<RuleChange>, StoreError>;

    /// Keeps a new share link until a while after its end.
    async fn create_link(&self, link: &ShareLink) -> Result<(), StoreError>;

    /// A share link by its id as a viewer. One that is over may still be there.
    async fn link(&self, viewer: &str) -> Result<Option<ShareLink>, StoreError>;

    /// All share links of a user, by id; as [`Store::link`].
    async fn links(&self, owner: &str) -> Result<Vec<ShareLink>, StoreError>;

    /// Forgets a share link.
    async fn remove_link(&self, owner: &str, viewer: &str) -> Result<(), StoreError>;

    /// Forgets a list that has no rows, if its version still is that of `expect`; of a viewer who will never come again.
    async fn remove_list(&self, viewer: &str, expect: &Head) -> Result<bool, StoreError>;

    /// Schedules work for `at_ms`, which lies in the future.
    async fn schedule(&self, at_ms: i64, work: &Work) -> Result<DueId, StoreError>;

    /// Strikes off what was scheduled.
    async fn finish(&self, due: &DueId) -> Result<(), StoreError>;

    /// What is scheduled in one shard and minute.
    async fn due(&self, shard: u8, minute: i64) -> Result<Vec<Due>, StoreError>;

    /// The first minute of a shard that is not known to be empty; `None` before the first sweep.
    async fn swept_to(&self, shard: u8) -> Result<Option<i64>, StoreError>;

    /// Remembers that every minute of a shard before this one is empty.
    async fn set_swept_to(&self, shard: u8, minute: i64) -> Result<(), StoreError>;
}

impl DueId {
    /// A new name for something due at `at_ms`.
    pub fn random(at_ms: i64) -> Self {
        let id: u128 = rand::random();
        Self { shard: (id % u128::from(SHARDS)) as u8, minute: minute_of(at_ms), id: format!("{id:032x}") }
    }
}

/// Minutes since the epoch.
pub fn minute_of(at_ms: i64) -> i64 {
    at_ms.div_euclid(60_000)
}
