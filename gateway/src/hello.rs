//! How a `hello` becomes a session: the session gets a route and a place in the registry, the API is asked, the log is
//! told, the client is welcomed.
//!
//! The registry comes first, so that a change finds the session whether or not the API's answer has it.

use nearcast_ingest::{Appended, Checked, Session as CacheEntry, Track};
use nearcast_schemas::digest::ListDigest;
use nearcast_schemas::event::{NO_SESSION, Role, Route};
use nearcast_schemas::ids::check_id;
use nearcast_schemas::internal::{HelloAnswer, HelloRequest, Place};
use nearcast_schemas::refusal::Refusal;

use futures_util::future::BoxFuture;

use crate::connection::Connection;
use crate::deliveries::Reach;
use crate::events::{NotRegistered, SessionGauge};
use crate::frames::{
    Accepted, AckResult, ErrorMessage, Hello, Kind, Limits, MAX_FIXES, RoleName, ServerMessage, Welcome,
};
use crate::reports::retry_after_ms;

/// A step of a hello is done.
pub enum Step {
    /// The API has answered.
    Asked(Result<HelloAnswer, Refusal>),
    /// The log has answered.
    Said(Result<Appended, Refusal>),
}

/// A hello that is being answered.
pub struct Joining {
    /// Resolves with the next step.
    pub step: BoxFuture<'static, Step>,
    id: Option<String>,
    n: Option<i64>,
    device: String,
    /// Its place in the registry.
    entry: CacheEntry,
    /// What is to go into the log, until it does.
    checked: Option<Checked>,
    accepted: Option<Accepted>,
    /// What the API answered, and the way into the log that it opened.
    answered: Option<(HelloAnswer, Track)>,
}

/// A session that has begun.
pub struct Joined {
    /// Its way into the log.
    pub track: Track,
    /// The installation that its reports are from, where they do not say.
    pub device: Box<str>,
    _counted: SessionGauge,
}

impl Joined {
    /// Its place in the registry.
    pub fn entry(&self) -> CacheEntry {
        let Route { gateway, incarnation, handle, role } = self.track.route().clone();
        CacheEntry { gateway, incarnation, handle, role, session: self.track.session().unwrap_or(NO_SESSION) }
    }
}

impl Joining {
    /// Whether the API has not answered, so that the log knows nothing of it.
    pub fn is_asking(&self) -> bool {
        self.answered.is_none()
    }

    /// The session as far as it got: its place in the registry, and its way into the log.
    pub fn into_session(self) -> (CacheEntry, Option<Track>) {
        (self.entry, self.answered.map(|(_, track)| track))
    }
}

impl Connection {
    /// A hello came.
    pub(crate) fn join(&mut self, hello: Hello, id: Option<String>, now: i64) {
        let Hello { device, clock, watch, position, resume } = hello;
        let n = position.as_ref().map(|raw| raw.n);
        let role = match watch {
            _ if self.of_link => Role::Link,
            Some(true) => Role::Watching,
            _ => Role::Reporting,
        };
        let log_now = self.gateway.log_now_ms();
        let clock = self.clock.now(clock, log_now).or(clock);
        let checked = match position {
            _ if check_id(&device).is_err() => Err(Refusal::IdInvalid),
            Some(_) if role != Role::Reporting => Err(Refusal::NotReporting),
            Some(raw) => self.gateway.parts.ingest.validate(&raw, &device, clock, log_now).map(Some),
            None => Ok(None),
        };
        let checked = match checked {
            Ok(checked) => checked,
            Err(refusal) => return self.not_joined(refusal, id, n, now),
        };
        let place = checked
            .as_ref()
            .filter(|checked| !checked.late)
            .map(|checked| Place { lat: checked.fix.lat, lon: checked.fix.lon });
        let accepted = checked.as_ref().map(|checked| Accepted {
            device: device.clone(),
            n: checked.fix.n,
            result: if checked.late { AckResult::Stored } else { AckResult::Published },
        });
        let Some(route) = self.gateway.register(&self.user, role, &self.link) else {
            tracing::error!("this process has given all its handles, start it anew");
            return self.not_joined(Refusal::Unavailable, id, n, now);
        };
        if let Some(resume) = resume {
            self.gateway.meters().resume();
            // What is no digest is nobody's.
            if let Some(held) = ListDigest::claimed(usize::try_from(resume.count).unwrap_or(usize::MAX), &resume.digest)
            {
                self.link.feed(|feed| feed.resume(held));
            }
        }
        let Route { gateway, incarnation, handle, role } = route;
        let entry = CacheEntry { gateway, incarnation, handle, role, session: NO_SESSION };
        let request = HelloRequest { user: self.user.to_string(), role, issued_at: self.issued_at, place };
        let (api, cache, place) = (self.gateway.api.clone(), self.gateway.parts.cache.clone(), entry.clone());
        let step = Box::pin(async move {
            if let Err(error) = cache.register(&request.user, &place).await {
                NotRegistered { error: error.to_string() }.emit();
            }
            Step::Asked(api.hello(&request).await)
        });
        let joining = Joining { step, id, n, device, entry, checked, accepted, answered: None };
        self.joining = Some(Box::new(joining));
    }

    /// The next step of a hello is done.
    pub(crate) fn on_step(&mut self, step: Step, now: i64) {
        let Some(joining) = self.joining.take() else { return };
        match step {
            Step::Asked(Ok(answer)) => self.say(joining, answer),
            Step::Said(Ok(appended)) => self.welcome(joining, appended, now),
            Step::Asked(Err(refusal)) | Step::Said(Err(refusal)) => {
                self.let_go(&joining.entry);
                self.not_joined(refusal, joining.id, joining.n, now);
            }
        }
    }

    /// The API has answered: the session takes its place, and the log is told.
    fn say(&mut self, mut joining: Box<Joining>, answer: HelloAnswer) {
        let CacheEntry { gateway, incarnation, handle, role, .. } = joining.entry.clone();
        self.gateway.seat(handle);
        let list_version = answer.list_version;
        let mode = self.link.feed(|feed| feed.answered(list_version, answer.mode));
        let track = self.gateway.parts.ingest.session(&self.user, Route { gateway, incarnation, handle, role });
        if let Some(last) = &answer.last_report {
            track.go_on_from(last);
        }
        let (said, checked, now_ms) = (track.clone(), joining.checked.take(), self.gateway.log_now_ms());
        joining.step = Box::pin(async move {
            Step::Said(match said.hello(list_version, mode, checked, now_ms) {
                Ok(pending) => pending.await,
                Err(refusal) => Err(refusal),
            })
        });
        joining.answered = Some((answer, track));
        self.joining = Some(joining);
    }

    /// The log has the hello.
    fn welcome(&mut self, joining: Box<Joining>, appended: Appended, now: i64) {
        let Joining { device, mut entry, accepted, answered, .. } = *joining;
        let Some((answer, track)) = answered else { return };
        let role = entry.role;
        entry.session = appended.offset;
        let gateway = &self.gateway;
        gateway.parts.cache.refresh(&self.user, &entry);
        let deployment = &gateway.parts.deployment;
        let welcome = Welcome {
            protocol: 1,
            server_time: gateway.log_now_ms(),
            user: self.user.to_string(),
            session: format!("{}.{}.{}", entry.gateway, entry.incarnation, entry.handle),
            role: RoleName::of(role),
            report_interval_s: deployment.report_interval_s,
            min_move_m: deployment.min_move_m,
            max_silence_s: deployment.max_silence_s,
            friend_ttl_s: deployment.friend_ttl_s,
            radius_m: answer.radius_m,
            ping_every_s: gateway.config.ping_every_s,
            limits: Limits {
                message_bytes: gateway.config.message_bytes,
                fixes: u32::try_from(MAX_FIXES).unwrap_or(u32::MAX),
                messages_per_s: gateway.config.messages_per_s,
            },
            accepted,
        };
        self.link.feed(|feed| feed.welcome(welcome, answer.nearby, answer.nearby_known, now));
        self.session.joined(role == Role::Reporting, now);
        self.joined = Some(Joined { track, device: device.into(), _counted: SessionGauge::enter(role) });
    }

    /// Whoever may know the session forgets it.
    pub(crate) fn let_go(&self, entry: &CacheEntry) {
        self.gateway.unregister(entry.handle);
        self.gateway.parts.cache.unregister(&self.user, entry);
    }

    fn not_joined(&mut self, refusal: Refusal, id: Option<String>, n: Option<i64>, now: i64) {
        let retry_after_ms = retry_after_ms(refusal);
        let error = ErrorMessage { re: id, n, of: Some(Kind::Hello), retry_after_ms, ..ErrorMessage::new(refusal) };
        self.control(ServerMessage::Error(Box::new(error)));
        self.session.not_joined(retry_after_ms.unwrap_or(0), now);
    }
}
