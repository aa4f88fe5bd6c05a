//! Every refusal: a stable code, a sentence, and what the client should do.

use serde::{Deserialize, Serialize};

/// Whether and when a client tries again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// The same request will never succeed.
    Never,
    /// After the time that comes with it (`retry_after_ms`, or the header `Retry-After`), else with back-off.
    After,
    /// With a new token.
    NewToken,
}

/// Why something was refused. `bye` and `error` frames and HTTP bodies carry [`Refusal::code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// No token came.
    TokenMissing,
    /// The token is not a JWT, or its algorithm is not accepted.
    TokenMalformed,
    /// The signature does not match.
    TokenSignature,
    /// The token's time is over.
    TokenExpired,
    /// The token is not valid yet.
    TokenNotYetValid,
    /// The token is for another audience.
    TokenAudience,
    /// The token is from another issuer.
    TokenIssuer,
    /// The token's `sub` is no user id.
    TokenSubject,
    /// The token is valid for longer than is allowed here.
    TokenLifetime,
    /// A token for the connection, of another user.
    TokenUser,
    /// A token in an address.
    TokenInUrl,
    /// The token does not allow this.
    Forbidden,
    /// Not JSON, or not the shape of its type.
    Malformed,
    /// A type this server does not know.
    UnknownType,
    /// A binary frame where text is expected.
    NotText,
    /// A text frame where the subprotocol promises binary ones.
    NotBinary,
    /// Larger than the limit in `welcome`.
    TooLarge,
    /// The first message was not `hello`, or none came in time.
    HelloExpected,
    /// A second `hello` on one socket.
    HelloRepeated,
    /// Latitude or longitude out of range.
    PositionOutOfRange,
    /// Accuracy, speed, heading or altitude out of range.
    MeasureOutOfRange,
    /// The time is implausible.
    TimeOutOfRange,
    /// An id is empty, too long or holds control characters.
    IdInvalid,
    /// `n` is not greater than this device's last.
    NumberNotGrowing,
    /// More late fixes in one message than the limit.
    TooManyFixes,
    /// This session only watches.
    NotReporting,
    /// The asker may not see this user.
    NotAFriend,
    /// There is no such user.
    NoSuchUser,
    /// There is no such request.
    NoSuchRequest,
    /// There is no such path.
    NoSuchPath,
    /// This path does not take this method.
    MethodNotAllowed,
    /// A request without an upgrade where a WebSocket is expected.
    UpgradeRequired,
    /// Asking oneself.
    Oneself,
    /// The cap of friends is reached.
    TooManyFriends,
    /// The cursor is unknown, whatever it is, or too old.
    CursorExpired,
    /// A parameter is missing or out of range.
    ParameterInvalid,
    /// More than the rate allows.
    TooFast,
    /// More connections of one address than the limit.
    TooManyConnections,
    /// Connections are taken from load balancers alone.
    NotAProxy,
    /// More reports are waiting for Kafka than the limit.
    Busy,
    /// Kafka did not answer in time: whether the report was accepted is unknown.
    Unknown,
    /// A store or service behind this one does not answer.
    Unavailable,
    /// A newer session of the same user took over.
    Superseded,
    /// The server is going away.
    Drain,
    /// Nothing came from the client for too long.
    Idle,
    /// The client took nothing of what was written to it for too long.
    Slow,
    /// The user signed out or was erased.
    SignedOut,
    /// A share link that does not exist, was taken back, or whose time is over.
    LinkEnded,
    /// The cap of share links is reached.
    TooManyLinks,
    /// Something that should not happen; it is logged.
    Internal,
}

/// A row of the table of codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The stable code.
    pub code: &'static str,
    /// HTTP status, where the code comes over HTTP.
    pub status: u16,
    /// WebSocket close code, where the refusal ends the connection.
    pub close: Option<u16>,
    /// What the client should do.
    pub retry: Retry,
    /// For people.
    pub sentence: &'static str,
}

impl Refusal {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 50] = [
        Self::TokenMissing,
        Self::TokenMalformed,
        Self::TokenSignature,
        Self::TokenExpired,
        Self::TokenNotYetValid,
        Self::TokenAudience,
        Self::TokenIssuer,
        Self::TokenSubject,
        Self::TokenLifetime,
        Self::TokenUser,
        Self::TokenInUrl,
        Self::Forbidden,
        Self::Malformed,
        Self::UnknownType,
        Self::NotText,
        Self::NotBinary,
        Self::TooLarge,
        Self::HelloExpected,
        Self::HelloRepeated,
        Self::PositionOutOfRange,
        Self::MeasureOutOfRange,
        Self::TimeOutOfRange,
        Self::IdInvalid,
        Self::NumberNotGrowing,
        Self::TooManyFixes,
        Self::NotReporting,
        Self::NotAFriend,
        Self::NoSuchUser,
        Self::NoSuchRequest,
        Self::NoSuchPath,
        Self::MethodNotAllowed,
        Self::UpgradeRequired,
        Self::Oneself,
        Self::TooManyFriends,
        Self::CursorExpired,
        Self::ParameterInvalid,
        Self::TooFast,
        Self::TooManyConnections,
        Self::NotAProxy,
        Self::Busy,
        Self::Unknown,
        Self::Unavailable,
        Self::Superseded,
        Self::Drain,
        Self::Idle,
        Self::Slow,
        Self::SignedOut,
        Self::LinkEnded,
        Self::TooManyLinks,
        Self::Internal,
    ];

    /// The table's row.
    pub const fn row(self) -> Row {
        use Retry::{After, Never, NewToken};
        let (code, status, close, retry, sentence) = match self {
            Self::TokenMissing => (
                "token_missing",
                401,
                None,
                NewToken,
                "Send a token: `Authorization: Bearer <token>`, or the subprotocols `nearcast.v1` and `bearer.<token>`.",
            ),
            Self::TokenMalformed => {
                ("token_malformed", 401, Some(4001), NewToken, "The token is not a JWT of an accepted algorithm.")
            }
            Self::TokenSignature => (
                "token_signature",
                401,
                Some(4001),
                NewToken,
                "The token's signature does not match this deployment's key.",
            ),
            Self::TokenExpired => ("token_expired", 401, Some(4001), NewToken, "The token has expired."),
            Self::TokenNotYetValid => ("token_not_yet_valid", 401, Some(4001), NewToken, "The token is not valid yet."),
            Self::TokenAudience => ("token_audience", 401, Some(4001), NewToken, "The token is for another audience."),
            Self::TokenIssuer => ("token_issuer", 401, Some(4001), NewToken, "The token is from another issuer."),
            Self::TokenSubject => {
                ("token_subject", 401, Some(4001), NewToken, "The token's `sub` is not a user id of 1 to 64 bytes.")
            }
            Self::TokenLifetime => (
                "token_lifetime",
                401,
                Some(4001),
                NewToken,
                "The token is valid for longer than this deployment allows; get one for a shorter time.",
            ),
            Self::TokenUser => (
                "token_user",
                403,
                None,
                Never,
                "The token is another user's; this connection goes on with its own. Connect anew for another user.",
            ),
            Self::TokenInUrl => (
                "token_in_url",
                400,
                None,
                Never,
                "No token in the URL, which ends up in logs: send `Authorization: Bearer <token>`, or the subprotocol \
                 `bearer.<token>`, and a new token.",
            ),
            Self::Forbidden => ("forbidden", 403, Some(4003), Never, "This token does not allow that."),
            Self::Malformed => ("malformed", 400, None, Never, "This is not of the documented shape."),
            Self::UnknownType => ("unknown_type", 400, None, Never, "This server does not know that type of message."),
            Self::NotText => ("not_text", 400, None, Never, "Send messages as text frames."),
            Self::NotBinary => {
                ("not_binary", 400, None, Never, "Send messages as binary frames, as the subprotocol says.")
            }
            Self::TooLarge => ("too_large", 413, Some(1009), Never, "The message is larger than the limit."),
            Self::HelloExpected => {
                ("hello_expected", 400, Some(4002), After, "The first message must be `hello`, within 10 s.")
            }
            Self::HelloRepeated => (
                "hello_repeated",
                400,
                None,
                Never,
                "This socket has said `hello` already; use `sync` for the whole list.",
            ),
            Self::PositionOutOfRange => (
                "position_out_of_range",
                422,
                None,
                Never,
                "Latitude must be -90 to 90 and longitude -180 to 180 degrees.",
            ),
            Self::MeasureOutOfRange => (
                "measure_out_of_range",
                422,
                None,
                Never,
                "Accuracy and speed must be at least 0, heading 0 to 360, altitude -12000 to 100000 m.",
            ),
            Self::TimeOutOfRange => (
                "time_out_of_range",
                422,
                None,
                Never,
                "The time must be in ms since the epoch and plausible by the phone's own clock.",
            ),
            Self::IdInvalid => {
                ("id_invalid", 422, None, Never, "An id has 1 to 64 bytes without control characters and white space.")
            }
            Self::NumberNotGrowing => (
                "number_not_growing",
                422,
                None,
                Never,
                "`n` must be at least 0 and grow with each report of a device.",
            ),
            Self::TooManyFixes => ("too_many_fixes", 422, None, Never, "Send at most 500 late fixes in one message."),
            Self::NotReporting => {
                ("not_reporting", 409, None, Never, "This session only watches; say `hello` without `watch` to report.")
            }
            Self::NotAFriend => ("not_a_friend", 403, None, Never, "That user does not share with you."),
            Self::NoSuchUser => ("no_such_user", 404, None, Never, "There is no such user."),
            Self::NoSuchRequest => ("no_such_request", 404, None, Never, "There is no such friend request."),
            Self::NoSuchPath => ("no_such_path", 404, None, Never, "There is no such path; see /openapi.json."),
            Self::MethodNotAllowed => {
                ("method_not_allowed", 405, None, Never, "This path does not take that method; see /openapi.json.")
            }
            Self::UpgradeRequired => (
                "upgrade_required",
                426,
                None,
                Never,
                "This path speaks WebSocket (RFC 6455, version 13): ask for an upgrade.",
            ),
            Self::Oneself => ("oneself", 422, None, Never, "You cannot befriend yourself."),
            Self::TooManyFriends => {
                ("too_many_friends", 409, None, Never, "One of the two has reached the cap of 5000 friends.")
            }
            Self::CursorExpired => (
                "cursor_expired",
                410,
                None,
                Never,
                "The server does not know this cursor, or no longer; begin again without one.",
            ),
            Self::ParameterInvalid => {
                ("parameter_invalid", 422, None, Never, "A parameter is missing or out of range.")
            }
            Self::TooFast => ("too_fast", 429, None, After, "That is more than the rate allows."),
            Self::TooManyConnections => (
                "too_many_connections",
                429,
                None,
                After,
                "There are too many connections from your address; close some, or come back later.",
            ),
            Self::NotAProxy => {
                ("not_a_proxy", 403, None, Never, "This gateway takes connections from its load balancers alone.")
            }
            Self::Busy => ("busy", 503, None, After, "Too many reports are waiting for the log; send it again."),
            Self::Unknown => (
                "unknown",
                504,
                None,
                After,
                "The log did not answer in time: whether it was accepted is unknown; send it again with the same `n`.",
            ),
            Self::Unavailable => {
                ("unavailable", 503, Some(4013), After, "A part of the service does not answer; try again.")
            }
            Self::Superseded => (
                "superseded",
                409,
                Some(4009),
                Never,
                "A newer session of the same user took over; do not reconnect by yourself.",
            ),
            Self::Drain => {
                ("drain", 503, Some(4012), After, "This gateway is going away; reconnect after the given time.")
            }
            Self::Idle => ("idle", 408, Some(4008), After, "Nothing came from you for too long; reconnect."),
            Self::Slow => ("slow", 408, Some(4011), After, "You read nothing for too long; reconnect."),
            Self::SignedOut => ("signed_out", 401, Some(4010), NewToken, "You signed out."),
            Self::LinkEnded => (
                "link_ended",
                410,
                Some(4014),
                Never,
                "There is no such share link: it was taken back, or its time is over.",
            ),
            Self::TooManyLinks => {
                ("too_many_links", 409, None, Never, "You share by as many links as you may; take one back first.")
            }
            Self::Internal => ("internal", 500, Some(1011), After, "Something went wrong here; it is logged."),
        };
        Row { code, status, close, retry, sentence }
    }

    /// The stable code.
    pub const fn code(self) -> &'static str {
        self.row().code
    }

    /// The refusal with this code.
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.code() == code)
    }

    /// The table for the documents, in Markdown.
    pub fn table() -> String {
        let mut table =
            String::from("| code | HTTP status | close code | retry | meaning |\n| --- | --- | --- | --- | --- |\n");
        for refusal in Self::ALL {
            let row = refusal.row();
            let close = row.close.map_or_else(|| "–".to_owned(), |c| c.to_string());
            let retry = match row.retry {
                Retry::Never => "never",
                Retry::After => "after",
                Retry::NewToken => "with a new token",
            };
            table.push_str(&format!("| `{}` | {} | {close} | {retry} | {} |\n", row.code, row.status, row.sentence));
        }
        table
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_their_serde_names_and_differ() {
        let mut codes = std::collections::BTreeSet::new();
        for refusal in Refusal::ALL {
            assert_eq!(serde_json::to_value(refusal).ok(), Some(refusal.code().into()));
            assert!(codes.insert(refusal.code()), "{refusal} twice");
            assert_eq!(Refusal::from_code(refusal.code()), Some(refusal));
        }
    }
}
