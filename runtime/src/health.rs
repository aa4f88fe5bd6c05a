//! What a service says about itself: alive, ready and why not, metrics.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use tokio::net::TcpListener;

use crate::lifecycle::Shutdown;
use crate::telemetry::Metrics;

/// How one part of a service is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// It works.
    Ready,
    /// It works with less than it should; the service still counts as ready.
    Degraded,
    /// The service cannot do its job.
    NotReady,
}

#[derive(Clone, Debug, Serialize)]
struct Part {
    state: Condition,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
}

/// The parts of one service. Clones are the same. Without any part the service is not ready.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    parts: Arc<Mutex<BTreeMap<String, Part>>>,
}

/// One part, such as `kafka`. Clones are the same part. A change is logged once.
#[derive(Clone, Debug)]
pub struct Component {
    name: Arc<str>,
    readiness: Readiness,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    ready: bool,
    components: &'a BTreeMap<String, Part>,
}

impl Readiness {
    /// The part of this name; a new one is not ready yet ("starting").
    pub fn component(&self, name: &str) -> Component {
        self.lock()
            .entry(name.to_owned())
            .or_insert_with(|| Part { state: Condition::NotReady, detail: "starting".to_owned() });
        Component { name: name.into(), readiness: self.clone() }
    }

    /// Whether there are parts and none of them is [`Condition::NotReady`].
    pub fn is_ready(&self) -> bool {
        Self::all_ready(&self.lock())
    }

    /// The body of `/readyz`.
    pub fn to_json(&self) -> String {
        let parts = self.lock();
        let report = Report { ready: Self::all_ready(&parts), components: &parts };
        serde_json::to_string(&report).unwrap_or_default()
    }

    fn all_ready(parts: &BTreeMap<String, Part>) -> bool {
        !parts.is_empty() && parts.values().all(|part| part.state != Condition::NotReady)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Part>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Component {
    /// It works.
    pub fn ready(&self) {
        self.set(Condition::Ready, String::new());
    }

    /// It works with less than it should, and why.
    pub fn degraded(&self, why: impl Into<String>) {
        self.set(Condition::Degraded, why.into());
    }

    /// It does not work: why, where it looked, what to run.
    pub fn not_ready(&self, why: impl Into<String>) {
        self.set(Condition::NotReady, why.into());
    }

    /// How it is doing now.
    pub fn condition(&self) -> Condition {
        self.readiness.lock().get(&*self.name).map_or(Condition::NotReady, |part| part.state)
    }

    fn set(&self, state: Condition, detail: String) {
        let before = self.readiness.lock().insert(self.name.to_string(), Part { state, detail: detail.clone() });
        if before.is_some_and(|part| part.state == state && part.detail == detail) {
            return;
        }
        match state {
            Condition::Ready => tracing::info!(component = &*self.name, "component ready"),
            Condition::Degraded => tracing::warn!(component = &*self.name, detail, "component degraded"),
            Condition::NotReady => tracing::warn!(component = &*self.name, detail, "component not ready"),
        }
    }
}

/// Why the health endpoint does not answer.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// Somebody else has the address, or it is not of this machine.
    #[error("cannot listen on {listen} for health and metrics: {error}; set another admin_listen")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the operating system says.
        error: std::io::Error,
    },
    /// Serving failed.
    #[error("health endpoint: {0}")]
    Serve(#[from] std::io::Error),
}

#[derive(Clone)]
struct Shown {
    readiness: Readiness,
    metrics: Metrics,
}

/// `GET /healthz` (200 while the process lives), `/readyz` (200 or 503 with JSON), `/metrics` (Prometheus text), to serve
/// alone or to merge into another router.
pub fn router<S: Clone + Send + Sync + 'static>(readiness: Readiness, metrics: Metrics) -> Router<S> {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(prometheus))
        .with_state(Shown { readiness, metrics })
}

async fn readyz(State(shown): State<Shown>) -> Response {
    let status = if shown.readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CONTENT_TYPE, "application/json")], shown.readiness.to_json()).into_response()
}

async fn prometheus(State(shown): State<Shown>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], shown.metrics.render()).into_response()
}

/// Serves [`router`] on an address until the shutdown begins. Give it a [`Shutdown`] of its own to be seen while
/// draining.
///
/// # Errors
/// When the address cannot be had, or serving fails.
pub async fn serve(
    listen: SocketAddr,
    readiness: Readiness,
    metrics: Metrics,
    shutdown: Shutdown,
) -> Result<(), HealthError> {
    let listener = TcpListener::bind(listen).await.map_err(|error| HealthError::Listen { listen, error })?;
    serve_on(listener, readiness, metrics, shutdown).await
}

/// [`serve`] on a listener that is bound already, for port 0.
///
/// # Errors
/// When serving fails.
pub async fn serve_on(
    listener: TcpListener,
    readiness: Readiness,
    metrics: Metrics,
    shutdown: Shutdown,
) -> Result<(), HealthError> {
    let stop = async move { shutdown.begun().await };
    Ok(axum::serve(listener, router::<()>(readiness, metrics)).with_graceful_shutdown(stop).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_when_every_part_is() {
        let readiness = Readiness::default();
        assert!(!readiness.is_ready(), "nothing has said that it works");
        let kafka = readiness.component("kafka");
        let redis = readiness.component("redis");
        kafka.ready();
        assert!(!readiness.is_ready(), "redis is starting");
        redis.degraded("no answer from 127.0.0.1:1");
        assert!(readiness.is_ready(), "degraded is ready");
        kafka.clone().not_ready("no answer");
        assert!(!readiness.is_ready());
        assert_eq!(readiness.component("kafka").condition(), Condition::NotReady, "the same part by name");
    }

    #[test]
    fn says_why() {
        let readiness = Readiness::default();
        readiness.component("kafka").ready();
        readiness.component("redis").degraded("slow");
        readiness.component("cassandra").not_ready("run `make up`");
        let expect = serde_json::json!({
            "ready": false,
            "components": {
                "cassandra": {"state": "not_ready", "detail": "run `make up`"},
                "kafka": {"state": "ready"},
                "redis": {"state": "degraded", "detail": "slow"},
            }
        });
        assert_eq!(serde_json::from_str::<serde_json::Value>(&readiness.to_json()).unwrap(), expect);
    }
}
