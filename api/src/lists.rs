//! Visibility lists: changed by compare-and-set, published to the log, and what is taken away told to live sessions.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::try_join_all;
use nearcast_ingest::{Cache, Session};
use nearcast_runtime::clock::now_ms;
use nearcast_schemas::deployment::Deployment;
use nearcast_schemas::ids::is_link;
use nearcast_schemas::list::VisibilityList;
use nearcast_schemas::notice::{Notice, NoticeKind};
use nearcast_schemas::refusal::Refusal;

use crate::events::{ListPublished, NoticeSent, RegistryUnknown};
use crate::failure::Failure;
use crate::kafka::{PublishError, Publisher};
use crate::pair::PairIds;
use crate::rules::{entry, friend_row, takes_away, visibility};
use crate::store::{Friend, Head, ListChange, Published, Read, RuleChange, Store, Work};
use crate::turns::{Turns, step_back};

/// After this a session that said hello just before a list grew old is in the registry; ms.
const REGISTERED_BY_MS: i64 = 60_000;

/// The publisher of lists.
pub(crate) struct Lists {
    pub store: Arc<dyn Store>,
    pub cache: Arc<dyn Cache>,
    pub publisher: Arc<Publisher>,
    pub deployment: Deployment,
    /// A list in the log that is older is published again while its viewer is live; ms.
    pub republish_after_ms: i64,
    pub turns: Turns,
}

impl Lists {
    /// Brings one friend's row in a viewer's list in line with the pair and the friend's profile. When this returns,
    /// the log holds the list, and gateways were told what was taken away.
    pub async fn settle_friend(&self, viewer: &str, friend: &str) -> Result<(), Failure> {
        let Some(ids) = PairIds::new(viewer, friend) else { return Ok(()) };
        let _turn = self.turns.take(viewer).await;
        let mut attempt = 0;
        // A compare-and-set finds a change that is half done by itself. To say that nothing is to be done, it has to be
        // looked for.
        let mut read = Read::Answered;
        loop {
            // The head first: a row that is newer than its head makes the compare-and-set fail.
            let head = self.store.head(viewer, read).await?;
            let (row, want) = tokio::try_join!(
                async { Ok(self.store.friend(viewer, friend).await?) },
                self.wanted(&ids, viewer, friend)
            )?;
            let (before, after) = (row.as_ref().and_then(entry), want.as_ref().and_then(entry));
            if row == want && read == Read::Answered {
                read = Read::Settled;
                continue;
            }
            if row == want {
                if !is_published(&head) {
                    // Somebody began this change and did not finish it.
                    self.publish(viewer).await?;
                    if after.is_none() {
                        self.forget(viewer, friend, head.version).await?;
                    }
                }
                return Ok(());
            }
            let friends = match (&row, &want) {
                (None, Some(_)) => head.friends + 1,
                (Some(_), None) => head.friends.saturating_sub(1),
                _ => head.friends,
            };
            let change = next(&head, |change| {
                change.friend = Some(friend.to_owned());
                change.before.clone_from(&before);
                change.after.clone_from(&after);
            });
            let version = change.version;
            let change = ListChange { row: Some((friend.to_owned(), want.clone())), friends, change };
            if !self.store.set_list(viewer, &head, &change).await? {
                step_back(attempt).await;
                attempt += 1;
                continue;
            }
            let told = async {
                if takes_away(before.as_ref(), after.as_ref()) {
                    self.forget(viewer, friend, version).await?;
                }
                Ok::<_, Failure>(())
            };
            // Each goes on when the other fails.
            let (published, told, wanted_now) =
                tokio::join!(self.publish(viewer), told, self.wanted(&ids, viewer, friend));
            published?;
            told?;
            // Whoever changed the pair after it was read here may have found nothing to do before the row was written.
            if wanted_now? == want {
                return Ok(());
            }
        }
    }

    /// The row of a friend in a viewer's list as it follows from the pair, or the share link, and the profile.
    async fn wanted(&self, ids: &PairIds, viewer: &str, friend: &str) -> Result<Option<Friend>, Failure> {
        if is_link(viewer) {
            let (link, user) = tokio::try_join!(self.store.link(viewer), self.store.user(friend))?;
            let alive = link.filter(|link| link.owner == friend && link.is_alive(now_ms()));
            return Ok(alive.zip(user).map(|(link, owner)| link.row(&owner)));
        }
        let (pair, user) = tokio::try_join!(self.store.pair(ids, Read::Answered), self.store.user(friend))?;
        Ok(user.and_then(|user| friend_row(&pair, ids.side_of(viewer), &user.profile.display_name)))
    }

    /// Brings the radius of a viewer's list in line with the profile.
    pub async fn settle_radius(&self, viewer: &str) -> Result<(), Failure> {
        let _turn = self.turns.take(viewer).await;
        let mut attempt = 0;
        loop {
            let head = self.store.head(viewer, Read::Settled).await?;
            let Some(user) = self.store.user(viewer).await? else { return Ok(()) };
            if user.profile.radius_m == head.radius_m {
                if !is_published(&head) {
                    self.publish(viewer).await?;
                }
                return Ok(());
            }
            let change = next(&head, |change| change.radius_after_m = user.profile.radius_m);
            let change = ListChange { row: None, friends: head.friends, change };
            // Looked at once more after it was written, as a friend's row is.
            if !self.store.set_list(viewer, &head, &change).await? {
                step_back(attempt).await;
                attempt += 1;
            }
        }
    }

    /// A viewer's list, which the log holds by now and has not held for too long.
    pub async fn current(&self, viewer: &str) -> Result<VisibilityList, Failure> {
        let list = self.store.list(viewer).await?;
        let now_ms = now_ms();
        let fresh = list.published.is_some_and(|published| {
            published.version >= list.version && now_ms - published.at < self.republish_after_ms
        });
        if fresh { Ok(visibility(viewer, &list, &self.deployment, now_ms)) } else { self.publish(viewer).await }
    }

    /// Brings a share link's list in line with the link. Of one that is over the sessions end, and nothing is left.
    pub async fn settle_link(&self, viewer: &str) -> Result<(), Failure> {
        for friend in self.store.list(viewer).await?.friends {
            self.settle_friend(viewer, &friend.id).await?;
        }
        if self.store.link(viewer).await?.is_none_or(|link| !link.is_alive(now_ms())) {
            self.tell(viewer, &Notice::close(viewer, Refusal::LinkEnded.code())).await?;
            let head = self.store.head(viewer, Read::Settled).await?;
            if head.friends == 0 {
                self.store.remove_list(viewer, &head).await?;
            }
        }
        Ok(())
    }

    /// Publishes a viewer's list again if the log has held it for too long and the viewer is live, or may be.
    pub async fn refresh(&self, viewer: &str) -> Result<(), Failure> {
        let head = self.store.head(viewer, Read::Answered).await?;
        let old = head.published.is_none_or(|published| now_ms() - published.at >= self.republish_after_ms);
        if old && self.cache.sessions(viewer).await.map_or(true, |sessions| !sessions.is_empty()) {
            self.publish(viewer).await?;
        }
        Ok(())
    }

    /// Appends the list to the log, again if it changed meanwhile: compaction keeps what was appended last, so the last
    /// has to be the newest, whoever else publishes.
    async fn publish(&self, viewer: &str) -> Result<VisibilityList, Failure> {
        loop {
            let begun = Instant::now();
            let list = self.store.list(viewer).await?;
            let now_ms = now_ms();
            let record = visibility(viewer, &list, &self.deployment, now_ms);
            let again_at = now_ms + self.republish_after_ms + REGISTERED_BY_MS;
            let refresh = Work::Refresh(viewer.to_owned());
            let appended = async { Ok::<_, Failure>(self.publisher.list(viewer, &record).await?) };
            let scheduled = async { Ok(self.store.schedule(again_at, &refresh).await?) };
            tokio::try_join!(appended, scheduled)?;
            ListPublished { entries: record.entries.len(), after: begun.elapsed() }.emit();
            if self.store.head(viewer, Read::Answered).await?.version == list.version {
                self.store.set_published(viewer, Published { version: list.version, at: now_ms }).await?;
                return Ok(record);
            }
        }
    }

    /// Tells the viewer's gateways to drop a friend until this version of the list has taken effect.
    async fn forget(&self, viewer: &str, friend: &str, version: i64) -> Result<(), Failure> {
        self.tell(viewer, &Notice::forget(viewer, friend, version)).await
    }

    /// Writes a notice to every gateway where the user has a live session.
    pub async fn tell(&self, user: &str, notice: &Notice) -> Result<(), Failure> {
        match self.cache.sessions(user).await {
            Ok(sessions) => self.tell_at(sessions, notice).await,
            Err(error) => {
                RegistryUnknown { kind: kind_of(notice), error: &error }.emit();
                Ok(())
            }
        }
    }

    /// Writes a notice to every gateway where one of these sessions is.
    pub async fn tell_at(&self, sessions: Vec<Session>, notice: &Notice) -> Result<(), Failure> {
        let kind = kind_of(notice);
        let gateways: BTreeSet<String> = sessions.into_iter().map(|session| session.gateway).collect();
        let told = gateways.iter().map(|gateway| async move {
            let result = self.publisher.notice(gateway, notice).await;
            let name = match result {
                Ok(()) => "sent",
                Err(PublishError::NoTopic) => "no_topic",
                Err(_) => "unknown",
            };
            NoticeSent { kind, result: name }.emit();
            match result {
                // A gateway without a topic is gone for good.
                Ok(()) | Err(PublishError::NoTopic) => Ok(()),
                Err(error) => Err(Failure::from(error)),
            }
        });
        try_join_all(told).await.map(drop)
    }
}

fn kind_of(notice: &Notice) -> &'static str {
    match notice.kind {
        NoticeKind::Forget => "forget",
        NoticeKind::Mode => "mode",
        NoticeKind::Close => "close",
        NoticeKind::Unknown => "unknown",
    }
}

/// Whether the log holds this version, or nobody's version, which is published at the first hello.
fn is_published(head: &Head) -> bool {
    head.version == 0 || head.published.is_some_and(|published| published.version >= head.version)
}

/// The next change of a list; `what` says what it changes.
fn next(head: &Head, what: impl FnOnce(&mut RuleChange)) -> RuleChange {
    let at = now_ms();
    let mut change = RuleChange {
        version: (head.version + 1).max(at),
        at,
        friend: None,
        before: None,
        after: None,
        radius_before_m: head.radius_m,
        radius_after_m: head.radius_m,
    };
    what(&mut change);
    change
}
