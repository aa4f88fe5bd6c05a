//! The section `[api]` of the configuration.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Duration;

use axum::http::Uri;
use serde::{Deserialize, Serialize};

/// The section `[api]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where it listens, for clients, gateways and health alike; port 0 takes a free one.
    pub listen: SocketAddr,
    /// A request that takes longer is answered `unavailable`; a change that is under way goes on. 100 ms to 5 min.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    /// How long a list or notice waits for others of its batch; at most 1 s.
    #[serde(with = "humantime_serde")]
    pub linger: Duration,
    /// After this a list or notice that Kafka did not acknowledge is given up, to be published again by the sweeper.
    /// More than `linger`; it has to outlast a broker's failover.
    #[serde(with = "humantime_serde")]
    pub delivery_timeout: Duration,
    /// A list that the log has held for longer is published again while its viewer is live; 1 s to 2 h, because the log
    /// keeps lists for 3 h.
    #[serde(with = "humantime_serde")]
    pub republish_after: Duration,
    /// A change that is not finished after this is finished by the sweeper, which tries again as often; 1 s to 1 h, and
    /// better more than a request takes.
    #[serde(with = "humantime_serde")]
    pub settle_after: Duration,
    /// How often the sweeper looks for work that is due; 10 ms to 5 min.
    #[serde(with = "humantime_serde")]
    pub sweep_every: Duration,
    /// Most friends of one user; 1 to 5000.
    pub max_friends: u32,
    /// Web pages of these origins may call the API, such as `https://app.example.com`; [`ANY_ORIGIN`] alone for all.
    /// Empty for none.
    pub cors_origins: Vec<String>,
    /// How long a shutdown waits for requests and changes that are under way.
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
}

/// In `cors_origins`: pages of every origin.
pub const ANY_ORIGIN: &str = "*";

/// What is wrong with the section.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("api.{field} must be {must}")]
pub struct ConfigError {
    /// Name of the field.
    pub field: &'static str,
    /// What it must be.
    pub must: Cow<'static, str>,
}

impl Config {
    /// Checks what the fields' own types cannot.
    ///
    /// # Errors
    /// Names the first field that is out of its range and what it must be.
    pub fn check(&self) -> Result<(), ConfigError> {
        const MS: Duration = Duration::from_millis(1);
        const S: Duration = Duration::from_secs(1);
        let checks = [
            ("request_timeout", "100ms to 5m", (100 * MS..=300 * S).contains(&self.request_timeout)),
            ("linger", "at most 1s", self.linger <= S),
            (
                "delivery_timeout",
                "more than linger and at most 5m",
                self.delivery_timeout > self.linger && self.delivery_timeout <= 300 * S,
            ),
            ("republish_after", "1s to 2h", (S..=7_200 * S).contains(&self.republish_after)),
            ("settle_after", "1s to 1h", (S..=3_600 * S).contains(&self.settle_after)),
            ("sweep_every", "10ms to 5m", (10 * MS..=300 * S).contains(&self.sweep_every)),
            ("max_friends", "1 to 5000", (1..=5_000).contains(&self.max_friends)),
        ];
        if let Some((field, must, _)) = checks.into_iter().find(|(_, _, good)| !good) {
            return Err(ConfigError { field, must: must.into() });
        }
        self.check_origins()
    }

    fn check_origins(&self) -> Result<(), ConfigError> {
        let fail = |must| Err(ConfigError { field: "cors_origins", must });
        if self.cors_origins.iter().any(|origin| origin == ANY_ORIGIN) {
            if self.cors_origins.len() > 1 {
                return fail("`*` alone, or origins without it".into());
            }
            return Ok(());
        }
        match self.cors_origins.iter().find(|origin| !is_origin(origin)) {
            // Every page that calls from it tells everybody its origin: it is no secret.
            Some(origin) => fail(
                format!(
                    "origins as browsers send them, such as https://app.example.com or http://localhost:5173: scheme \
                     and host in lower case, a port unless it is the scheme's own, nothing after it; {origin:?} is not"
                )
                .into(),
            ),
            None => Ok(()),
        }
    }
}

/// Whether a browser may send this as `Origin`: RFC 6454, section 6.2. Apps in a web view have schemes of their own.
fn is_origin(text: &str) -> bool {
    let Ok(uri) = text.parse::<Uri>() else { return false };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return false };
    let own_port = match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    // A path, a user's name or a port without a number are lost on the way back to a text.
    let again = match authority.port_u16() {
        Some(port) => format!("{scheme}://{}:{port}", authority.host()),
        None => format!("{scheme}://{}", authority.host()),
    };
    let bare = again == text && !authority.host().is_empty();
    bare && text == text.to_ascii_lowercase()
        && !text.contains('*')
        && (own_port.is_none() || authority.port_u16() != own_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Config {
        Config {
            listen: ([127, 0, 0, 1], 7410).into(),
            request_timeout: Duration::from_secs(10),
            linger: Duration::from_millis(2),
            delivery_timeout: Duration::from_secs(8),
            republish_after: Duration::from_secs(2_700),
            settle_after: Duration::from_secs(30),
            sweep_every: Duration::from_secs(10),
            max_friends: 5_000,
            cors_origins: Vec::new(),
            drain: Duration::from_secs(15),
        }
    }

    #[test]
    fn ranges() {
        assert_eq!(good().check(), Ok(()));
        let check = |field: &str, change: fn(&mut Config)| {
            let mut config = good();
            change(&mut config);
            assert_eq!(config.check().unwrap_err().field, field);
        };
        check("request_timeout", |c| c.request_timeout = Duration::ZERO);
        check("linger", |c| c.linger = Duration::from_secs(2));
        check("delivery_timeout", |c| c.delivery_timeout = c.linger);
        check("republish_after", |c| c.republish_after = Duration::from_secs(3 * 3_600));
        check("settle_after", |c| c.settle_after = Duration::ZERO);
        check("sweep_every", |c| c.sweep_every = Duration::ZERO);
        check("max_friends", |c| c.max_friends = 5_001);
    }

    #[test]
    fn origins_are_as_browsers_send_them() {
        let check = |origins: &[&str], expect: bool| {
            let cors_origins = origins.iter().map(|&origin| origin.to_owned()).collect();
            let checked = Config { cors_origins, ..good() }.check();
            assert_eq!(checked.is_ok(), expect, "{origins:?}");
            if let Err(error) = checked {
                assert_eq!(error.field, "cors_origins");
                assert!(origins.len() > 1 || error.to_string().contains(&format!("{:?}", origins[0])), "{error}");
            }
        };
        check(&[], true);
        check(&["*"], true);
        check(&["https://app.example.com", "http://localhost:5173", "http://[::1]:8080", "http://127.0.0.1"], true);
        check(&["capacitor://localhost", "https://xn--nearby-9za.example:8443"], true);
        for bad in [
            "",
            "app.example.com",
            "https://",
            "https://app.example.com/",
            "https://app.example.com/x",
            "https://App.example.com",
            "HTTPS://app.example.com",
            "https://app.example.com:443",
            "http://localhost:80",
            "https://app.example.com:",
            "https://*.example.com",
            "https://a@app.example.com",
            "https://a b",
            "https://app.example.com?x",
            "https://app.example.com#x",
            "null",
            "any",
        ] {
            check(&[bad], false);
        }
        check(&["*", "https://app.example.com"], false);
        check(&["https://app.example.com", ""], false);
    }
}
