//! Running services: one, several in one process, or all of them without any server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use nearcast_runtime::health::Readiness;
use nearcast_runtime::lifecycle::{Shutdown, Tasks};
use nearcast_runtime::telemetry::Metrics;
use tokio::net::TcpListener;

use crate::failure::Failure;
use crate::parts::{Beside, Databases, Shared};
use crate::settings::Settings;
use crate::waiting::Waiting;
use crate::{migrate, topics};

/// A service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// The WebSocket edge.
    Gateway,
    /// The join.
    Fanout,
    /// Kafka to Cassandra.
    HistorySink,
    /// REST.
    Api,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Gateway, Self::Fanout, Self::HistorySink, Self::Api];

    fn needs_databases(self) -> bool {
        matches!(self, Self::HistorySink | Self::Api)
    }

    /// Where its health is served.
    fn health(self, settings: &Settings) -> SocketAddr {
        match self {
            Self::Gateway => settings.gateway.admin_listen,
            Self::Fanout => settings.fanout.admin_listen,
            Self::HistorySink => settings.history_sink.admin_listen,
            Self::Api => settings.api.listen,
        }
    }
}

/// Services have their own times to drain; this is for what comes after.
const AFTER_DRAIN: Duration = Duration::from_secs(5);

/// Running services.
pub struct Running {
    tasks: Tasks,
    beside: Beside,
    grace: Duration,
}

/// Where the services of one process listen.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Clients' WebSockets.
    pub gateway: SocketAddr,
    /// REST.
    pub api: SocketAddr,
}

impl Running {
    /// Waits until the shutdown begins, by whatever cause, and the services have drained.
    ///
    /// # Errors
    /// The first service that failed.
    pub async fn ended(self) -> Result<(), Failure> {
        let ended = self.tasks.join(self.grace).await;
        self.beside.end().await;
        Ok(ended?)
    }
}

/// Where clients and health are served by these services.
pub fn listens(settings: &Settings, services: &[Service]) -> Vec<SocketAddr> {
    let mut listens: Vec<_> = services.iter().map(|service| service.health(settings)).collect();
    if services.contains(&Service::Gateway) {
        listens.push(settings.gateway.listen);
    }
    listens
}

/// Starts services on the configured servers. What they are built on is waited for here, and their health addresses say
/// so meanwhile; with `prepare`, topics and tables are made first.
///
/// # Errors
/// When a server is absent for too long, tables are missing, or a part cannot be built.
pub async fn start(
    settings: Arc<Settings>,
    metrics: Metrics,
    services: &[Service],
    prepare: bool,
    shutdown: Shutdown,
) -> Result<Running, Failure> {
    let (shared, beside) = Shared::real(Arc::clone(&settings), metrics.clone())?;
    let mut tasks = Tasks::new(shutdown.clone());
    let grace = grace(&settings);
    let readiness = Readiness::default();
    // Not ready whatever else is: the services themselves say when they are.
    let _ = readiness.component("services");
    let healths: Vec<_> = services.iter().map(|service| service.health(&settings)).collect();
    let waiting = Waiting::on(&healths, &readiness, &metrics).await;
    let databases = tokio::select! {
        () = shutdown.begun() => return Ok(Running { tasks, beside, grace }),
        databases = foundation(&settings, services, prepare, &readiness) => databases?,
    };
    waiting.end().await;
    for service in services {
        let stop = shutdown.clone();
        match (service, &databases) {
            (Service::Gateway, _) => {
                tasks.spawn("gateway", nearcast_gateway::run(settings.gateway.clone(), shared.gateway()?, stop));
            }
            (Service::Fanout, _) => {
                tasks.spawn("fanout", nearcast_fanout::run(settings.fanout.clone(), shared.fanout(), stop));
            }
            (Service::HistorySink, Some(databases)) => {
                let parts = shared.history_sink(databases);
                tasks.spawn("history-sink", nearcast_history_sink::run(settings.history_sink.clone(), parts, stop));
            }
            (Service::Api, Some(databases)) => {
                tasks.spawn("api", nearcast_api::run(settings.api.clone(), shared.api(databases)?, stop));
            }
            // Connected above for whoever needs them.
            (Service::HistorySink | Service::Api, None) => {}
        }
    }
    Ok(Running { tasks, beside, grace })
}

/// What must be there before the services are built.
async fn foundation(
    settings: &Settings,
    services: &[Service],
    prepare: bool,
    readiness: &Readiness,
) -> Result<Option<Databases>, Failure> {
    if prepare {
        topics::ensure(settings, &readiness.component("kafka")).await?;
        migrate::apply(settings, &readiness.component("cassandra")).await?;
    }
    if !services.iter().any(|service| service.needs_databases()) {
        return Ok(None);
    }
    Ok(Some(Databases::connect(settings, &readiness.component("cassandra")).await?))
}

/// Starts every service with stand-ins for all servers, and returns where clients find it. Port 0 takes a free one.
///
/// # Errors
/// When an address is taken, or a part cannot be built.
pub async fn start_embedded(
    settings: Arc<Settings>,
    metrics: Metrics,
    shutdown: Shutdown,
) -> Result<(Running, Addresses), Failure> {
    let (shared, databases, beside) = Shared::embedded(Arc::clone(&settings), metrics)?;
    let clients = bind(settings.gateway.listen, "gateway.listen").await?;
    let rest = bind(settings.api.listen, "api.listen").await?;
    let addresses = Addresses { gateway: clients.local_addr()?, api: rest.local_addr()? };
    let mut gateway = settings.gateway.clone();
    gateway.api_url = format!("http://{}", addresses.api);

    let mut tasks = Tasks::new(shutdown.clone());
    let stop = || shutdown.clone();
    let parts = shared.history_sink(&databases);
    tasks.spawn("history-sink", nearcast_history_sink::run(settings.history_sink.clone(), parts, stop()));
    tasks.spawn("fanout", nearcast_fanout::run(settings.fanout.clone(), shared.fanout(), stop()));
    tasks.spawn("api", nearcast_api::run_on(rest, settings.api.clone(), shared.api(&databases)?, stop()));
    tasks.spawn("gateway", nearcast_gateway::run_on(clients, gateway, shared.gateway()?, stop()));
    Ok((Running { tasks, beside, grace: grace(&settings) }, addresses))
}

async fn bind(listen: SocketAddr, setting: &str) -> Result<TcpListener, Failure> {
    let listener = TcpListener::bind(listen).await;
    Ok(listener.with_context(|| format!("cannot listen on {listen}; set another {setting}"))?)
}

/// How long the services may take to drain.
fn grace(settings: &Settings) -> Duration {
    let gateway = Duration::from_secs(u64::from(settings.gateway.grace_s));
    let history = settings.history_sink.drain + AFTER_DRAIN;
    AFTER_DRAIN + gateway.max(2 * settings.api.drain).max(history).max(settings.fanout.drain)
}
