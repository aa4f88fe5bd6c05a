//! Tokens on a live connection: one that replaces the one before, so that the connection outlives it.

use nearcast_runtime::auth::{AuthError, Claims};
use nearcast_schemas::notice::issued_before;
use nearcast_schemas::refusal::Refusal;

use crate::connection::Connection;
use crate::deliveries::Reach;
use crate::events::SignOutUnknown;
use crate::frames::{Authed, ErrorMessage, Kind, ServerMessage, Token};
use crate::reports::{Answer, retry_after_ms};

/// What a client is told of a token.
pub fn refusal_of(error: AuthError) -> Refusal {
    match error {
        AuthError::Missing => Refusal::TokenMissing,
        AuthError::Malformed => Refusal::TokenMalformed,
        AuthError::Signature | AuthError::Key => Refusal::TokenSignature,
        AuthError::Unavailable => Refusal::Unavailable,
        AuthError::Expired => Refusal::TokenExpired,
        AuthError::NotYetValid => Refusal::TokenNotYetValid,
        AuthError::Lifetime => Refusal::TokenLifetime,
        AuthError::Audience => Refusal::TokenAudience,
        AuthError::Issuer => Refusal::TokenIssuer,
        AuthError::Subject => Refusal::TokenSubject,
    }
}

impl Connection {
    /// A token came. Nothing more is read until it is checked, so that a `hello` behind it counts with it.
    pub(crate) fn check_token(&mut self, token: Token, id: Option<String>) {
        self.checking_token = true;
        let (verifier, cache) = (self.gateway.parts.verifier.clone(), self.gateway.parts.cache.clone());
        let user = self.user.clone();
        self.answers.push(Box::pin(async move {
            let checked = async {
                let claims = verifier.verify(token.expose()).await.map_err(refusal_of)?;
                if *claims.sub != *user {
                    return Err(Refusal::TokenUser);
                }
                match cache.signed_out(&user).await {
                    Ok(Some(at)) if issued_before(claims.iat, at) => Err(Refusal::SignedOut),
                    Ok(_) => Ok(claims),
                    Err(error) => {
                        SignOutUnknown { error: error.to_string() }.emit();
                        Ok(claims)
                    }
                }
            };
            Answer::Token { id, checked: checked.await }
        }));
    }

    /// The token is checked: the connection goes on with it, or with the one that it has.
    pub(crate) fn on_token(&mut self, id: Option<String>, checked: Result<Claims, Refusal>, now: i64) {
        self.checking_token = false;
        match checked {
            Ok(claims) => {
                self.session.renewed(self.gateway.valid_until(&claims), now);
                self.issued_at = claims.iat;
                self.link.feed(|feed| feed.set_issued_at(claims.iat));
                let authed = Authed { expires_at: claims.exp.saturating_mul(1_000), re: id };
                self.control(ServerMessage::Authed(authed));
            }
            Err(refusal) => {
                let retry_after_ms = retry_after_ms(refusal);
                let error = ErrorMessage { re: id, of: Some(Kind::Auth), retry_after_ms, ..ErrorMessage::new(refusal) };
                self.control(ServerMessage::Error(Box::new(error)));
            }
        }
    }
}
