//! What a service says about itself: alive, ready and why not, metrics.

use std::collections::BTreeMap;
use std::fmt::Write as _;
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

/// How one part of a service is doing; the worse, the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
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
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    parts: BTreeMap<String, Part>,
    /// The service drains once this has begun.
    shutdown: Option<Shutdown>,
}

/// One part, such as `kafka`. Clones are the same part. A change is logged once: as a warning where it is for the worse,
/// unless the service drains. A part that is starting does not work yet, so that nothing it says of that is for the worse.
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
            .parts
            .entry(name.to_owned())
            .or_insert_with(|| Part { state: Condition::NotReady, detail: "starting".to_owned() });
        Component { name: name.into(), readiness: self.clone() }
    }

    /// The service drains once this shutdown has begun: a part that then stops working is what was asked for, and no
    /// warning.
    pub fn drains_with(&self, shutdown: &Shutdown) {
        self.lock().shutdown = Some(shutdown.clone());
    }

    /// Whether there are parts and none of them is [`Condition::NotReady`].
    pub fn is_ready(&self) -> bool {
        Self::all_ready(&self.lock().parts)
    }

    /// The body of `/readyz`.
    pub fn to_json(&self) -> String {
        let known = self.lock();
        let report = Report { ready: Self::all_ready(&known.parts), components: &known.parts };
        serde_json::to_string(&report).unwrap_or_default()
    }

    /// The same as a metric, for `/metrics`: 0 ready, 1 degraded, 2 not ready. Beside the recorder, because services of one
    /// process have parts of one name.
    pub fn to_prometheus(&self) -> String {
        let known = self.lock();
        let mut text = String::from("# TYPE nearcast_component_condition gauge\n");
        for (name, part) in &known.parts {
            let _ = writeln!(text, "nearcast_component_condition{{component=\"{name}\"}} {}", part.state as u8);
        }
        text
    }

    fn all_ready(parts: &BTreeMap<String, Part>) -> bool {
        !parts.is_empty() && parts.values().all(|part| part.state != Condition::NotReady)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.readiness.lock().parts.get(&*self.name).map_or(Condition::NotReady, |part| part.state)
    }

    fn set(&self, condition: Condition, detail: String) {
        let (before, draining) = {
            let mut known = self.readiness.lock();
            let before = known.parts.insert(self.name.to_string(), Part { state: condition, detail: detail.clone() });
            (before, known.shutdown.as_ref().is_some_and(Shutdown::is_begun))
        };
        if before.as_ref().is_some_and(|part| part.state == condition && part.detail == detail) {
            return;
        }
        let name = &*self.name;
        let warn = !draining && before.is_some_and(|part| condition > part.state);
        match (condition, warn) {
            (Condition::Ready, _) => tracing::info!(component = name, "component ready"),
            (Condition::Degraded, true) => tracing::warn!(component = name, detail, "component degraded"),
            (Condition::Degraded, false) => tracing::info!(component = name, detail, "component degraded"),
            (Condition::NotReady, true) => tracing::warn!(component = name, detail, "component not ready"),
            (Condition::NotReady, false) => tracing::info!(component = name, detail, "component not ready"),
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
    let text = shown.metrics.render() + &shown.readiness.to_prometheus();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
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
        let metric = readiness.to_prometheus();
        for line in ["{component=\"cassandra\"} 2\n", "{component=\"kafka\"} 0\n", "{component=\"redis\"} 1\n"] {
            assert!(metric.contains(&format!("nearcast_component_condition{line}")), "{line} in {metric}");
        }
    }

    /// What is said in the log about a part, a line as `LEVEL state detail`.
    fn said(tell: impl FnOnce(&Readiness, &Component)) -> Vec<String> {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, || {
            let readiness = Readiness::default();
            tell(&readiness, &readiness.component("kafka"));
        });
        let bytes = lines.0.lock().unwrap();
        let lines = std::str::from_utf8(&bytes).unwrap().lines();
        lines
            .map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
                let (fields, level) = (&line["fields"], word(&line["level"]));
                let message = word(&fields["message"]);
                format!("{level} {} {}", message.trim_start_matches("component "), word(&fields["detail"]))
                    .trim_end()
                    .to_owned()
            })
            .collect()
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_start_and_a_drain_warn_of_nothing() {
        let shutdown = Shutdown::new();
        let lines = said(|readiness, kafka| {
            readiness.drains_with(&shutdown);
            kafka.not_ready("replaying");
            kafka.not_ready("replaying");
            kafka.not_ready("replaying: 7 to go");
            kafka.ready();
            shutdown.begin();
            kafka.degraded("slow");
            kafka.not_ready("draining");
        });
        assert_eq!(
            lines,
            [
                "INFO not ready replaying",
                "INFO not ready replaying: 7 to go",
                "INFO ready",
                "INFO degraded slow",
                "INFO not ready draining"
            ]
        );
    }

    #[test]
    fn what_worked_and_stops_is_a_warning_and_its_recovery_is_none() {
        let lines = said(|readiness, kafka| {
            readiness.drains_with(&Shutdown::new());
            kafka.degraded("no answer since the start");
            kafka.ready();
            kafka.degraded("slow");
            kafka.not_ready("no answer");
            kafka.not_ready("no answer, and another reason");
            kafka.degraded("slow again");
            kafka.ready();
            kafka.not_ready("gone");
        });
        assert_eq!(
            lines,
            [
                "INFO degraded no answer since the start",
                "INFO ready",
                "WARN degraded slow",
                "WARN not ready no answer",
                "INFO not ready no answer, and another reason",
                "INFO degraded slow again",
                "INFO ready",
                "WARN not ready gone"
            ]
        );
    }
}
