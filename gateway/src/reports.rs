//! What a session reports, on its way into the log, and the answers to that.

use nearcast_ingest::{Checked, Outcome, RawFix};
use nearcast_runtime::auth::Claims;
use nearcast_schemas::internal::FriendAnswer;
use nearcast_schemas::refusal::Refusal;

use crate::connection::Connection;
use crate::deliveries::Reach;
use crate::frames::{
    Ack, AckResult, Entry, ErrorMessage, FriendMessage, Kind, Location, Locations, RefusedFix, ServerMessage,
};

/// How long a client should wait before it sends a refused message again; ms.
const BUSY_MS: i64 = 1_000;
const UNAVAILABLE_MS: i64 = 2_000;

/// Something that was asked of the log or the API is known.
pub enum Answer {
    /// A report.
    Report {
        /// The client's name for the message.
        id: Option<String>,
        /// The client wants to know.
        ack: bool,
        /// The installation.
        device: String,
        /// The report's number.
        n: i64,
        /// What became of it.
        outcome: Result<Outcome, Refusal>,
    },
    /// Late reports.
    Late {
        /// The client's name for the message.
        id: Option<String>,
        /// The client wants to know.
        ack: bool,
        /// The installation.
        device: String,
        /// The highest number of them.
        n: i64,
        /// How many are in the log.
        count: u32,
        /// Which were refused before that.
        refused: Vec<RefusedFix>,
        /// What became of the others.
        outcome: Result<Outcome, Refusal>,
    },
    /// A new token for the connection.
    Token {
        /// The client's name for the message.
        id: Option<String>,
        /// What it says, if it is good.
        checked: Result<Claims, Refusal>,
    },
    /// A friend's last position.
    Friend {
        /// Whose.
        friend: String,
        /// The client's name for the message.
        id: Option<String>,
        /// What the API says.
        answer: Result<FriendAnswer, Refusal>,
    },
    /// The session is in the registry again.
    Registered {
        /// When the token was issued by which the user has signed out, if so.
        signed_out: Option<Option<i64>>,
    },
}

/// When to try again, where it is not the client's fault; ms.
pub fn retry_after_ms(refusal: Refusal) -> Option<i64> {
    match refusal {
        Refusal::Busy => Some(BUSY_MS),
        // Spread, because many ask when a service comes back.
        Refusal::Unavailable => Some(UNAVAILABLE_MS + rand::random_range(0..=UNAVAILABLE_MS)),
        _ => None,
    }
}

impl Connection {
    /// A report came. It is on its way into the log when this returns, so that reports keep their order.
    pub(crate) fn report(&mut self, location: Location, id: Option<String>) {
        let Location { device, clock, ack, report } = location;
        let Some(joined) = &self.joined else { return };
        let (device, n) = (device.unwrap_or_else(|| joined.device.to_string()), report.n);
        let now = self.gateway.log_now_ms();
        let clock = self.clock.now(clock, now).or(clock);
        let pending = self
            .gateway
            .parts
            .ingest
            .validate(&report, &device, clock, now)
            .and_then(|checked| joined.track.report(checked, now));
        let ack = ack == Some(true);
        match pending {
            Ok(pending) => self.answers.push(Box::pin(async move {
                let outcome = pending.await;
                Answer::Report { id, ack, device, n, outcome }
            })),
            Err(refusal) => self.refuse(refusal, id, Kind::Location, Some(n)),
        }
    }

    /// Late reports came.
    pub(crate) fn late(&mut self, locations: Locations, id: Option<String>) {
        let Locations { device, clock, ack, fixes } = locations;
        let Some(joined) = &self.joined else { return };
        let device = device.unwrap_or_else(|| joined.device.to_string());
        let now = self.gateway.log_now_ms();
        let clock = self.clock.now(clock, now).or(clock);
        let n = fixes.iter().map(|raw| raw.n).max().unwrap_or_default();
        let check = |raw: &RawFix| self.gateway.parts.ingest.validate(raw, &device, clock, now);
        let (mut good, mut refused): (Vec<Checked>, Vec<RefusedFix>) = (Vec::with_capacity(fixes.len()), Vec::new());
        for raw in &fixes {
            match check(raw) {
                Ok(checked) => good.push(checked),
                Err(code) => refused.push(RefusedFix { n: raw.n, code }),
            }
        }
        let count = u32::try_from(good.len()).unwrap_or(u32::MAX);
        let ack = ack == Some(true);
        if good.is_empty() {
            let outcome = Ok(Outcome::Stored);
            return self.on_late(id, ack, device, n, count, refused, outcome);
        }
        match joined.track.backfill(good, now) {
            Ok(pending) => self.answers.push(Box::pin(async move {
                let outcome = pending.await;
                Answer::Late { id, ack, device, n, count, refused, outcome }
            })),
            Err(refusal) => self.refuse(refusal, id, Kind::Locations, Some(n)),
        }
    }

    /// What was asked is known.
    pub(crate) fn on_answer(&mut self, answer: Answer, now: i64) {
        match answer {
            Answer::Report { id, ack, device, n, outcome } => match outcome {
                Ok(outcome) => {
                    if matches!(outcome, Outcome::Published(_)) {
                        self.session.spoke(now);
                    }
                    if ack {
                        let ack = Ack { device, n, result: result(outcome), count: None, refused: None, re: id };
                        self.control(ServerMessage::Ack(Box::new(ack)));
                    }
                }
                Err(refusal) => self.refuse(refusal, id, Kind::Location, Some(n)),
            },
            Answer::Late { id, ack, device, n, count, refused, outcome } => {
                self.on_late(id, ack, device, n, count, refused, outcome);
            }
            Answer::Token { id, checked } => self.on_token(id, checked, now),
            Answer::Friend { friend, id, answer } => self.on_friend(friend, id, answer),
            Answer::Registered { signed_out } => self.on_registered(signed_out),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one answer, taken apart")]
    fn on_late(
        &self,
        id: Option<String>,
        ack: bool,
        device: String,
        n: i64,
        count: u32,
        refused: Vec<RefusedFix>,
        outcome: Result<Outcome, Refusal>,
    ) {
        match outcome {
            Ok(outcome) if ack => {
                let (count, refused) = (Some(count), Some(refused));
                let ack = Ack { device, n, result: result(outcome), count, refused, re: id };
                self.control(ServerMessage::Ack(Box::new(ack)));
            }
            Ok(_) => {
                for RefusedFix { n, code } in refused {
                    self.refuse(code, id.clone(), Kind::Locations, Some(n));
                }
            }
            Err(refusal) => self.refuse(refusal, id, Kind::Locations, Some(n)),
        }
    }

    fn on_friend(&self, friend: String, id: Option<String>, answer: Result<FriendAnswer, Refusal>) {
        let refusal = match answer {
            Ok(FriendAnswer { display_name, entry }) => {
                let position = entry.map(|entry| Entry::of_reset(entry, 0));
                let message = FriendMessage { friend: friend.into(), display_name, position, re: id.clone() };
                if self.link.feed(|feed| feed.friend(message)) {
                    return;
                }
                Refusal::NotAFriend
            }
            Err(refusal) => refusal,
        };
        self.refuse(refusal, id, Kind::Subscribe, None);
    }

    fn refuse(&self, refusal: Refusal, id: Option<String>, of: Kind, n: Option<i64>) {
        let retry_after_ms = retry_after_ms(refusal);
        let error = ErrorMessage { re: id, n, of: Some(of), retry_after_ms, ..ErrorMessage::new(refusal) };
        self.control(ServerMessage::Error(Box::new(error)));
    }
}

fn result(outcome: Outcome) -> AckResult {
    match outcome {
        Outcome::Published(_) => AckResult::Published,
        Outcome::Thinned => AckResult::Thinned,
        Outcome::Stored => AckResult::Stored,
    }
}
