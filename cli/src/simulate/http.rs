//! Users and friendships, made through the public REST API as any operator would.

use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use reqwest::{Client, Method, StatusCode};
use rustls::ClientConfig;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::frames::Problem;
use super::phone::Sign;
use super::trust::BadCertificate;

/// Calls under way at once.
const AT_ONCE: usize = 32;
/// A call that is to be repeated is repeated this often, with 100 ms doubling between.
const ATTEMPTS: u32 = 8;
/// Friends to a page.
const PAGE: usize = 100;

/// Why the users could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetUpError {
    /// The client could not be made.
    #[error("HTTP client: {0}")]
    Client(reqwest::Error),
    /// The API does not answer.
    #[error("{url} does not answer: {error}; is the API running there?")]
    Silent {
        /// Where it was asked.
        url: String,
        /// What came instead.
        error: String,
    },
    /// Something else than the API answers.
    #[error(transparent)]
    Certificate(BadCertificate),
    /// The API refuses.
    #[error("{method} {path}: {status} {code}: {message}")]
    Refused {
        /// The method.
        method: Method,
        /// The path.
        path: String,
        /// The status.
        status: StatusCode,
        /// The stable code, or none.
        code: String,
        /// The sentence that came with it.
        message: String,
    },
    /// An answer is not what the documents say.
    #[error("GET {path}: the answer has no `{field}`")]
    Shape {
        /// The path.
        path: String,
        /// What is missing.
        field: &'static str,
    },
    /// A token could not be signed.
    #[error("token: {0}")]
    Token(String),
    /// What was made is not there.
    #[error("{user} has {found} friends, not {expected}")]
    Friends {
        /// Whose.
        user: String,
        /// In the API's list.
        found: usize,
        /// Made.
        expected: usize,
    },
}

/// The REST API of a deployment.
#[derive(Clone)]
pub(crate) struct Api {
    client: Client,
    base: String,
    sign: Sign,
}

impl Api {
    /// The API at `http://host:port` or `https://host:port`, asked with tokens that `sign` makes.
    ///
    /// # Errors
    /// When no client can be made.
    pub(crate) fn new(base: &str, tls: &ClientConfig, sign: Sign) -> Result<Self, SetUpError> {
        let timeout = Duration::from_secs(30);
        // A proxy between simulator and deployment would be part of what is measured.
        let client = Client::builder().timeout(timeout).no_proxy().tls_backend_preconfigured(tls.clone());
        let client = client.build().map_err(SetUpError::Client)?;
        Ok(Self { client, base: base.trim_end_matches('/').to_owned(), sign })
    }

    /// Makes these users.
    ///
    /// # Errors
    /// The first call that failed for good.
    pub(crate) async fn make_users(
        &self,
        users: &[String],
        names: &[String],
        radius_m: Option<u32>,
        done: impl FnMut(usize),
    ) -> Result<(), SetUpError> {
        let profile = |(user, name): (&String, &String)| {
            let mut body = json!({ "display_name": name });
            if let Some(radius_m) = radius_m {
                body["radius_m"] = radius_m.into();
            }
            let (api, user) = (self.clone(), user.clone());
            async move { api.call(Method::PUT, &user, "/v1/me", Some(&body)).await.map(drop) }
        };
        all(users.iter().zip(names).map(profile).collect(), done).await
    }

    /// Makes friends of these pairs: one asks, the other accepts.
    ///
    /// # Errors
    /// The first call that failed for good.
    pub(crate) async fn make_friends(
        &self,
        users: &[String],
        pairs: &[(u32, u32)],
        done: impl FnMut(usize),
    ) -> Result<(), SetUpError> {
        let befriend = |&(a, b): &(u32, u32)| {
            let (api, a, b) = (self.clone(), users[a as usize].clone(), users[b as usize].clone());
            async move {
                api.call(Method::POST, &a, &format!("/v1/friends/{b}/request"), None).await?;
                api.call(Method::POST, &b, &format!("/v1/friends/{a}/accept"), None).await.map(drop)
            }
        };
        all(pairs.iter().map(befriend).collect(), done).await
    }

    /// Checks that the API lists exactly these friends.
    ///
    /// # Errors
    /// The first user whose friends are others.
    pub(crate) async fn check_friends(&self, users: &[String], friends: &[Vec<u32>]) -> Result<(), SetUpError> {
        let check = |(user, expected): (&String, &Vec<u32>)| {
            let mut expected: Vec<String> = expected.iter().map(|&friend| users[friend as usize].clone()).collect();
            expected.sort_unstable();
            let (api, user) = (self.clone(), user.clone());
            async move {
                let mut found = api.friends(&user).await?;
                found.sort_unstable();
                if found == expected {
                    return Ok(());
                }
                Err(SetUpError::Friends { user, found: found.len(), expected: expected.len() })
            }
        };
        all(users.iter().zip(friends).map(check).collect(), |_| {}).await
    }

    async fn friends(&self, user: &str) -> Result<Vec<String>, SetUpError> {
        let mut found = Vec::new();
        let mut path = format!("/v1/friends?state=accepted&limit={PAGE}");
        loop {
            let page = self.call(Method::GET, user, &path, None).await?;
            let friends =
                page["friends"].as_array().ok_or(SetUpError::Shape { path: path.clone(), field: "friends" })?;
            found.extend(friends.iter().filter_map(|friend| friend["id"].as_str()).map(str::to_owned));
            match page["next_cursor"].as_str() {
                Some(cursor) => path = format!("/v1/friends?state=accepted&limit={PAGE}&cursor={cursor}"),
                None => return Ok(found),
            }
        }
    }

    /// One call, repeated as long as the server asks for that. Every call here may be repeated without harm.
    async fn call(&self, method: Method, user: &str, path: &str, body: Option<&Value>) -> Result<Value, SetUpError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let token = (self.sign)(user).map_err(SetUpError::Token)?;
            let url = format!("{}{path}", self.base);
            let mut request = self.client.request(method.clone(), url).bearer_auth(token);
            if let Some(body) = body {
                request = request.json(body);
            }
            let failure = match request.send().await {
                Ok(answer) if answer.status().is_success() => return Ok(answer.json().await.unwrap_or(Value::Null)),
                Ok(answer) => {
                    let status = answer.status();
                    let problem: Option<Problem> = answer.json().await.ok();
                    let (code, message) = problem.map(|p| (p.code, p.message)).unwrap_or_default();
                    let refused =
                        SetUpError::Refused { method: method.clone(), path: path.to_owned(), status, code, message };
                    if !matches!(status.as_u16(), 429 | 500 | 502 | 503 | 504) {
                        return Err(refused);
                    }
                    refused
                }
                // The error's own text may hold the URL, and nothing else of the request.
                Err(error) => match BadCertificate::of(&self.base, &error) {
                    Some(bad) => return Err(SetUpError::Certificate(bad)),
                    None => SetUpError::Silent { url: self.base.clone(), error: causes(&error.without_url()) },
                },
            };
            if attempt == ATTEMPTS {
                return Err(failure);
            }
            sleep(Duration::from_millis(100 << attempt.min(6))).await;
        }
    }
}

/// Makes calls, some at once, and tells how many are done.
async fn all<F>(calls: Vec<F>, mut done: impl FnMut(usize)) -> Result<(), SetUpError>
where
    F: Future<Output = Result<(), SetUpError>>,
{
    let mut answers = stream::iter(calls).buffer_unordered(AT_ONCE);
    let mut count = 0;
    while let Some(answer) = answers.next().await {
        answer?;
        count += 1;
        done(count);
    }
    Ok(())
}

/// An error with its causes: the last of them says what is wrong.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
