//! The cache of a deployment that is one process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use nearcast_schemas::delivery::FriendPosition;
use nearcast_schemas::deployment::Deployment;
use nearcast_schemas::event::{Mode, Sharing};
use nearcast_schemas::rule::sharing_at;
use tokio::time::Instant;

use crate::cache::{Cache, CacheError, LastSeen, MAX_SESSIONS, Session};

/// What is over is swept out after this many writes.
const SWEEP_EVERY: usize = 4_096;

/// A [`Cache`] in this process, for the embedded deployment and tests. Clones are the same.
#[derive(Clone, Debug)]
pub struct MemoryCache {
    ttl: Duration,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    people: HashMap<String, Person>,
    pages: HashMap<String, (Vec<u8>, Instant)>,
    signed_out: HashMap<String, (i64, Instant)>,
    writes: usize,
}

#[derive(Debug, Default)]
struct Person {
    place: Option<(Place, Instant)>,
    rules: Option<(Rules, Instant)>,
    sessions: Vec<(Session, Instant)>,
}

#[derive(Clone, Debug)]
struct Place {
    position: FriendPosition,
    coarse: Option<FriendPosition>,
    reported: Sharing,
    session: i64,
}

/// What outlives a position, so that a late write undoes neither a pause nor an erasure.
#[derive(Clone, Debug, Default)]
struct Rules {
    mode: Option<Mode>,
    erased_at: Option<i64>,
}

impl MemoryCache {
    /// An empty cache with this deployment's TTL.
    pub fn new(deployment: &Deployment) -> Self {
        Self { ttl: Duration::from_secs(deployment.friend_ttl_s.into()), kept: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a person's entry, in which nothing is over at `now`.
    fn change(&self, user: &str, now: Instant, change: impl FnOnce(&mut Person)) {
        let mut kept = self.lock();
        kept.writes += 1;
        if kept.writes.is_multiple_of(SWEEP_EVERY) {
            kept.people.retain(|_, person| !person.sweep(now));
            kept.pages.retain(|_, (_, until)| *until > now);
            kept.signed_out.retain(|_, (_, until)| *until > now);
        }
        if !kept.people.contains_key(user) {
            kept.people.insert(user.to_owned(), Person::default());
        }
        if let Some(person) = kept.people.get_mut(user) {
            person.sweep(now);
            change(person);
        }
    }

    fn keep_session(&self, user: &str, session: &Session) {
        let now = Instant::now();
        self.change(user, now, |person| {
            person.sessions.retain(|(known, _)| !same(known, session));
            person.sessions.push((session.clone(), now + self.ttl));
            let too_many = person.sessions.len().saturating_sub(MAX_SESSIONS);
            // Oldest refresh first, because each refresh goes to the end.
            person.sessions.drain(..too_many);
        });
    }
}

impl Person {
    /// Drops what is over; true when nothing is left.
    fn sweep(&mut self, now: Instant) -> bool {
        self.place.take_if(|(_, until)| *until <= now);
        self.rules.take_if(|(_, until)| *until <= now);
        self.sessions.retain(|(_, until)| *until > now);
        self.place.is_none() && self.rules.is_none() && self.sessions.is_empty()
    }

    /// Changes the rules, which are kept for twice the TTL: longer than any position, and than a write may be late.
    fn change_rules(&mut self, now: Instant, ttl: Duration, change: impl FnOnce(&mut Rules)) {
        let (mut rules, _) = self.rules.take().unwrap_or((Rules::default(), now));
        change(&mut rules);
        self.rules = Some((rules, now + 2 * ttl));
    }
}

/// Whether two entries are one session.
fn same(a: &Session, b: &Session) -> bool {
    a.gateway == b.gateway && a.incarnation == b.incarnation && a.handle == b.handle
}

#[async_trait]
impl Cache for MemoryCache {
    fn put_position(&self, user: &str, seen: LastSeen) {
        let now = Instant::now();
        self.change(user, now, |person| {
            let at = seen.position.at;
            if person.rules.as_ref().and_then(|(rules, _)| rules.erased_at).is_some_and(|erased| at <= erased) {
                return;
            }
            person.change_rules(now, self.ttl, |rules| {
                if rules.mode.is_none_or(|mode| mode.version < seen.mode.version) {
                    rules.mode = Some(seen.mode);
                }
            });
            let rules = person.rules.as_ref();
            let known = rules.and_then(|(rules, _)| rules.mode).map_or(Sharing::Exact, |mode| sharing_at(&mode, at));
            let reported = seen.reported.max(known);
            let LastSeen { position, coarse, session, .. } = seen;
            let mut place = Place { position, coarse, reported, session };
            if let Some((old, _)) = &person.place {
                if at < old.position.at || (place.session >= 0 && place.session < old.session) {
                    return;
                }
                place.session = place.session.max(old.session);
                if let Some(old) = &old.coarse
                    && place.coarse.as_ref().is_none_or(|new| new.at <= old.at)
                {
                    place.coarse = Some(old.clone());
                }
            }
            if reported == Sharing::Hidden {
                place.coarse = None;
            }
            person.place = Some((place, now + self.ttl));
        });
    }

    async fn positions(&self, users: &[String]) -> Result<Vec<Option<LastSeen>>, CacheError> {
        let (kept, now) = (self.lock(), Instant::now());
        let last_seen = |user: &String| {
            let person = kept.people.get(user)?;
            let (place, _) = person.place.as_ref().filter(|(_, until)| *until > now)?;
            let (rules, _) = person.rules.as_ref().filter(|(_, until)| *until > now)?;
            let Place { position, coarse, reported, session } = place.clone();
            Some(LastSeen { position, coarse, reported, mode: rules.mode?, session })
        };
        Ok(users.iter().map(last_seen).collect())
    }

    async fn set_mode(&self, user: &str, mode: Mode) -> Result<(), CacheError> {
        let now = Instant::now();
        self.change(user, now, |person| {
            person.change_rules(now, self.ttl, |rules| {
                if rules.mode.is_none_or(|known| known.version < mode.version) {
                    rules.mode = Some(mode);
                }
            });
        });
        Ok(())
    }

    async fn register(&self, user: &str, session: &Session) -> Result<(), CacheError> {
        self.keep_session(user, session);
        Ok(())
    }

    fn refresh(&self, user: &str, session: &Session) {
        self.keep_session(user, session);
    }

    fn unregister(&self, user: &str, session: &Session) {
        self.change(user, Instant::now(), |person| person.sessions.retain(|(known, _)| !same(known, session)));
    }

    async fn sessions(&self, user: &str) -> Result<Vec<Session>, CacheError> {
        let (kept, now) = (self.lock(), Instant::now());
        let live = |person: &Person| {
            person.sessions.iter().filter(|(_, until)| *until > now).map(|(session, _)| session.clone()).collect()
        };
        let mut sessions: Vec<Session> = kept.people.get(user).map(live).unwrap_or_default();
        sessions.sort_by_key(|session| std::cmp::Reverse(session.session));
        Ok(sessions)
    }

    async fn erase(&self, user: &str, at: i64) -> Result<(), CacheError> {
        let now = Instant::now();
        self.change(user, now, |person| {
            person.place = None;
            person.sessions.clear();
            person.change_rules(now, self.ttl, |rules| {
                *rules = Rules { mode: None, erased_at: rules.erased_at.max(Some(at)) };
            });
        });
        Ok(())
    }

    async fn sign_out(&self, user: &str, at: i64, ttl: Duration) -> Result<(), CacheError> {
        self.lock().signed_out.insert(user.to_owned(), (at, Instant::now() + ttl));
        Ok(())
    }

    async fn signed_out(&self, user: &str) -> Result<Option<i64>, CacheError> {
        let (now, kept) = (Instant::now(), self.lock());
        Ok(kept.signed_out.get(user).filter(|(_, until)| *until > now).map(|(at, _)| *at))
    }

    async fn put_page(&self, key: &str, bytes: &[u8], ttl: Duration) -> Result<(), CacheError> {
        self.lock().pages.insert(key.to_owned(), (bytes.to_owned(), Instant::now() + ttl));
        Ok(())
    }

    async fn get_page(&self, key: &str) -> Result<Option<Vec<u8>>, CacheError> {
        let (kept, now) = (self.lock(), Instant::now());
        Ok(kept.pages.get(key).filter(|(_, until)| *until > now).map(|(bytes, _)| bytes.clone()))
    }

    async fn settled(&self, _limit: Duration) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_over_is_swept_out() {
        let deployment = serde_json::json!({
            "prefix": "t", "friend_ttl_s": 60, "default_radius_m": 1, "max_radius_m": 1, "max_silence_s": 1,
            "min_move_m": 0.0, "report_interval_s": 1, "coarse_resolution": 7, "coarse_period_s": 1,
        });
        let cache = MemoryCache::new(&serde_json::from_value(deployment).unwrap());
        for user in 0..100 {
            cache.set_mode(&user.to_string(), Mode::default()).await.unwrap();
        }
        cache.put_page("p", b"bytes", Duration::from_secs(1)).await.unwrap();
        cache.sign_out("a", 1, Duration::from_secs(1)).await.unwrap();
        tokio::time::advance(Duration::from_secs(120)).await;
        for _ in 0..SWEEP_EVERY {
            cache.set_mode("one", Mode::default()).await.unwrap();
        }
        let kept = cache.lock();
        assert_eq!((kept.people.len(), kept.pages.len(), kept.signed_out.len()), (1, 0, 0));
    }
}
