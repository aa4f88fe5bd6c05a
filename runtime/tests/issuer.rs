//! Keys at an issuer's address: fetched, kept, replaced. The issuer is a server in this process.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use nearcast_runtime::Secret;
use nearcast_runtime::auth::{AuthConfig, AuthError, Verifier};
use nearcast_runtime::clock;
use nearcast_runtime::health::Readiness;
use nearcast_runtime::lifecycle::Shutdown;
use nearcast_runtime::telemetry::Metrics;
use rcgen::KeyPair;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

/// One of the issuer's keys.
struct Key {
    kid: &'static str,
    algorithm: Algorithm,
    private: EncodingKey,
    public: Value,
}

impl Key {
    fn new(kid: &'static str, algorithm: Algorithm) -> Self {
        let kind = match algorithm {
            Algorithm::RS256 => &rcgen::PKCS_RSA_SHA256,
            Algorithm::ES256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            _ => &rcgen::PKCS_ED25519,
        };
        let pair = KeyPair::generate_for(kind).unwrap();
        let pem = pair.serialize_pem();
        let private = match algorithm {
            Algorithm::RS256 => EncodingKey::from_rsa_pem(pem.as_bytes()),
            Algorithm::ES256 => EncodingKey::from_ec_pem(pem.as_bytes()),
            _ => EncodingKey::from_ed_pem(pem.as_bytes()),
        };
        let private = private.unwrap();
        let mut public = match algorithm {
            Algorithm::EdDSA => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(pair.public_key_raw())})
            }
            _ => serde_json::to_value(Jwk::from_encoding_key(&private, algorithm).unwrap()).unwrap(),
        };
        public["kid"] = json!(kid);
        Self { kid, algorithm, private, public }
    }

    fn public(&self) -> Value {
        self.public.clone()
    }

    fn token(&self) -> String {
        self.token_named(Some(self.kid))
    }

    fn token_named(&self, kid: Option<&str>) -> String {
        sign(self.algorithm, &self.private, kid)
    }
}

fn sign(algorithm: Algorithm, key: &EncodingKey, kid: Option<&str>) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    let now = clock::now_ms() / 1_000;
    encode(&header, &json!({"sub": "alice", "aud": "nearcast", "iat": now, "exp": now + 60}), key).unwrap()
}

/// What the issuer answers.
#[derive(Clone)]
enum Answer {
    Keys(Value),
    Status(u16),
    Elsewhere(String),
    Text(String),
}

#[derive(Clone)]
struct Issuer {
    answer: Arc<Mutex<Answer>>,
    asked: Arc<Mutex<u32>>,
    /// Answers are given while there are permits.
    gate: Arc<Semaphore>,
    url: String,
}

impl Issuer {
    async fn serve(keys: &[&Key]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = Self {
            answer: Arc::new(Mutex::new(Answer::Status(500))),
            asked: Arc::default(),
            gate: Arc::new(Semaphore::new(1_000)),
            url: format!("http://{}/keys", listener.local_addr().unwrap()),
        };
        issuer.publish(keys);
        let router = Router::new().route("/keys", get(answer)).with_state(issuer.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        issuer
    }

    fn publish(&self, keys: &[&Key]) {
        self.answer(Answer::Keys(json!({"keys": keys.iter().map(|key| key.public()).collect::<Vec<_>>()})));
    }

    fn answer(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    fn asked(&self) -> u32 {
        *self.asked.lock().unwrap()
    }

    /// Nothing is answered until the test says so.
    fn hold(&self) {
        self.gate.forget_permits(usize::MAX);
    }

    fn go(&self) {
        self.gate.add_permits(1_000);
    }

    fn config(&self) -> AuthConfig {
        AuthConfig { jwks_url: Some(self.url.clone()), ..AuthConfig::default() }
    }

    fn verifier(&self) -> Verifier {
        Verifier::new(&self.config()).unwrap()
    }
}

async fn answer(State(issuer): State<Issuer>) -> Response {
    *issuer.asked.lock().unwrap() += 1;
    issuer.gate.acquire().await.unwrap().forget();
    let answer = issuer.answer.lock().unwrap().clone();
    match answer {
        Answer::Keys(keys) => axum::Json(keys).into_response(),
        Answer::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Answer::Elsewhere(url) => Redirect::temporary(&url).into_response(),
        Answer::Text(text) => text.into_response(),
    }
}

/// Keeps the keys fresh until the test ends.
fn keep(verifier: &Verifier) -> Readiness {
    let readiness = Readiness::default();
    tokio::spawn(verifier.keeper(&readiness).unwrap().run(Shutdown::new()));
    readiness
}

async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let asked = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("still not so: {what}"));
}

async fn check(verifier: &Verifier, token: &str, expect: Result<(), AuthError>) {
    assert_eq!(verifier.verify(token).await.map(drop), expect);
}

#[tokio::test]
async fn keys_are_fetched_at_the_start() {
    let keys = [Key::new("r", Algorithm::RS256), Key::new("e", Algorithm::ES256), Key::new("d", Algorithm::EdDSA)];
    let issuer = Issuer::serve(&[&keys[0], &keys[1], &keys[2]]).await;
    let metrics = Metrics::install_once().unwrap();
    let verifier = issuer.verifier();
    let (readiness, twin) = (keep(&verifier), keep(&verifier));
    until("ready", || readiness.is_ready() && twin.is_ready()).await;
    assert_eq!(issuer.asked(), 1, "for all services of the process");
    for key in &keys {
        check(&verifier, &key.token(), Ok(())).await;
        check(&verifier, &key.token_named(None), Ok(())).await;
        let other = Key::new(key.kid, key.algorithm);
        check(&verifier, &other.token(), Err(AuthError::Signature)).await;
        check(&verifier, &other.token_named(None), Err(AuthError::Signature)).await;
    }
    // The name of a key of another algorithm, and the shared secret that a public key is not.
    check(&verifier, &keys[0].token_named(Some("e")), Err(AuthError::Malformed)).await;
    let public = serde_json::to_vec(&keys[0].public()).unwrap();
    let forged = sign(Algorithm::HS256, &EncodingKey::from_secret(&public), Some("r"));
    check(&verifier, &forged, Err(AuthError::Malformed)).await;
    assert_eq!(issuer.asked(), 1);
    let shown = metrics.render();
    assert!(shown.contains(r#"nearcast_auth_jwks_fetches_total{outcome="fetched"}"#), "{shown}");
    assert!(shown.contains("nearcast_auth_jwks_age_seconds"), "{shown}");
}

#[tokio::test]
async fn symmetric_keys_of_a_set_verify_nothing() {
    let key = Key::new("e", Algorithm::ES256);
    let issuer = Issuer::serve(&[]).await;
    let secret = [7; 32];
    let oct = json!({"kty": "oct", "kid": "o", "k": URL_SAFE_NO_PAD.encode(secret)});
    let mut encrypting = key.public();
    encrypting["use"] = json!("enc");
    issuer.answer(Answer::Keys(json!({"keys": [oct, encrypting, Key::new("d", Algorithm::EdDSA).public()]})));
    let config = AuthConfig { hs256_secret: Some(Secret::new("x".repeat(32))), jwks_pause_s: 0, ..issuer.config() };
    let verifier = Verifier::new(&config).unwrap();
    check(&verifier, &key.token(), Err(AuthError::Key)).await;
    check(&verifier, &sign(Algorithm::HS256, &EncodingKey::from_secret(&secret), Some("o")), Err(AuthError::Signature))
        .await;
}

#[tokio::test]
async fn an_issuer_that_is_away_at_the_start_is_asked_until_it_answers() {
    let key = Key::new("e", Algorithm::ES256);
    let issuer = Issuer::serve(&[&key]).await;
    issuer.answer(Answer::Status(503));
    let verifier = issuer.verifier();
    let readiness = keep(&verifier);
    let sentence = format!(
        "the issuer's keys at {} cannot be fetched: it answered 503 Service Unavailable; no token can be verified; \
         see auth.jwks_url",
        issuer.url
    );
    until("it is said", || readiness.to_json().contains(&sentence)).await;
    assert!(!readiness.is_ready());
    // Whether the token is good, nobody knows.
    check(&verifier, &key.token(), Err(AuthError::Unavailable)).await;

    // With another key the service does its job for those who use it.
    let config = AuthConfig { hs256_secret: Some(Secret::new("x".repeat(32))), ..issuer.config() };
    let other = Verifier::new(&config).unwrap();
    let degraded = keep(&other);
    until("it is said", || degraded.to_json().contains("only tokens signed with a configured key are taken")).await;
    assert!(degraded.is_ready());

    issuer.publish(&[&key]);
    until("ready", || readiness.is_ready()).await;
    check(&verifier, &key.token(), Ok(())).await;
}

#[tokio::test]
async fn nobody_at_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys?secret=s3cret", listener.local_addr().unwrap());
    drop(listener);
    let verifier = Verifier::new(&AuthConfig { jwks_url: Some(url), ..AuthConfig::default() }).unwrap();
    let readiness = keep(&verifier);
    until("it is said", || readiness.to_json().contains("Connection refused")).await;
    assert!(!readiness.to_json().contains("s3cret"));
}

#[tokio::test]
async fn an_unknown_key_is_asked_for_at_once_but_not_again_and_again() {
    let (old, new) = (Key::new("old", Algorithm::ES256), Key::new("new", Algorithm::ES256));
    let issuer = Issuer::serve(&[&old]).await;
    let verifier = issuer.verifier();
    let readiness = keep(&verifier);
    until("ready", || readiness.is_ready()).await;
    check(&verifier, &old.token(), Ok(())).await;

    issuer.publish(&[&new]);
    check(&verifier, &new.token(), Ok(())).await;
    check(&verifier, &old.token(), Err(AuthError::Key)).await;
    for kid in 0..100 {
        check(&verifier, &old.token_named(Some(&kid.to_string())), Err(AuthError::Key)).await;
    }
    assert_eq!(issuer.asked(), 2, "at the start, and for the new key");

    // Without a pause each is a reason.
    let eager = Verifier::new(&AuthConfig { jwks_pause_s: 0, ..issuer.config() }).unwrap();
    for _ in 0..3 {
        check(&eager, &old.token(), Err(AuthError::Key)).await;
    }
    assert_eq!(issuer.asked(), 5);
}

#[tokio::test]
async fn whoever_comes_meanwhile_waits_for_the_same_answer() {
    let key = Key::new("e", Algorithm::ES256);
    let issuer = Issuer::serve(&[&key]).await;
    issuer.hold();
    let verifier = issuer.verifier();
    // The first one goes away before the answer comes.
    let (first, token) = (verifier.clone(), key.token());
    let first = tokio::spawn(async move { first.verify(&token).await });
    until("asked", || issuer.asked() == 1).await;
    first.abort();
    let waiting: Vec<_> = (0..50)
        .map(|_| {
            let (verifier, token) = (verifier.clone(), key.token());
            tokio::spawn(async move { verifier.verify(&token).await.map(drop) })
        })
        .collect();
    tokio::task::yield_now().await;
    issuer.go();
    for one in waiting {
        assert_eq!(timeout(PATIENCE, one).await.unwrap().unwrap(), Ok(()));
    }
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn the_last_keys_serve_while_the_issuer_is_away() {
    let key = Key::new("e", Algorithm::ES256);
    let issuer = Issuer::serve(&[&key]).await;
    let verifier = Verifier::new(&AuthConfig { jwks_refresh_s: 1, ..issuer.config() }).unwrap();
    let readiness = keep(&verifier);
    until("ready", || readiness.is_ready()).await;
    let elsewhere = Issuer::serve(&[&Key::new("e", Algorithm::ES256)]).await;
    for (answer, why) in [
        (Answer::Status(404), "it answered 404 Not Found"),
        (Answer::Elsewhere(elsewhere.url.clone()), "it answered 307 Temporary Redirect"),
        (Answer::Text("<html>".to_owned()), "the answer is no JWK Set"),
        (Answer::Keys(json!({"keys": []})), "the JWK Set has no public key for RS256, ES256 or EdDSA"),
        (Answer::Text("x".repeat(1 << 21)), "the answer is too large"),
    ] {
        issuer.answer(answer);
        until(why, || readiness.to_json().contains(why)).await;
        assert!(readiness.is_ready(), "degraded");
        check(&verifier, &key.token(), Ok(())).await;
        // Whether this is the issuer's newest key, nobody knows.
        check(&verifier, &Key::new("n", Algorithm::ES256).token(), Err(AuthError::Unavailable)).await;
    }
    assert_eq!(elsewhere.asked(), 0);
    issuer.publish(&[&key]);
    until("ready again", || readiness.to_json().contains(r#""keys":{"state":"ready"}"#)).await;
}

#[tokio::test]
async fn keys_that_are_too_old_serve_no_more() {
    let key = Key::new("e", Algorithm::ES256);
    let issuer = Issuer::serve(&[&key]).await;
    let config = AuthConfig { jwks_refresh_s: 1, jwks_max_age_s: 2, ..issuer.config() };
    let verifier = Verifier::new(&config).unwrap();
    let readiness = keep(&verifier);
    until("ready", || readiness.is_ready()).await;
    issuer.answer(Answer::Status(500));
    until("too old", || verifier.check(&key.token()) == Err(AuthError::Key)).await;
    check(&verifier, &key.token(), Err(AuthError::Unavailable)).await;
    until("it is said", || !readiness.is_ready()).await;
}
