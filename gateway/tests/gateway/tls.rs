//! TLS ends at the gateway.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use nearcast_gateway::{Config, Error, TlsError};
use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::phone::{Phone, hello, location};
use crate::upgrade::refusal;
use crate::world::{PATIENCE, World, token};

/// A certificate of its own authority, and its key, in PEM.
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

impl Pair {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        Self { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// Writes both into a directory.
    fn write(&self, directory: &Path) {
        std::fs::write(directory.join("tls.crt"), &self.certificate).unwrap();
        std::fs::write(directory.join("tls.key"), &self.key).unwrap();
    }

    /// Accepts this one alone.
    fn connector(&self, versions: &[&'static SupportedProtocolVersion], protocols: &[&str]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }

    /// A handshake with whoever has this one.
    pub async fn connect(&self, world: &World) -> std::io::Result<TlsStream<TcpStream>> {
        self.handshake(world, &[&TLS13, &TLS12], &["http/1.1"]).await
    }

    async fn handshake(
        &self,
        world: &World,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&str],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(world.addr).await.unwrap();
        self.over(stream, versions, protocols).await
    }

    /// A handshake on a connection that there is.
    pub async fn over(
        &self,
        stream: TcpStream,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&str],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let connecting =
            self.connector(versions, protocols).connect(ServerName::try_from("localhost").unwrap(), stream);
        timeout(PATIENCE, connecting).await.expect("no handshake")
    }
}

/// Where a gateway looks, as `fill` left it.
fn files(fill: impl FnOnce(&Path)) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fill(directory.path());
    directory
}

/// Takes the pair from the directory.
pub fn encrypted(config: &mut Config, directory: &Path) {
    config.tls_certificate = directory.join("tls.crt");
    config.tls_key = directory.join("tls.key");
}

/// A gateway with this pair.
pub async fn world_with(pair: &Pair, change: impl FnOnce(&mut Config)) -> (World, TempDir) {
    let directory = files(|directory| pair.write(directory));
    let path = directory.path().to_owned();
    let world = World::with(|config, _| {
        encrypted(config, &path);
        change(config);
    });
    (world.await, directory)
}

/// A counter by the end of its name and its labels. All tests of this process count together.
pub async fn metric(world: &World, name: &str) -> f64 {
    let metrics = world.get("/metrics").await;
    let mut lines = metrics.lines().filter(|line| !line.starts_with('#'));
    let line = lines.find_map(|line| line.split_once(name).map(|(_, value)| value.trim()));
    line.map_or(0.0, |value| value.parse().unwrap())
}

/// Waits until a counter is more than it was.
pub async fn until_more(world: &World, name: &str, before: f64) {
    let asked = async {
        while metric(world, name).await <= before {
            sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, asked).await.unwrap_or_else(|_| panic!("{name} does not grow"));
}

#[tokio::test]
async fn both_versions_carry_a_session() {
    let pair = Pair::new();
    let (mut world, _files) = world_with(&pair, |_| ()).await;
    for (version, expect) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let stream = pair.handshake(&world, &[version], &["h2", "http/1.1"]).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(expect));
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let mut phone = Phone::over(stream, &token("alice"), &[]).await.unwrap();
        phone.send(hello()).await;
        phone.expect("welcome").await;
        world.seat("alice").await;
        phone.nearby().await;
        phone.send(location(1, 52.5, 13.25)).await;
        phone.expect("ack").await;
        // A large message, in many records.
        phone.send(json!({"type": "dance", "x": "x".repeat(100_000)})).await;
        phone.expect_error("unknown_type").await;
        phone.close().await;
    }
    // Without a protocol's name, as old clients do.
    let stream = pair.handshake(&world, &[&TLS13], &[]).await.unwrap();
    Phone::over(stream, &token("bob"), &[]).await.unwrap();
    // The tests' certificates are valid for centuries.
    assert!(metric(&world, "nearcast_gateway_tls_certificate_expires_in_seconds ").await > 1e9);
}

#[tokio::test]
async fn refusals_are_told_inside_and_the_end_is_said() {
    let pair = Pair::new();
    let (world, _files) = world_with(&pair, |_| ()).await;
    let stream = pair.connect(&world).await.unwrap();
    assert_eq!(refusal(Phone::over(stream, "nonsense", &[]).await), Some((401, "token_malformed".into())));

    let mut stream = pair.connect(&world).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    // An end that TLS does not know of would be an error here.
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.contains("no_such_path"), "{answer}");

    let mut phone = Phone::over(pair.connect(&world).await.unwrap(), &token("alice"), &[]).await.unwrap();
    phone.send(json!({"type": "sync", "x": "x".repeat(1 << 20)})).await;
    phone.expect_bye("too_large", 1009).await;
}

#[tokio::test]
async fn what_is_no_tls_is_counted_by_its_reason() {
    let pair = Pair::new();
    let (world, _files) = world_with(&pair, |_| ()).await;
    let [malformed, protocol, alert, gone] = ["malformed", "application_protocol", "alert", "gone"]
        .map(|reason| format!(r#"handshake_failures_total{{stage="tls",reason="{reason}"}}"#));
    let before = metric(&world, &malformed).await;
    let mut plain = TcpStream::connect(world.addr).await.unwrap();
    plain.write_all(b"GET /v1/ws HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, plain.read_to_end(&mut answer)).await.expect("it stays open");
    until_more(&world, &malformed, before).await;

    let before = metric(&world, &protocol).await;
    let refused = pair.handshake(&world, &[&TLS13], &["h2"]).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidData);
    until_more(&world, &protocol, before).await;

    let before = metric(&world, &alert).await;
    Pair::new().connect(&world).await.unwrap_err();
    until_more(&world, &alert, before).await;

    let before = metric(&world, &gone).await;
    drop(TcpStream::connect(world.addr).await.unwrap());
    until_more(&world, &gone, before).await;
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_is_cut() {
    let pair = Pair::new();
    let (world, _files) = world_with(&pair, |config| config.handshake_timeout_s = 1).await;
    drop(pair.connect(&world).await.unwrap());
    let cut = r#"handshake_failures_total{stage="tls",reason="timeout"}"#;
    let before = metric(&world, cut).await;
    let mut slow = TcpStream::connect(world.addr).await.unwrap();
    let begun = Instant::now();
    // The beginning of a record of 500 bytes, one byte at a time, so that it is never silent for long.
    let dripping = async {
        for byte in [22, 3, 1, 1, 244].into_iter().chain(std::iter::repeat(0)) {
            if slow.write_all(&[byte]).await.is_err() {
                return;
            }
            sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, dripping).await.expect("it is never cut");
    assert!(begun.elapsed().as_secs() >= 1);
    until_more(&world, cut, before).await;

    // After TLS the request has what is left of the time; who is late is told so.
    let mut silent = pair.connect(&world).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, silent.read_to_string(&mut answer)).await.expect("it stays open").unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains(r#""code":"idle""#), "{answer}");
}

/// Waits until connections get this pair.
async fn until_shown(world: &World, pair: &Pair) {
    let shown = async {
        while pair.connect(world).await.is_err() {
            sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, shown).await.expect("the new certificate is not shown");
}

#[tokio::test]
async fn a_new_certificate_is_for_new_connections() {
    let (old, new) = (Pair::new(), Pair::new());
    let (world, files) = world_with(&old, |_| ()).await;
    let mut phone = Phone::over(old.connect(&world).await.unwrap(), &token("alice"), &[]).await.unwrap();
    phone.send(hello()).await;
    phone.expect("welcome").await;

    new.write(files.path());
    until_shown(&world, &new).await;
    old.connect(&world).await.expect_err("the old certificate is still shown");
    phone.nearby().await;
    phone.send(location(1, 52.5, 13.25)).await;
    phone.expect("ack").await;
}

#[tokio::test]
async fn directories_are_exchanged_as_kubernetes_does() {
    let (old, new) = (Pair::new(), Pair::new());
    let directory = files(|directory| {
        for (name, pair) in [("v1", &old), ("v2", &new)] {
            std::fs::create_dir(directory.join(name)).unwrap();
            pair.write(&directory.join(name));
        }
        symlink("v1", directory.join("..data")).unwrap();
        symlink("..data/tls.crt", directory.join("tls.crt")).unwrap();
        symlink("..data/tls.key", directory.join("tls.key")).unwrap();
    });
    let path = directory.path().to_owned();
    let world = World::with(|config, _| encrypted(config, &path)).await;
    old.connect(&world).await.unwrap();
    symlink("v2", directory.path().join("..data_tmp")).unwrap();
    std::fs::rename(directory.path().join("..data_tmp"), directory.path().join("..data")).unwrap();
    until_shown(&world, &new).await;
}

#[tokio::test]
async fn what_is_no_pair_leaves_the_old_one() {
    let (old, other) = (Pair::new(), Pair::new());
    let (world, files) = world_with(&old, |_| ()).await;
    old.connect(&world).await.unwrap();
    let kept = r#"nearcast_gateway_tls_certificates_total{result="kept_old"}"#;
    let before = metric(&world, kept).await;
    // A key of another certificate; on a signal it is looked at at once.
    std::fs::write(files.path().join("tls.key"), &other.key).unwrap();
    assert!(Command::new("kill").args(["-HUP", &std::process::id().to_string()]).status().unwrap().success());
    until_more(&world, kept, before).await;
    old.connect(&world).await.unwrap();
    std::fs::remove_file(files.path().join("tls.crt")).unwrap();
    let mut half = std::fs::File::create(files.path().join("tls.crt")).unwrap();
    half.write_all(&other.certificate.as_bytes()[..100]).unwrap();
    old.connect(&world).await.unwrap();
    // It is not stuck: the other half arrives.
    half.write_all(&other.certificate.as_bytes()[100..]).unwrap();
    until_shown(&world, &other).await;
}

/// Why a gateway with these files does not start.
async fn not_started(certificate: PathBuf, key: PathBuf) -> TlsError {
    let world = World::with(|config, _| (config.tls_certificate, config.tls_key) = (certificate, key)).await;
    match world.ended().await {
        Err(Error::Tls(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_gateway_without_a_pair_says_what_it_misses() {
    let (pair, other) = (Pair::new(), Pair::new());
    let files = files(|directory| {
        pair.write(directory);
        std::fs::write(directory.join("other.key"), &other.key).unwrap();
    });
    let path = |name: &str| files.path().join(name);
    let error = not_started(path("absent"), path("tls.key")).await;
    assert!(matches!(error, TlsError::Unreadable { field: "tls_certificate", .. }), "{error}");
    let error = not_started(path("tls.key"), path("tls.key")).await;
    assert!(matches!(error, TlsError::NoCertificate(_)) && error.to_string().contains("gateway.tls_certificate must"));
    let error = not_started(path("tls.crt"), path("tls.crt")).await;
    assert!(matches!(error, TlsError::NoKey(_)) && error.to_string().contains("gateway.tls_key must"), "{error}");
    let error = not_started(path("tls.crt"), path("other.key")).await;
    assert!(matches!(error, TlsError::Mismatch), "{error}");
}
