//! The API's internal endpoint.

use std::time::Duration;

use nearcast_runtime::Secret;
use nearcast_runtime::health::Component;
use nearcast_schemas::internal::{FriendAnswer, FriendRequest, HelloAnswer, HelloRequest, Problem};
use nearcast_schemas::refusal::Refusal;
use reqwest::Client;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A storm of hellos opens many connections, each of 16 KB; so many are kept when it is over, and for so long.
const IDLE_CONNECTIONS: usize = 64;
const IDLE_FOR: Duration = Duration::from_secs(20);

/// Asks the API. Clones are the same.
#[derive(Clone, Debug)]
pub struct Api {
    client: Client,
    url: String,
    key: Secret,
    component: Component,
}

impl Api {
    /// For the API at `url`. What it answers, or fails to, is said through the component.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn new(url: &str, timeout: Duration, key: Secret, component: Component) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .timeout(timeout)
            .connect_timeout(timeout)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .pool_idle_timeout(IDLE_FOR)
            .no_proxy()
            .build()?;
        Ok(Self { client, url: url.trim_end_matches('/').to_owned(), key, component })
    }

    /// What a session needs to begin.
    ///
    /// # Errors
    /// What the API refuses; [`Refusal::Unavailable`] when it does not answer.
    pub async fn hello(&self, request: &HelloRequest) -> Result<HelloAnswer, Refusal> {
        self.ask("/internal/v1/hello", request).await
    }

    /// One friend's last position.
    ///
    /// # Errors
    /// What the API refuses, such as [`Refusal::NotAFriend`]; [`Refusal::Unavailable`] when it does not answer.
    pub async fn friend(&self, request: &FriendRequest) -> Result<FriendAnswer, Refusal> {
        self.ask("/internal/v1/friend", request).await
    }

    async fn ask<Q: Serialize, A: DeserializeOwned>(&self, path: &str, question: &Q) -> Result<A, Refusal> {
        let sent = self.client.post(format!("{}{path}", self.url)).bearer_auth(self.key.expose()).json(question).send();
        // An error's text names the address and the cause, and nothing of the question.
        let response = sent.await.map_err(|error| self.failed(&format!("{}", Causes(&error))))?;
        let status = response.status();
        if status.is_success() {
            let answer = response.json().await.map_err(|error| self.failed(&format!("{}", Causes(&error))))?;
            self.component.ready();
            return Ok(answer);
        }
        let problem = response.json::<Problem>().await.ok().and_then(|problem| Refusal::from_code(&problem.code));
        match problem {
            Some(refusal) if concerns_the_client(refusal) => {
                self.component.ready();
                Err(refusal)
            }
            Some(refusal) => Err(self.failed(&format!("answered {status}, {refusal}"))),
            None => Err(self.failed(&format!("answered {status}"))),
        }
    }

    fn failed(&self, why: &str) -> Refusal {
        self.component.degraded(format!("the API at {} does not serve: {why}; set gateway.api_url", self.url));
        Refusal::Unavailable
    }
}

/// The rest, such as a wrong key, is between the two services.
fn concerns_the_client(refusal: Refusal) -> bool {
    matches!(
        refusal,
        Refusal::NotAFriend
            | Refusal::NoSuchUser
            | Refusal::IdInvalid
            | Refusal::Oneself
            | Refusal::SignedOut
            | Refusal::LinkEnded
    )
}

/// An error and what caused it, in one line.
struct Causes<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
