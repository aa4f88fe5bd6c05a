//! A whole connection: any frames at any times, as the gateway would pass them on.

use nearcast_gateway::frames::{Format, ServerMessage};
use nearcast_gateway::session::{Due, Reaction, Rules, Session};
use nearcast_schemas::refusal::Refusal;

use crate::answers;

/// Ends a step. No text has this byte, and no message in MessagePack begins a value with it.
const END: u8 = 0xc1;

const RULES: Rules =
    Rules { hello_ms: 10_000, ping_every_ms: 25_000, slow_ms: 300_000, presence_every_ms: 60_000, messages_per_s: 20 };

/// What a connection must have come to.
#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Expecting,
    Joining,
    Live { reporting: bool },
}

struct Connection {
    session: Session,
    stage: Stage,
    begun: i64,
    now: i64,
    /// Messages that were not refused for their rate.
    passed: i64,
}

/// First a byte: the lowest bit says which format, the next whether the clock begins at 0, the others how long the token
/// is valid. Then steps: what happens, how long after the step before, and the frame.
pub fn session(data: &[u8]) {
    let Some((first, steps)) = data.split_first() else { return };
    let format = Format::ALL[usize::from(first & 1)];
    let begun = if first & 2 == 0 { 0 } else { 1_760_000_000_000 };
    let expires_at = begun + 1 + (i64::from(first >> 2) << 16);
    let session = Session::new(RULES, expires_at, begun).speaking(format);
    let mut connection = Connection { session, stage: Stage::Expecting, begun, now: begun, passed: 0 };
    for step in steps.split(|byte| *byte == END) {
        let [what, wait, frame @ ..] = step else { continue };
        // Up to eight minutes.
        if !connection.wait(i64::from(wait & 0xf) << (wait >> 4)) || !connection.step(*what, frame) {
            return;
        }
    }
}

impl Connection {
    /// Time passes. False when the session is over.
    fn wait(&mut self, wait: i64) -> bool {
        let until = self.now + wait;
        loop {
            let next = self.session.next_due();
            assert!(next > self.now, "what was due has been done");
            if next > until {
                self.now = until;
                assert_eq!(self.session.due(until), Due::default(), "nothing is due before it was said to be");
                return true;
            }
            self.now = next;
            let due = self.session.due(next);
            assert_ne!(due, Due::default(), "something is due when it was said to be");
            assert!(self.is_live() || !(due.presence || due.refresh), "there is no session to speak of");
            if due.end.is_some() {
                return false;
            }
        }
    }

    fn is_live(&self) -> bool {
        matches!(self.stage, Stage::Live { .. })
    }

    /// False when the session is over.
    fn step(&mut self, what: u8, frame: &[u8]) -> bool {
        let now = self.now;
        match what {
            // Nothing is read while a hello is being answered.
            b't' | b'b' if self.stage == Stage::Joining => {}
            b't' => {
                let Ok(text) = std::str::from_utf8(frame) else { return true };
                let reaction = self.session.on_text(text, now);
                return self.reacted(reaction, Format::Json);
            }
            b'b' => {
                let reaction = self.session.on_binary(frame, now);
                return self.reacted(reaction, Format::MessagePack);
            }
            b'j' | b'w' if self.stage == Stage::Joining => {
                let reporting = what == b'j';
                self.session.joined(reporting, now);
                self.stage = Stage::Live { reporting };
            }
            b'n' if self.stage == Stage::Joining => {
                self.session.not_joined(1_000, now);
                self.stage = Stage::Expecting;
            }
            b'a' => self.session.renewed(now + 600_000, now),
            b'h' => self.session.heard(now),
            b's' => self.session.spoke(now),
            b'o' => self.session.wrote(now),
            b'k' => self.session.taken(),
            _ => {}
        }
        assert_eq!(self.session.is_joining(), self.stage == Stage::Joining);
        true
    }

    /// False when the session is over.
    fn reacted(&mut self, reaction: Reaction, format: Format) -> bool {
        let too_fast = matches!(&reaction, Reaction::Refuse(error) if error.code == Refusal::TooFast);
        if too_fast {
            assert!(self.session.read_from() > self.now, "whoever is too fast is not read for a while");
        } else {
            let rate = i64::from(RULES.messages_per_s);
            self.passed += 1;
            assert!(self.passed * 1_000 <= rate * (2_000 + self.now - self.begun), "the rate holds");
        }
        if format != self.session.format() {
            let other = if format == Format::Json { Refusal::NotBinary } else { Refusal::NotText };
            assert!(too_fast || matches!(&reaction, Reaction::Refuse(error) if error.code == other));
        }
        match reaction {
            Reaction::Join { .. } => {
                assert!(self.stage == Stage::Expecting, "a session begins once");
                self.stage = Stage::Joining;
            }
            Reaction::Report { .. } | Reaction::Late { .. } => {
                assert!(self.stage == Stage::Live { reporting: true }, "a report before hello, or of one who watches");
            }
            Reaction::Sync | Reaction::Subscribe { .. } | Reaction::Unsubscribe { .. } => assert!(self.is_live()),
            Reaction::Auth { .. } => {}
            Reaction::Refuse(error) => answers::check(&ServerMessage::Error(error)),
            Reaction::End(refusal) => {
                assert!(refusal == Refusal::HelloExpected && self.stage == Stage::Expecting);
                return false;
            }
        }
        true
    }
}
