//! A new token for the connection, and the answer.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A token. `Debug` leaves it out.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// Hides a token.
    pub fn new(token: impl Into<String>) -> Self {
        Self(token.into())
    }

    /// The token itself. Never log it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// `auth`.
#[derive(Deserialize)]
pub(super) struct Auth {
    pub token: Token,
}

/// `authed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Authed {
    /// When the token expires, in ms since the epoch.
    pub expires_at: i64,
    /// The client's name for the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub re: Option<String>,
}
