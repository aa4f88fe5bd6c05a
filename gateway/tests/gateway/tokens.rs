//! Tokens: new ones on a live connection, and keys that an issuer publishes.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use nearcast_gateway::run_on_both;
use nearcast_ingest::MemoryCache;
use nearcast_runtime::auth::{AuthConfig, LinkSigner, Verifier};
use nearcast_runtime::clock::now_ms;
use nearcast_runtime::embedded::Embedded;
use nearcast_runtime::health::Readiness;
use nearcast_runtime::kafka::Kafka;
use nearcast_runtime::lifecycle::Shutdown;
use nearcast_schemas::event::{LocationKind, Role};
use nearcast_schemas::refusal::Refusal;
use nearcast_schemas::topics::Topics;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Error as WsError;

use crate::api::FakeApi;
use crate::phone::{Phone, hello};
use crate::world::{PATIENCE, VISIBILITY_PARTITIONS, World, auth, config, deployment, parts, sign, token};

/// A token of this deployment with other claims.
fn with(claims: Value) -> String {
    let now = now_ms() / 1_000;
    let mut payload = json!({"sub": "alice", "aud": "nearcast", "iat": now, "exp": now + 600});
    for (name, value) in claims.as_object().unwrap() {
        payload[name] = value.clone();
    }
    let secret = auth().hs256_secret.unwrap();
    encode(&Header::default(), &payload, &EncodingKey::from_secret(secret.expose().as_bytes())).unwrap()
}

fn message(token: &str) -> Value {
    json!({"type": "auth", "id": "t1", "token": token})
}

async fn connect(world: &World, token: &str) -> Phone {
    Phone::connect(world.addr, token).await.unwrap()
}

#[tokio::test]
async fn a_connection_lives_as_long_as_its_newest_token() {
    let world = World::start().await;
    let mut phone = connect(&world, &sign(&auth(), "alice", Duration::from_secs(2))).await;
    phone.send(hello()).await;
    phone.expect("welcome").await;
    phone.nearby().await;
    let exp = now_ms() / 1_000 + 4;
    phone.send(message(&with(json!({"exp": exp})))).await;
    assert_eq!(phone.expect("authed").await, json!({"type": "authed", "expires_at": exp * 1_000, "re": "t1"}));
    phone.expect_bye("token_expired", Refusal::TokenExpired.row().close.unwrap()).await;
    assert!(now_ms() >= exp * 1_000, "it went on with the newer one");
}

#[tokio::test]
async fn a_share_links_token_opens_a_session_that_takes_no_report() {
    let mut world = World::start().await;
    let links = LinkSigner::new(&auth()).unwrap().unwrap();
    let exp = now_ms() / 1_000 + 60;
    let mut page = connect(&world, &links.sign("link~x", exp).unwrap()).await;
    let mut with_position = hello();
    with_position["position"] = json!({"n": 1, "lat": 52.0, "lon": 13.0, "time": 3});
    page.send(with_position).await;
    page.expect_error("not_reporting").await;
    page.send(json!({"type": "hello", "device": "d1"})).await;
    let welcome = page.expect("welcome").await;
    assert_eq!((&welcome["role"], &welcome["user"]), (&json!("link"), &json!("link~x")));
    let asked = world.api.asked();
    let asked = asked.last().unwrap();
    assert_eq!((asked.user.as_str(), asked.role), ("link~x", Role::Link));
    let said = world.log.next("link~x", LocationKind::Hello).await;
    assert_eq!(said.event.route.unwrap().role, Role::Link);
    // Nobody but the API signs for links, and it signs for nobody else.
    for token in [token("link~x"), links.sign("alice", exp).unwrap()] {
        let error = Phone::connect(world.addr, &token).await.err().unwrap();
        assert!(matches!(&error, WsError::Http(answer) if answer.status() == 401), "{error}");
    }
}

#[tokio::test]
async fn a_token_may_come_before_hello_which_counts_with_it() {
    let world = World::start().await;
    let iat = now_ms() / 1_000 - 100;
    let mut phone = connect(&world, &with(json!({"iat": iat}))).await;
    // Without a wait between them.
    phone.send(message(&with(json!({"iat": iat + 50})))).await;
    phone.send(hello()).await;
    phone.expect("authed").await;
    phone.expect("welcome").await;
    assert_eq!(world.api.asked()[0].issued_at, Some(iat + 50));

    let mut phone = connect(&world, &with(json!({"iat": iat}))).await;
    phone.send(hello()).await;
    phone.expect("welcome").await;
    assert_eq!(world.api.asked()[1].issued_at, Some(iat));
}

#[tokio::test]
async fn a_refused_token_changes_nothing() {
    let world = World::start().await;
    let exp = now_ms() / 1_000 + 3;
    let mut phone = connect(&world, &with(json!({"exp": exp}))).await;
    let mut other = auth();
    other.hs256_secret = Some(nearcast_runtime::Secret::new("another secret of at least 32 bytes"));
    let now = now_ms() / 1_000;
    for (token, code) in [
        (token("bob"), "token_user"),
        (sign(&other, "alice", Duration::from_secs(600)), "token_signature"),
        (with(json!({"exp": now - 1})), "token_expired"),
        (with(json!({"nbf": now + 60})), "token_not_yet_valid"),
        (with(json!({"aud": "other"})), "token_audience"),
        (with(json!({"exp": now + 10_000_000})), "token_lifetime"),
        ("nonsense".to_owned(), "token_malformed"),
        (String::new(), "token_missing"),
    ] {
        phone.send(message(&token)).await;
        let error = phone.expect_error(code).await;
        assert_eq!((&error["of"], &error["re"]), (&json!("auth"), &json!("t1")));
        assert!(token.is_empty() || !error.to_string().contains(&token));
    }
    phone.send(json!({"type": "auth", "id": "t2"})).await;
    assert_eq!(phone.expect_error("malformed").await["re"], "t2");
    phone.expect_bye("token_expired", 4001).await;
    assert!(now_ms() >= exp * 1_000, "it went on with the one that it had");
}

#[tokio::test]
async fn a_token_from_before_a_sign_out_is_refused() {
    let mut world = World::start().await;
    let (mut phone, _) = world.join("alice").await;
    let second = now_ms() / 1_000;
    world.cache.sign_out("alice", second * 1_000 - 10_000, Duration::from_secs(60)).await.unwrap();
    phone.send(message(&with(json!({"iat": second - 10})))).await;
    phone.expect_error("signed_out").await;
    phone.send(message(&with(json!({"iat": null})))).await;
    phone.expect_error("signed_out").await;
    phone.send(message(&with(json!({"iat": second - 9})))).await;
    phone.expect("authed").await;
}

#[tokio::test]
async fn the_difference_of_clocks_counts_for_a_connection_too() {
    let topics = Topics::new("t");
    let exp = now_ms() / 1_000 - 1;
    let late = AuthConfig { leeway_s: 4, ..auth() };
    let gateway = Gateway::start(&late, &topics).await;
    let mut phone = Phone::connect(gateway.addr, &with(json!({"exp": exp, "iat": exp - 60}))).await.unwrap();
    phone.send(hello()).await;
    phone.expect("welcome").await;
    phone.nearby().await;
    phone.expect_bye("token_expired", 4001).await;
    assert!(now_ms() >= (exp + 4) * 1_000);
}

/// What is logged in this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_token_is_logged() {
    let log = Log::default();
    let lines = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || lines.clone());
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    // With one subscriber alone, `tracing` asks the thread that first comes by a line whether anybody listens to it, and
    // the other tests' threads have nobody.
    let _another = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
    let world = World::start().await;
    let (first, second) = (with(json!({})), with(json!({"sub": "bob"})));
    let mut phone = connect(&world, &first).await;
    phone.send(message(&first)).await;
    phone.expect("authed").await;
    phone.send(message(&second)).await;
    phone.expect_error("token_user").await;
    phone.send(json!({"type": "auth", "id": [second], "token": second})).await;
    phone.expect_error("id_invalid").await;
    assert!(Phone::connect(world.addr, &format!("{second}x")).await.is_err());
    let logged = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("gateway serves"), "{logged}");
    for token in [first, second] {
        for part in token.split('.').skip(1) {
            assert!(!logged.contains(part), "{logged}");
        }
    }
}

/// A gateway with other keys.
struct Gateway {
    addr: std::net::SocketAddr,
    admin: std::net::SocketAddr,
    _cluster: Embedded,
}

impl Gateway {
    async fn start(auth: &AuthConfig, topics: &Topics) -> Self {
        let names = [(topics.locations(), 4), (topics.visibility(), VISIBILITY_PARTITIONS), (topics.gateway("g1"), 1)];
        let cluster = Embedded::start(&names).unwrap();
        let deployment = deployment("t");
        let cache = Arc::new(MemoryCache::new(&deployment));
        let mut parts = parts(Kafka::new(cluster.config()), deployment, cache, Readiness::default());
        parts.readiness.component("cache").ready();
        parts.verifier = Verifier::new(auth).unwrap();
        let config = config(&FakeApi::default().serve().await);
        let (listener, admin_listener) =
            (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let (addr, admin) = (listener.local_addr().unwrap(), admin_listener.local_addr().unwrap());
        tokio::spawn(run_on_both(listener, admin_listener, config, parts, Shutdown::new()));
        Self { addr, admin, _cluster: cluster }
    }

    /// Waits until `/readyz` says this.
    async fn until_readyz(&self, part: &str) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let asked = async {
            loop {
                let mut stream = tokio::net::TcpStream::connect(self.admin).await.unwrap();
                stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.unwrap();
                if answer.contains(part) {
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("/readyz does not say {part}"));
    }
}

/// A key of an issuer: its name, what signs, and what is published.
fn issuers_key(kid: &str) -> (String, EncodingKey, Value) {
    let pem = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem();
    let key = EncodingKey::from_ec_pem(pem.as_bytes()).unwrap();
    let mut public = serde_json::to_value(Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap()).unwrap();
    public["kid"] = json!(kid);
    (kid.to_owned(), key, public)
}

fn es256((kid, key, _): &(String, EncodingKey, Value)) -> String {
    let now = now_ms() / 1_000;
    let header = Header { kid: Some(kid.clone()), ..Header::new(Algorithm::ES256) };
    encode(&header, &json!({"sub": "alice", "aud": "nearcast", "iat": now, "exp": now + 60}), key).unwrap()
}

#[tokio::test]
async fn an_issuers_keys_count_as_soon_as_a_token_names_them() {
    let published: Arc<Mutex<Option<Value>>> = Arc::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let shown = published.clone();
    let router = Router::new().route(
        "/keys",
        get(move || {
            let keys = shown.lock().unwrap().clone();
            async move { keys.map(axum::Json).ok_or(axum::http::StatusCode::SERVICE_UNAVAILABLE) }
        }),
    );
    tokio::spawn(async move { axum::serve(listener, router).await });
    let (old, new, foreign) = (issuers_key("old"), issuers_key("new"), issuers_key("new"));

    // Without any answer so far, nobody knows whether a token is good: it is to be shown again.
    let auth = AuthConfig { jwks_url: Some(url), jwks_pause_s: 0, ..AuthConfig::default() };
    let gateway = Gateway::start(&auth, &Topics::new("t")).await;
    let refused = async |token: String| match Phone::connect(gateway.addr, &token).await {
        Err(WsError::Http(response)) => {
            let problem: Value = serde_json::from_slice(response.body().as_deref().unwrap()).unwrap();
            (response.status().as_u16(), problem["code"].as_str().unwrap().to_owned())
        }
        _ => panic!("it is not refused"),
    };
    gateway.until_readyz(r#""keys":{"state":"not_ready","detail":"the issuer's keys at "#).await;
    assert_eq!(refused(es256(&old)).await, (503, "unavailable".to_owned()));

    *published.lock().unwrap() = Some(json!({"keys": [old.2]}));
    let mut phone = Phone::connect(gateway.addr, &es256(&old)).await.unwrap();
    gateway.until_readyz(r#""keys":{"state":"ready"}"#).await;
    assert_eq!(refused(es256(&new)).await, (401, "token_signature".to_owned()));

    *published.lock().unwrap() = Some(json!({"keys": [new.2]}));
    phone.send(message(&es256(&new))).await;
    phone.expect("authed").await;
    phone.send(hello()).await;
    phone.expect("welcome").await;
    assert_eq!(refused(es256(&foreign)).await, (401, "token_signature".to_owned()));
}
