//! TLS between the clients and the gateway, with a certificate of this run's own.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio_rustls::TlsConnector;

pub const CERTIFICATE: &str = "certificate.pem";
pub const KEY_FILE: &str = "key.pem";

/// A certificate for `localhost` in a folder that goes with it.
pub struct Secure {
    folder: TempDir,
    trusted: CertificateDer<'static>,
}

impl Secure {
    pub fn make() -> Self {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(CERTIFICATE), cert.pem()).unwrap();
        fs::write(folder.path().join(KEY_FILE), signing_key.serialize_pem()).unwrap();
        Self { folder, trusted: cert.der().clone() }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Of clients that trust it.
    pub fn connector(&self) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.trusted.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let versions = builder.with_safe_default_protocol_versions().unwrap();
        Arc::new(versions.with_root_certificates(roots).with_no_client_auth()).into()
    }
}
