//! What is kept for reading at once: last positions, live sessions, pages of lists.
//!
//! The log is the truth; all of this can be lost, and is then rebuilt by the next reports. So a write that fails is
//! counted and fails no report. Two implementations, [`crate::RedisCache`] and [`crate::MemoryCache`], pass the same
//! tests.

use std::time::Duration;

use async_trait::async_trait;
use nearcast_geo::Coarsener;
use nearcast_schemas::delivery::FriendPosition;
use nearcast_schemas::event::{Mode, Role, Sharing};
use nearcast_schemas::internal::LastReport;
use nearcast_schemas::list::Precision;
use serde::{Deserialize, Serialize};

use crate::coarse::Coarse;

/// At most this many sessions of one user are kept; of more, those that were refreshed longest ago are left out.
pub const MAX_SESSIONS: usize = 16;

/// A user's last position. `Debug` leaves the coordinates out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastSeen {
    /// As reported; `at` is the append time of the report.
    pub position: FriendPosition,
    /// As whoever may know it approximately only could see it when the report came; `at` is the scheduled instant. None for
    /// a report that may never be shown. Read it by [`LastSeen::shown`].
    pub coarse: Option<FriendPosition>,
    /// How finely the report may ever be shown, whatever the mode is now: [`nearcast_schemas::rule::reported_as`].
    pub reported: Sharing,
    /// How the user shares: the highest version that any write knew.
    pub mode: Mode,
    /// Session of the report, [`nearcast_schemas::event::NO_SESSION`] for one over HTTP.
    pub session: i64,
}

impl LastSeen {
    /// The position at `now_ms` in the precision that [`nearcast_schemas::rule::may_show`] allows.
    pub fn shown(&self, precision: Precision, rules: &Coarsener, now_ms: i64) -> Option<FriendPosition> {
        match precision {
            Precision::Exact => Some(self.position.clone()),
            Precision::Coarse => Some(Coarse::after(&self.last_report()?, rules)?.at(rules, now_ms)),
        }
    }

    /// What a session goes on from; none after a report that may never be shown.
    pub fn last_report(&self) -> Option<LastReport> {
        Some(LastReport { position: self.position.clone(), coarse: self.coarse.clone()? })
    }
}

/// A live session of a user.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Session {
    /// Ordinal of the gateway, the `<id>` of its topic.
    pub gateway: String,
    /// When the gateway's process started, in ms since the epoch.
    pub incarnation: i64,
    /// The gateway's name for the session. Gateway, incarnation and handle name the entry.
    pub handle: i32,
    /// What the session is for.
    pub role: Role,
    /// Offset of the session's hello; [`nearcast_schemas::event::NO_SESSION`] until it is known.
    pub session: i64,
}

/// Why the cache gave no answer. Nothing is lost by it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    /// No answer in time.
    #[error("the cache did not answer within {0:?}")]
    Timeout(Duration),
    /// It answered nothing lately, so it was not asked.
    #[error("the cache is down: {0}")]
    Down(String),
    /// It answered with an error.
    #[error("the cache answered: {0}")]
    Answer(String),
}

/// The cache of one deployment.
#[async_trait]
pub trait Cache: Send + Sync + std::fmt::Debug {
    /// Keeps a user's last position for the deployment's TTL. Returns at once: the write happens later, and its
    /// failure is counted.
    ///
    /// The position is left alone by a report of an older session than the one it is from, by an older report of the
    /// same session or of none, and by one from before an erasure. The approximate position is left alone by one for
    /// the same scheduled instant or an older one; a report that may never be shown ends it. The mode is left alone by
    /// one of the same version or a lower one; so a late write undoes no pause. What is `reported` becomes coarser when
    /// a higher version is known that is coarser at the time of the report.
    fn put_position(&self, user: &str, seen: LastSeen);

    /// The last positions of these users, in their order; `None` where there is none within the TTL.
    ///
    /// # Errors
    /// When the cache gives no answer within its time limit.
    async fn positions(&self, users: &[String]) -> Result<Vec<Option<LastSeen>>, CacheError>;

    /// Lets the present position and later ones be judged by this mode, unless a higher version is known.
    ///
    /// # Errors
    /// When the cache gives no answer; it is then tried again in the background until it succeeds.
    async fn set_mode(&self, user: &str, mode: Mode) -> Result<(), CacheError>;

    /// Keeps a live session for the deployment's TTL, or refreshes it.
    ///
    /// # Errors
    /// When the cache gives no answer.
    async fn register(&self, user: &str, session: &Session) -> Result<(), CacheError>;

    /// As [`Cache::register`], but returns at once.
    fn refresh(&self, user: &str, session: &Session);

    /// Forgets a session that ended. Returns at once.
    fn unregister(&self, user: &str, session: &Session);

    /// The live sessions of a user, those of dead gateways among them until the TTL; the highest session first.
    ///
    /// # Errors
    /// When the cache gives no answer.
    async fn sessions(&self, user: &str) -> Result<Vec<Session>, CacheError>;

    /// Forgets everything about a user whose erasure has this append time, in ms since the epoch. Reports that were
    /// appended before it or at it come in no more.
    ///
    /// # Errors
    /// When the cache gives no answer; it is then tried again in the background until it succeeds.
    async fn erase(&self, user: &str, at: i64) -> Result<(), CacheError>;

    /// Remembers for `ttl` when a user signed out, in ms since the epoch; the last one counts.
    ///
    /// # Errors
    /// When the cache gives no answer.
    async fn sign_out(&self, user: &str, at: i64, ttl: Duration) -> Result<(), CacheError>;

    /// When a user signed out last, in ms since the epoch, if that is remembered.
    ///
    /// # Errors
    /// When the cache gives no answer.
    async fn signed_out(&self, user: &str) -> Result<Option<i64>, CacheError>;

    /// Keeps bytes for a while, such as a list that is read page by page.
    ///
    /// # Errors
    /// When the cache gives no answer.
    async fn put_page(&self, key: &str, bytes: &[u8], ttl: Duration) -> Result<(), CacheError>;

    /// The bytes of [`Cache::put_page`], if their time is not over.
    ///
    /// # Errors
    /// When the cache gives no answer.
    async fn get_page(&self, key: &str) -> Result<Option<Vec<u8>>, CacheError>;

    /// How often the cache has answered again after it did not: whatever was to be kept meanwhile may not be there.
    fn returns(&self) -> u64 {
        0
    }

    /// Waits until every write so far has succeeded, failed or been given up; false when that took longer than the
    /// limit.
    async fn settled(&self, limit: Duration) -> bool;
}
