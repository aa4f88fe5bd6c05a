//! The connection to Redis: made when it is first needed, made again when it breaks, not asked while it is down.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::{Cmd, ConnectionInfo, Pipeline, RedisError, RedisFuture, RedisResult, Value};

use crate::cache::CacheError;
use crate::events::CacheReachable;
use crate::redis_config::{RedisConfig, RedisConfigError};

/// Between two attempts of a connection that broke, at most.
const RECONNECT_AT_MOST: Duration = Duration::from_secs(1);

/// A connection to one server or to a cluster. Commands of many tasks share it and are pipelined by it.
#[derive(Clone)]
pub(crate) enum Connection {
    Single(ConnectionManager),
    Cluster(ClusterConnection),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        cmd: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single(connection) => connection.req_packed_commands(cmd, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(cmd, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Single(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

/// The way to Redis.
pub(crate) struct Link {
    nodes: Vec<ConnectionInfo>,
    names: String,
    cluster: bool,
    timeout: Duration,
    current: Mutex<Option<Connection>>,
    connecting: tokio::sync::Mutex<()>,
    /// Something was answered since this was last taken.
    answered: AtomicBool,
    /// Why nothing is asked.
    down: Mutex<Option<String>>,
    /// How often it has answered again.
    returns: AtomicU64,
}

impl Link {
    pub fn new(config: &RedisConfig) -> Result<Self, RedisConfigError> {
        config.check()?;
        Ok(Self {
            nodes: config.connections()?,
            names: config.nodes.join(", "),
            cluster: config.cluster,
            timeout: config.timeout,
            current: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
            answered: AtomicBool::new(false),
            down: Mutex::default(),
            returns: AtomicU64::new(0),
        })
    }

    /// How often it has answered again after it did not.
    pub fn returns(&self) -> u64 {
        self.returns.load(Ordering::Acquire)
    }

    /// Where it looks.
    pub fn names(&self) -> &str {
        &self.names
    }

    /// Whether the nodes are a cluster, in which a pipeline may touch one slot only.
    pub fn is_cluster(&self) -> bool {
        self.cluster
    }

    /// Asks something, within the time limit, connecting first if need be.
    pub async fn ask<T, F>(&self, question: impl FnOnce(Connection) -> F) -> Result<T, CacheError>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let down = lock(&self.down).clone();
        match down {
            Some(why) => Err(CacheError::Down(why)),
            None => self.try_to_ask(question).await,
        }
    }

    /// One time limit over several questions.
    pub async fn within_limit<T>(&self, answers: impl Future<Output = Result<T, CacheError>>) -> Result<T, CacheError> {
        tokio::time::timeout(self.timeout, answers).await.unwrap_or(Err(CacheError::Timeout(self.timeout)))
    }

    /// Whether it answers. What others asked and were answered since the last time is enough. Changes what
    /// [`Link::ask`] does, and returns why it is down.
    pub async fn probe(&self) -> Result<(), String> {
        let was_down = lock(&self.down).is_some();
        if !was_down && self.answered.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let result = self.try_to_ask(ping).await.map_err(|error| error.to_string());
        // An answer to anybody is one, as where a single node of a cluster is away.
        let result = if self.answered.swap(false, Ordering::Relaxed) { Ok(()) } else { result };
        match &result {
            Ok(()) if was_down => {
                CacheReachable { nodes: &self.names, error: None }.emit();
                *lock(&self.down) = None;
                self.returns.fetch_add(1, Ordering::Release);
            }
            Ok(()) => {}
            Err(error) => {
                if !was_down {
                    CacheReachable { nodes: &self.names, error: Some(error) }.emit();
                }
                *lock(&self.down) = Some(error.clone());
                // A connection whose peer went away without a word never breaks by itself.
                *lock(&self.current) = None;
            }
        }
        result
    }

    async fn try_to_ask<T, F>(&self, question: impl FnOnce(Connection) -> F) -> Result<T, CacheError>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let asked = async { question(self.connection().await?).await };
        match tokio::time::timeout(self.timeout, asked).await {
            Err(_) => Err(CacheError::Timeout(self.timeout)),
            Ok(Err(error)) => Err(CacheError::Answer(describe(&error))),
            Ok(Ok(answer)) => {
                self.answered.store(true, Ordering::Relaxed);
                Ok(answer)
            }
        }
    }

    async fn connection(&self) -> RedisResult<Connection> {
        let current = || lock(&self.current).clone();
        if let Some(connection) = current() {
            return Ok(connection);
        }
        let _alone = self.connecting.lock().await;
        if let Some(connection) = current() {
            return Ok(connection);
        }
        let made = if self.cluster {
            let client = ClusterClient::builder(self.nodes.iter().cloned())
                .connection_timeout(self.timeout)
                .response_timeout(self.timeout)
                .build()?;
            Connection::Cluster(client.get_async_connection().await?)
        } else {
            let client = redis::Client::open(self.nodes[0].clone())?;
            let config = ConnectionManagerConfig::new()
                .set_max_delay(RECONNECT_AT_MOST)
                .set_connection_timeout(Some(self.timeout))
                .set_response_timeout(Some(self.timeout));
            Connection::Single(ConnectionManager::new_lazy_with_config(client, config)?)
        };
        *lock(&self.current) = Some(made.clone());
        Ok(made)
    }
}

async fn ping(mut connection: Connection) -> RedisResult<()> {
    let ping = redis::cmd("PING");
    match &mut connection {
        Connection::Single(connection) => ping.query_async(connection).await,
        Connection::Cluster(connection) => {
            let anybody = RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random);
            connection.route_command(ping, anybody).await.map(drop)
        }
    }
}

/// What went wrong, without anything that was written or read.
fn describe(error: &RedisError) -> String {
    if error.is_io_error() {
        return error.to_string();
    }
    match error.code() {
        Some(code) => format!("{} ({code})", error.category()),
        None => error.category().to_owned(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
