//! The task of one connection: reads frames, writes what its feed holds, keeps the times.
//!
//! It never waits for one thing alone: a socket that takes nothing does not keep it from hearing that it has to end.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::future::BoxFuture;
use nearcast_ingest::PhoneClock;
use nearcast_runtime::auth::Claims;
use nearcast_runtime::lifecycle::Shutdown;
use nearcast_schemas::internal::FriendRequest;
use nearcast_schemas::refusal::Refusal;
use tokio::io::AsyncWriteExt;
use tokio::time::{Sleep, sleep_until, timeout};
use tokio_tungstenite::tungstenite::error::CapacityError;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data};
use tokio_tungstenite::tungstenite::{Bytes, Error as WsError, Message};

use crate::deliveries::Reach;
use crate::drain::Departure;
use crate::events::refused;
use crate::feed::Rest;
use crate::frames::{Bye, ErrorMessage, Format, Kind, ServerMessage};
use crate::gateway::Gateway;
use crate::hello::{Joined, Joining, Step};
use crate::link::Link;
use crate::outbox::Next;
use crate::reports::Answer;
use crate::session::{Reaction, Session};
use crate::socket::Socket;
use crate::ws::{Held, LINGER, discard};

/// While more answers than this wait to be written, nothing is read: who does not read is not listened to.
const CONTROL_LIMIT: usize = 64;
/// Frames are one write up to this many bytes. More is not handed out before the client's system has taken it: what is
/// unsent is beyond the reach of notices, and is not conflated.
const BYTES_AT_ONCE: usize = 4_096;
/// Most friends whom a session may mute: as many as a user can have.
const MAX_MUTED: usize = 5_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// Nothing is read any more; reports on their way are waited for until then.
    Draining(i64),
    /// The farewell waits to be written, at most until then; then the socket is closed with this code.
    Closing(i64, u16),
    /// The close frame is written or on its way; the other end's is waited for until then.
    Closed(i64),
}

enum Event {
    Frame(Message),
    Broken(WsError),
    Gone,
    Flushed,
    Step(Step),
    Answer(Answer),
    Woken,
    Time,
    Drain,
}

/// One connection.
pub struct Connection {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) user: Arc<str>,
    /// When the token was issued, in seconds since the epoch, if it says so.
    pub(crate) issued_at: Option<i64>,
    /// The token is a share link's: the session shows one person.
    pub(crate) of_link: bool,
    /// A new one is being checked.
    pub(crate) checking_token: bool,
    pub(crate) link: Link,
    pub(crate) clock: PhoneClock,
    pub(crate) session: Session,
    pub(crate) joining: Option<Box<Joining>>,
    pub(crate) joined: Option<Joined>,
    /// What is on its way, in the order of the questions.
    pub(crate) answers: Vec<BoxFuture<'static, Answer>>,
    socket: Socket,
    phase: Phase,
    /// The gateway goes away. Boxed, because almost always there is none.
    departure: Option<Box<Departure>>,
    may_read: bool,
    /// As often as it has registered again.
    registrations: u64,
    /// What comes cannot be read as frames any more.
    broken: bool,
    _held: Held,
}

impl Connection {
    /// A socket whose client has shown its token.
    pub fn new(gateway: Arc<Gateway>, socket: Socket, claims: Claims, format: Format, held: Held) -> Box<Self> {
        let now = gateway.now();
        let link = Link::new(gateway.feed());
        link.feed(|feed| feed.set_issued_at(claims.iat));
        Box::new(Self {
            session: Session::new(gateway.rules(), gateway.valid_until(&claims), now).speaking(format),
            user: claims.sub.into(),
            issued_at: claims.iat,
            of_link: claims.of_link,
            checking_token: false,
            link,
            clock: PhoneClock::default(),
            joining: None,
            joined: None,
            answers: Vec::new(),
            registrations: gateway.registrations(),
            gateway,
            socket,
            phase: Phase::Open,
            departure: None,
            may_read: true,
            broken: false,
            _held: held,
        })
    }

    /// Serves the client until either end closes. Boxed, because a future keeps what is moved into it twice.
    pub async fn run(mut self: Box<Self>, shutdown: Shutdown) {
        let mut drain = pin!(shutdown.begun());
        let mut sleep = pin!(sleep_until(self.gateway.instant(0)));
        let mut draining = false;
        while let Some(wake_at) = self.turn() {
            sleep.as_mut().reset(self.gateway.instant(wake_at));
            let event = poll_fn(|cx| {
                if !draining && drain.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Event::Drain);
                }
                if self.link.poll_woken(cx).is_ready() {
                    return Poll::Ready(Event::Woken);
                }
                self.poll_event(cx, sleep.as_mut())
            })
            .await;
            let now = self.gateway.now();
            match event {
                Event::Frame(message) => self.on_message(message, now),
                Event::Broken(error) => self.on_broken(&error, now),
                Event::Gone => break,
                Event::Flushed => self.session.taken(),
                Event::Step(step) => self.on_step(step, now),
                Event::Answer(answer) => self.on_answer(answer, now),
                Event::Woken | Event::Time => {}
                Event::Drain => {
                    draining = true;
                    self.departure = Some(Box::new(self.depart(now)));
                }
            }
        }
        if self.broken {
            // Boxed, so that its timers are no part of every connection's task.
            Box::pin(self.read_to_the_end()).await;
        } else {
            self.socket.stream().farewell();
        }
    }

    /// The client may still be sending what was too large; it should get to read why that was pointless.
    async fn read_to_the_end(&mut self) {
        let stream = self.socket.stream();
        if matches!(timeout(LINGER, stream.shutdown()).await, Ok(Ok(()))) {
            let _ = timeout(LINGER, discard(stream)).await;
        }
    }

    fn poll_event(&mut self, cx: &mut Context<'_>, sleep: Pin<&mut Sleep>) -> Poll<Event> {
        if self.session.is_unread()
            && let Poll::Ready(flushed) = self.socket.poll_flush(cx)
        {
            return Poll::Ready(if flushed.is_ok() { Event::Flushed } else { Event::Gone });
        }
        if let Some(joining) = &mut self.joining
            && let Poll::Ready(step) = joining.step.as_mut().poll(cx)
        {
            return Poll::Ready(Event::Step(step));
        }
        if let Poll::Ready(answer) = self.poll_answers(cx) {
            return Poll::Ready(Event::Answer(answer));
        }
        if self.may_read
            && let Poll::Ready(read) = self.socket.poll_next(cx)
        {
            return Poll::Ready(match read {
                Some(Ok(message)) => Event::Frame(message),
                Some(Err(WsError::Io(_))) | None => Event::Gone,
                Some(Err(error)) => Event::Broken(error),
            });
        }
        ready!(sleep.poll(cx));
        Poll::Ready(Event::Time)
    }

    /// The oldest answer that is here.
    fn poll_answers(&mut self, cx: &mut Context<'_>) -> Poll<Answer> {
        for (at, answer) in self.answers.iter_mut().enumerate() {
            if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                drop(self.answers.remove(at));
                if self.answers.is_empty() {
                    self.answers = Vec::new();
                }
                return Poll::Ready(answer);
            }
        }
        Poll::Pending
    }

    /// Does all that can be done now, and says until when to wait. None: it is over.
    fn turn(&mut self) -> Option<i64> {
        loop {
            let now = self.gateway.now();
            // Who takes nothing needs no whole list now.
            let may_ask = self.phase == Phase::Open && !self.session.is_unread();
            let (ending, mode, ask) = self.link.feed(|feed| {
                feed.attend();
                (feed.ending(), feed.take_mode(), may_ask && feed.take_ask(now))
            });
            if let (Some(mode), Some(joined)) = (mode, &self.joined) {
                joined.track.set_mode(mode);
            }
            if ask {
                self.ask_for_reset(now);
            }
            if let (Some(ending), Phase::Open | Phase::Draining(_)) = (ending, self.phase) {
                self.close(Bye::new(ending.refusal, ending.reconnect_in_ms), now);
            }
            self.do_what_is_due(now)?;
            let next_write = self.write(now)?;
            if !self.session.is_unread() && self.broken && matches!(self.phase, Phase::Closed(_)) {
                return None;
            }
            let Some((rest, wake_at)) = self.until_when(now, next_write) else { continue };
            if self.link.feed(|feed| feed.rest(rest)) {
                return Some(wake_at);
            }
        }
    }

    /// The gateway goes away: when it is this client's turn.
    fn depart(&self, now: i64) -> Departure {
        let config = &self.gateway.config;
        let (spread_ms, grace_ms) = (config.drain_spread_ms.into(), i64::from(config.grace_s) * 1_000);
        let departure = Departure::new(now, rand::random_range(0..=spread_ms), spread_ms, grace_ms);
        if self.joined.is_some() || self.joining.is_some() { departure } else { departure.at_once(now) }
    }

    fn do_what_is_due(&mut self, now: i64) -> Option<()> {
        if let (Phase::Open, Some(departure)) = (self.phase, &self.departure)
            && now >= departure.bye_at
        {
            self.phase = Phase::Draining(departure.answers_until);
        }
        match self.phase {
            Phase::Open => {
                let due = self.session.due(now);
                if let Some(refusal) = due.end {
                    self.close(Bye::new(refusal, None), now);
                    return Some(());
                }
                if due.ping {
                    self.send_control(Message::Ping(Bytes::new()), now)?;
                }
                if due.presence
                    && let Some(joined) = &self.joined
                {
                    // A refusal changes nothing: the next one comes in time.
                    let _ = joined.track.presence(false, self.gateway.log_now_ms());
                }
                if due.refresh
                    && let Some(joined) = &self.joined
                {
                    self.gateway.parts.cache.refresh(&self.user, &joined.entry());
                }
                let registrations = self.gateway.registrations();
                if registrations != self.registrations {
                    self.registrations = registrations;
                    self.register_again();
                }
            }
            Phase::Draining(until) => {
                if now >= until || (self.joining.is_none() && self.answers.is_empty()) {
                    let reconnect_in_ms = self.departure.as_ref().map(|departure| departure.reconnect_in_ms(now));
                    self.close(Bye::new(Refusal::Drain, reconnect_in_ms), now);
                }
            }
            Phase::Closing(until, _) | Phase::Closed(until) => {
                if now >= until {
                    return None;
                }
            }
        }
        Some(())
    }

    /// Hands frames to the socket. Some(Some(at)): changes are gathered until then. None: the socket is gone.
    fn write(&mut self, now: i64) -> Option<Option<i64>> {
        if self.session.is_unread() || matches!(self.phase, Phase::Closed(_)) {
            return Some(None);
        }
        while self.socket.unsent_len() < BYTES_AT_ONCE {
            let message = match self.link.feed(|feed| feed.next(now)) {
                Next::Message(message) => message,
                Next::At(at) => return Some(Some(at)),
                Next::Nothing => return Some(None),
            };
            let (data, bytes) = match self.session.format() {
                Format::Json => (Data::Text, message.encode().into_bytes()),
                Format::MessagePack => (Data::Binary, message.encode_binary()),
            };
            self.gateway.meters().written(&message, bytes.len(), self.gateway.log_now_ms());
            self.session.wrote(now);
            self.socket.send(data, &bytes).ok()?;
            if let (ServerMessage::Bye(bye), Phase::Closing(until, code)) = (&message, self.phase) {
                self.send_close(code, bye.code.code(), now)?;
                self.phase = Phase::Closed(until);
                break;
            }
        }
        Some(None)
    }

    /// None: everything has to be looked at once more.
    fn until_when(&mut self, now: i64, next_write: Option<i64>) -> Option<(Rest, i64)> {
        let (control, ask_at) = self.link.feed(|feed| (feed.control_len(), feed.ask_at()));
        self.may_read = match self.phase {
            Phase::Open => {
                self.joining.is_none()
                    && !self.checking_token
                    && now >= self.session.read_from()
                    && control < CONTROL_LIMIT
                    && self.answers.len() < self.gateway.config.max_unanswered
            }
            Phase::Draining(_) | Phase::Closing(..) => false,
            Phase::Closed(_) => !self.broken,
        };
        let mut wake_at = match self.phase {
            Phase::Open => {
                let read_from = self.session.read_from();
                let paused = if read_from > now { read_from } else { i64::MAX };
                let leaves_at = self.departure.as_ref().map_or(i64::MAX, |departure| departure.bye_at);
                let ask_at = ask_at.filter(|_| !self.session.is_unread()).unwrap_or(i64::MAX);
                self.session.next_due().min(paused).min(ask_at).min(leaves_at)
            }
            Phase::Draining(until) | Phase::Closing(until, _) | Phase::Closed(until) => until,
        };
        if wake_at <= now {
            return None;
        }
        let rest = match next_write {
            _ if self.session.is_unread() => Rest::Socket,
            Some(at) => {
                wake_at = wake_at.min(at);
                Rest::Window
            }
            None => Rest::Idle,
        };
        Some((rest, wake_at))
    }

    fn on_message(&mut self, message: Message, now: i64) {
        if self.phase != Phase::Open {
            return;
        }
        let reaction = match message {
            Message::Text(text) => self.session.on_text(&text, now),
            Message::Binary(bytes) => self.session.on_binary(&bytes, now),
            Message::Ping(_) | Message::Pong(_) => return self.session.heard(now),
            Message::Close(_) => {
                self.phase = Phase::Closed(now.saturating_add(linger_ms()));
                return;
            }
            // Not given out by a socket that reads messages.
            Message::Frame(_) => return,
        };
        match reaction {
            Reaction::Join { hello, id } => {
                self.gateway.meters().message(Kind::Hello);
                self.join(*hello, id, now);
            }
            Reaction::Report { location, id } => {
                self.gateway.meters().message(Kind::Location);
                self.report(*location, id);
            }
            Reaction::Late { locations, id } => {
                self.gateway.meters().message(Kind::Locations);
                self.late(locations, id);
            }
            Reaction::Sync => {
                self.gateway.meters().message(Kind::Sync);
                self.link.feed(|feed| feed.want_reset(now));
            }
            Reaction::Subscribe { friend, id } => {
                self.gateway.meters().message(Kind::Subscribe);
                self.subscribe(friend, id, now);
            }
            Reaction::Unsubscribe { friend } => {
                self.gateway.meters().message(Kind::Unsubscribe);
                self.unsubscribe(friend);
            }
            Reaction::Auth { token, id } => {
                self.gateway.meters().message(Kind::Auth);
                self.check_token(token, id);
            }
            Reaction::Refuse(error) => self.control(ServerMessage::Error(error)),
            Reaction::End(refusal) => self.close(Bye::new(refusal, None), now),
        }
    }

    /// What came is no frame, or too large a message: nothing after it can be read.
    fn on_broken(&mut self, error: &WsError, now: i64) {
        self.broken = true;
        let code = match error {
            WsError::Capacity(CapacityError::MessageTooLong { .. }) => {
                return self.close(Bye::new(Refusal::TooLarge, None), now);
            }
            WsError::Utf8(_) => CloseCode::Invalid,
            _ => CloseCode::Protocol,
        };
        if !matches!(self.phase, Phase::Closed(_)) {
            let _ = self.send_close(code.into(), "", now);
            self.phase = Phase::Closed(now.saturating_add(linger_ms()));
        }
    }

    fn subscribe(&mut self, friend: String, id: Option<String>, now: i64) {
        // At once and not with the answer, so that an `unsubscribe` after it is the last word.
        self.link.feed(|feed| feed.unmute(&friend, now));
        let api = self.gateway.api.clone();
        let request = FriendRequest { viewer: self.user.to_string(), friend };
        self.answers.push(Box::pin(async move {
            let answer = api.friend(&request).await;
            Answer::Friend { friend: request.friend, id, answer }
        }));
    }

    fn unsubscribe(&mut self, friend: String) {
        let friend = friend.into();
        let room = self.link.feed(|feed| {
            let room = feed.muted_len() < MAX_MUTED;
            if room {
                feed.mute(&friend);
            }
            room
        });
        if !room {
            let error = ErrorMessage { of: Some(Kind::Unsubscribe), ..ErrorMessage::new(Refusal::NotAFriend) };
            self.control(ServerMessage::Error(Box::new(error)));
        }
    }

    fn ask_for_reset(&mut self, now: i64) {
        if let Some(joined) = &self.joined
            && joined.track.presence(true, self.gateway.log_now_ms()).is_ok()
        {
            crate::events::ResetAsked.emit();
            self.session.spoke(now);
        }
    }

    pub(crate) fn control(&self, message: ServerMessage) {
        self.link.feed(|feed| feed.control(message));
    }

    fn close(&mut self, bye: Bye, now: i64) {
        if let Phase::Open | Phase::Draining(_) = self.phase {
            refused(bye.code, "connection");
            let code = bye.code.row().close.unwrap_or_else(|| CloseCode::Normal.into());
            self.phase = Phase::Closing(now.saturating_add(linger_ms()), code);
            // A hello that the log does not know comes too late for it.
            if let Some(joining) = self.joining.take_if(|joining| joining.is_asking()) {
                self.let_go(&joining.into_session().0);
            }
            self.link.feed(|feed| feed.close(bye));
        }
    }

    fn send_close(&mut self, code: u16, reason: &'static str, now: i64) -> Option<()> {
        self.send_control(Message::Close(Some(CloseFrame { code: code.into(), reason: reason.into() })), now)
    }

    fn send_control(&mut self, message: Message, now: i64) -> Option<()> {
        self.session.wrote(now);
        self.socket.send_control(message).ok()
    }
}

/// Takes leave of everybody who knows the session, however the task ends.
impl Drop for Connection {
    fn drop(&mut self) {
        let joining = self.joining.take().map(|joining| joining.into_session());
        let joined = self.joined.take().map(|joined| (joined.entry(), Some(joined.track)));
        let Some((entry, track)) = joined.or(joining) else { return };
        self.let_go(&entry);
        if let Some(track) = track {
            // Without an answer: the position stays until its TTL anyway. A hello that is not in the log says nothing.
            let _ = track.leave(self.gateway.log_now_ms());
        }
    }
}

fn linger_ms() -> i64 {
    i64::try_from(LINGER.as_millis()).unwrap_or(i64::MAX)
}
