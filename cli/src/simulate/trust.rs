//! TLS to gateways and the API: whom the phones believe to be the deployment.

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{CertificateError, ClientConfig, RootCertStore};

/// TLS that trusts the authorities which this machine trusts, and those in the PEM file `ca`.
///
/// # Errors
/// When the file holds no certificate.
pub(crate) fn client(ca: Option<&Path>) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    // A machine without authorities of its own is no trouble until one of them is needed; then the refusal says it.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(file) = ca {
        let unreadable = || format!("{} cannot be read as certificates in PEM", file.display());
        let mut found = false;
        for certificate in CertificateDer::pem_file_iter(file).with_context(unreadable)? {
            roots.add(certificate.with_context(unreadable)?).with_context(unreadable)?;
            found = true;
        }
        ensure!(found, "{} holds no certificate in PEM", file.display());
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// A server that did not prove to be who it is taken for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{url}: the server's certificate is not accepted: {why}")]
pub(crate) struct BadCertificate {
    url: String,
    /// What is wrong, and what to do.
    why: String,
}

impl BadCertificate {
    /// What an error in connecting to `url` says about the certificate, if it is about that at all.
    pub(crate) fn of(url: &str, error: &(dyn Error + 'static)) -> Option<Self> {
        let rustls::Error::InvalidCertificate(refused) = tls_error(error)? else { return None };
        let why = match refused {
            CertificateError::UnknownIssuer => {
                "no authority that this machine trusts has signed it; name the deployment's own with --ca FILE".into()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("{refused}; connect by a name that is in it")
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "it has expired; renew it, or set this machine's clock".into()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "it is not valid yet; set this machine's clock".into()
            }
            other => format!("{other}; give the server another one"),
        };
        Some(Self { url: url.to_owned(), why })
    }
}

/// The TLS error among an error's causes.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        // An I/O error's `source` leaves out the error that it wraps.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let found = match wrapped {
            Some(wrapped) => wrapped.downcast_ref(),
            None => error.downcast_ref(),
        };
        if found.is_some() {
            return found;
        }
        next = match wrapped {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn refused(error: impl Into<rustls::Error>) -> Option<String> {
        // As it comes through an HTTP client: an I/O error inside another.
        let error = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error.into()));
        BadCertificate::of("wss://h/v1/ws", &error).map(|bad| bad.to_string())
    }

    #[test]
    fn a_refused_certificate_says_where_why_and_what_to_do() {
        for (error, part) in [
            (CertificateError::UnknownIssuer, "--ca FILE"),
            (CertificateError::NotValidForName, "connect by a name"),
            (CertificateError::Expired, "renew it"),
            (CertificateError::NotValidYet, "clock"),
            (CertificateError::BadSignature, "BadSignature; give the server another one"),
        ] {
            let said = refused(error).unwrap();
            assert!(said.starts_with("wss://h/v1/ws: the server's certificate is not accepted: "), "{said}");
            assert!(said.contains(part), "{said}");
        }
        assert_eq!(refused(rustls::Error::DecryptError), None);
        assert_eq!(BadCertificate::of("u", &io::Error::from(io::ErrorKind::ConnectionRefused)), None);
    }

    #[test]
    fn a_file_without_certificates_is_none() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "no certificate").unwrap();
        for (ca, part) in [(file.path(), "holds no certificate"), (Path::new("/nowhere.pem"), "/nowhere.pem cannot")] {
            let error = client(Some(ca)).err().unwrap().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!(client(None).is_ok());
    }
}
