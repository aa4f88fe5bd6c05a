//! The client's side of one connection: what may be said when, how fast, and what is due when nothing is said.
//!
//! Pure: takes frames and times, gives reactions. Times are ms of any clock that does not go back.

use nearcast_schemas::refusal::Refusal;

use crate::frames::{
    ClientMessage, ErrorMessage, Format, Frame, Hello, Incoming, Kind, Location, Locations, Token, parse,
};

/// A connection may say this many seconds' worth of messages at once.
const BURST_S: i64 = 2;

/// What holds for every connection; times in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `hello` has to come within this time.
    pub hello_ms: i64,
    /// The server pings this often, and closes after two and a half times this without any frame.
    pub ping_every_ms: i64,
    /// A client that takes nothing of what was written to it for this long is given up.
    pub slow_ms: i64,
    /// A session that the log heard nothing of for this long says presence; its place in the registry is refreshed as
    /// often.
    pub presence_every_ms: i64,
    /// Messages a second; at least 1.
    pub messages_per_s: u32,
}

impl Rules {
    fn idle_ms(&self) -> i64 {
        self.ping_every_ms * 5 / 2
    }
}

/// What to do about a frame.
#[derive(Clone, Debug, PartialEq)]
pub enum Reaction {
    /// Begin the session.
    Join {
        /// What was said.
        hello: Box<Hello>,
        /// The client's name for the message.
        id: Option<String>,
    },
    /// Take a report.
    Report {
        /// What was said.
        location: Box<Location>,
        /// The client's name for the message.
        id: Option<String>,
    },
    /// Take late reports.
    Late {
        /// What was said.
        locations: Locations,
        /// The client's name for the message.
        id: Option<String>,
    },
    /// Ask for a reset.
    Sync,
    /// Ask for a friend's last position.
    Subscribe {
        /// Whom.
        friend: String,
        /// The client's name for the message.
        id: Option<String>,
    },
    /// Mute a friend.
    Unsubscribe {
        /// Whom.
        friend: String,
    },
    /// Check a new token for the connection.
    Auth {
        /// The token.
        token: Token,
        /// The client's name for the message.
        id: Option<String>,
    },
    /// Answer that this was not done.
    Refuse(Box<ErrorMessage>),
    /// Say goodbye.
    End(Refusal),
}

/// What is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Ping the client.
    pub ping: bool,
    /// Tell the log that the session is still here.
    pub presence: bool,
    /// Refresh the session in the registry.
    pub refresh: bool,
    /// Say goodbye.
    pub end: Option<Refusal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// `hello` has to come by then.
    Expecting(i64),
    /// `hello` has come and is being answered.
    Joining,
    /// Welcomed; when the log heard of the session last, and the registry.
    Live { spoke_at: i64, refreshed_at: i64 },
}

/// One connection.
#[derive(Debug)]
pub struct Session {
    rules: Rules,
    format: Format,
    stage: Stage,
    reporting: bool,
    expires_at: i64,
    heard_at: i64,
    pinged_at: i64,
    bucket: Bucket,
    read_from: i64,
    /// Something is written that the client has not taken.
    unread_since: Option<i64>,
}

impl Session {
    /// A connection whose token is valid until `expires_at`.
    pub fn new(rules: Rules, expires_at: i64, now: i64) -> Self {
        Self {
            rules,
            format: Format::Json,
            stage: Stage::Expecting(now.saturating_add(rules.hello_ms)),
            reporting: false,
            expires_at,
            heard_at: now,
            pinged_at: now,
            bucket: Bucket::full(rules.messages_per_s, now),
            read_from: now,
            unread_since: None,
        }
    }

    /// The client and the server write their messages like this.
    #[must_use]
    pub fn speaking(self, format: Format) -> Self {
        Self { format, ..self }
    }

    /// How messages are written.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Something was written. The client has not taken all of it until [`Session::taken`].
    pub fn wrote(&mut self, now: i64) {
        self.unread_since.get_or_insert(now);
    }

    /// The client's system has taken everything that was written.
    pub fn taken(&mut self) {
        self.unread_since = None;
    }

    /// Whether something is written that the client's system has not taken.
    pub fn is_unread(&self) -> bool {
        self.unread_since.is_some()
    }

    /// When the client is given up if it takes nothing.
    fn slow_at(&self) -> i64 {
        self.unread_since.map_or(i64::MAX, |since| since.saturating_add(self.rules.slow_ms))
    }

    /// A control frame came.
    pub fn heard(&mut self, now: i64) {
        self.heard_at = now;
    }

    /// A binary frame came.
    pub fn on_binary(&mut self, bytes: &[u8], now: i64) -> Reaction {
        match self.format {
            Format::Json => self.refuse_frame(Refusal::NotText, now),
            Format::MessagePack => self.on_frame(Frame::Binary(bytes), now),
        }
    }

    /// A text frame came.
    pub fn on_text(&mut self, text: &str, now: i64) -> Reaction {
        match self.format {
            Format::Json => self.on_frame(Frame::Text(text), now),
            Format::MessagePack => self.refuse_frame(Refusal::NotBinary, now),
        }
    }

    /// A frame of the other format came. Nothing in it is looked at.
    fn refuse_frame(&mut self, refusal: Refusal, now: i64) -> Reaction {
        self.heard_at = now;
        let error = self.limit(ErrorMessage::new(refusal), now);
        Reaction::Refuse(Box::new(error))
    }

    fn on_frame(&mut self, frame: Frame<'_>, now: i64) -> Reaction {
        self.heard_at = now;
        let (id, message) = match parse(frame) {
            Ok(Incoming { id, message }) => (id, message),
            Err(refused) => {
                let mut error =
                    ErrorMessage { re: refused.id, of: refused.of, n: refused.n, ..ErrorMessage::new(refused.refusal) };
                if let Some(detail) = refused.detail {
                    error.message = format!("{} ({detail})", error.message);
                }
                return Reaction::Refuse(Box::new(self.limit(error, now)));
            }
        };
        let (kind, n) = (message.kind(), message.n());
        let refuse = |refusal, id| ErrorMessage { re: id, n, of: Some(kind), ..ErrorMessage::new(refusal) };
        if let Err(wait_ms) = self.bucket.take(now) {
            self.read_from = now.saturating_add(wait_ms);
            let error = ErrorMessage { retry_after_ms: Some(wait_ms), ..refuse(Refusal::TooFast, id) };
            return Reaction::Refuse(Box::new(error));
        }
        if self.stage != Stage::Joining
            && !matches!(self.stage, Stage::Live { .. })
            && !matches!(kind, Kind::Hello | Kind::Auth)
        {
            return Reaction::End(Refusal::HelloExpected);
        }
        match message {
            ClientMessage::Hello(hello) => match self.stage {
                Stage::Expecting(_) => {
                    self.stage = Stage::Joining;
                    Reaction::Join { hello: Box::new(hello), id }
                }
                Stage::Joining | Stage::Live { .. } => Reaction::Refuse(Box::new(refuse(Refusal::HelloRepeated, id))),
            },
            ClientMessage::Location(_) | ClientMessage::Locations(_) if !self.reporting => {
                Reaction::Refuse(Box::new(refuse(Refusal::NotReporting, id)))
            }
            ClientMessage::Location(location) => Reaction::Report { location: Box::new(location), id },
            ClientMessage::Locations(locations) => Reaction::Late { locations, id },
            ClientMessage::Auth { token } => Reaction::Auth { token, id },
            ClientMessage::Sync => Reaction::Sync,
            ClientMessage::Subscribe { friend } => Reaction::Subscribe { friend, id },
            ClientMessage::Unsubscribe { friend } => Reaction::Unsubscribe { friend },
        }
    }

    /// The session has begun; with `reporting` it takes reports.
    pub fn joined(&mut self, reporting: bool, now: i64) {
        self.reporting = reporting;
        self.heard_at = now;
        self.stage = Stage::Live { spoke_at: now, refreshed_at: now };
    }

    /// The session has not begun; the client may say `hello` again after `retry_ms`.
    pub fn not_joined(&mut self, retry_ms: i64, now: i64) {
        self.heard_at = now;
        self.stage = Stage::Expecting(now.saturating_add(retry_ms).saturating_add(self.rules.hello_ms));
    }

    /// The client has shown a token that is valid until `expires_at`; it replaces the one before.
    pub fn renewed(&mut self, expires_at: i64, now: i64) {
        self.heard_at = now;
        self.expires_at = expires_at;
    }

    /// The log heard of the session.
    pub fn spoke(&mut self, now: i64) {
        if let Stage::Live { spoke_at, .. } = &mut self.stage {
            *spoke_at = now;
        }
    }

    /// Whether `hello` is being answered: nothing is read meanwhile, so that messages keep their order.
    pub fn is_joining(&self) -> bool {
        self.stage == Stage::Joining
    }

    /// From when on frames may be read.
    pub fn read_from(&self) -> i64 {
        self.read_from
    }

    /// What is due by now; each thing once.
    pub fn due(&mut self, now: i64) -> Due {
        let mut due = Due::default();
        if now >= self.expires_at {
            due.end = Some(Refusal::TokenExpired);
            return due;
        }
        if let Stage::Expecting(until) = self.stage
            && now >= until
        {
            due.end = Some(Refusal::HelloExpected);
            return due;
        }
        if self.stage != Stage::Joining && now >= self.heard_at.saturating_add(self.rules.idle_ms()) {
            due.end = Some(Refusal::Idle);
            return due;
        }
        if now >= self.slow_at() {
            due.end = Some(Refusal::Slow);
            return due;
        }
        if now >= self.pinged_at.saturating_add(self.rules.ping_every_ms) {
            self.pinged_at = now;
            due.ping = true;
        }
        if let Stage::Live { spoke_at, refreshed_at } = &mut self.stage {
            if now >= spoke_at.saturating_add(self.rules.presence_every_ms) {
                *spoke_at = now;
                due.presence = true;
            }
            if now >= refreshed_at.saturating_add(self.rules.presence_every_ms) {
                *refreshed_at = now;
                due.refresh = true;
            }
        }
        due
    }

    /// When something is due next.
    pub fn next_due(&self) -> i64 {
        let ping = self.pinged_at.saturating_add(self.rules.ping_every_ms);
        let idle = self.heard_at.saturating_add(self.rules.idle_ms());
        let staged = match self.stage {
            Stage::Expecting(until) => until.min(idle),
            Stage::Joining => i64::MAX,
            Stage::Live { spoke_at, refreshed_at } => {
                spoke_at.min(refreshed_at).saturating_add(self.rules.presence_every_ms).min(idle)
            }
        };
        ping.min(staged).min(self.expires_at).min(self.slow_at())
    }

    /// What could not be read counts as a message, too.
    fn limit(&mut self, error: ErrorMessage, now: i64) -> ErrorMessage {
        match self.bucket.take(now) {
            Ok(()) => error,
            Err(wait_ms) => {
                self.read_from = now.saturating_add(wait_ms);
                let ErrorMessage { re, n, of, .. } = error;
                ErrorMessage { retry_after_ms: Some(wait_ms), re, n, of, ..ErrorMessage::new(Refusal::TooFast) }
            }
        }
    }
}

/// A token bucket that counts in thousandths of a message.
#[derive(Debug)]
struct Bucket {
    per_s: i64,
    level: i64,
    at: i64,
}

impl Bucket {
    fn full(messages_per_s: u32, now: i64) -> Self {
        let per_s = i64::from(messages_per_s.max(1));
        Self { per_s, level: per_s * BURST_S * 1_000, at: now }
    }

    /// Takes one message, or says in how many ms there will be one.
    fn take(&mut self, now: i64) -> Result<(), i64> {
        let most = self.per_s * BURST_S * 1_000;
        let gained = now.saturating_sub(self.at).max(0).saturating_mul(self.per_s);
        self.level = self.level.saturating_add(gained).min(most);
        self.at = self.at.max(now);
        if self.level >= 1_000 {
            self.level -= 1_000;
            return Ok(());
        }
        Err((1_000 - self.level + self.per_s - 1) / self.per_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RULES: Rules = Rules {
        hello_ms: 10_000,
        ping_every_ms: 25_000,
        slow_ms: 300_000,
        presence_every_ms: 200_000,
        messages_per_s: 20,
    };
    const HELLO: &str = r#"{"type":"hello","device":"d1"}"#;
    const LOCATION: &str = r#"{"type":"location","id":"m1","n":7,"lat":1,"lon":2,"time":3}"#;

    fn session() -> Session {
        Session::new(RULES, i64::MAX, 0)
    }

    fn live(reporting: bool) -> Session {
        let mut session = session();
        assert!(matches!(session.on_text(HELLO, 0), Reaction::Join { .. }));
        session.joined(reporting, 0);
        session
    }

    fn refused(reaction: Reaction) -> ErrorMessage {
        match reaction {
            Reaction::Refuse(error) => *error,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn hello_comes_first() {
        assert_eq!(session().on_text(LOCATION, 0), Reaction::End(Refusal::HelloExpected));
        assert_eq!(session().on_text(r#"{"type":"sync"}"#, 0), Reaction::End(Refusal::HelloExpected));
        let mut session = session();
        assert_eq!(refused(session.on_text("{", 0)).code, Refusal::Malformed);
        assert_eq!(refused(session.on_binary(b"\x81\xa4type\xa4sync", 0)).code, Refusal::NotText);
        assert_eq!(session.due(9_999), Due::default());
        assert_eq!(session.due(10_000).end, Some(Refusal::HelloExpected));
    }

    #[test]
    fn a_binary_session_takes_binary_frames_only() {
        let mut session = session().speaking(Format::MessagePack);
        let error = refused(session.on_text(HELLO, 0));
        assert_eq!((error.code, error.of), (Refusal::NotBinary, None));
        let hello = b"\x82\xa4type\xa5hello\xa6device\xa2d1";
        assert!(matches!(session.on_binary(hello, 0), Reaction::Join { .. }));
        session.joined(true, 0);
        let error = refused(session.on_binary(b"\x82\xa4type\xa8location\xa1n\x07", 0));
        assert_eq!((error.code, error.of, error.n), (Refusal::Malformed, Some(Kind::Location), Some(7)));
        for _ in 0..37 {
            assert_eq!(session.on_binary(b"\x81\xa4type\xa4sync", 0), Reaction::Sync);
        }
        assert_eq!(refused(session.on_text(LOCATION, 0)).code, Refusal::TooFast);
    }

    #[test]
    fn hello_comes_once_but_again_after_a_refusal() {
        let mut session = session();
        assert!(matches!(session.on_text(HELLO, 0), Reaction::Join { .. }));
        assert!(session.is_joining());
        assert_eq!(session.due(20_000), Due::default(), "an answer that takes long is not the client's fault");
        session.not_joined(2_000, 20_000);
        assert_eq!(session.next_due(), 25_000);
        assert_eq!(session.due(31_999), Due { ping: true, ..Due::default() });
        assert!(matches!(session.on_text(HELLO, 31_999), Reaction::Join { .. }));
        session.joined(true, 32_000);
        let error = refused(session.on_text(r#"{"type":"hello","id":"h","device":"d1"}"#, 32_000));
        assert_eq!((error.code, error.re.as_deref(), error.of), (Refusal::HelloRepeated, Some("h"), Some(Kind::Hello)));
    }

    #[test]
    fn only_reporting_sessions_report() {
        assert!(matches!(live(true).on_text(LOCATION, 0), Reaction::Report { .. }));
        let error = refused(live(false).on_text(LOCATION, 0));
        assert_eq!((error.code, error.n, error.re.as_deref()), (Refusal::NotReporting, Some(7), Some("m1")));
        let late = r#"{"type":"locations","fixes":[]}"#;
        assert!(matches!(live(true).on_text(late, 0), Reaction::Late { .. }));
        assert_eq!(refused(live(false).on_text(late, 0)).code, Refusal::NotReporting);
        assert!(matches!(live(false).on_text(r#"{"type":"subscribe","friend":"bob"}"#, 0), Reaction::Subscribe { .. }));
    }

    #[test]
    fn an_unknown_type_is_answered() {
        let error = refused(live(true).on_text(r#"{"type":"dance","id":"x"}"#, 0));
        assert_eq!((error.code, error.re.as_deref(), error.of), (Refusal::UnknownType, Some("x"), None));
    }

    #[test]
    fn too_many_messages_are_refused_and_reading_pauses() {
        let mut session = live(true);
        // The hello was one of them.
        for _ in 0..39 {
            assert_eq!(session.on_text(r#"{"type":"sync"}"#, 0), Reaction::Sync);
        }
        let error = refused(session.on_text(LOCATION, 0));
        assert_eq!((error.code, error.retry_after_ms, error.n), (Refusal::TooFast, Some(50), Some(7)));
        assert_eq!(session.read_from(), 50);
        assert_eq!(refused(session.on_text("{", 0)).code, Refusal::TooFast);
        assert!(matches!(session.on_text(LOCATION, 50), Reaction::Report { .. }));
    }

    #[test]
    fn pings_and_closes_the_idle() {
        let mut session = live(true);
        assert_eq!(session.next_due(), 25_000);
        assert_eq!(session.due(24_999), Due::default());
        assert_eq!(session.due(25_000), Due { ping: true, ..Due::default() });
        assert_eq!(session.due(25_000), Due::default());
        session.heard(26_000);
        assert_eq!(session.due(50_000), Due { ping: true, ..Due::default() });
        assert_eq!(session.due(88_499), Due { ping: true, ..Due::default() });
        assert_eq!(session.next_due(), 88_500);
        assert_eq!(session.due(88_500).end, Some(Refusal::Idle));
    }

    #[test]
    fn gives_up_who_takes_nothing() {
        let mut session = live(true);
        session.wrote(1_000);
        session.taken();
        session.wrote(20_000);
        session.wrote(40_000);
        session.heard(319_999);
        assert_eq!(session.due(319_999).end, None);
        assert_eq!(session.next_due(), 320_000);
        assert_eq!(session.due(320_000).end, Some(Refusal::Slow));
    }

    #[test]
    fn a_quiet_session_says_presence_and_refreshes_its_place() {
        let mut session = live(false);
        session.spoke(150_000);
        session.heard(190_000);
        assert_eq!(session.due(200_000), Due { ping: true, refresh: true, ..Due::default() });
        session.heard(340_000);
        assert_eq!(session.due(350_000), Due { ping: true, presence: true, ..Due::default() });
        assert_eq!(session.due(350_001), Due::default());
    }

    #[test]
    fn a_token_ends_with_its_time() {
        let mut session = Session::new(RULES, 5_000, 0);
        assert_eq!(session.next_due(), 5_000);
        assert_eq!(session.due(5_000).end, Some(Refusal::TokenExpired));
    }

    #[test]
    fn a_new_token_replaces_the_one_before() {
        const AUTH: &str = r#"{"type":"auth","id":"a1","token":"x.y.z"}"#;
        let mut session = Session::new(RULES, 5_000, 0);
        let auth = Reaction::Auth { token: Token::new("x.y.z"), id: Some("a1".into()) };
        assert_eq!(session.on_text(AUTH, 4_000), auth, "before hello");
        assert_eq!(session.next_due(), 5_000, "nothing is renewed before it is checked");
        session.renewed(8_000, 4_500);
        assert_eq!(session.due(5_000), Due::default());
        assert!(matches!(session.on_text(HELLO, 5_000), Reaction::Join { .. }), "it takes no hello's place");
        session.joined(true, 5_000);
        assert_eq!(session.on_text(AUTH, 5_000), auth);
        session.renewed(7_000, 5_000);
        assert_eq!(session.due(6_999).end, None);
        assert_eq!(session.due(7_000).end, Some(Refusal::TokenExpired));
        assert_eq!(live(false).on_text(AUTH, 0), auth, "of a session that only watches");
    }

    proptest! {
        /// Whoever asks at the time that `next_due` names is told something, and is not asked to wait in the past.
        #[test]
        fn something_is_due_when_it_was_said_to_be(
            steps in proptest::collection::vec((0i64..30_000, 0u8..6), 0..60)
        ) {
            let mut session = Session::new(RULES, 2_000_000, 0);
            let mut now = 0;
            for (wait, what) in steps {
                let next = session.next_due();
                prop_assert!(next > now, "due at {next}, already asked at {now}");
                if next <= now + wait {
                    now = next;
                    let due = session.due(now);
                    prop_assert!(due != Due::default(), "nothing was due at {now}");
                    if due.end.is_some() {
                        break;
                    }
                    continue;
                }
                now += wait;
                match what {
                    0 => session.heard(now),
                    1 => { session.on_text(HELLO, now); }
                    2 if session.is_joining() => session.joined(true, now),
                    3 if session.is_joining() => session.not_joined(1_000, now),
                    4 => session.spoke(now),
                    _ => { session.on_text("{", now); }
                }
            }
        }

        /// No more messages pass in any time than the rate and the burst allow.
        #[test]
        fn the_rate_holds(waits in proptest::collection::vec(0i64..200, 1..200)) {
            let mut bucket = Bucket::full(20, 0);
            let (mut now, mut passed) = (0, 0);
            for wait in waits {
                now += wait;
                match bucket.take(now) {
                    Ok(()) => passed += 1,
                    Err(wait) => prop_assert!((1..=50).contains(&wait)),
                }
                prop_assert!(passed * 1_000 <= 40_000 + now * 20);
            }
        }
    }
}
