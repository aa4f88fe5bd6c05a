//! Tokens: JWTs signed with HS256 (a shared secret) or EdDSA (Ed25519).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use serde::{Deserialize, Serialize};

use crate::{Secret, clock};

/// The section `[auth]` of the configuration. At least one key to verify by is needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthConfig {
    /// Shared secret of at least 32 bytes; tokens may then be signed with HS256.
    pub hs256_secret: Option<Secret>,
    /// Ed25519 public key in PEM; tokens may then be signed with EdDSA.
    pub ed25519_public_key: Option<String>,
    /// Ed25519 private key in PEM (PKCS#8), for `nearcast token` only; services need none.
    pub ed25519_private_key: Option<Secret>,
    /// The token's `aud` must be or contain this.
    pub audience: String,
    /// The token's `iss` must be this, where given.
    pub issuer: Option<String>,
    /// How far clocks may be apart, in seconds.
    pub leeway_s: u64,
}

/// The shortest secret that HS256 takes here: as long as its hash.
const SECRET_BYTES: usize = 32;

/// What a valid token says. The token itself is not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Who; 1 byte at least. Whether it is a user id is for the caller to check.
    pub sub: String,
    /// Until when, in seconds since the epoch.
    pub exp: i64,
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
    /// Its time is over.
    #[error("expired")]
    Expired,
    /// Its time has not come.
    #[error("not valid yet")]
    NotYetValid,
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

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No key at all.
    #[error("auth needs hs256_secret or ed25519_public_key")]
    None,
    /// The shared secret is too short.
    #[error("auth.hs256_secret must have at least {SECRET_BYTES} bytes")]
    Short,
    /// Not an Ed25519 key in PEM.
    #[error("auth.{0} is not an Ed25519 key in PEM")]
    Pem(&'static str),
    /// No key to sign with.
    #[error("signing needs auth.ed25519_private_key or auth.hs256_secret")]
    NoSigner,
    /// Signing failed.
    #[error("the token was not signed")]
    Sign,
}

/// Checks tokens. Clones are the same.
#[derive(Clone)]
pub struct Verifier {
    inner: Arc<Keys>,
}

struct Keys {
    // One pair an algorithm, so that a token of one is never checked with the key of the other.
    hs256: Option<(DecodingKey, Validation)>,
    eddsa: Option<(DecodingKey, Validation)>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("hs256", &self.inner.hs256.is_some())
            .field("eddsa", &self.inner.eddsa.is_some())
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Payload {
    #[serde(default)]
    sub: Option<serde_json::Value>,
    exp: serde_json::Number,
    #[serde(default)]
    scope: Option<String>,
    #[serde(default)]
    scp: Vec<String>,
}

impl Verifier {
    /// From the configured keys.
    ///
    /// # Errors
    /// When there is no key, or one cannot be used.
    pub fn new(config: &AuthConfig) -> Result<Self, KeyError> {
        let hs256 = match &config.hs256_secret {
            Some(secret) if secret.expose().len() < SECRET_BYTES => return Err(KeyError::Short),
            Some(secret) => {
                Some((DecodingKey::from_secret(secret.expose().as_bytes()), validation(config, Algorithm::HS256)))
            }
            None => None,
        };
        let eddsa = match &config.ed25519_public_key {
            Some(pem) => {
                let key = DecodingKey::from_ed_pem(pem.as_bytes()).map_err(|_| KeyError::Pem("ed25519_public_key"))?;
                Some((key, validation(config, Algorithm::EdDSA)))
            }
            None => None,
        };
        if hs256.is_none() && eddsa.is_none() {
            return Err(KeyError::None);
        }
        Ok(Self { inner: Arc::new(Keys { hs256, eddsa }) })
    }

    /// Checks a token by the clock of this machine.
    ///
    /// # Errors
    /// The first reason that is found to refuse it.
    pub fn verify(&self, token: &str) -> Result<Claims, AuthError> {
        if token.is_empty() {
            return Err(AuthError::Missing);
        }
        let header = decode_header(token).map_err(|_| AuthError::Malformed)?;
        let keys = match header.alg {
            Algorithm::HS256 => &self.inner.hs256,
            Algorithm::EdDSA => &self.inner.eddsa,
            _ => &None,
        };
        let Some((key, validation)) = keys else { return Err(AuthError::Malformed) };
        let payload =
            decode::<Payload>(token, key, validation).map_err(|error| AuthError::from_kind(error.kind()))?.claims;
        let sub = match payload.sub {
            Some(serde_json::Value::String(sub)) if !sub.is_empty() => sub,
            _ => return Err(AuthError::Subject),
        };
        let exp = payload.exp.as_i64().or_else(|| payload.exp.as_f64().map(|exp| exp as i64));
        let exp = exp.ok_or(AuthError::Malformed)?;
        let words = payload.scope.iter().flat_map(|scope| scope.split_ascii_whitespace()).map(str::to_owned);
        Ok(Claims { sub, exp, scope: words.chain(payload.scp).collect() })
    }

    /// Checks the value of an `Authorization` header.
    ///
    /// # Errors
    /// [`AuthError::Missing`] without the header, [`AuthError::Malformed`] when it is of another scheme than `Bearer`,
    /// else as [`Verifier::verify`].
    pub fn verify_header(&self, authorization: Option<&str>) -> Result<Claims, AuthError> {
        let (scheme, token) = authorization.ok_or(AuthError::Missing)?.split_once(' ').ok_or(AuthError::Malformed)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(AuthError::Malformed);
        }
        self.verify(token.trim())
    }
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
    if let Some(issuer) = &config.issuer {
        validation.set_issuer(&[issuer]);
        required.push("iss");
    }
    validation.set_required_spec_claims(&required);
    validation
}

/// Signs tokens, for `nearcast token` and tests.
pub struct Signer {
    key: EncodingKey,
    algorithm: Algorithm,
    audience: String,
    issuer: Option<String>,
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
        let (key, algorithm) = match (&config.ed25519_private_key, &config.hs256_secret) {
            (Some(pem), _) => {
                let key = EncodingKey::from_ed_pem(pem.expose().as_bytes())
                    .map_err(|_| KeyError::Pem("ed25519_private_key"))?;
                (key, Algorithm::EdDSA)
            }
            (None, Some(secret)) if secret.expose().len() < SECRET_BYTES => return Err(KeyError::Short),
            (None, Some(secret)) => (EncodingKey::from_secret(secret.expose().as_bytes()), Algorithm::HS256),
            (None, None) => return Err(KeyError::NoSigner),
        };
        Ok(Self { key, algorithm, audience: config.audience.clone(), issuer: config.issuer.clone() })
    }

    /// A token for `sub` that begins now and lasts for `ttl`, rounded down to seconds.
    ///
    /// # Errors
    /// [`KeyError::Sign`], which no well-formed key causes.
    pub fn sign(&self, sub: &str, ttl: Duration, scopes: &[String]) -> Result<String, KeyError> {
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

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use ed25519_dalek::SigningKey;
    use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
    use ed25519_dalek::pkcs8::{EncodePrivateKey, EncodePublicKey};
    use serde_json::json;

    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const HOUR: Duration = Duration::from_secs(3_600);

    fn pems(seed: u8) -> (String, String) {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let public = key.verifying_key().to_public_key_pem(LineEnding::LF).unwrap();
        (key.to_pkcs8_pem(LineEnding::LF).unwrap().to_string(), public)
    }

    fn hs256(secret: &str) -> AuthConfig {
        AuthConfig {
            hs256_secret: Some(Secret::new(secret)),
            ed25519_public_key: None,
            ed25519_private_key: None,
            audience: "nearcast".to_owned(),
            issuer: None,
            leeway_s: 5,
        }
    }

    fn eddsa(seed: u8) -> AuthConfig {
        let (private, public) = pems(seed);
        AuthConfig {
            hs256_secret: None,
            ed25519_public_key: Some(public),
            ed25519_private_key: Some(Secret::new(private)),
            ..hs256("")
        }
    }

    fn token(config: &AuthConfig) -> String {
        Signer::new(config).unwrap().sign("alice", HOUR, &[]).unwrap()
    }

    /// Signs any payload with the secret.
    fn raw(payload: &serde_json::Value) -> String {
        encode(&Header::new(Algorithm::HS256), payload, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
    }

    #[track_caller]
    fn check(config: &AuthConfig, token: &str, expect: Result<(), AuthError>) {
        assert_eq!(Verifier::new(config).unwrap().verify(token).map(drop), expect);
    }

    fn in_s(seconds: i64) -> i64 {
        clock::now_ms() / 1_000 + seconds
    }

    #[test]
    fn what_is_signed_is_verified_by_both_algorithms() {
        for config in [hs256(SECRET), eddsa(1)] {
            let scopes = ["report".to_owned(), "watch".to_owned()];
            let token = Signer::new(&config).unwrap().sign("alice", HOUR, &scopes).unwrap();
            let claims = Verifier::new(&config).unwrap().verify(&token).unwrap();
            assert_eq!((claims.sub.as_str(), claims.scope.as_slice()), ("alice", scopes.as_slice()));
            assert!((in_s(3_590)..=in_s(3_601)).contains(&claims.exp));
        }
    }

    #[test]
    fn another_key_is_refused() {
        check(&hs256(SECRET), &token(&hs256("another secret of 32 bytes or more")), Err(AuthError::Signature));
        check(&eddsa(1), &token(&eddsa(2)), Err(AuthError::Signature));
        let mut changed = token(&hs256(SECRET)).into_bytes();
        let last = changed.len() - 10;
        changed[last] = if changed[last] == b'A' { b'B' } else { b'A' };
        check(&hs256(SECRET), &String::from_utf8(changed).unwrap(), Err(AuthError::Signature));
    }

    #[test]
    fn a_token_of_one_algorithm_is_not_checked_with_the_others_key() {
        check(&eddsa(1), &token(&hs256(SECRET)), Err(AuthError::Malformed));
        check(&hs256(SECRET), &token(&eddsa(1)), Err(AuthError::Malformed));
        // The classic confusion: the public key, which anybody has, as the secret of HS256.
        let public = eddsa(1).ed25519_public_key.unwrap();
        let forged = token(&hs256(&public));
        check(&eddsa(1), &forged, Err(AuthError::Malformed));
        let both = AuthConfig { hs256_secret: Some(Secret::new(SECRET)), ..eddsa(1) };
        check(&both, &forged, Err(AuthError::Signature));
        check(&both, &token(&hs256(SECRET)), Ok(()));
        check(&both, &token(&eddsa(1)), Ok(()));
    }

    #[test]
    fn unsigned_and_broken_tokens_are_refused() {
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let payload = part(json!({"sub": "alice", "aud": "nearcast", "exp": in_s(60)}));
        for algorithm in ["none", "None", "HS512", "RS256"] {
            let header = part(json!({"alg": algorithm, "typ": "JWT"}));
            check(&hs256(SECRET), &format!("{header}.{payload}."), Err(AuthError::Malformed));
        }
        for broken in ["x", "a.b", "a.b.c", "....", "é.é.é"] {
            check(&hs256(SECRET), broken, Err(AuthError::Malformed));
        }
        check(&hs256(SECRET), "", Err(AuthError::Missing));
    }

    #[test]
    fn times_count_with_the_leeway() {
        let at = |exp: i64, nbf: i64| raw(&json!({"sub": "alice", "aud": "nearcast", "exp": exp, "nbf": nbf}));
        check(&hs256(SECRET), &at(in_s(-60), in_s(-90)), Err(AuthError::Expired));
        check(&hs256(SECRET), &at(in_s(60), in_s(30)), Err(AuthError::NotYetValid));
        check(&hs256(SECRET), &at(in_s(-2), in_s(2)), Ok(()));
        check(&hs256(SECRET), &raw(&json!({"sub": "alice", "aud": "nearcast"})), Err(AuthError::Malformed));
        check(&hs256(SECRET), &raw(&json!({"sub": "a", "aud": "nearcast", "exp": "x"})), Err(AuthError::Malformed));
    }

    #[test]
    fn audience_issuer_and_subject_are_needed() {
        let with = |claims: serde_json::Value| {
            let mut payload = json!({"sub": "alice", "aud": "nearcast", "iss": "us", "exp": in_s(60)});
            for (key, value) in claims.as_object().unwrap() {
                payload[key] = value.clone();
            }
            raw(&payload)
        };
        let config = AuthConfig { issuer: Some("us".to_owned()), ..hs256(SECRET) };
        check(&config, &with(json!({})), Ok(()));
        check(&config, &with(json!({"aud": ["other", "nearcast"]})), Ok(()));
        for aud in [json!("other"), json!(["other"]), json!(null), json!([])] {
            check(&config, &with(json!({"aud": aud})), Err(AuthError::Audience));
        }
        for iss in [json!("them"), json!(null), json!("")] {
            check(&config, &with(json!({"iss": iss})), Err(AuthError::Issuer));
        }
        for sub in [json!(""), json!(null), json!(7)] {
            check(&config, &with(json!({"sub": sub})), Err(AuthError::Subject));
        }
    }

    #[test]
    fn the_header_is_a_bearer() {
        let verifier = Verifier::new(&hs256(SECRET)).unwrap();
        let token = token(&hs256(SECRET));
        assert_eq!(verifier.verify_header(Some(&format!("bearer {token}"))).unwrap().sub, "alice");
        assert_eq!(verifier.verify_header(None), Err(AuthError::Missing));
        assert_eq!(verifier.verify_header(Some("Bearer ")), Err(AuthError::Missing));
        assert_eq!(verifier.verify_header(Some(&format!("Basic {token}"))), Err(AuthError::Malformed));
        assert_eq!(verifier.verify_header(Some(&token)), Err(AuthError::Malformed));
    }

    #[test]
    fn keys_that_cannot_be_used_are_named() {
        let none = AuthConfig { hs256_secret: None, ..hs256("") };
        assert!(matches!(Verifier::new(&none), Err(KeyError::None)));
        assert!(matches!(Signer::new(&none), Err(KeyError::NoSigner)));
        assert!(matches!(Verifier::new(&hs256("short")), Err(KeyError::Short)));
        assert!(matches!(Signer::new(&hs256("short")), Err(KeyError::Short)));
        let pem = AuthConfig { ed25519_public_key: Some("no key".to_owned()), ..none.clone() };
        assert_eq!(
            Verifier::new(&pem).unwrap_err().to_string(),
            "auth.ed25519_public_key is not an Ed25519 key in PEM"
        );
        let private = AuthConfig { ed25519_private_key: Some(Secret::new(pems(1).1)), ..none };
        assert!(matches!(Signer::new(&private), Err(KeyError::Pem("ed25519_private_key"))));
    }

    #[test]
    fn no_key_is_shown() {
        let config = AuthConfig { hs256_secret: Some(Secret::new(SECRET)), ..eddsa(1) };
        let private = config.ed25519_private_key.clone().unwrap();
        let shown = format!("{config:?} {:?} {:?}", Verifier::new(&config).unwrap(), Signer::new(&config).unwrap());
        assert!(!shown.contains(SECRET) && !shown.contains(private.expose().lines().nth(1).unwrap()), "{shown}");
    }
}
