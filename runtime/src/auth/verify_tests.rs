use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{EncodePrivateKey, EncodePublicKey};
use serde_json::json;

use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header, encode};

use super::*;
use crate::Secret;
use crate::auth::{LinkSigner, Signer};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const HOUR: Duration = Duration::from_secs(3_600);

fn pems(seed: u8) -> (String, String) {
    let key = SigningKey::from_bytes(&[seed; 32]);
    let public = key.verifying_key().to_public_key_pem(LineEnding::LF).unwrap();
    (key.to_pkcs8_pem(LineEnding::LF).unwrap().to_string(), public)
}

fn hs256(secret: &str) -> AuthConfig {
    AuthConfig { hs256_secret: Some(Secret::new(secret)), ..AuthConfig::default() }
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
    assert_eq!(Verifier::new(config).unwrap().check(token).map(drop), expect);
}

fn in_s(seconds: i64) -> i64 {
    clock::now_ms() / 1_000 + seconds
}

#[test]
fn what_is_signed_is_verified_by_both_algorithms() {
    for config in [hs256(SECRET), eddsa(1)] {
        let scopes = ["report".to_owned(), "watch".to_owned()];
        let token = Signer::new(&config).unwrap().sign("alice", HOUR, &scopes).unwrap();
        let claims = Verifier::new(&config).unwrap().check(&token).unwrap();
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
fn a_share_links_token_is_checked_by_the_secret_of_links_alone() {
    const LINKS_SECRET: &str = "fedcba9876543210fedcba9876543210";
    let config = AuthConfig { link_secret: Some(Secret::new(LINKS_SECRET)), ..hs256(SECRET) };
    let signer = LinkSigner::new(&config).unwrap().unwrap();
    let token = signer.sign("link~1", in_s(60)).unwrap();
    let claims = Verifier::new(&config).unwrap().check(&token).unwrap();
    assert_eq!((claims.sub.as_str(), claims.of_link), ("link~1", true));
    assert!(!Verifier::new(&config).unwrap().check(&self::token(&config)).unwrap().of_link);
    check(&config, &signer.sign("link~1", in_s(-60)).unwrap(), Err(AuthError::Expired));
    check(&hs256(SECRET), &token, Err(AuthError::Malformed));
    let other = AuthConfig { link_secret: Some(Secret::new("another secret of 32 bytes or more")), ..hs256(SECRET) };
    check(&other, &token, Err(AuthError::Signature));
    // Neither secret signs for the other.
    let named = |kid: Option<&str>, aud: &str, secret: &str| {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::HS256) };
        let payload = json!({"sub": "alice", "aud": aud, "exp": in_s(60)});
        encode(&header, &payload, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    };
    check(&config, &named(Some(LINKS), LINKS, SECRET), Err(AuthError::Signature));
    check(&config, &named(None, "nearcast", LINKS_SECRET), Err(AuthError::Signature));
    check(&config, &named(Some(LINKS), "nearcast", LINKS_SECRET), Err(AuthError::Audience));
    check(&config, &named(None, LINKS, SECRET), Err(AuthError::Audience));
    // No secret, no links; the same secret, no service.
    assert!(LinkSigner::new(&hs256(SECRET)).unwrap().is_none());
    let same = AuthConfig { link_secret: Some(Secret::new(SECRET)), ..hs256(SECRET) };
    assert!(matches!(Verifier::new(&same), Err(KeyError::Shared)));
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

#[tokio::test]
async fn the_header_is_a_bearer() {
    let verifier = Verifier::new(&hs256(SECRET)).unwrap();
    let token = token(&hs256(SECRET));
    assert_eq!(verifier.verify_header(Some(&format!("bearer {token}"))).await.unwrap().sub, "alice");
    assert_eq!(verifier.verify_header(None).await, Err(AuthError::Missing));
    assert_eq!(verifier.verify_header(Some("Bearer ")).await, Err(AuthError::Missing));
    assert_eq!(verifier.verify_header(Some(&format!("Basic {token}"))).await, Err(AuthError::Malformed));
    assert_eq!(verifier.verify_header(Some(&token)).await, Err(AuthError::Malformed));
}

#[test]
fn keys_that_cannot_be_used_are_named() {
    let none = AuthConfig { hs256_secret: None, ..hs256("") };
    assert!(matches!(Verifier::new(&none), Err(KeyError::None)));
    assert!(matches!(Signer::new(&none), Err(KeyError::NoSigner)));
    assert!(matches!(Verifier::new(&hs256("short")), Err(KeyError::Short("hs256_secret"))));
    assert!(matches!(Signer::new(&hs256("short")), Err(KeyError::Short("hs256_secret"))));
    let pem = AuthConfig { ed25519_public_key: Some("no key".to_owned()), ..none.clone() };
    assert_eq!(
        Verifier::new(&pem).unwrap_err().to_string(),
        "auth.ed25519_public_key is not an Ed25519 public key in PEM"
    );
    let private = AuthConfig { ed25519_private_key: Some(Secret::new(pems(1).1)), ..none };
    assert!(matches!(Signer::new(&private), Err(KeyError::Pem("ed25519_private_key", _))));
}

#[test]
fn no_key_is_shown() {
    let config = AuthConfig { hs256_secret: Some(Secret::new(SECRET)), ..eddsa(1) };
    let private = config.ed25519_private_key.clone().unwrap();
    let shown = format!("{config:?} {:?} {:?}", Verifier::new(&config).unwrap(), Signer::new(&config).unwrap());
    assert!(!shown.contains(SECRET) && !shown.contains(private.expose().lines().nth(1).unwrap()), "{shown}");
}

/// A private key of a kind, in PEM, and its public half.
fn pair(algorithm: Algorithm) -> (EncodingKey, String) {
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
    let kind = if algorithm == Algorithm::RS256 { &PKCS_RSA_SHA256 } else { &PKCS_ECDSA_P256_SHA256 };
    let pair = KeyPair::generate_for(kind).unwrap();
    let private = pair.serialize_pem();
    let key = match algorithm {
        Algorithm::RS256 => EncodingKey::from_rsa_pem(private.as_bytes()),
        _ => EncodingKey::from_ec_pem(private.as_bytes()),
    };
    (key.unwrap(), pair.public_key_pem())
}

fn signed(algorithm: Algorithm, key: &EncodingKey, payload: &serde_json::Value) -> String {
    encode(&Header::new(algorithm), payload, key).unwrap()
}

fn payload() -> serde_json::Value {
    json!({"sub": "alice", "aud": "nearcast", "iat": in_s(0), "exp": in_s(60)})
}

#[test]
fn configured_rsa_and_p256_keys_verify() {
    let ((rsa, rsa_pem), (ec, ec_pem)) = (pair(Algorithm::RS256), pair(Algorithm::ES256));
    let config =
        AuthConfig { rs256_public_key: Some(rsa_pem.clone()), es256_public_key: Some(ec_pem), ..AuthConfig::default() };
    let (good_rsa, good_ec) = (signed(Algorithm::RS256, &rsa, &payload()), signed(Algorithm::ES256, &ec, &payload()));
    check(&config, &good_rsa, Ok(()));
    check(&config, &good_ec, Ok(()));
    check(&config, &signed(Algorithm::RS256, &pair(Algorithm::RS256).0, &payload()), Err(AuthError::Signature));
    check(&config, &signed(Algorithm::ES256, &pair(Algorithm::ES256).0, &payload()), Err(AuthError::Signature));
    // Another algorithm of the same key is none of this deployment.
    check(&config, &signed(Algorithm::RS512, &rsa, &payload()), Err(AuthError::Malformed));
    check(&config, &signed(Algorithm::PS256, &rsa, &payload()), Err(AuthError::Malformed));
    // The public key as a shared secret, with and without one.
    let forged = signed(Algorithm::HS256, &EncodingKey::from_secret(rsa_pem.as_bytes()), &payload());
    check(&config, &forged, Err(AuthError::Malformed));
    let both = AuthConfig { hs256_secret: Some(Secret::new(SECRET)), ..config };
    check(&both, &forged, Err(AuthError::Signature));
    check(&hs256(SECRET), &good_rsa, Err(AuthError::Malformed));
    for (algorithm, key) in [(Algorithm::RS256, &rsa), (Algorithm::ES256, &ec)] {
        let with = |claim: &str, value: serde_json::Value| {
            let mut payload = payload();
            payload[claim] = value;
            signed(algorithm, key, &payload)
        };
        check(&both, &with("aud", json!("other")), Err(AuthError::Audience));
        check(&both, &with("exp", json!(in_s(-60))), Err(AuthError::Expired));
        check(&both, &with("nbf", json!(in_s(60))), Err(AuthError::NotYetValid));
        check(
            &AuthConfig { issuer: Some("us".to_owned()), ..both.clone() },
            &with("iss", json!("them")),
            Err(AuthError::Issuer),
        );
    }
}

#[test]
fn keys_of_another_kind_are_named() {
    let (_, ec_pem) = pair(Algorithm::ES256);
    let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let refused = |config: AuthConfig| Verifier::new(&config).unwrap_err().to_string();
    let rs256 = |pem: String| refused(AuthConfig { rs256_public_key: Some(pem), ..AuthConfig::default() });
    let es256 = |pem: String| refused(AuthConfig { es256_public_key: Some(pem), ..AuthConfig::default() });
    assert_eq!(rs256(ec_pem), "auth.rs256_public_key is not an RSA public key of at least 2048 bits in PEM");
    for pem in [p384.public_key_pem(), p384.serialize_pem(), pems(1).1, "no key".to_owned()] {
        assert_eq!(es256(pem), "auth.es256_public_key is not a P-256 public key in PEM");
    }
    let rsa = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    assert!(rs256(rsa.serialize_pem()).contains("not an RSA public key"), "a private key in a public one's place");
}

#[test]
fn addresses_of_keys_are_safe() {
    let with = |url: &str| Verifier::new(&AuthConfig { jwks_url: Some(url.to_owned()), ..AuthConfig::default() });
    for url in [
        "https://id.example.org/.well-known/jwks.json",
        "http://localhost:1/keys",
        "http://127.0.0.1:1/keys",
        "http://[::1]:1/keys",
    ] {
        with(url).unwrap();
    }
    for url in ["http://id.example.org/keys", "http://10.0.0.1/", "https://me:secret@id.example.org/", "file:///x", "x"]
    {
        let error = with(url).unwrap_err();
        assert!(matches!(error, KeyError::Url) && !error.to_string().contains("secret"), "{url}: {error}");
    }
    assert!(matches!(with(""), Err(KeyError::None)));
    let shown = format!("{:?}", with("https://id.example.org/keys?key=secret").unwrap());
    assert!(!shown.contains("secret"), "{shown}");
}

#[test]
fn tokens_are_not_valid_for_too_long() {
    let config = AuthConfig { max_life_s: 3_600, leeway_s: 0, ..hs256(SECRET) };
    let token = |iat: Option<i64>, exp: i64| {
        let mut payload = json!({"sub": "alice", "aud": "nearcast", "exp": exp});
        if let Some(iat) = iat {
            payload["iat"] = json!(iat);
        }
        raw(&payload)
    };
    check(&config, &token(Some(in_s(-60)), in_s(3_500)), Ok(()));
    check(&config, &token(Some(in_s(-60)), in_s(3_600)), Err(AuthError::Lifetime));
    check(&config, &token(None, in_s(3_590)), Ok(()));
    check(&config, &token(None, in_s(3_660)), Err(AuthError::Lifetime));
    check(&config, &token(Some(in_s(60)), in_s(90)), Err(AuthError::NotYetValid));
    let signed = Signer::new(&config).unwrap().sign("alice", Duration::from_secs(3_601), &[]);
    assert!(matches!(signed, Err(KeyError::Life(3_600))));
    let claims = Verifier::new(&hs256(SECRET)).unwrap().check(&token(Some(in_s(-7)), in_s(60))).unwrap();
    assert_eq!((claims.iat, claims.until_ms), (Some(claims.exp - 67), (claims.exp + 5) * 1_000));
    let parts = raw(&json!({"sub": "a", "aud": "nearcast", "iat": 1_700_000_000.75, "exp": in_s(60)}));
    let patient = AuthConfig { max_life_s: u32::MAX, ..hs256(SECRET) };
    assert_eq!(Verifier::new(&patient).unwrap().check(&parts).unwrap().iat, Some(1_700_000_000));
}

#[test]
fn an_empty_text_takes_a_key_back() {
    let config = AuthConfig {
        hs256_secret: Some(Secret::new("")),
        ed25519_private_key: Some(Secret::new("")),
        ed25519_public_key: Some(String::new()),
        jwks_url: Some(String::new()),
        ..AuthConfig::default()
    };
    assert!(matches!(Verifier::new(&config), Err(KeyError::None)));
    assert!(matches!(Signer::new(&config), Err(KeyError::NoSigner)));
}
