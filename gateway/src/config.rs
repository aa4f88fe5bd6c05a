//! The section `[gateway]` of the configuration.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::entrance::{Files, ForwardedHeader, Networks, ProxyProtocol};
use crate::feed;
use crate::session::Rules;

/// The section `[gateway]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Ordinal of this gateway, stable over restarts: it names its topic. 1 to 32 letters, digits, `_` or `-`.
    pub id: String,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Threads that serve connections, each with a listener of its own; 0 for one a core, at most 1 024.
    pub threads: u32,
    /// The certificate's chain in PEM, the server's own first. Empty, as `tls_key`: clients are not encrypted here.
    pub tls_certificate: PathBuf,
    /// The certificate's key in PEM.
    pub tls_key: PathBuf,
    /// Whether each connection begins with a header of the PROXY protocol.
    pub proxy_protocol: ProxyProtocol,
    /// Networks of proxies that are believed when they name the client.
    pub trusted_proxies: Networks,
    /// Where they name it without the PROXY protocol.
    pub forwarded_header: ForwardedHeader,
    /// Where health and metrics are served.
    pub admin_listen: SocketAddr,
    /// The API, as `http://host:port`.
    pub api_url: String,
    /// How long the API may take to answer; ms, 1 to 60 000.
    pub api_timeout_ms: u32,
    /// A connection's TLS and its request have to be done within this time; seconds, 1 to 600.
    pub handshake_timeout_s: u32,
    /// A client has to say `hello` within this time; seconds, 1 to 600.
    pub hello_timeout_s: u32,
    /// How often clients are pinged, and after two and a half times this without any frame given up; seconds, 1 to 600.
    pub ping_every_s: u32,
    /// A client that takes nothing of what is written to it for this long is closed; seconds, 1 to 86 400. Until then what
    /// waits for it is conflated.
    pub slow_after_s: u32,
    /// Largest message of a client in bytes, 1 024 to 16 MiB.
    pub message_bytes: u32,
    /// Messages a second of one client; twice as many may come at once. 1 to 10 000.
    pub messages_per_s: u32,
    /// Changes within this time of the last ones become one frame; ms, at most 1 000. A client that was idle gets its
    /// first change at once.
    pub coalesce_ms: u32,
    /// What waits for one client may take this much memory, bytes, 64 KiB to 1 GiB; of more, it gets a whole list in place.
    pub waiting_bytes: u32,
    /// A reset that does not come within this time is asked for again; seconds, 1 to 600.
    pub reset_wait_s: u32,
    /// Answers of one client that wait for Kafka or the API; beyond it nothing more is read from it. At least 1.
    pub max_unanswered: usize,
    /// Connections; more are refused. At least 1.
    pub max_connections: usize,
    /// Connections of one address, or of one /64 of IPv6; 0 is without a limit.
    pub max_connections_per_address: u32,
    /// New connections a second; twice as many may come at once. 0 is without a limit.
    pub handshakes_per_s: u32,
    /// The same of one address.
    pub handshakes_per_s_per_address: u32,
    /// Send buffer of a socket in bytes, 2 048 to 16 MiB (the kernel doubles it). What is in it can no longer be taken
    /// back.
    pub send_buffer_bytes: usize,
    /// At a shutdown clients come back, to another gateway, spread over this time; ms, at most 600 000. Each is served
    /// until its turn, if three times this is within the grace.
    pub drain_spread_ms: u32,
    /// How long a shutdown may take: clients are told to go within a third of it, then reports on their way are waited
    /// for; seconds, 1 to 600.
    pub grace_s: u32,
}

/// What is wrong with the section.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("gateway.{field} must be {must}")]
pub struct ConfigError {
    /// Name of the field.
    pub field: &'static str,
    /// What it must be.
    pub must: &'static str,
}

impl Config {
    /// Checks what the fields' own types cannot.
    ///
    /// # Errors
    /// Names the first field that is out of its range and what it must be.
    pub fn check(&self) -> Result<(), ConfigError> {
        let letters = |id: &str| id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        let url = self.api_url.strip_prefix("http://").or_else(|| self.api_url.strip_prefix("https://"));
        let no_certificate = self.tls_certificate.as_os_str().is_empty();
        let no_key = self.tls_key.as_os_str().is_empty();
        let seconds = |value: u32| (1..=600).contains(&value);
        let checks = [
            ("id", (1..=32).contains(&self.id.len()) && letters(&self.id), "1 to 32 letters, digits, _ or -"),
            ("api_url", url.is_some_and(|rest| !rest.is_empty()), "http://host:port or https://host:port"),
            ("threads", self.threads <= 1_024, "at most 1024"),
            ("api_timeout_ms", (1..=60_000).contains(&self.api_timeout_ms), "1 to 60000"),
            ("tls_certificate", no_certificate <= no_key, "given where tls_key is, or both left out"),
            ("tls_key", no_key <= no_certificate, "given where tls_certificate is, or both left out"),
            (
                "trusted_proxies",
                self.proxy_protocol == ProxyProtocol::Off || !self.trusted_proxies.is_empty(),
                "the networks of the load balancers where proxy_protocol is on",
            ),
            ("handshake_timeout_s", seconds(self.handshake_timeout_s), "1 to 600"),
            ("hello_timeout_s", seconds(self.hello_timeout_s), "1 to 600"),
            ("ping_every_s", seconds(self.ping_every_s), "1 to 600"),
            ("slow_after_s", (1..=86_400).contains(&self.slow_after_s), "1 to 86400"),
            ("message_bytes", (1_024..=16 << 20).contains(&self.message_bytes), "1024 to 16777216"),
            ("messages_per_s", (1..=10_000).contains(&self.messages_per_s), "1 to 10000"),
            ("coalesce_ms", self.coalesce_ms <= 1_000, "at most 1000"),
            ("waiting_bytes", (64 << 10..=1 << 30).contains(&self.waiting_bytes), "65536 to 1073741824"),
            ("reset_wait_s", seconds(self.reset_wait_s), "1 to 600"),
            ("max_unanswered", self.max_unanswered >= 1, "at least 1"),
            ("max_connections", self.max_connections >= 1, "at least 1"),
            ("send_buffer_bytes", (2_048..=16 << 20).contains(&self.send_buffer_bytes), "2048 to 16777216"),
            ("drain_spread_ms", self.drain_spread_ms <= 600_000, "at most 600000"),
            ("grace_s", seconds(self.grace_s), "1 to 600"),
        ];
        match checks.into_iter().find(|(_, good, _)| !good) {
            Some((field, _, must)) => Err(ConfigError { field, must }),
            None => Ok(()),
        }
    }

    /// Where the certificate and its key are; none in plain mode.
    pub(crate) fn tls_files(&self) -> Option<Files> {
        let given = !self.tls_certificate.as_os_str().is_empty();
        given.then(|| Files { certificate: self.tls_certificate.clone(), key: self.tls_key.clone() })
    }

    /// What holds for every feed.
    pub(crate) fn feed_rules(&self) -> feed::Rules {
        feed::Rules {
            window_ms: self.coalesce_ms.into(),
            reset_wait_ms: i64::from(self.reset_wait_s) * 1_000,
            waiting_bytes: usize::try_from(self.waiting_bytes).unwrap_or(usize::MAX),
        }
    }

    /// What holds for every connection of a deployment whose quiet sessions say presence this often.
    pub fn rules(&self, presence_every_ms: i64) -> Rules {
        Rules {
            hello_ms: i64::from(self.hello_timeout_s) * 1_000,
            ping_every_ms: i64::from(self.ping_every_s) * 1_000,
            slow_ms: i64::from(self.slow_after_s) * 1_000,
            presence_every_ms,
            messages_per_s: self.messages_per_s,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let good = Config {
            id: "0".into(),
            listen: ([127, 0, 0, 1], 7400).into(),
            threads: 0,
            tls_certificate: PathBuf::new(),
            tls_key: PathBuf::new(),
            proxy_protocol: ProxyProtocol::Off,
            trusted_proxies: Networks::default(),
            forwarded_header: ForwardedHeader::Forwarded,
            admin_listen: ([127, 0, 0, 1], 7401).into(),
            api_url: "http://127.0.0.1:7410".into(),
            api_timeout_ms: 3_000,
            handshake_timeout_s: 10,
            hello_timeout_s: 10,
            ping_every_s: 25,
            slow_after_s: 300,
            message_bytes: 131_072,
            messages_per_s: 20,
            coalesce_ms: 20,
            waiting_bytes: 8 << 20,
            reset_wait_s: 10,
            max_unanswered: 256,
            max_connections: 100_000,
            max_connections_per_address: 0,
            handshakes_per_s: 0,
            handshakes_per_s_per_address: 0,
            send_buffer_bytes: 16_384,
            drain_spread_ms: 10_000,
            grace_s: 10,
        };
        assert_eq!(good.check(), Ok(()));
        let check = |change: fn(&mut Config), field: &str| {
            let mut config = good.clone();
            change(&mut config);
            assert_eq!(config.check().unwrap_err().field, field);
        };
        check(|c| c.id = String::new(), "id");
        check(|c| c.id = "a.b".into(), "id");
        check(|c| c.api_url = "127.0.0.1:7410".into(), "api_url");
        check(|c| c.threads = 1_025, "threads");
        check(|c| c.api_timeout_ms = 0, "api_timeout_ms");
        check(|c| c.tls_certificate = "/tmp/chain.pem".into(), "tls_key");
        check(|c| c.tls_key = "/tmp/key.pem".into(), "tls_certificate");
        check(|c| c.proxy_protocol = ProxyProtocol::V2, "trusted_proxies");
        check(|c| c.handshake_timeout_s = 0, "handshake_timeout_s");
        check(|c| c.hello_timeout_s = 0, "hello_timeout_s");
        check(|c| c.ping_every_s = 601, "ping_every_s");
        check(|c| c.slow_after_s = 0, "slow_after_s");
        check(|c| c.message_bytes = 1_023, "message_bytes");
        check(|c| c.messages_per_s = 0, "messages_per_s");
        check(|c| c.coalesce_ms = 1_001, "coalesce_ms");
        check(|c| c.waiting_bytes = 1_000, "waiting_bytes");
        check(|c| c.reset_wait_s = 0, "reset_wait_s");
        check(|c| c.max_unanswered = 0, "max_unanswered");
        check(|c| c.max_connections = 0, "max_connections");
        check(|c| c.send_buffer_bytes = 0, "send_buffer_bytes");
        check(|c| c.drain_spread_ms = 600_001, "drain_spread_ms");
        check(|c| c.grace_s = 0, "grace_s");
    }
}
