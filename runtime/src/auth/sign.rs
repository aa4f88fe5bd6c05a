//! Signing: for `nearcast token` and tests, and for share links.

use std::fmt;
use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::Serialize;

use super::LINKS;
use super::config::{AuthConfig, KeyError, given};
use crate::{Secret, clock};

/// Signs tokens, for `nearcast token` and tests.
pub struct Signer {
    key: EncodingKey,
    algorithm: Algorithm,
    audience: String,
    issuer: Option<String>,
    max_life_s: u32,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Signed<'a> {
    sub: &'a str,
    aud: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    iat: i64,
    exp: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    scope: String,
}

impl Signer {
    /// Signs with the Ed25519 private key where there is one, else with the shared secret.
    ///
    /// # Errors
    /// When there is neither, or it cannot be used.
    pub fn new(config: &AuthConfig) -> Result<Self, KeyError> {
        let private = config.ed25519_private_key.as_ref().map(Secret::expose).filter(|pem| !pem.trim().is_empty());
        let (key, algorithm) = match (private, config.secret()?) {
            (Some(pem), _) => {
                let key = EncodingKey::from_ed_pem(pem.as_bytes())
                    .map_err(|_| KeyError::Pem("ed25519_private_key", "an Ed25519 key"))?;
                (key, Algorithm::EdDSA)
            }
            (None, Some(secret)) => (EncodingKey::from_secret(secret), Algorithm::HS256),
            (None, None) => return Err(KeyError::NoSigner),
        };
        Ok(Self {
            key,
            algorithm,
            audience: config.audience.clone(),
            issuer: given(config.issuer.as_ref()).map(str::to_owned),
            max_life_s: config.max_life_s,
        })
    }

    /// A token for `sub` that begins now and lasts for `ttl`, rounded down to seconds.
    ///
    /// # Errors
    /// [`KeyError::Life`] when that is longer than tokens are taken for; [`KeyError::Sign`], which no well-formed key
    /// causes.
    pub fn sign(&self, sub: &str, ttl: Duration, scopes: &[String]) -> Result<String, KeyError> {
        if ttl.as_secs() > self.max_life_s.into() {
            return Err(KeyError::Life(self.max_life_s));
        }
        let iat = clock::now_ms() / 1_000;
        let payload = Signed {
            sub,
            aud: &self.audience,
            iss: self.issuer.as_deref(),
            iat,
            exp: iat.saturating_add(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX)),
            scope: scopes.join(" "),
        };
        encode(&Header::new(self.algorithm), &payload, &self.key).map_err(|_| KeyError::Sign)
    }
}

/// Signs the tokens of share links. Clones are the same.
#[derive(Clone)]
pub struct LinkSigner {
    key: EncodingKey,
}

impl fmt::Debug for LinkSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkSigner").finish_non_exhaustive()
    }
}

impl LinkSigner {
    /// None where the deployment has no share links.
    ///
    /// # Errors
    /// When the secret cannot be used.
    pub fn new(config: &AuthConfig) -> Result<Option<Self>, KeyError> {
        Ok(config.secret_of_links()?.map(|secret| Self { key: EncodingKey::from_secret(secret) }))
    }

    /// A token for who holds the link `viewer`, from now until `exp`, in seconds since the epoch.
    ///
    /// # Errors
    /// [`KeyError::Sign`], which no well-formed key causes.
    pub fn sign(&self, viewer: &str, exp: i64) -> Result<String, KeyError> {
        let header = Header { kid: Some(LINKS.to_owned()), ..Header::new(Algorithm::HS256) };
        let iat = clock::now_ms() / 1_000;
        let payload = Signed { sub: viewer, aud: LINKS, iss: None, iat, exp, scope: String::new() };
        encode(&header, &payload, &self.key).map_err(|_| KeyError::Sign)
    }
}
