//! The cache in Redis: one server or a Redis Cluster.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use nearcast_schemas::deployment::Deployment;
use nearcast_schemas::event::{Mode, Sharing};
use redis::{RedisResult, Script};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::cache::{Cache, CacheError, LastSeen, MAX_SESSIONS, Session};
use crate::events::{CacheRead, CacheWrite, CacheWritesWaiting, CacheWritten};
use crate::in_flight::InFlight;
use crate::redis_config::{RedisConfig, RedisConfigError};
use crate::redis_keys::Keys;
use crate::redis_link::{Connection, Link};
use crate::redis_writer::{Job, RedisWriter, Write};

/// Users whose positions are asked for in one pipeline of a single server.
const USERS_A_PIPELINE: usize = 1_000;
/// Users whose positions are asked for at once in a cluster.
const USERS_AT_ONCE: usize = 512;

/// A [`Cache`] in Redis. Clones are the same. Connects when it is first needed, and again when the connection breaks;
/// while Redis is down it answers [`CacheError::Down`] at once.
///
/// Keys are `<prefix>:<what>:{<user>}`, so that all of a user's are in one slot. Scripts decide which of two writes wins,
/// so that it does not matter in which order they come. A position expires after the TTL; the user's mode and erasure
/// after twice that, because a write may be late.
#[derive(Clone)]
pub struct RedisCache(Arc<Shared>);

struct Shared {
    store: Arc<Store>,
    queue: mpsc::UnboundedSender<Job>,
    waiting: InFlight,
}

/// What is asked and written, by whomever.
pub(crate) struct Store {
    pub link: Link,
    keys: Keys,
    ttl_ms: i64,
    put_position: Script,
    set_mode: Script,
    erase: Script,
    register: Script,
    sessions: Script,
}

impl std::fmt::Debug for RedisCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RedisCache").field(&self.0.store.link.names()).finish()
    }
}

impl RedisCache {
    /// The cache, and the part of it that writes in the background, which has to be run.
    ///
    /// # Errors
    /// When a value of the configuration is out of its range.
    pub fn new(config: &RedisConfig, deployment: &Deployment) -> Result<(Self, RedisWriter), RedisConfigError> {
        let store = Arc::new(Store {
            link: Link::new(config)?,
            keys: Keys::new(&deployment.prefix),
            ttl_ms: deployment.ttl_ms(),
            put_position: Script::new(include_str!("lua/put_position.lua")),
            set_mode: Script::new(include_str!("lua/set_mode.lua")),
            erase: Script::new(include_str!("lua/erase.lua")),
            register: Script::new(include_str!("lua/register.lua")),
            sessions: Script::new(include_str!("lua/sessions.lua")),
        });
        let (queue, jobs) = mpsc::unbounded_channel();
        let waiting = InFlight::new(config.max_waiting_writes, |by| CacheWritesWaiting { by }.emit());
        let writer = RedisWriter::new(Arc::clone(&store), jobs);
        Ok((Self(Arc::new(Shared { store, queue, waiting })), writer))
    }

    /// Leaves a write to the background.
    fn later(&self, user: &str, write: Write) {
        let what = write.what();
        let Some(permit) = self.0.waiting.reserve(1) else {
            return CacheWritten { what, result: "dropped" }.emit();
        };
        if self.0.queue.send(Job { user: user.to_owned(), write, permit }).is_err() {
            // The writer has ended.
            CacheWritten { what, result: "dropped" }.emit();
        }
    }

    /// Writes now; what must not be lost is left to the background when that fails.
    async fn now(&self, user: &str, write: Write) -> Result<(), CacheError> {
        let result = self.0.store.write(user, &write).await;
        if result.is_err() && write.is_owed() {
            self.later(user, write);
        }
        result
    }

    async fn read<T>(
        &self,
        what: &'static str,
        answer: impl Future<Output = Result<T, CacheError>>,
    ) -> Result<T, CacheError> {
        let begun = Instant::now();
        let answer = answer.await;
        let result = match &answer {
            Ok(_) => "answered",
            Err(CacheError::Timeout(_)) => "timeout",
            Err(CacheError::Down(_)) => "down",
            Err(CacheError::Answer(_)) => "failed",
        };
        CacheRead { what, result, after: begun.elapsed() }.emit();
        answer
    }
}

impl Store {
    /// Writes now, and counts it.
    pub async fn write(&self, user: &str, write: &Write) -> Result<(), CacheError> {
        let result = self.link.ask(|connection| self.run(connection, user, write)).await;
        let counted = match &result {
            Ok(()) => "written",
            Err(CacheError::Down(_)) => "down",
            Err(_) => "failed",
        };
        CacheWritten { what: write.what(), result: counted }.emit();
        result
    }

    async fn run(&self, mut connection: Connection, user: &str, write: &Write) -> RedisResult<()> {
        let keys = &self.keys;
        match write {
            Write::Position(seen) => {
                let mut script = self.put_position.key(keys.place(user));
                script.key(keys.rules(user)).arg(json(&seen.position)).arg(seen.position.at).arg(seen.session);
                let coarse = seen.coarse.as_ref();
                script.arg(coarse.map(json).unwrap_or_default()).arg(coarse.map_or(0, |coarse| coarse.at));
                script.arg(seen.mode.version).arg(json(&seen.mode)).arg(rank(seen.mode.sharing)).arg(seen.mode.until);
                script.arg(rank(seen.reported)).arg(self.ttl_ms).invoke_async::<i64>(&mut connection).await.map(drop)
            }
            Write::Mode(mode) => {
                let mut script = self.set_mode.key(keys.rules(user));
                script.arg(mode.version).arg(json(mode)).arg(rank(mode.sharing)).arg(mode.until);
                script.arg(self.ttl_ms).invoke_async(&mut connection).await
            }
            Write::Erasure(at) => {
                let mut script = self.erase.key(keys.place(user));
                script.key(keys.rules(user)).key(keys.sessions(user)).arg(*at).arg(self.ttl_ms);
                script.invoke_async(&mut connection).await
            }
            Write::Session(session) => {
                let mut script = self.register.key(keys.sessions(user));
                script.arg(name(session)).arg(json(session)).arg(self.ttl_ms).arg(MAX_SESSIONS);
                script.invoke_async(&mut connection).await
            }
            Write::NoSession(session) => {
                let forget = redis::Cmd::hdel(keys.sessions(user), name(session));
                forget.query_async::<i64>(&mut connection).await.map(drop)
            }
        }
    }

    /// The last positions of some users, by one pipeline: in a cluster, of one user at a time.
    async fn last_seen(&self, mut connection: Connection, users: &[String]) -> RedisResult<Vec<Option<LastSeen>>> {
        let mut pipeline = redis::Pipeline::with_capacity(2 * users.len());
        for user in users {
            pipeline.hmget(self.keys.place(user), &["exact", "coarse", "session", "reported"]);
            pipeline.hget(self.keys.rules(user), "mode");
        }
        let answers: Vec<redis::Value> = pipeline.query_async(&mut connection).await?;
        let mut seen = Vec::with_capacity(users.len());
        for answer in answers.chunks_exact(2) {
            let place: Place = redis::from_redis_value_ref(&answer[0])?;
            let mode: Option<Vec<u8>> = redis::from_redis_value_ref(&answer[1])?;
            seen.push(parse_seen(place, mode));
        }
        Ok(seen)
    }
}

#[async_trait]
impl Cache for RedisCache {
    fn put_position(&self, user: &str, seen: LastSeen) {
        self.later(user, Write::Position(seen));
    }

    async fn positions(&self, users: &[String]) -> Result<Vec<Option<LastSeen>>, CacheError> {
        let store = &self.0.store;
        let (pipeline, at_once) = if store.link.is_cluster() { (1, USERS_AT_ONCE) } else { (USERS_A_PIPELINE, 4) };
        let questions: Vec<_> = users
            .chunks(pipeline)
            .map(|users| store.link.ask(move |connection| store.last_seen(connection, users)))
            .collect();
        let answers = stream::iter(questions).buffered(at_once).try_concat();
        self.read("positions", store.link.within_limit(answers)).await
    }

    async fn set_mode(&self, user: &str, mode: Mode) -> Result<(), CacheError> {
        self.now(user, Write::Mode(mode)).await
    }

    async fn register(&self, user: &str, session: &Session) -> Result<(), CacheError> {
        self.now(user, Write::Session(session.clone())).await
    }

    fn refresh(&self, user: &str, session: &Session) {
        self.later(user, Write::Session(session.clone()));
    }

    fn unregister(&self, user: &str, session: &Session) {
        self.later(user, Write::NoSession(session.clone()));
    }

    async fn sessions(&self, user: &str) -> Result<Vec<Session>, CacheError> {
        let store = &self.0.store;
        let answer = store.link.ask(async |mut connection| {
            let sessions: Vec<Vec<u8>> =
                store.sessions.key(store.keys.sessions(user)).invoke_async(&mut connection).await?;
            Ok(sessions)
        });
        let sessions = self.read("sessions", answer).await?;
        let mut sessions: Vec<Session> = sessions.iter().filter_map(|session| parse(session)).collect();
        sessions.sort_by_key(|session| std::cmp::Reverse(session.session));
        Ok(sessions)
    }

    async fn erase(&self, user: &str, at: i64) -> Result<(), CacheError> {
        self.now(user, Write::Erasure(at)).await
    }

    async fn sign_out(&self, user: &str, at: i64, ttl: Duration) -> Result<(), CacheError> {
        let store = &self.0.store;
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        let put = redis::Cmd::pset_ex(store.keys.signed_out(user), at, ttl_ms);
        let result = store.link.ask(async |mut connection| put.query_async(&mut connection).await).await;
        let counted = if result.is_ok() { "written" } else { "failed" };
        CacheWritten { what: CacheWrite::SignOut, result: counted }.emit();
        result
    }

    async fn signed_out(&self, user: &str) -> Result<Option<i64>, CacheError> {
        let store = &self.0.store;
        let get = redis::Cmd::get(store.keys.signed_out(user));
        self.read("sign_out", store.link.ask(async |mut connection| get.query_async(&mut connection).await)).await
    }

    async fn put_page(&self, key: &str, bytes: &[u8], ttl: Duration) -> Result<(), CacheError> {
        let store = &self.0.store;
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        let put = redis::Cmd::pset_ex(store.keys.page(key), bytes, ttl_ms);
        let result = store.link.ask(async |mut connection| put.query_async(&mut connection).await).await;
        let counted = if result.is_ok() { "written" } else { "failed" };
        CacheWritten { what: CacheWrite::Page, result: counted }.emit();
        result
    }

    async fn get_page(&self, key: &str) -> Result<Option<Vec<u8>>, CacheError> {
        let store = &self.0.store;
        let get = redis::Cmd::get(store.keys.page(key));
        self.read("page", store.link.ask(async |mut connection| get.query_async(&mut connection).await)).await
    }

    fn returns(&self) -> u64 {
        self.0.store.link.returns()
    }

    async fn settled(&self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.0.waiting.empty()).await.is_ok()
    }
}

/// The name of a session among its user's.
fn name(session: &Session) -> String {
    format!("{}/{}/{}", session.gateway, session.incarnation, session.handle)
}

/// Sharing as the scripts compare it.
fn rank(sharing: Sharing) -> i64 {
    match sharing {
        Sharing::Exact => 0,
        Sharing::Coarse => 1,
        Sharing::Hidden => 2,
    }
}

/// Everything that is written is a plain record, which cannot fail to be JSON.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// What another version wrote and this one cannot read counts as not there.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(bytes).ok()
}

/// The fields of a place: exact, coarse, session, reported.
type Place = (Option<Vec<u8>>, Option<Vec<u8>>, Option<i64>, Option<i64>);

/// A position without a mode is not shown: nobody knows whether it may be.
fn parse_seen((exact, coarse, session, reported): Place, mode: Option<Vec<u8>>) -> Option<LastSeen> {
    let reported = match reported? {
        0 => Sharing::Exact,
        1 => Sharing::Coarse,
        _ => Sharing::Hidden,
    };
    let coarse = coarse.and_then(|coarse| parse(&coarse));
    Some(LastSeen { position: parse(&exact?)?, coarse, reported, mode: parse(&mode?)?, session: session? })
}
