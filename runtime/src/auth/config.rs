//! The section `[auth]` of the configuration.

use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::Secret;

/// The section `[auth]` of the configuration. At least one key to verify by is needed, or an address of keys. A text that
/// is empty counts as none, so that a file can take back a default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthConfig {
    /// Shared secret of at least 32 bytes; tokens may then be signed with HS256.
    pub hs256_secret: Option<Secret>,
    /// Ed25519 public key in PEM; tokens may then be signed with EdDSA.
    pub ed25519_public_key: Option<String>,
    /// Ed25519 private key in PEM (PKCS#8), for `nearcast token` only; services need none.
    pub ed25519_private_key: Option<Secret>,
    /// RSA public key of at least 2048 bits in PEM; tokens may then be signed with RS256.
    pub rs256_public_key: Option<String>,
    /// P-256 public key in PEM; tokens may then be signed with ES256.
    pub es256_public_key: Option<String>,
    /// Secret of at least 32 bytes by which the API signs the tokens of share links, and gateways check them. Without it
    /// there are no share links.
    pub link_secret: Option<Secret>,
    /// Where the issuer publishes its keys as a JWK Set; tokens may then be signed with RS256, ES256 or EdDSA by any of
    /// them. https, or http to this machine itself.
    pub jwks_url: Option<String>,
    /// The keys are fetched again this often, in seconds; 1 to 86400.
    pub jwks_refresh_s: u32,
    /// A token that names an unknown key has them fetched at once, but not more often than this, in seconds.
    pub jwks_pause_s: u32,
    /// When they cannot be fetched, those that are known serve until they are this old, in seconds.
    pub jwks_max_age_s: u32,
    /// The token's `aud` must be or contain this.
    pub audience: String,
    /// The token's `iss` must be this, where given.
    pub issuer: Option<String>,
    /// How far clocks may be apart, in seconds.
    pub leeway_s: u64,
    /// A token may be valid for this long, in seconds: from `iat` to `exp`, or from now where it has no `iat`. A sign-out
    /// is remembered for as long.
    pub max_life_s: u32,
}

/// No key, and what the default file says of the rest.
impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            hs256_secret: None,
            ed25519_public_key: None,
            ed25519_private_key: None,
            rs256_public_key: None,
            es256_public_key: None,
            link_secret: None,
            jwks_url: None,
            jwks_refresh_s: 300,
            jwks_pause_s: 30,
            jwks_max_age_s: 86_400,
            audience: "nearcast".to_owned(),
            issuer: None,
            leeway_s: 5,
            max_life_s: 2_592_000,
        }
    }
}

/// The shortest secret that HS256 takes here: as long as its hash.
pub(super) const SECRET_BYTES: usize = 32;

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No key at all.
    #[error("auth needs hs256_secret, ed25519_public_key, rs256_public_key, es256_public_key or jwks_url")]
    None,
    /// A shared secret is too short.
    #[error("auth.{0} must have at least {SECRET_BYTES} bytes")]
    Short(&'static str),
    /// Whoever may sign for share links could sign for users.
    #[error("auth.link_secret must be another secret than auth.hs256_secret")]
    Shared,
    /// Not a key of this kind in PEM.
    #[error("auth.{0} is not {1} in PEM")]
    Pem(&'static str, &'static str),
    /// Not an address of keys.
    #[error("auth.jwks_url must be an https address without a user, or an http address of this machine itself")]
    Url,
    /// A number out of its range.
    #[error("auth.{0} must be {1}")]
    Range(&'static str, &'static str),
    /// No client for the address of keys.
    #[error("no HTTP client for auth.jwks_url: {0}")]
    Http(String),
    /// No key to sign with.
    #[error("signing needs auth.ed25519_private_key or auth.hs256_secret")]
    NoSigner,
    /// Longer than this deployment takes.
    #[error("a token may be valid for at most {0} s: see auth.max_life_s")]
    Life(u32),
    /// Signing failed.
    #[error("the token was not signed")]
    Sign,
}

/// A text that says something.
pub(super) fn given(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.trim().is_empty())
}

impl AuthConfig {
    /// The secret of users' tokens.
    pub(super) fn secret(&self) -> Result<Option<&[u8]>, KeyError> {
        long_enough("hs256_secret", self.hs256_secret.as_ref())
    }

    /// The secret of share links' tokens.
    pub(super) fn secret_of_links(&self) -> Result<Option<&[u8]>, KeyError> {
        let secret = long_enough("link_secret", self.link_secret.as_ref())?;
        if secret.is_some() && secret == self.secret()? { Err(KeyError::Shared) } else { Ok(secret) }
    }

    /// The address of the issuer's keys.
    pub(super) fn keys_at(&self) -> Result<Option<Url>, KeyError> {
        let Some(text) = given(self.jwks_url.as_ref()) else { return Ok(None) };
        let url = Url::parse(text).map_err(|_| KeyError::Url)?;
        // Whoever is between could put keys of their own there, and be anybody.
        let safe = url.scheme() == "https" || (url.scheme() == "http" && is_this_machine(&url));
        // What is in an address is in logs.
        if !safe || !url.username().is_empty() || url.password().is_some() {
            return Err(KeyError::Url);
        }
        Ok(Some(url))
    }

    pub(super) fn check_numbers(&self) -> Result<(), KeyError> {
        let within =
            |field, range: &'static str, good: bool| if good { Ok(()) } else { Err(KeyError::Range(field, range)) };
        within("jwks_refresh_s", "1 to 86400", (1..=86_400).contains(&self.jwks_refresh_s))?;
        within("jwks_pause_s", "at most 3600", self.jwks_pause_s <= 3_600)?;
        within("jwks_max_age_s", "at least jwks_refresh_s", self.jwks_max_age_s >= self.jwks_refresh_s)?;
        within("leeway_s", "at most 300", self.leeway_s <= 300)?;
        within("max_life_s", "60 or more", self.max_life_s >= 60)
    }
}

fn long_enough<'a>(name: &'static str, secret: Option<&'a Secret>) -> Result<Option<&'a [u8]>, KeyError> {
    match secret.map(Secret::expose).filter(|secret| !secret.is_empty()) {
        Some(secret) if secret.len() < SECRET_BYTES => Err(KeyError::Short(name)),
        secret => Ok(secret.map(str::as_bytes)),
    }
}

fn is_this_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}
