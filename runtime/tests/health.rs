//! The endpoint by HTTP.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::net::SocketAddr;

use nearcast_runtime::health::{self, HealthError, Readiness};
use nearcast_runtime::lifecycle::Shutdown;
use nearcast_runtime::telemetry::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn get(at: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(at).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn answers_until_the_shutdown() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (readiness, shutdown) = (Readiness::default(), Shutdown::new());
    let kafka = readiness.component("kafka");
    let metrics = Metrics::install_once().unwrap();
    metrics::counter!("nearcast_test_health_total").increment(1);
    let serving = tokio::spawn(health::serve_on(listener, readiness, metrics.clone(), shutdown.clone()));

    assert!(get(at, "/healthz").await.starts_with("HTTP/1.1 200"));
    let waiting = get(at, "/readyz").await;
    assert!(waiting.starts_with("HTTP/1.1 503") && waiting.contains("application/json"), "{waiting}");
    assert!(waiting.contains(r#""kafka":{"state":"not_ready","detail":"starting"}"#), "{waiting}");
    kafka.ready();
    assert!(get(at, "/readyz").await.starts_with("HTTP/1.1 200"));
    assert!(get(at, "/metrics").await.contains("nearcast_test_health_total 1"));

    // The address is taken, and the error says what to do.
    let error = health::serve(at, Readiness::default(), metrics, Shutdown::new()).await.unwrap_err();
    assert!(matches!(error, HealthError::Listen { .. }) && error.to_string().contains("admin_listen"), "{error}");

    shutdown.begin();
    serving.await.unwrap().unwrap();
}
