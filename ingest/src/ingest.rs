//! The write path of one process.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use nearcast_geo::{Coarsener, CoarsenerError, Resolution};
use nearcast_runtime::kafka::{Kafka, KafkaError, ProducerProfile};
use nearcast_schemas::coarse::{MARGIN_OF_EDGE, schedule_seed};
use nearcast_schemas::codec::Codec;
use nearcast_schemas::deployment::{Deployment, DeploymentError};
use nearcast_schemas::event::{LocationEvent, LocationKind, Mode, NO_SESSION, Route};
use nearcast_schemas::internal::LastReport;
use nearcast_schemas::refusal::Refusal;
use nearcast_schemas::topics::Topics;

use crate::cache::Cache;
use crate::coarse::Coarse;
use crate::config::{Config, ConfigError, thin_rules};
use crate::events::{ReportAccepted, refused};
use crate::kafka::{Log, Then};
use crate::last_seen::{Recorder, Reported};
use crate::pending::{Appended, Outcome, Pending};
use crate::record::alone;
use crate::thin::ThinRules;
use crate::track::{Track, stored};
use crate::validate::{AgeLimits, Checked, RawFix, validate};

/// The write path of one process. Clones are the same: one producer, one bound on what waits for Kafka.
#[derive(Clone)]
pub struct Ingest {
    log: Arc<Log>,
    recorder: Recorder,
    rules: ThinRules,
    limits: AgeLimits,
}

/// Why the write path cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The section `[ingest]`.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The section `[deployment]`.
    #[error(transparent)]
    Deployment(#[from] DeploymentError),
    /// The rules of approximate positions.
    #[error("deployment.coarse_resolution and deployment.coarse_period_s: {0}")]
    Coarse(#[from] CoarsenerError),
    /// The producer.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
}

/// Records still waited for Kafka when the time was over. What became of them is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} records were not acknowledged in time")]
pub struct Unflushed(pub usize);

impl std::fmt::Debug for Ingest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ingest").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

impl Ingest {
    /// Makes the producer; connects in the background.
    ///
    /// # Errors
    /// When a value is out of its range, or librdkafka refuses an option.
    pub fn new(
        config: &Config,
        deployment: &Deployment,
        codec: Codec,
        kafka: &Kafka,
        cache: Arc<dyn Cache>,
    ) -> Result<Self, IngestError> {
        config.check()?;
        deployment.check()?;
        let profile = ProducerProfile {
            linger: config.linger,
            delivery_timeout: config.delivery_timeout,
            queue_records: config.max_in_flight,
            ..ProducerProfile::default()
        };
        let topic = Topics::new(&deployment.prefix).locations();
        let (embedded, most) = (kafka.config().embedded, config.max_in_flight);
        let producer = |deliveries| kafka.producer_with(&profile, deliveries);
        let log = Arc::new(Log::new(topic, codec, embedded, most, producer)?);
        let recorder = Recorder { cache, coarsener: coarsener(deployment)? };
        Ok(Self { log, recorder, rules: thin_rules(deployment), limits: config.age_limits() })
    }

    /// Now by the brokers' clock, which orders, ages and expires, in ms since the epoch: as far as this process knows it
    /// from their acknowledgements, else by this machine's clock.
    pub fn now_ms(&self) -> i64 {
        self.log.now_ms()
    }

    /// [`validate`] by the configured limits; a refusal is counted.
    ///
    /// # Errors
    /// As [`validate`].
    pub fn validate(&self, raw: &RawFix, device: &str, clock: Option<i64>, now_ms: i64) -> Result<Checked, Refusal> {
        validate(raw, device, clock, now_ms, &self.limits).map_err(refused)
    }

    /// The rules of approximate positions in this deployment.
    pub fn coarsener(&self) -> &Coarsener {
        &self.recorder.coarsener
    }

    /// The way into the log of one session, which begins with [`Track::hello`].
    pub fn session(&self, user: &str, route: Route) -> Track {
        Track::new(self.log.clone(), self.recorder.clone(), self.rules, user, route)
    }

    /// Takes a report that came without a session: publishes it, or stores it for the history if it is late. `last` is the
    /// user's last report, as far as it is known.
    ///
    /// # Errors
    /// [`Refusal::Busy`], [`Refusal::Unavailable`].
    pub fn report_without_session(
        &self,
        user: &str,
        checked: Checked,
        mode: Mode,
        last: Option<&LastReport>,
        now_ms: i64,
    ) -> Result<Pending<Outcome>, Refusal> {
        let permit = self.log.reserve(1)?;
        let Checked { fix, position, late } = checked;
        if late {
            let event = alone(LocationKind::Backfill, mode, Some(fix), now_ms);
            let receiver = self.log.append(user, &event, permit, Box::new(stored))?;
            return Ok(Pending::all(VecDeque::from([receiver]), |_| Some(Outcome::Stored)));
        }
        let reported = Reported::new(&fix, position, mode);
        let (owner, recorder) = (Box::<str>::from(user), self.recorder.clone());
        let mut coarse = last.and_then(|last| Coarse::after(last, &recorder.coarsener));
        let then: Then = Box::new(move |settled| {
            if let Ok(appended) = settled {
                let seed = schedule_seed(&owner);
                recorder.record(&owner, seed, &mut coarse, &reported, NO_SESSION, appended.at);
                ReportAccepted { outcome: Outcome::Published(appended) }.emit();
            }
        });
        let event = alone(LocationKind::Fix, mode, Some(fix), now_ms);
        let receiver = self.log.append(user, &event, permit, then)?;
        Ok(Pending::all(VecDeque::from([receiver]), |place| place.map(Outcome::Published)))
    }

    /// The user shares by this mode from now on: writes it to the log and, at the same time, to the cache. What the
    /// cache answers changes nothing: it is tried again there.
    ///
    /// # Errors
    /// [`Refusal::Busy`], [`Refusal::Unavailable`], [`Refusal::Unknown`].
    pub async fn mode(&self, user: &str, mode: Mode, now_ms: i64) -> Result<Appended, Refusal> {
        let pending = self.append_alone(user, &alone(LocationKind::Mode, mode, None, now_ms))?;
        let (appended, _) = tokio::join!(pending, self.recorder.cache.set_mode(user, mode));
        appended
    }

    /// Erases the user: whoever reads the log forgets what came before this record. The cache follows once it has a
    /// time in the log; what the cache answers changes nothing: it is tried again there.
    ///
    /// # Errors
    /// [`Refusal::Busy`], [`Refusal::Unavailable`], [`Refusal::Unknown`].
    pub async fn erase(&self, user: &str, now_ms: i64) -> Result<Appended, Refusal> {
        let event = alone(LocationKind::Erase, Mode::default(), None, now_ms);
        let appended = self.append_alone(user, &event)?.await?;
        let _ = self.recorder.cache.erase(user, appended.at).await;
        Ok(appended)
    }

    /// Records that wait for Kafka.
    pub fn waiting(&self) -> usize {
        self.log.in_flight().waiting()
    }

    /// Waits until no record waits for Kafka.
    ///
    /// # Errors
    /// [`Unflushed`] when that took longer than the limit.
    pub async fn flush(&self, limit: Duration) -> Result<(), Unflushed> {
        tokio::time::timeout(limit, self.log.in_flight().empty()).await.map_err(|_| Unflushed(self.waiting()))
    }

    /// Returns when the producer has failed for good, so that the process has to start again; it is logged by then.
    pub async fn failed(&self) {
        self.log.fatal().cancelled().await;
    }

    fn append_alone(&self, user: &str, event: &LocationEvent) -> Result<Pending<Appended>, Refusal> {
        let permit = self.log.reserve(1)?;
        let receiver = self.log.append(user, event, permit, Box::new(|_| ()))?;
        Ok(Pending::all(VecDeque::from([receiver]), |place| place))
    }
}

fn coarsener(deployment: &Deployment) -> Result<Coarsener, IngestError> {
    let resolution = Resolution::try_from(deployment.coarse_resolution)
        .map_err(|_| DeploymentError { field: "coarse_resolution", problem: "must be 0 to 15".to_owned() })?;
    let period_ms = deployment.coarse_period_s.saturating_mul(1_000);
    Ok(Coarsener::new(resolution, resolution.edge_length_m() * MARGIN_OF_EDGE, period_ms)?)
}
