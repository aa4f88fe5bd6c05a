//! One simulated phone: a client written from docs/protocol.md.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::audit::{Change, STRANGER, Terms};
use super::clock::{Clock, until};
use super::faults::{Fault, Faults};
use super::fleet::Play;
use super::frames::{Bye, Fix, Hear, Outcome, Say, Welcome};
use super::ledger::{Answer, By, Event, Listed, Told};
use super::ledger_file::LedgerFile;
use super::mover::Mover;
use super::outbox::{Outbox, Verdict};
use super::point::Point;
use super::sabotage::Sabotage;
use super::view::{Step, View};
use super::ws::{Address, Gone, Heard, Socket};

/// `welcome` comes within this, or the phone tries again.
const WELCOME_WITHIN: Duration = Duration::from_secs(20);

/// Signs a token for a user id.
pub(crate) type Sign = Arc<dyn Fn(&str) -> Result<String, String> + Send + Sync>;

/// The installation of a user's phone.
pub(crate) fn device_of(user: &str) -> String {
    format!("{user}-phone")
}

/// What all phones of a run share.
pub(crate) struct Common {
    pub(crate) clock: Clock,
    /// One at least.
    pub(crate) gateways: Vec<Address>,
    pub(crate) sign: Sign,
    /// Indices by user id.
    pub(crate) indices: HashMap<String, u32>,
    pub(crate) play: Play,
    pub(crate) sabotage: Option<Sabotage>,
    pub(crate) ledger: UnboundedSender<Told>,
    /// What is sent and acknowledged is kept here too.
    pub(crate) file: Option<Arc<LedgerFile>>,
    /// No new reports and no faults from here on.
    pub(crate) quiet: CancellationToken,
    /// Phones close their sockets and end.
    pub(crate) end: CancellationToken,
}

/// What somebody sees who looks at one phone.
pub(crate) type Window = UnboundedSender<Step>;

/// One phone.
pub(crate) struct Phone {
    common: Arc<Common>,
    index: u32,
    /// The gateway that it connects to.
    gateway: usize,
    user: String,
    device: String,
    mover: Mover,
    faults: Faults,
    rng: ChaCha8Rng,
    n: i64,
    outbox: Outbox,
    window: Option<Window>,
}

/// Why a session is over.
enum End {
    /// The run is over.
    Finished,
    /// The simulation's own doing.
    Fault(Fault),
    /// The socket broke, or the server closed it without a word.
    Lost,
    /// The server said goodbye.
    Bye(Bye),
}

/// What a live session waits for.
struct Session {
    view: View,
    silence: Duration,
    report_at: Instant,
    fault: Option<(Instant, Fault)>,
    /// When what was not acknowledged is sent again.
    resend_at: Option<Instant>,
}

impl Phone {
    /// A phone that is switched off.
    pub(crate) fn new(common: Arc<Common>, index: u32, user: String, mover: Mover, window: Option<Window>) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(common.play.seed);
        // The streams of movement and faults lie below.
        rng.set_stream((2 << 32) + u64::from(index));
        let faults = Faults::new(common.play.seed, index, common.play.drop_rate);
        let device = device_of(&user);
        let gateway = index as usize;
        Self { common, index, gateway, user, device, mover, faults, rng, n: 0, outbox: Outbox::default(), window }
    }

    /// Lives until the run ends.
    pub(crate) async fn run(mut self) {
        let on_at = self.common.clock.instant_at(self.mover.starts_s());
        let end = self.common.end.clone();
        tokio::select! {
            () = sleep_until(on_at) => {}
            () = end.cancelled() => return,
        }
        let mut failed = 0;
        loop {
            let lived = self.live().await;
            failed = if lived.is_ok() { 0 } else { failed + 1 };
            // Whoever drops the socket itself comes back to where it was.
            self.gateway += usize::from(!matches!(lived, Ok(End::Fault(_))));
            let wait = match lived {
                Ok(End::Finished) => return,
                Ok(End::Bye(bye)) if !bye.reconnect => {
                    self.tell(Event::Retired);
                    return;
                }
                Ok(End::Bye(bye)) => bye.reconnect_in_ms.map(Duration::from_millis),
                Ok(End::Fault(Fault::Close)) => self.common.play.away,
                Ok(End::Fault(Fault::Cut) | End::Lost) => None,
                Err(code) => {
                    self.tell(Event::Failed { code });
                    None
                }
            };
            let wait = wait.unwrap_or_else(|| Duration::from_secs_f64(self.faults.back_off(failed)));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = end.cancelled() => return,
            }
        }
    }

    /// One connection from its first byte to its end.
    ///
    /// # Errors
    /// The code of what kept it from being welcomed.
    async fn live(&mut self) -> Result<End, String> {
        let began = self.common.clock.now();
        let token = (self.common.sign)(&self.user)?;
        let end = self.common.end.clone();
        let connected = tokio::select! {
            connected = self.connect(&token) => connected,
            () = end.cancelled() => return Ok(End::Finished),
        };
        let (mut socket, welcome) = match connected {
            Ok(connected) => connected,
            Err(code) => {
                self.outbox.lost();
                return Err(code);
            }
        };
        let ttl = i64::from(welcome.friend_ttl_s) * 1_000_000;
        let terms = Terms { radius_m: welcome.radius_m, ttl };
        self.tell(Event::Welcomed { terms, took: self.common.clock.now() - began });
        let now = Instant::now();
        let mut session = Session {
            view: View::default(),
            silence: Duration::from_secs(u64::from(welcome.ping_every_s)) * 5 / 2,
            report_at: now + self.common.play.report_every.mul_f64(self.rng.random_range(0.2..1.0)),
            fault: self.faults.next().map(|(seconds, fault)| (now + Duration::from_secs_f64(seconds.min(1e6)), fault)),
            resend_at: self.outbox.has_overdue().then_some(now),
        };
        let end = self.serve(&mut socket, &mut session).await;
        self.outbox.lost();
        let by = match end {
            End::Fault(_) => By::Fault,
            End::Finished => By::End,
            End::Lost | End::Bye(_) => By::Server,
        };
        self.tell(Event::Lost { by });
        match &end {
            End::Fault(Fault::Cut) => socket.cut(),
            End::Fault(Fault::Close) | End::Finished => socket.close().await,
            End::Bye(bye) => self.tell(Event::Failed { code: bye.code.clone() }),
            End::Lost => self.tell(Event::Failed { code: "socket_lost".to_owned() }),
        }
        Ok(end)
    }

    /// Opens a socket and is welcomed.
    async fn connect(&mut self, token: &str) -> Result<(Socket, Welcome), String> {
        // Every fourth phone is a browser, at each of two gateways too.
        let gateways = &self.common.gateways;
        let mut socket = Socket::open(&gateways[self.gateway % gateways.len()], token, self.index % 8 >= 6).await?;
        match timeout(WELCOME_WITHIN, self.hello(&mut socket)).await {
            Ok(welcome) => Ok((socket, welcome?)),
            Err(_) => Err("no_welcome".to_owned()),
        }
    }

    /// Says hello and waits for `welcome`. What comes between is for whoever is welcomed already.
    async fn hello(&mut self, socket: &mut Socket) -> Result<Welcome, String> {
        // A phone that has just come back does not always know where it is.
        let position = (self.n == 0 || !self.faults.one_in(4)).then(|| self.measure());
        let clock = self.common.clock.now() / 1_000;
        if let Some((fix, point)) = position {
            self.tell(Event::Sent { n: fix.n, point, hello: true });
            self.outbox.sent(fix);
        }
        let hello = Say::Hello { device: &self.device, clock, position: position.map(|(fix, _)| fix) };
        socket.say(&hello).await.map_err(|_| "socket_lost")?;
        loop {
            match socket.hear().await {
                Heard::Message(message) => match *message {
                    Hear::Welcome(welcome) if welcome.protocol == 1 && welcome.user == self.user => {
                        if let Some(accepted) = &welcome.accepted {
                            self.accepted(accepted.n, accepted.result);
                        }
                        return Ok(welcome);
                    }
                    Hear::Welcome(_) => return Err("foreign_welcome".to_owned()),
                    Hear::Error(refused) => return Err(refused.code),
                    Hear::Bye(bye) => return Err(bye.code),
                    _ => {}
                },
                Heard::Alive => {}
                Heard::Unreadable => return Err("unreadable_frame".to_owned()),
                Heard::Over => return Err("socket_lost".to_owned()),
            }
        }
    }

    async fn serve(&mut self, socket: &mut Socket, session: &mut Session) -> End {
        let (quiet, end) = (self.common.quiet.clone(), self.common.end.clone());
        let mut silent_at = Instant::now() + session.silence;
        loop {
            let fault_at = session.fault.map(|(at, _)| at);
            let active = !quiet.is_cancelled();
            tokio::select! {
                heard = socket.hear() => {
                    silent_at = Instant::now() + session.silence;
                    match heard {
                        Heard::Message(message) => match self.heard(socket, session, *message).await {
                            Ok(()) => {}
                            Err(end) => return end,
                        },
                        Heard::Alive => {}
                        Heard::Unreadable => self.tell(Event::Failed { code: "unreadable_frame".to_owned() }),
                        Heard::Over => return End::Lost,
                    }
                }
                () = sleep_until(session.report_at), if active => {
                    if self.report(socket).await.is_err() {
                        return End::Lost;
                    }
                    let jitter = self.rng.random_range(0.9..1.1);
                    session.report_at += self.common.play.report_every.mul_f64(jitter);
                    // A process that slept does not report for the time it slept.
                    session.report_at = session.report_at.max(Instant::now());
                }
                () = until(fault_at), if active => {
                    if let Some((_, fault)) = session.fault {
                        return End::Fault(fault);
                    }
                }
                () = until(session.resend_at) => {
                    session.resend_at = None;
                    if self.resend(socket).await.is_err() {
                        return End::Lost;
                    }
                }
                () = sleep_until(silent_at) => return End::Lost,
                () = quiet.cancelled(), if active => {}
                () = end.cancelled() => return End::Finished,
            }
        }
    }

    async fn report(&mut self, socket: &mut Socket) -> Result<(), Gone> {
        let (fix, point) = self.measure();
        self.outbox.sent(fix);
        let say = Say::Location { fix, clock: self.common.clock.now() / 1_000, ack: true };
        self.tell(Event::Sent { n: fix.n, point, hello: false });
        socket.say(&say).await
    }

    async fn resend(&mut self, socket: &mut Socket) -> Result<(), Gone> {
        let clock = self.common.clock.now() / 1_000;
        match self.outbox.resend() {
            Some((id, fixes)) => socket.say(&Say::Locations { id, clock, ack: true, fixes }).await,
            None => Ok(()),
        }
    }

    fn measure(&mut self) -> (Fix, Point) {
        let now = self.common.clock.now();
        let (point, speed_mps) = self.mover.measure(self.common.clock.elapsed_s());
        self.n += 1;
        (Fix::new(self.n, point, now / 1_000, speed_mps), point)
    }

    async fn heard(&mut self, socket: &mut Socket, session: &mut Session, message: Hear) -> Result<(), End> {
        match message {
            Hear::Nearby(mut frame) => {
                if let Some(sabotage) = &self.common.sabotage {
                    let updates = sabotage.spoil(&mut frame);
                    if updates > 0 {
                        self.tell(Event::Sabotaged { updates });
                    }
                }
                let reset = frame.reset.is_some_and(|reset| reset.part == 1);
                let in_reset = frame.reset.is_some();
                let steps = session.view.apply(frame);
                let changes = steps.iter().map(|step| self.listed(step)).collect();
                let awaits_parts = session.view.awaits_parts();
                self.tell(Event::Listed { changes, reset, in_reset, awaits_parts });
                if let Some(window) = &self.window {
                    // Nobody looking any more is no trouble of the phone's.
                    steps.into_iter().for_each(|step| drop(window.send(step)));
                }
            }
            Hear::Digest(digest) => {
                let agreed = session.view.agrees(&digest);
                self.tell(Event::Compared { agreed });
                // A sabotaged phone does not heal itself: the audit has to notice.
                if !agreed && self.common.sabotage.is_none() {
                    self.tell(Event::AskedForAll);
                    socket.say(&Say::Sync).await.map_err(|_| End::Lost)?;
                }
            }
            Hear::Ack(ack) => match ack.count {
                None => self.accepted(ack.n, ack.result),
                Some(_) => {
                    let Some(fixes) = self.outbox.resent(ack.re.as_deref()) else { return Ok(()) };
                    for fix in fixes {
                        let refused = ack.refused.iter().find(|refused| refused.n == fix.n);
                        if let Some(refused) = refused {
                            self.tell(Event::Failed { code: refused.code.clone() });
                        }
                        let answer = if refused.is_some() { Answer::Refused } else { Answer::AcceptedLate };
                        self.tell(Event::Answered { n: fix.n, answer });
                    }
                    if self.outbox.has_overdue() {
                        session.resend_at = Some(Instant::now());
                    }
                }
            },
            Hear::Error(refused) => {
                self.tell(Event::Failed { code: refused.code.clone() });
                let wait = Duration::from_millis(refused.retry_after_ms.unwrap_or(1_000));
                match self.outbox.refused(&refused) {
                    Some(Verdict::Report(n, answer)) => self.tell(Event::Answered { n, answer }),
                    Some(Verdict::Resent(fixes)) => {
                        fixes.iter().for_each(|fix| self.tell(Event::Answered { n: fix.n, answer: Answer::Refused }));
                    }
                    None => {}
                }
                if self.outbox.has_overdue() && session.resend_at.is_none() {
                    session.resend_at = Some(Instant::now() + wait);
                }
            }
            Hear::Bye(bye) => return Err(End::Bye(bye)),
            Hear::Welcome(_) | Hear::Other => {}
        }
        Ok(())
    }

    fn accepted(&mut self, n: i64, result: Outcome) {
        if self.outbox.accepted(n) {
            self.tell(Event::Answered { n, answer: Answer::Accepted(result) });
        }
    }

    fn listed(&self, step: &Step) -> Listed {
        let index = |id: &str| self.common.indices.get(id).copied().unwrap_or(STRANGER);
        match step {
            Step::Cleared => Listed { change: Change::Cleared, appended: 0 },
            Step::Gone { id, .. } => Listed { change: Change::Gone { friend: index(id) }, appended: 0 },
            Step::Put(upsert) => {
                let point = Point::of_degrees(upsert.lat, upsert.lon);
                let change = Change::Put { friend: index(&upsert.id), point, distance_m: upsert.distance_m };
                Listed { change, appended: upsert.at }
            }
        }
    }

    fn tell(&self, event: Event) {
        let at = self.common.clock.now();
        if let (Some(file), Some((heard, n))) = (&self.common.file, event.heard()) {
            file.write(heard, self.index, n, at / 1_000);
        }
        // The ledger outlives the phones; without it there is nobody to tell.
        let _ = self.common.ledger.send(Told { phone: self.index, at, event });
    }
}
