//! One session's way into the log.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nearcast_schemas::coarse::schedule_seed;
use nearcast_schemas::event::{LocationEvent, LocationKind, Mode, NO_SESSION, Role, Route, Sharing};
use nearcast_schemas::internal::LastReport;
use nearcast_schemas::refusal::Refusal;
use nearcast_schemas::rule::sharing_at;

use crate::coarse::Coarse;
use crate::events::{ReportAccepted, refused};
use crate::kafka::{Log, Then};
use crate::last_seen::{Recorder, Reported};
use crate::order::Newest;
use crate::pending::{Appended, Outcome, Pending, Settled};
use crate::record;
use crate::thin::{Decision, ThinRules, Thinner, Ticket};
use crate::validate::Checked;

/// One session's way into the log. Clones are the same session.
///
/// Records are enqueued before the call returns, in the order of the calls, and stay in that order in the log. What
/// Kafka acknowledges takes effect (thinning, cache) whether or not somebody awaits the [`Pending`].
#[derive(Clone)]
pub struct Track {
    log: Arc<Log>,
    session: Arc<Session>,
}

struct Session {
    user: Box<str>,
    seed: u64,
    route: Route,
    recorder: Recorder,
    state: Mutex<State>,
}

struct State {
    hello: Hello,
    mode: Mode,
    /// How the last report that was not late was shared.
    sharing: Sharing,
    thinner: Thinner,
    newest: Newest,
    coarse: Option<Coarse>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Hello {
    NotSaid,
    OnItsWay,
    /// Its offset.
    Said(i64),
}

impl std::fmt::Debug for Track {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Track").field("handle", &self.session.route.handle).finish_non_exhaustive()
    }
}

impl Track {
    pub(crate) fn new(log: Arc<Log>, recorder: Recorder, rules: ThinRules, user: &str, route: Route) -> Self {
        let state = State {
            hello: Hello::NotSaid,
            mode: Mode::default(),
            sharing: Sharing::Exact,
            thinner: Thinner::new(rules),
            newest: Newest::default(),
            coarse: None,
        };
        let seed = schedule_seed(user);
        let session = Session { user: user.into(), seed, route, recorder, state: Mutex::new(state) };
        Self { log, session: Arc::new(session) }
    }

    /// Whose session it is.
    pub fn user(&self) -> &str {
        &self.session.user
    }

    /// Where the session is connected.
    pub fn route(&self) -> &Route {
        &self.session.route
    }

    /// Offset of the hello, once Kafka has acknowledged it.
    pub fn session(&self) -> Option<i64> {
        match self.session.lock().hello {
            Hello::Said(offset) => Some(offset),
            Hello::NotSaid | Hello::OnItsWay => None,
        }
    }

    /// How records of this session are stamped from now on.
    pub fn mode(&self) -> Mode {
        self.session.lock().mode
    }

    /// The user shares by this mode from now on, unless a higher version is known. Nothing reported before counts for
    /// thinning any more, nor when the mode ends: what was reported while it held is never shown more finely.
    pub fn set_mode(&self, mode: Mode) {
        let mut state = self.session.lock();
        if mode.version > state.mode.version {
            state.mode = mode;
            state.thinner.forget();
        }
    }

    /// The user's approximate position goes on from the user's last report, of whichever session that was.
    pub fn go_on_from(&self, last: &LastReport) {
        let coarse = Coarse::after(last, &self.session.recorder.coarsener);
        self.session.lock().coarse = coarse;
    }

    /// Begins the session: the reset will wait for this version of the viewer's list. A `fix` that is late goes to the
    /// history beside a hello without one; then both have to be acknowledged.
    ///
    /// After a refusal or an unknown outcome it may be said again.
    ///
    /// # Errors
    /// [`Refusal::HelloRepeated`] after one that is acknowledged or on its way, [`Refusal::NotReporting`] for a fix of a
    /// session that only watches, [`Refusal::Busy`], [`Refusal::Unavailable`].
    pub fn hello(
        &self,
        list_version: i64,
        mode: Mode,
        fix: Option<Checked>,
        now_ms: i64,
    ) -> Result<Pending<Appended>, Refusal> {
        if fix.is_some() {
            self.reporting()?;
        }
        let mut state = self.session.lock();
        if state.hello != Hello::NotSaid {
            return Err(refused(Refusal::HelloRepeated));
        }
        let (fix, late) = match fix {
            Some(checked) if checked.late => (None, Some(checked)),
            fix => (fix, None),
        };
        let mut permit = self.log.reserve(1 + usize::from(late.is_some()))?;
        if mode.version >= state.mode.version {
            state.mode = mode;
        }
        let mode = state.mode;
        state.sharing = sharing_at(&mode, now_ms);

        let reported = fix.as_ref().map(|checked| Reported::new(&checked.fix, checked.position, mode));
        let ticket = fix.as_ref().map(|_| state.thinner.publish());
        let number = fix.as_ref().map(|checked| (checked.fix.device.clone(), checked.fix.n));
        let event = LocationEvent {
            list_version,
            ..self.record(LocationKind::Hello, NO_SESSION, mode, fix.map(|checked| checked.fix), now_ms)
        };
        let session = Arc::clone(&self.session);
        let then: Then = Box::new(move |settled| session.greeted(settled, ticket, reported, now_ms));
        let mut waiting = VecDeque::with_capacity(2);
        // The late one goes first: when it is refused, there was no hello.
        if let Some(checked) = late {
            let event = self.record(LocationKind::Backfill, NO_SESSION, mode, Some(checked.fix), now_ms);
            let late = self.log.append(&self.session.user, &event, permit.split_one(), Box::new(stored));
            waiting.push_back(late?);
        }
        match self.log.append(&self.session.user, &event, permit, then) {
            Ok(hello) => waiting.push_front(hello),
            Err(refusal) => {
                if let Some(ticket) = ticket {
                    state.thinner.withdrawn(ticket);
                }
                return Err(refusal);
            }
        }
        state.hello = Hello::OnItsWay;
        if let Some((device, n)) = number {
            state.newest.took(&device, n);
        }
        // The hello's own place comes first.
        Ok(Pending::all(waiting, |hello| hello))
    }

    /// Takes a report that was checked at `now_ms`: publishes it, thins it out, or, if it is late or has a lower number
    /// than one of its device before it, stores it for the history.
    ///
    /// # Errors
    /// [`Refusal::NotReporting`], [`Refusal::HelloExpected`] before the hello is acknowledged, [`Refusal::Busy`],
    /// [`Refusal::Unavailable`].
    pub fn report(&self, checked: Checked, now_ms: i64) -> Result<Pending<Outcome>, Refusal> {
        self.reporting()?;
        let mut state = self.session.lock();
        let offset = state.said()?;
        let Checked { fix, position, late } = checked;
        if late || state.newest.is_after(&fix.device, fix.n) {
            let permit = self.log.reserve(1)?;
            let event = self.record(LocationKind::Backfill, offset, state.mode, Some(fix), now_ms);
            let receiver = self.log.append(&self.session.user, &event, permit, Box::new(stored))?;
            return Ok(Pending::all(VecDeque::from([receiver]), |_| Some(Outcome::Stored)));
        }
        let sharing = sharing_at(&state.mode, now_ms);
        if sharing != state.sharing {
            state.sharing = sharing;
            state.thinner.forget();
        }
        let ticket = match state.thinner.decide(position, now_ms) {
            Decision::Publish(ticket) => ticket,
            Decision::Thin => {
                state.newest.took(&fix.device, fix.n);
                ReportAccepted { outcome: Outcome::Thinned }.emit();
                return Ok(Pending::ready(|_| Some(Outcome::Thinned)));
            }
        };
        let mode = state.mode;
        let reported = Reported::new(&fix, position, mode);
        let session = Arc::clone(&self.session);
        let then: Then = Box::new(move |settled| session.published(settled, ticket, &reported, offset, now_ms));
        let (device, n) = (fix.device.clone(), fix.n);
        let event = self.record(LocationKind::Fix, offset, mode, Some(fix), now_ms);
        let appended = self.log.reserve(1).and_then(|permit| self.log.append(&self.session.user, &event, permit, then));
        match appended {
            Ok(receiver) => {
                state.newest.took(&device, n);
                Ok(Pending::all(VecDeque::from([receiver]), |place| place.map(Outcome::Published)))
            }
            Err(refusal) => {
                state.thinner.withdrawn(ticket);
                Err(refusal)
            }
        }
    }

    /// Stores late reports for the history, whatever their ages: all of them, or an error. What Kafka took of them
    /// before a refusal may be stored; sending all of them again stores none twice.
    ///
    /// # Errors
    /// As [`Track::report`].
    pub fn backfill(&self, fixes: Vec<Checked>, now_ms: i64) -> Result<Pending<Outcome>, Refusal> {
        self.reporting()?;
        let state = self.session.lock();
        let offset = state.said()?;
        let mut permit = self.log.reserve(fixes.len())?;
        let mut waiting = VecDeque::with_capacity(fixes.len());
        for checked in fixes {
            let event = self.record(LocationKind::Backfill, offset, state.mode, Some(checked.fix), now_ms);
            let receiver = self.log.append(&self.session.user, &event, permit.split_one(), Box::new(stored));
            waiting.push_back(receiver?);
        }
        Ok(Pending::all(waiting, |_| Some(Outcome::Stored)))
    }

    /// Says that the session is still connected; with `reset`, asks for the whole list again.
    ///
    /// # Errors
    /// [`Refusal::HelloExpected`], [`Refusal::Busy`], [`Refusal::Unavailable`].
    pub fn presence(&self, reset: bool, now_ms: i64) -> Result<Pending<Appended>, Refusal> {
        self.without_position(LocationKind::Presence, reset, now_ms)
    }

    /// Ends the session. The position stays until its TTL.
    ///
    /// # Errors
    /// [`Refusal::HelloExpected`], [`Refusal::Busy`], [`Refusal::Unavailable`].
    pub fn leave(&self, now_ms: i64) -> Result<Pending<Appended>, Refusal> {
        self.without_position(LocationKind::Leave, false, now_ms)
    }

    fn without_position(&self, kind: LocationKind, reset: bool, now_ms: i64) -> Result<Pending<Appended>, Refusal> {
        let state = self.session.lock();
        let offset = state.said()?;
        let permit = self.log.reserve(1)?;
        let event = LocationEvent { reset, ..self.record(kind, offset, state.mode, None, now_ms) };
        let receiver = self.log.append(&self.session.user, &event, permit, Box::new(|_| ()))?;
        Ok(Pending::all(VecDeque::from([receiver]), |place| place))
    }

    fn record(
        &self,
        kind: LocationKind,
        session: i64,
        mode: Mode,
        fix: Option<nearcast_schemas::event::Fix>,
        now_ms: i64,
    ) -> LocationEvent {
        record::of_session(kind, session, &self.session.route, mode, fix, now_ms)
    }

    fn reporting(&self) -> Result<(), Refusal> {
        if self.session.route.role == Role::Reporting { Ok(()) } else { Err(refused(Refusal::NotReporting)) }
    }
}

impl State {
    fn said(&self) -> Result<i64, Refusal> {
        match self.hello {
            Hello::Said(offset) => Ok(offset),
            Hello::NotSaid | Hello::OnItsWay => Err(refused(Refusal::HelloExpected)),
        }
    }
}

impl Session {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The hello is settled.
    fn greeted(&self, settled: Settled, ticket: Option<Ticket>, reported: Option<Reported>, taken_ms: i64) {
        match settled {
            Ok(appended) => self.lock().hello = Hello::Said(appended.offset),
            Err(_) => self.lock().hello = Hello::NotSaid,
        }
        if let (Some(ticket), Some(reported)) = (ticket, reported) {
            // A hello's own offset is its session.
            let offset = settled.map_or(NO_SESSION, |appended| appended.offset);
            self.published(settled, ticket, &reported, offset, taken_ms);
        }
    }

    /// A report that moves the position is settled.
    fn published(&self, settled: Settled, ticket: Ticket, reported: &Reported, offset: i64, taken_ms: i64) {
        let mut state = self.lock();
        match settled {
            Ok(appended) => {
                state.thinner.acknowledged(ticket, reported.position(), taken_ms);
                self.recorder.record(&self.user, self.seed, &mut state.coarse, reported, offset, appended.at);
                ReportAccepted { outcome: Outcome::Published(appended) }.emit();
            }
            Err(_) => state.thinner.failed(ticket),
        }
    }
}

/// A report for the history is settled.
pub(crate) fn stored(settled: Settled) {
    if settled.is_ok() {
        ReportAccepted { outcome: Outcome::Stored }.emit();
    }
}
