//! What is counted and logged before a connection is a WebSocket. Nothing of what a peer sent, and no address.

use std::io;

use metrics::{counter, gauge};

use super::tls::TlsError;

/// Parts of the way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The header of a load balancer.
    Proxy,
    /// TLS.
    Tls,
    /// The request's head.
    Head,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Tls => "tls",
            Self::Head => "head",
        }
    }
}

/// A connection ended on its way in without an answer.
pub struct HandshakeFailed {
    /// Where.
    pub stage: Stage,
    /// Why, in one word.
    pub reason: &'static str,
}

impl HandshakeFailed {
    /// It took too long.
    pub fn late(stage: Stage) -> Self {
        Self { stage, reason: "timeout" }
    }

    /// What rustls or the operating system says.
    pub fn of(stage: Stage, error: &io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        Self { stage, reason: tls.map_or("gone", reason) }
    }

    /// Counts it.
    pub fn emit(&self) {
        let labels = [("stage", self.stage.name()), ("reason", self.reason)];
        counter!("nearcast_gateway_handshake_failures_total", &labels).increment(1);
        tracing::trace!(stage = self.stage.name(), reason = self.reason, "handshake failed");
    }
}

fn reason(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InvalidMessage(_) => "malformed",
        rustls::Error::PeerIncompatible(_) => "incompatible",
        rustls::Error::NoApplicationProtocol => "application_protocol",
        // Most of these do not accept the certificate.
        rustls::Error::AlertReceived(_) => "alert",
        rustls::Error::PeerMisbehaved(_)
        | rustls::Error::InappropriateMessage { .. }
        | rustls::Error::InappropriateHandshakeMessage { .. }
        | rustls::Error::DecryptError
        | rustls::Error::PeerSentOversizedRecord => "misbehaved",
        _ => "other",
    }
}

/// A certificate is in use from now on.
pub struct CertificateTaken {
    /// How long it is valid; negative: it has expired.
    pub expires_in_s: i64,
}

impl CertificateTaken {
    /// Counts and logs it.
    pub fn emit(&self) {
        counter!("nearcast_gateway_tls_certificates_total", "result" => "taken").increment(1);
        counter!("nearcast_gateway_tls_certificates_total", "result" => "kept_old").increment(0);
        if self.expires_in_s > 0 {
            tracing::info!(expires_in_s = self.expires_in_s, "certificate in use");
        } else {
            tracing::error!(expires_in_s = self.expires_in_s, "the certificate in use has expired");
        }
    }
}

/// What the files hold now is no pair; the one before stays.
pub struct CertificateKept {
    /// Why.
    pub error: TlsError,
}

impl CertificateKept {
    /// Counts and logs it.
    pub fn emit(&self) {
        counter!("nearcast_gateway_tls_certificates_total", "result" => "kept_old").increment(1);
        tracing::warn!(error = %self.error, "new certificate not taken, the old one stays in use");
    }
}

/// How long the certificate in use is valid.
pub struct CertificateExpiry {
    /// Negative: it has expired.
    pub expires_in_s: i64,
}

impl CertificateExpiry {
    /// Shows it.
    pub fn emit(&self) {
        gauge!("nearcast_gateway_tls_certificate_expires_in_seconds").set(self.expires_in_s as f64);
    }
}
