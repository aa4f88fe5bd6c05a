//! What the phones connect to: a deployment, or services of our own in this process.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use nearcast_runtime::auth::Signer;
use nearcast_runtime::lifecycle::Shutdown;
use nearcast_runtime::telemetry::Metrics;
use rustls::ClientConfig;

use super::phone::Sign;
use super::ws::Address;
use crate::failure::Failure;
use crate::services::{self, Running};
use crate::settings::Settings;

/// Phones sign a new token at each connection.
const TOKEN_TTL: Duration = Duration::from_secs(24 * 3_600);

/// Services that end with a run tell digests at least this often, so that a short run compares some too.
const DIGEST_EVERY: Duration = Duration::from_secs(3);

/// Where clients find a deployment.
pub(crate) struct Target {
    /// The gateways' URLs, one at least.
    pub(crate) ws: Vec<String>,
    /// The API's base URL.
    pub(crate) api: String,
}

impl Target {
    /// The gateways.
    ///
    /// # Errors
    /// What a URL must be.
    pub(crate) fn gateways(&self, tls: &Arc<ClientConfig>) -> anyhow::Result<Vec<Address>> {
        self.ws.iter().map(|url| Address::parse(url, tls).map_err(|error| anyhow!(error))).collect()
    }
}

/// Services of our own, and the signal that ends a run.
pub(crate) struct Stage {
    services: Option<Services>,
    over: Shutdown,
}

struct Services {
    running: Running,
    shutdown: Shutdown,
}

impl Stage {
    /// Ends with the given signal.
    pub(crate) fn none(signals: &Shutdown) -> Self {
        Self { services: None, over: signals.child() }
    }

    /// Begins when the run is to end: on a signal, or because a service failed.
    pub(crate) fn over(&self) -> &Shutdown {
        &self.over
    }

    /// Drains the services, if they are ours.
    ///
    /// # Errors
    /// The first of them that failed.
    pub(crate) async fn close(self) -> Result<(), Failure> {
        match self.services {
            Some(Services { running, shutdown }) => {
                shutdown.begin();
                running.ended().await
            }
            None => Ok(()),
        }
    }
}

/// Starts every service in this process, on free ports.
///
/// # Errors
/// When a part cannot be built.
pub(crate) async fn embedded(
    mut settings: Settings,
    metrics: Metrics,
    signals: &Shutdown,
) -> Result<(Target, Stage), Failure> {
    let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    settings.gateway.listen = free;
    settings.gateway.admin_listen = free;
    settings.fanout.admin_listen = free;
    settings.history_sink.admin_listen = free;
    settings.api.listen = free;
    settings.fanout.digest_every = settings.fanout.digest_every.min(DIGEST_EVERY);
    // Of their own, because the phones go first.
    let shutdown = Shutdown::new();
    let (running, addresses) = services::start_embedded(Arc::new(settings), metrics, shutdown.clone()).await?;
    let over = signals.child();
    let (failed, ends) = (shutdown.clone(), over.clone());
    tokio::spawn(async move {
        failed.begun().await;
        ends.begin();
    });
    let ws = vec![format!("ws://{}/v1/ws", addresses.gateway)];
    let target = Target { ws, api: format!("http://{}", addresses.api) };
    Ok((target, Stage { services: Some(Services { running, shutdown }), over }))
}

/// The deployment at these URLs, or where the configuration says that it listens.
pub(crate) fn deployment(settings: &Settings, ws: &[String], api: Option<&str>) -> Target {
    let own = || vec![format!("ws://{}/v1/ws", reachable(settings.gateway.listen))];
    Target {
        ws: if ws.is_empty() { own() } else { ws.to_vec() },
        api: api.map_or_else(|| format!("http://{}", reachable(settings.api.listen)), str::to_owned),
    }
}

/// Signs tokens with the configured key.
///
/// # Errors
/// When the configuration has none.
pub(crate) fn signer(settings: &Settings) -> Result<Sign, Failure> {
    let signer = Signer::new(&settings.auth).map_err(Failure::configuration)?;
    Ok(Arc::new(move |user: &str| signer.sign(user, TOKEN_TTL, &[]).map_err(|error| error.to_string())))
}

/// A listening address as a client on this machine reaches it.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configured_addresses_are_the_default() {
        let settings = Settings::from_variables(std::iter::empty()).unwrap();
        let target = deployment(&settings, &[], None);
        assert_eq!(target.ws, ["ws://127.0.0.1:7400/v1/ws"]);
        assert_eq!(target.api, "http://127.0.0.1:7410");
        let ws = ["ws://h/v1/ws".to_owned(), "ws://i/v1/ws".to_owned()];
        let target = deployment(&settings, &ws, Some("http://a"));
        assert_eq!((target.ws.as_slice(), target.api.as_str()), (ws.as_slice(), "http://a"));
    }

    #[test]
    fn a_service_that_listens_everywhere_is_reached_here() {
        for (listen, expect) in [("0.0.0.0:7", "127.0.0.1:7"), ("[::]:7", "[::1]:7"), ("10.0.0.1:7", "10.0.0.1:7")] {
            assert_eq!(reachable(listen.parse().unwrap()), expect.parse().unwrap());
        }
    }
}
