//! Tokens: JWTs signed with HS256 (a shared secret), EdDSA (Ed25519), RS256 or ES256, by keys that are configured or that
//! the issuer publishes at an address (a JWK Set, RFC 7517).

mod config;
mod fetch;
mod jwks;
mod sign;
mod verify;

pub use config::{AuthConfig, KeyError};
pub use fetch::Keeper;
pub use jwks::KeySet;
pub use sign::{LinkSigner, Signer};
pub use verify::Verifier;

/// What a valid token says. The token itself is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Who; 1 byte at least. Whether it is a user id is for the caller to check.
    pub sub: String,
    /// Whether the API signed it for who holds a share link: `sub` is the link then, and no user.
    pub of_link: bool,
    /// Until when, in seconds since the epoch.
    pub exp: i64,
    /// Until when it is taken: `exp` and the leeway, in ms since the epoch.
    pub until_ms: i64,
    /// When it was issued, in whole seconds since the epoch, if it says so.
    pub iat: Option<i64>,
    /// What for: the words of `scope`, or the items of `scp`.
    pub scope: Vec<String>,
}

/// Why a token is refused. None of them carries any part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// There is none.
    #[error("no token")]
    Missing,
    /// It is no JWT, of no accepted algorithm, or lacks `exp`.
    #[error("not a JWT of an accepted algorithm")]
    Malformed,
    /// Somebody else signed it, or it was changed.
    #[error("the signature does not match")]
    Signature,
    /// Nobody here knows the key that it names.
    #[error("signed with a key that is not known here")]
    Key,
    /// The key that it names is not known, and the issuer cannot be asked.
    #[error("the issuer's keys cannot be fetched")]
    Unavailable,
    /// Its time is over.
    #[error("expired")]
    Expired,
    /// Its time has not come.
    #[error("not valid yet")]
    NotYetValid,
    /// It is valid for longer than is allowed here.
    #[error("valid for too long")]
    Lifetime,
    /// It is for somebody else.
    #[error("for another audience")]
    Audience,
    /// It is from somebody else.
    #[error("from another issuer")]
    Issuer,
    /// It names nobody.
    #[error("no subject")]
    Subject,
}

/// What the tokens of share links name as their key, and whom they are for.
const LINKS: &str = "nearcast-links";

/// Names of a query's parameters that carry tokens elsewhere. Here none may: addresses are logged on their way.
const IN_QUERY: [&str; 4] = ["token", "access_token", "id_token", "bearer"];

/// Whether the query of an address carries a token.
pub fn is_in_query(query: Option<&str>) -> bool {
    let names = query.unwrap_or_default().split('&').filter_map(|pair| pair.split('=').next());
    names.into_iter().any(|name| IN_QUERY.iter().any(|known| name.eq_ignore_ascii_case(known)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_in_a_query_is_seen() {
        for query in ["token=x", "a=b&access_token=x", "Token=", "bearer=x&a", "x&id_token=y", "token"] {
            assert!(is_in_query(Some(query)), "{query}");
        }
        for query in ["", "x=token", "tokens=1", "cursor=token=x", "my_token=1"] {
            assert!(!is_in_query(Some(query)), "{query}");
        }
        assert!(!is_in_query(None));
    }
}
