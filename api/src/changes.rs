//! Changes of friendships, profiles and sharing, from the canonical row to what everybody else must learn of it.
//!
//! A change schedules work for a while later, is made, and strikes the work off when everything that follows from it is
//! done. So a crash in between leaves work that the sweeper finds, and every step may be done twice.
//!
//! A change runs in a task of its own: a client that hangs up leaves nothing half done.

use std::sync::Arc;

use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use nearcast_ingest::Ingest;
use nearcast_runtime::clock::now_ms;
use nearcast_schemas::event::{Mode, Sharing};
use nearcast_schemas::notice::Notice;
use nearcast_schemas::refusal::Refusal;
use tokio_util::task::TaskTracker;

use crate::failure::Failure;
use crate::links::{Key, ShareLink, viewer};
use crate::lists::Lists;
use crate::pair::{Bond, Pair, PairIds, Step};
use crate::store::{DueId, Profile, Read, Store, User, Work};
use crate::turns::{Turns, step_back};

/// Friends' lists that are changed at once after one user's new name.
const LISTS_AT_ONCE: usize = 16;

/// Makes changes. Clones are the same.
#[derive(Clone)]
pub(crate) struct Changes {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    ingest: Ingest,
    lists: Arc<Lists>,
    turns: Turns,
    tasks: TaskTracker,
    max_friends: u32,
    settle_after_ms: i64,
}

/// A user shares by as many links at most.
const MAX_LINKS: usize = 20;

/// How a user wants to share from now on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewMode {
    pub sharing: Sharing,
    /// In ms since the epoch; 0 for no end.
    pub until: i64,
    /// `None` leaves it as it is.
    pub discoverable: Option<bool>,
}

impl Changes {
    pub fn new(
        store: Arc<dyn Store>,
        ingest: Ingest,
        lists: Arc<Lists>,
        max_friends: u32,
        settle_after_ms: i64,
    ) -> Self {
        let (turns, tasks) = (Turns::new(), TaskTracker::new());
        let inner = Inner { store, ingest, lists, turns, tasks, max_friends, settle_after_ms };
        Self { inner: Arc::new(inner) }
    }

    /// One user takes a step towards another; returns the pair as it is then.
    pub async fn step(&self, actor: &str, other: &str, step: Step) -> Result<Pair, Failure> {
        let ids = PairIds::new(actor, other).ok_or(Refusal::Oneself)?;
        let (changes, actor) = (self.clone(), actor.to_owned());
        self.inner.tasks.spawn(async move { changes.take_step(&actor, ids, step).await }).await?
    }

    /// Replaces a user's profile. The friends' lists follow in the background.
    pub async fn set_profile(&self, user: &str, profile: Profile) -> Result<User, Failure> {
        let (changes, user) = (self.clone(), user.to_owned());
        self.inner.tasks.spawn(async move { changes.replace_profile(&user, profile).await }).await?
    }

    /// Changes how a user shares with everybody. When this returns, the log has it and the user's own gateways know.
    pub async fn set_mode(&self, user: &str, new: NewMode) -> Result<Mode, Failure> {
        let (inner, user) = (Arc::clone(&self.inner), user.to_owned());
        self.inner.tasks.spawn(async move { inner.set_mode(&user, new).await }).await?
    }

    /// Makes a share link of a user, which shows `precision` until `until`, in ms since the epoch.
    pub async fn create_link(&self, owner: &str, precision: Sharing, until: i64) -> Result<(Key, ShareLink), Failure> {
        let (inner, owner) = (Arc::clone(&self.inner), owner.to_owned());
        self.inner.tasks.spawn(async move { inner.create_link(owner, precision, until).await }).await?
    }

    /// Takes a user's share link back, if there is one of this name. When this returns, the log has it and gateways know.
    pub async fn remove_link(&self, owner: &str, name: &str) -> Result<(), Failure> {
        let (changes, owner, viewer) = (self.clone(), owner.to_owned(), viewer(name));
        let removed = async move {
            let inner = &changes.inner;
            let link = inner.store.link(&viewer).await?;
            if link.is_some_and(|link| link.owner != owner) {
                return Ok(());
            }
            // Also where there is none: perhaps somebody did not live to finish it.
            let due = inner.store.schedule(inner.later(), &Work::Link(viewer.clone())).await?;
            inner.store.remove_link(&owner, &viewer).await?;
            inner.lists.settle_link(&viewer).await?;
            changes.strike_off(due);
            Ok(())
        };
        self.inner.tasks.spawn(removed).await?
    }

    /// Does scheduled work, again or for somebody who could not.
    pub async fn resume(&self, work: &Work) -> Result<(), Failure> {
        match work {
            Work::Pair(ids) => self.inner.settle_pair(ids, Read::Settled).await,
            Work::Profile(user) => self.inner.settle_profile(user).await,
            Work::Mode(user) => match self.inner.store.user(user).await? {
                Some(known) => self.inner.tell_mode(user, known.mode).await,
                None => Ok(()),
            },
            Work::Refresh(viewer) => self.inner.lists.refresh(viewer).await,
            Work::Link(viewer) => self.inner.lists.settle_link(viewer).await,
        }
    }

    /// Does something to its end, whether or not the client waits for it.
    pub async fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        self.inner.tasks.spawn(work).await?
    }

    /// Waits for every change that was begun.
    pub async fn drain(&self) {
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    async fn take_step(&self, actor: &str, ids: PairIds, step: Step) -> Result<Pair, Failure> {
        let (inner, side) = (&self.inner, ids.side_of(actor));
        let known = async {
            let asked = step == Step::Request;
            Ok::<_, Failure>(!asked || inner.store.user(ids.id(side.other())).await?.is_some())
        };
        let pair = async { Ok(inner.store.pair(&ids, Read::Answered).await?) };
        let (known, pair) = tokio::try_join!(known, pair)?;
        if !known {
            return Err(Refusal::NoSuchUser.into());
        }
        if pair.after(side, step, now_ms())?.is_none() {
            // Said before; perhaps by somebody who did not live to finish it.
            inner.settle_pair(&ids, Read::Answered).await?;
            return Ok(pair);
        }
        let due = inner.store.schedule(inner.later(), &Work::Pair(ids)).await?;
        let result = inner.change_pair(actor, pair, step).await;
        if let Ok(_) | Err(Failure::Refused(_)) = &result {
            self.strike_off(due);
        }
        result
    }

    /// Strikes off work that is done, after the answer: whoever finds it left does it again, without harm.
    fn strike_off(&self, due: DueId) {
        let inner = Arc::clone(&self.inner);
        self.inner.tasks.spawn(async move {
            let _ = inner.store.finish(&due).await;
        });
    }

    async fn replace_profile(&self, id: &str, profile: Profile) -> Result<User, Failure> {
        let store = &self.inner.store;
        let due = store.schedule(self.inner.later(), &Work::Profile(id.to_owned())).await?;
        let mut attempt = 0;
        let before = loop {
            let user = store.user(id).await?.ok_or(Refusal::NoSuchUser)?;
            if user.profile == profile || store.set_profile(id, &user.profile, &profile).await? {
                break user;
            }
            step_back(attempt).await;
            attempt += 1;
        };
        self.inner.lists.settle_radius(id).await?;
        if before.profile.display_name == profile.display_name {
            store.finish(&due).await?;
        } else {
            let (inner, id) = (Arc::clone(&self.inner), id.to_owned());
            self.inner.tasks.spawn(async move {
                // What fails here is left to the sweeper.
                if inner.settle_profile(&id).await.is_ok() {
                    let _ = inner.store.finish(&due).await;
                }
            });
        }
        Ok(User { profile, ..before })
    }
}

impl Inner {
    /// Makes a step from `pair`, or from what it has become meanwhile, and what follows from it.
    async fn change_pair(&self, actor: &str, pair: Pair, step: Step) -> Result<Pair, Failure> {
        let ids = pair.ids.clone();
        let (before, after) = self.step_from(actor, pair, step).await?;
        match &before {
            None => self.settle_pair(&ids, Read::Answered).await?,
            Some(before) if before.bond == Bond::Friends || after.bond == Bond::Friends => {
                self.settle_with(&after).await?;
            }
            // No list knows of requests, and whoever ended an earlier friendship brings the lists in line with that.
            Some(_) => self.store.set_requests(&after).await?,
        }
        Ok(after)
    }

    /// The pair before and after the step; none before where somebody else had made it already.
    async fn step_from(&self, actor: &str, mut pair: Pair, step: Step) -> Result<(Option<Pair>, Pair), Failure> {
        let _turn = self.turns.take(&pair.ids).await;
        let mut attempt = 0;
        loop {
            let Some(next) = pair.after(pair.ids.side_of(actor), step, now_ms())? else { return Ok((None, pair)) };
            self.check_cap(actor, &pair, &next).await?;
            if self.store.set_pair(&next, pair.version).await? {
                return Ok((Some(pair), next));
            }
            step_back(attempt).await;
            attempt += 1;
            pair = self.store.pair(&pair.ids, Read::Answered).await?;
        }
    }

    /// Nobody gets more friends than the cap, nor asks who could not be added. Friendships that are made at the very
    /// same time may exceed it by their number.
    async fn check_cap(&self, actor: &str, before: &Pair, after: &Pair) -> Result<(), Failure> {
        if before.bond == after.bond || after.bond == Bond::Strangers {
            return Ok(());
        }
        let ids = &after.ids;
        let users: &[&str] = if after.bond == Bond::Friends { &[ids.low(), ids.high()] } else { &[actor] };
        let heads = try_join_all(users.iter().map(|user| self.store.head(user, Read::Answered))).await?;
        if heads.iter().any(|head| head.friends >= self.max_friends) {
            return Err(Refusal::TooManyFriends.into());
        }
        Ok(())
    }

    /// Brings everything that is derived from a pair in line with it.
    async fn settle_pair(&self, ids: &PairIds, read: Read) -> Result<(), Failure> {
        let pair = self.store.pair(ids, read).await?;
        if pair.version == 0 {
            // Nothing ever was between them.
            return Ok(());
        }
        self.settle_with(&pair).await
    }

    /// [`Inner::settle_pair`] with the pair, which is as it was read or made just now.
    async fn settle_with(&self, pair: &Pair) -> Result<(), Failure> {
        let ids = &pair.ids;
        let requests = async { Ok::<_, Failure>(self.store.set_requests(pair).await?) };
        let (low, high) =
            (self.lists.settle_friend(ids.low(), ids.high()), self.lists.settle_friend(ids.high(), ids.low()));
        // Each goes on when another fails.
        let (requests, low, high) = tokio::join!(requests, low, high);
        requests.and(low).and(high)
    }

    /// Brings everything that is derived from a user's profile in line with it.
    async fn settle_profile(&self, user: &str) -> Result<(), Failure> {
        self.lists.settle_radius(user).await?;
        let (list, links) = tokio::try_join!(self.store.list(user), self.store.links(user))?;
        let friends = list.friends.iter().map(|friend| &friend.id);
        let viewers = friends.chain(links.iter().map(|link| &link.viewer));
        let settled: Vec<_> = viewers.map(|viewer| self.lists.settle_friend(viewer, user)).collect();
        stream::iter(settled).buffer_unordered(LISTS_AT_ONCE).try_collect().await
    }

    async fn create_link(&self, owner: String, precision: Sharing, until: i64) -> Result<(Key, ShareLink), Failure> {
        let created_at = now_ms();
        let links = self.store.links(&owner).await?;
        // Links that are made at the very same time may exceed it by their number.
        if links.iter().filter(|link| link.is_alive(created_at)).count() >= MAX_LINKS {
            return Err(Refusal::TooManyLinks.into());
        }
        let key = Key::random();
        let link = ShareLink { viewer: key.viewer(), secret_hash: key.hash(), owner, precision, created_at, until };
        // Its list ends with it, whoever is there then to see to it.
        self.store.schedule(until, &Work::Link(link.viewer.clone())).await?;
        self.store.create_link(&link).await?;
        self.lists.settle_friend(&link.viewer, &link.owner).await?;
        Ok((key, link))
    }

    async fn set_mode(&self, id: &str, new: NewMode) -> Result<Mode, Failure> {
        let due = self.store.schedule(self.later(), &Work::Mode(id.to_owned())).await?;
        let _turn = self.turns.take(id).await;
        let mut attempt = 0;
        let mode = loop {
            let before = self.store.user(id).await?.ok_or(Refusal::NoSuchUser)?.mode;
            let mode = Mode {
                sharing: new.sharing,
                until: new.until,
                discoverable: new.discoverable.unwrap_or(before.discoverable),
                version: (before.version + 1).max(now_ms()),
            };
            if self.store.set_mode(id, before.version, &mode).await? {
                break mode;
            }
            step_back(attempt).await;
            attempt += 1;
        };
        self.tell_mode(id, mode).await?;
        self.store.finish(&due).await?;
        Ok(mode)
    }

    /// Tells the log, the cache beside it and the user's own gateways how the user shares.
    ///
    /// The log comes first in what is promised: a report that a gateway still stamps with the old mode is appended after
    /// this record and judged by its version. So friends' gateways need not be told.
    async fn tell_mode(&self, user: &str, mode: Mode) -> Result<(), Failure> {
        let logged = async { self.ingest.mode(user, mode, now_ms()).await.map_err(Failure::from) };
        let notice = Notice::mode(user, mode);
        let (logged, told) = tokio::join!(logged, self.lists.tell(user, &notice));
        logged.map(drop).and(told)
    }

    fn later(&self) -> i64 {
        now_ms() + self.settle_after_ms
    }
}
