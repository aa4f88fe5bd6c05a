//! Logs to standard error by `tracing`, metrics by the `metrics` facade and its Prometheus recorder.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

/// The section `[telemetry]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetryConfig {
    /// What is logged, as `tracing`'s directives: `info`, `info,nearcast_fanout=debug`.
    pub filter: String,
    /// How a line looks.
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why telemetry did not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not in `tracing`'s syntax.
    #[error("telemetry.filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The process has a logger already.
    #[error("logging was started twice: {0}")]
    Twice(Box<dyn std::error::Error + Send + Sync>),
    /// The process has another metrics recorder.
    #[error("metrics: {0}")]
    Recorder(String),
}

/// Reads the metrics of this process. Clones are the same.
#[derive(Clone, Debug)]
pub struct Metrics {
    handle: PrometheusHandle,
}

/// Seconds, from a quarter of a millisecond to half a minute; three or four a decade.
const SECONDS: &[f64] =
    &[0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0];
/// Bytes, records and other sizes; powers of four.
const SIZES: &[f64] =
    &[1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0];

/// The database driver complains at each attempt, where the services say once what they wait for, and passes on a warning
/// about `USE` at each connection, which is harmless with one keyspace a session. A filter that names these overrides it.
const QUIET: &str =
    "scylla=warn,scylla::network=error,scylla::cluster::metadata=off,tungstenite=info,tokio_tungstenite=info";

/// Samples of histograms gather until somebody reads them; this bounds that time where nobody scrapes.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

impl Metrics {
    /// Installs the recorder of this process, or returns the one installed before; tests may call it as often as they
    /// like.
    ///
    /// # Errors
    /// When the process has another recorder, or no thread is to be had.
    pub fn install_once() -> Result<Self, TelemetryError> {
        static INSTALLED: OnceLock<PrometheusHandle> = OnceLock::new();
        static INSTALLING: Mutex<()> = Mutex::new(());
        let _alone = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = INSTALLED.get() {
            return Ok(Self { handle: handle.clone() });
        }
        let failed = |error: &dyn std::fmt::Display| TelemetryError::Recorder(error.to_string());
        let handle = PrometheusBuilder::new()
            .set_buckets(SIZES)
            .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS))
            .and_then(PrometheusBuilder::install_recorder)
            .map_err(|error| failed(&error))?;
        let upkeep = handle.clone();
        std::thread::Builder::new()
            .name("metrics-upkeep".to_owned())
            .spawn(move || {
                loop {
                    std::thread::park_timeout(UPKEEP_EVERY);
                    upkeep.run_upkeep();
                }
            })
            .map_err(|error| failed(&error))?;
        let handle = INSTALLED.get_or_init(|| handle);
        Ok(Self { handle: handle.clone() })
    }

    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        self.handle.render()
    }
}

/// Starts logging to standard error, and the metrics recorder. Once a process.
///
/// # Errors
/// When the filter is malformed, or logging was started before.
pub fn init(config: &TelemetryConfig) -> Result<Metrics, TelemetryError> {
    let filter = filter(config)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.format {
        LogFormat::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    }
    .map_err(TelemetryError::Twice)?;
    Metrics::install_once()
}

/// Whether `filter` is one; for checking a configuration without starting anything.
///
/// # Errors
/// When it is malformed.
pub fn check(config: &TelemetryConfig) -> Result<(), TelemetryError> {
    filter(config).map(drop)
}

fn filter(config: &TelemetryConfig) -> Result<EnvFilter, TelemetryError> {
    // Checked alone first, so that an error speaks of what was configured.
    EnvFilter::try_new(&config.filter)?;
    Ok(EnvFilter::try_new(format!("{QUIET},{}", config.filter))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_what_was_counted_with_buckets_by_unit() {
        let metrics = Metrics::install_once().unwrap();
        metrics::counter!("nearcast_test_reports_total").increment(3);
        metrics::histogram!("nearcast_test_wait_seconds").record(0.004);
        metrics::histogram!("nearcast_test_batch_records").record(20.0);
        let text = Metrics::install_once().unwrap().render();
        assert_eq!(text, metrics.render(), "one recorder");
        for line in [
            "nearcast_test_reports_total 3",
            "nearcast_test_wait_seconds_bucket{le=\"0.0025\"} 0",
            "nearcast_test_wait_seconds_bucket{le=\"0.005\"} 1",
            "nearcast_test_batch_records_bucket{le=\"64\"} 1",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }

    #[test]
    fn refuses_a_malformed_filter() {
        let config = TelemetryConfig { filter: "info,[".to_owned(), format: LogFormat::Text };
        assert!(check(&config).unwrap_err().to_string().starts_with("telemetry.filter: "));
    }
}
