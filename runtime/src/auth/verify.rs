//! Checks tokens.

use std::fmt;
use std::sync::Arc;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;

use super::config::{AuthConfig, KeyError, given};
use super::fetch::{Issuer, Keeper};
use super::{AuthError, Claims, LINKS};
use crate::clock;
use crate::health::Readiness;

/// Checks tokens. Clones are the same.
#[derive(Clone)]
pub struct Verifier {
    inner: Arc<Keys>,
}

struct Keys {
    // One row an algorithm, so that a token of one is never checked with the key of another.
    by_algorithm: [Row; 4],
    issuer: Option<Arc<Issuer>>,
    /// For the tokens of share links.
    links: Option<(DecodingKey, Validation)>,
    leeway_s: i64,
    max_life_s: i64,
}

struct Row {
    algorithm: Algorithm,
    /// The configured one.
    key: Option<DecodingKey>,
    validation: Validation,
    /// Whether the issuer's keys count, too.
    published: bool,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let configured = self.inner.by_algorithm.iter().filter(|row| row.key.is_some()).map(|row| row.algorithm);
        f.debug_struct("Verifier")
            .field("configured", &configured.collect::<Vec<_>>())
            .field("issuer", &self.inner.issuer)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Payload {
    #[serde(default)]
    sub: Option<serde_json::Value>,
    exp: serde_json::Number,
    #[serde(default)]
    iat: Option<serde_json::Number>,
    #[serde(default)]
    scope: Option<String>,
    #[serde(default)]
    scp: Vec<String>,
}

impl Verifier {
    /// From the configuration. Keys at an address are not fetched yet: see [`Verifier::keeper`].
    ///
    /// # Errors
    /// When there is no key and no address of keys, or one of them cannot be used.
    pub fn new(config: &AuthConfig) -> Result<Self, KeyError> {
        config.check_numbers()?;
        let pem = |text: &Option<String>, field, kind, key: fn(&str) -> Option<DecodingKey>| match given(text.as_ref())
        {
            Some(text) => key(text).map(Some).ok_or(KeyError::Pem(field, kind)),
            None => Ok(None),
        };
        let row = |algorithm, key| Row {
            algorithm,
            key,
            validation: validation(config, algorithm),
            published: algorithm != Algorithm::HS256,
        };
        let by_algorithm = [
            row(Algorithm::HS256, config.secret()?.map(DecodingKey::from_secret)),
            row(
                Algorithm::EdDSA,
                pem(&config.ed25519_public_key, "ed25519_public_key", "an Ed25519 public key", ed25519)?,
            ),
            row(
                Algorithm::RS256,
                pem(&config.rs256_public_key, "rs256_public_key", "an RSA public key of at least 2048 bits", rsa)?,
            ),
            row(Algorithm::ES256, pem(&config.es256_public_key, "es256_public_key", "a P-256 public key", p256)?),
        ];
        let alone = by_algorithm.iter().all(|row| row.key.is_none());
        let issuer = match config.keys_at()? {
            Some(url) => Some(Issuer::new(url, config, alone)?),
            None if alone => return Err(KeyError::None),
            None => None,
        };
        let links = config.secret_of_links()?.map(|secret| {
            let of_links = AuthConfig { audience: LINKS.to_owned(), issuer: None, ..config.clone() };
            (DecodingKey::from_secret(secret), validation(&of_links, Algorithm::HS256))
        });
        Ok(Self {
            inner: Arc::new(Keys {
                by_algorithm,
                issuer,
                links,
                leeway_s: i64::try_from(config.leeway_s).unwrap_or(i64::MAX),
                max_life_s: config.max_life_s.into(),
            }),
        })
    }

    /// What keeps the issuer's keys fresh and says through the part `keys` of the readiness how that goes; none where
    /// all keys are configured. Services of one process may each have one: it is fetched once.
    pub fn keeper(&self, readiness: &Readiness) -> Option<Keeper> {
        self.inner.issuer.as_ref().map(|issuer| Keeper::new(Arc::clone(issuer), readiness))
    }

    /// For how long after its `iat` a token may be taken, in seconds: the difference of clocks counts for its life and
    /// for its end.
    pub fn max_life_s(&self) -> i64 {
        self.inner.max_life_s.saturating_add(self.inner.leeway_s.saturating_mul(2))
    }

    /// Checks a token by the clock of this machine. Where it names a key that is not known, the issuer is asked for its
    /// keys first; not more often than the configuration says.
    ///
    /// # Errors
    /// The first reason that is found to refuse it.
    pub async fn verify(&self, token: &str) -> Result<Claims, AuthError> {
        let issuer = match (self.check(token), &self.inner.issuer) {
            (Err(AuthError::Key), Some(issuer)) => issuer,
            (known, _) => return known,
        };
        issuer.ask().await;
        match self.check(token) {
            // Whether it is good, nobody knows.
            Err(AuthError::Key) if issuer.is_failing() || issuer.keys().is_none() => Err(AuthError::Unavailable),
            other => other,
        }
    }

    /// Checks a token by the keys that are known now.
    ///
    /// # Errors
    /// As [`Verifier::verify`], and [`AuthError::Key`] where the issuer might know the key.
    pub fn check(&self, token: &str) -> Result<Claims, AuthError> {
        if token.is_empty() {
            return Err(AuthError::Missing);
        }
        let header = decode_header(token).map_err(|_| AuthError::Malformed)?;
        if header.kid.as_deref() == Some(LINKS) {
            return self.check_of_link(token);
        }
        let row = self.inner.by_algorithm.iter().find(|row| row.algorithm == header.alg);
        let row = row.ok_or(AuthError::Malformed)?;
        let issuer = self.inner.issuer.as_ref().filter(|_| row.published);
        let kid = header.kid.as_deref();
        let published = issuer.and_then(|issuer| issuer.keys());
        let unknown = match (&published, kid) {
            (Some(keys), Some(kid)) => !keys.knows(kid),
            (Some(_), None) => false,
            (None, _) => issuer.is_some(),
        };
        let published = published.iter().flat_map(|keys| keys.for_token(kid, header.alg));
        let mut verdict = AuthError::Malformed;
        for key in published.chain(&row.key) {
            match decode::<Payload>(token, key, &row.validation) {
                Ok(data) => return self.claims(data.claims, false),
                Err(error) => verdict = AuthError::from_kind(error.kind()),
            }
            // The others follow from the payload, and this key has signed it.
            if verdict != AuthError::Signature {
                return Err(verdict);
            }
        }
        Err(if unknown { AuthError::Key } else { verdict })
    }

    /// Checks a token by the secret of share links alone, which no user's token is checked by.
    fn check_of_link(&self, token: &str) -> Result<Claims, AuthError> {
        let (key, validation) = self.inner.links.as_ref().ok_or(AuthError::Malformed)?;
        match decode::<Payload>(token, key, validation) {
            Ok(data) => self.claims(data.claims, true),
            Err(error) => Err(AuthError::from_kind(error.kind())),
        }
    }

    fn claims(&self, payload: Payload, of_link: bool) -> Result<Claims, AuthError> {
        let Keys { leeway_s, max_life_s, .. } = *self.inner;
        let sub = match payload.sub {
            Some(serde_json::Value::String(sub)) if !sub.is_empty() => sub,
            _ => return Err(AuthError::Subject),
        };
        let exp = seconds(&payload.exp).ok_or(AuthError::Malformed)?;
        let iat = payload.iat.map(|iat| seconds(&iat).ok_or(AuthError::Malformed)).transpose()?;
        let now_s = clock::now_ms() / 1_000;
        // One from the future would outlive every sign-out.
        if iat.is_some_and(|iat| iat > now_s.saturating_add(leeway_s)) {
            return Err(AuthError::NotYetValid);
        }
        if exp.saturating_sub(iat.unwrap_or(now_s)) > max_life_s.saturating_add(leeway_s) {
            return Err(AuthError::Lifetime);
        }
        let until_ms = exp.saturating_add(leeway_s).saturating_mul(1_000);
        let words = payload.scope.iter().flat_map(|scope| scope.split_ascii_whitespace()).map(str::to_owned);
        Ok(Claims { sub, of_link, exp, until_ms, iat, scope: words.chain(payload.scp).collect() })
    }

    /// Checks the value of an `Authorization` header.
    ///
    /// # Errors
    /// [`AuthError::Missing`] without the header, [`AuthError::Malformed`] when it is of another scheme than `Bearer`,
    /// else as [`Verifier::verify`].
    pub async fn verify_header(&self, authorization: Option<&str>) -> Result<Claims, AuthError> {
        let (scheme, token) = authorization.ok_or(AuthError::Missing)?.split_once(' ').ok_or(AuthError::Malformed)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(AuthError::Malformed);
        }
        self.verify(token.trim()).await
    }
}

/// Whole seconds; an issuer may count parts of them.
fn seconds(number: &serde_json::Number) -> Option<i64> {
    number.as_i64().or_else(|| number.as_f64().map(|number| number.floor() as i64))
}

impl AuthError {
    fn from_kind(kind: &ErrorKind) -> Self {
        match kind {
            ErrorKind::InvalidSignature => Self::Signature,
            ErrorKind::ExpiredSignature => Self::Expired,
            ErrorKind::ImmatureSignature => Self::NotYetValid,
            ErrorKind::InvalidAudience => Self::Audience,
            ErrorKind::InvalidIssuer => Self::Issuer,
            ErrorKind::InvalidSubject => Self::Subject,
            ErrorKind::MissingRequiredClaim(claim) | ErrorKind::InvalidClaimFormat(claim) => match claim.as_str() {
                "aud" => Self::Audience,
                "iss" => Self::Issuer,
                _ => Self::Malformed,
            },
            _ => Self::Malformed,
        }
    }
}

fn validation(config: &AuthConfig, algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.leeway = config.leeway_s;
    validation.validate_nbf = true;
    validation.set_audience(&[&config.audience]);
    // Without this a token that lacks the claim would pass.
    let mut required = vec!["exp", "aud"];
    if let Some(issuer) = given(config.issuer.as_ref()) {
        validation.set_issuer(&[issuer]);
        required.push("iss");
    }
    validation.set_required_spec_claims(&required);
    validation
}

/// What a private key is called in PEM is no public key, even where it holds one.
fn is_public(pem: &str) -> bool {
    pem.contains("PUBLIC KEY-----")
}

fn ed25519(pem: &str) -> Option<DecodingKey> {
    DecodingKey::from_ed_pem(pem.as_bytes()).ok().filter(|_| is_public(pem))
}

/// The structure of a key of 2048 bits is longer than its modulus, and that of a shorter key is not.
fn rsa(pem: &str) -> Option<DecodingKey> {
    let key = DecodingKey::from_rsa_pem(pem.as_bytes()).ok().filter(|_| is_public(pem))?;
    let long_enough = key.try_get_as_bytes().is_ok_and(|structure| structure.len() >= 256);
    long_enough.then_some(key)
}

/// A point of P-256, not compressed, has 65 bytes; those of other curves have another length.
fn p256(pem: &str) -> Option<DecodingKey> {
    let key = DecodingKey::from_ec_pem(pem.as_bytes()).ok().filter(|_| is_public(pem))?;
    let right = key.try_get_as_bytes().is_ok_and(|point| point.len() == 65);
    right.then_some(key)
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
