//! What all connections of one gateway share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use nearcast_runtime::auth::Claims;
use nearcast_runtime::clock;
use nearcast_schemas::event::{Role, Route};
use nearcast_schemas::refusal::Refusal;
use nearcast_schemas::topics::partition_of;
use tokio::time::Instant;

use crate::config::Config;
use crate::deliveries::Reach;
use crate::entrance::Entrance;
use crate::events::Meters;
use crate::feed::Feed;
use crate::http::Api;
use crate::link::Link;
use crate::routes::Routes;
use crate::service::Parts;
use crate::session::Rules;

/// What all connections of one gateway share.
pub struct Gateway {
    pub(crate) config: Config,
    pub(crate) parts: Parts,
    pub(crate) api: Api,
    pub(crate) entrance: Arc<Entrance>,
    incarnation: i64,
    visibility_partitions: i32,
    started: Instant,
    routes: RwLock<Routes<Link>>,
    /// How often all sessions have had to register again.
    registrations: AtomicU64,
    meters: Meters,
}

impl Gateway {
    /// A gateway without connections whose process started at `incarnation`, in ms since the epoch.
    pub fn new(
        config: Config,
        parts: Parts,
        api: Api,
        entrance: Entrance,
        incarnation: i64,
        visibility_partitions: i32,
    ) -> Self {
        Self {
            entrance: Arc::new(entrance),
            config,
            parts,
            api,
            incarnation,
            visibility_partitions,
            started: Instant::now(),
            routes: RwLock::default(),
            registrations: AtomicU64::new(0),
            meters: Meters::new(),
        }
    }

    /// When the process started, in ms since the epoch.
    pub fn incarnation(&self) -> i64 {
        self.incarnation
    }

    /// Metrics.
    pub fn meters(&self) -> &Meters {
        &self.meters
    }

    /// ms since the gateway's start, by a clock that does not go back.
    pub fn now(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// Now by the brokers' clock, in ms since the epoch, as far as it is known.
    pub fn log_now_ms(&self) -> i64 {
        self.parts.ingest.now_ms()
    }

    /// The instant of a time of [`Gateway::now`].
    pub fn instant(&self, at: i64) -> Instant {
        self.started + Duration::from_millis(u64::try_from(at).unwrap_or(0))
    }

    /// Until when a token is good, in ms of [`Gateway::now`]; the difference of clocks that the check allowed is allowed
    /// here, too, so that no connection ends as soon as it has begun.
    pub fn valid_until(&self, claims: &Claims) -> i64 {
        self.now().saturating_add(claims.until_ms.saturating_sub(clock::now_ms()))
    }

    /// Rules for each connection.
    pub fn rules(&self) -> Rules {
        self.config.rules(self.parts.deployment.presence_every_ms())
    }

    /// A feed for a new connection.
    pub fn feed(&self) -> Feed {
        Feed::new(self.config.feed_rules())
    }

    /// Looks at the routes.
    pub fn routes<R>(&self, look: impl FnOnce(&Routes<Link>) -> R) -> R {
        look(&self.routes.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets a session in: from now on notices and deliveries reach its feed. `None` when the process has no more handles
    /// to give.
    pub fn register(&self, user: &str, role: Role, link: &Link) -> Option<Route> {
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        let handle = routes.register(user, role, link.clone())?;
        let partition = partition_of(user.as_bytes(), self.visibility_partitions);
        link.feed(|feed| feed.join(handle, partition));
        Some(Route { gateway: self.config.id.clone(), incarnation: self.incarnation, handle, role })
    }

    /// From now on each session that is woken registers again.
    pub fn began_registering(&self) {
        self.registrations.fetch_add(1, Ordering::Release);
    }

    /// How often that was.
    pub fn registrations(&self) -> u64 {
        self.registrations.load(Ordering::Acquire)
    }

    /// A session begins. Sessions whose place it takes are ended at once.
    pub fn seat(&self, handle: i32) {
        let superseded = self.routes.write().unwrap_or_else(PoisonError::into_inner).seat(handle);
        for older in superseded {
            let wake = older.feed(|feed| {
                feed.end(Refusal::Superseded, None);
                feed.wake_now()
            });
            if wake {
                older.wake();
            }
        }
    }

    /// Lets a session go.
    pub fn unregister(&self, handle: i32) {
        let link = self.routes.write().unwrap_or_else(PoisonError::into_inner).unregister(handle);
        if let Some(link) = link {
            link.feed(Feed::leave);
        }
    }
}
