//! TLS on clients' connections, and a certificate that can be changed while they are open.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use nearcast_runtime::clock;
use nearcast_runtime::lifecycle::Shutdown;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{InconsistentKeys, ServerConfig};
use tokio::net::TcpStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use x509_parser::parse_x509_certificate;

use super::events::{CertificateExpiry, CertificateKept, CertificateTaken};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// What rustls may hold of what the socket does not take yet: it can no longer be taken back.
const UNSENT_BYTES: usize = 4_096;

/// Where the certificate and its key are.
#[derive(Clone, Debug)]
pub struct Files {
    /// The chain in PEM, the server's own certificate first.
    pub certificate: PathBuf,
    /// The key in PEM.
    pub key: PathBuf,
}

/// Why a pair of files is not taken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("gateway.{field} must be a PEM file that can be read: {path}: {error}")]
    Unreadable {
        /// Name of the field.
        field: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// No certificate in it.
    #[error("gateway.tls_certificate must be a PEM file of certificates, the server's own first: {0}")]
    NoCertificate(PathBuf),
    /// No key in it.
    #[error("gateway.tls_key must be a PEM file with one private key: {0}")]
    NoKey(PathBuf),
    /// A key of another certificate.
    #[error("gateway.tls_key must be the key of the first certificate in gateway.tls_certificate; it is another one's")]
    Mismatch,
    /// A key or certificate that rustls does not work with.
    #[error("gateway.tls_certificate and gateway.tls_key must be of a kind that TLS 1.2 and 1.3 know: {0}")]
    Unsuitable(rustls::Error),
    /// No cryptography, or no signal handler.
    #[error("cannot prepare TLS: {0}")]
    Setup(String),
}

/// What the files hold. Only compared and parsed, never shown.
#[derive(PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// The pair in use.
struct Pair {
    key: Arc<CertifiedKey>,
    /// In s since the epoch.
    expires_at: i64,
}

/// Gives each handshake the pair of the moment. Connections that are open keep what they have.
struct Current(RwLock<Pair>);

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Current")
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner).key))
    }
}

/// Encrypts connections. Clones are the same.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
}

/// Looks at the files from time to time.
pub struct Reload {
    files: Files,
    current: Arc<Current>,
    /// What was seen last, whether it was taken or not. None: it could not be read.
    seen: Option<Contents>,
    hangup: Signal,
}

impl Tls {
    /// Reads the files for the first time. From now on SIGHUP does not end the process.
    ///
    /// # Errors
    /// When they are no pair.
    pub async fn load(files: Files) -> Result<(Self, Reload), TlsError> {
        let hangup = signal(SignalKind::hangup()).map_err(|error| TlsError::Setup(error.to_string()))?;
        let contents = files.read().await?;
        let pair = files.parse(&contents)?;
        CertificateTaken { expires_in_s: pair.expires_in_s() }.emit();
        CertificateExpiry { expires_in_s: pair.expires_in_s() }.emit();
        let current = Arc::new(Current(RwLock::new(pair)));
        let tls = Self::new(Arc::clone(&current) as _).map_err(|error| TlsError::Setup(error.to_string()))?;
        Ok((tls, Reload { files, current, seen: Some(contents), hangup }))
    }

    fn new(pairs: Arc<dyn ResolvesServerCert>) -> Result<Self, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(pairs);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Phones come back often. What they need for a short handshake is in their ticket, and nothing of it is here.
        config.ticketer = Ticketer::new()?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 1;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    /// The handshake.
    ///
    /// # Errors
    /// When the other end goes away or speaks something else.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.acceptor.accept_with(stream, |connection| connection.set_buffer_limit(Some(UNSENT_BYTES))).await
    }
}

impl Pair {
    /// Negative once it has expired.
    fn expires_in_s(&self) -> i64 {
        self.expires_at.saturating_sub(clock::now_ms().div_euclid(1_000))
    }
}

impl Files {
    async fn read(&self) -> Result<Contents, TlsError> {
        let read = async |field, path: &Path| {
            let contents = tokio::fs::read(path).await;
            contents.map_err(|error| TlsError::Unreadable { field, path: path.to_owned(), error })
        };
        let certificate = read("tls_certificate", &self.certificate).await?;
        let key = read("tls_key", &self.key).await?;
        Ok(Contents { certificate, key })
    }

    fn parse(&self, contents: &Contents) -> Result<Pair, TlsError> {
        let no_certificate = || TlsError::NoCertificate(self.certificate.clone());
        let chain = CertificateDer::pem_slice_iter(&contents.certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|_| no_certificate())?;
        let own = chain.first().ok_or_else(no_certificate)?;
        let (_, parsed) = parse_x509_certificate(own).map_err(|_| no_certificate())?;
        let expires_at = parsed.validity().not_after.timestamp();
        let key = PrivateKeyDer::from_pem_slice(&contents.key).map_err(|_| TlsError::NoKey(self.key.clone()))?;
        let key = CertifiedKey::from_der(chain, key, &default_provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsError::Mismatch,
            error => TlsError::Unsuitable(error),
        })?;
        Ok(Pair { key: Arc::new(key), expires_at })
    }
}

impl Reload {
    /// Takes each new pair that fits, until the shutdown begins. Contents are compared and not times, so that no way of
    /// replacing files goes unseen; a symbolic link that points elsewhere is one of them.
    pub async fn run(mut self, shutdown: Shutdown) -> Result<(), Infallible> {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let asked = tokio::select! {
                () = shutdown.begun() => return Ok(()),
                _ = looks.tick() => false,
                Some(()) = self.hangup.recv() => true,
            };
            self.look(asked).await;
            let expires_in_s = self.current.0.read().unwrap_or_else(PoisonError::into_inner).expires_in_s();
            CertificateExpiry { expires_in_s }.emit();
        }
    }

    /// Says what it did if there is something new, or somebody asked.
    async fn look(&mut self, asked: bool) {
        let (seen, pair) = match self.files.read().await {
            Ok(contents) if !asked && self.seen.as_ref() == Some(&contents) => return,
            Ok(contents) => {
                let pair = self.files.parse(&contents);
                (Some(contents), pair)
            }
            Err(_) if !asked && self.seen.is_none() => return,
            Err(error) => (None, Err(error)),
        };
        self.seen = seen;
        match pair {
            Ok(pair) => {
                CertificateTaken { expires_in_s: pair.expires_in_s() }.emit();
                *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = pair;
            }
            Err(error) => CertificateKept { error }.emit(),
        }
    }
}
