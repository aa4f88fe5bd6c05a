//! Health of a service that cannot be built yet, because the database it is built on does not answer.

use std::net::SocketAddr;

use nearcast_runtime::health::{self, Readiness};
use nearcast_runtime::lifecycle::Shutdown;
use nearcast_runtime::telemetry::Metrics;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Serves health, readiness and metrics where the services will; ends when it is dropped.
pub struct Waiting {
    _serving: JoinSet<()>,
}

impl Waiting {
    /// Serves on these addresses. One that is taken is left to the service, which will say so.
    pub async fn on(listens: &[SocketAddr], readiness: &Readiness, metrics: &Metrics) -> Self {
        let mut serving = JoinSet::new();
        for listen in listens {
            let Ok(listener) = TcpListener::bind(listen).await else { continue };
            let (readiness, metrics) = (readiness.clone(), metrics.clone());
            serving.spawn(async move {
                // It is aborted sooner than it fails.
                let _ = health::serve_on(listener, readiness, metrics, Shutdown::new()).await;
            });
        }
        Self { _serving: serving }
    }

    /// Frees the addresses.
    pub async fn end(mut self) {
        self._serving.shutdown().await;
    }
}
