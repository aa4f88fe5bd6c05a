//! What handlers take from a request, refused in one way: with a code, and without repeating what was sent.

use std::hint::black_box;
use std::sync::Arc;

use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri, header};
use bytes::Bytes;
use nearcast_runtime::auth::{AuthError, Claims, is_in_query};
use nearcast_schemas::ids::{IdError, check_id, is_subject};
use nearcast_schemas::refusal::Refusal;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;

use super::parameter::invalid;
use super::problem::Problem;
use crate::failure::Failure;
use crate::service::Service;

/// The user whose token came with the request. The user is registered by then.
pub(super) struct Caller(pub String);

/// The user whose token came with the request, also where that user has signed out since.
pub(super) struct Leaver {
    pub user: String,
    /// When the token was issued, in seconds since the epoch, if it says so.
    pub issued_at: Option<i64>,
}

/// A gateway, by the key that it shares with this service.
pub(super) struct Gateway;

/// The user, or the link, in the path.
pub(super) struct Someone(pub String);

/// A JSON body. The content type is not looked at.
pub(super) struct Body<T>(pub T);

/// The query's parameters, as text: what each must be is checked where its range is known. Unknown ones are ignored.
pub(super) struct Params<T>(pub T);

impl FromRequestParts<Arc<Service>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, service: &Arc<Service>) -> Result<Self, Problem> {
        let claims = claims(parts, service).await?;
        if service.sign_outs.cover(&claims.sub, claims.iat).await {
            return Err(Refusal::SignedOut.into());
        }
        service.register(&claims.sub).await?;
        Ok(Self(claims.sub))
    }
}

impl FromRequestParts<Arc<Service>> for Leaver {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, service: &Arc<Service>) -> Result<Self, Problem> {
        let claims = claims(parts, service).await?;
        Ok(Self { user: claims.sub, issued_at: claims.iat })
    }
}

/// What the request's token says.
async fn claims(parts: &Parts, service: &Service) -> Result<Claims, Refusal> {
    if is_in_query(parts.uri.query()) {
        return Err(Refusal::TokenInUrl);
    }
    let claims = service.verifier.verify_header(authorization(parts)).await.map_err(refusal_of)?;
    // Whoever holds a share link looks through it at a gateway, and does nothing here.
    if claims.of_link {
        return Err(Refusal::Forbidden);
    }
    if is_subject(&claims.sub, false) { Ok(claims) } else { Err(Refusal::TokenSubject) }
}

impl FromRequestParts<Arc<Service>> for Gateway {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, service: &Arc<Service>) -> Result<Self, Problem> {
        let key = authorization(parts).ok_or(Refusal::TokenMissing)?.strip_prefix("Bearer ").unwrap_or_default();
        if same(key.as_bytes(), service.internal_key.expose().as_bytes()) {
            Ok(Self)
        } else {
            Err(Refusal::Forbidden.into())
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Someone {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let refused = |problem: &str| {
            invalid(format!(
                "`id` must be 1 to 64 bytes of UTF-8 without control characters and white space; {problem}."
            ))
        };
        let Path(id) = Path::<String>::from_request_parts(parts, state).await.map_err(|_| refused("it is no UTF-8"))?;
        check_id(&id).map_err(|error| match error {
            IdError::Length => refused("it is of another length"),
            IdError::Character => refused("it holds such a character"),
        })?;
        Ok(Self(id))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state).await.map_err(unread)?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            // serde's own words quote what was sent, which may be a position.
            let place =
                format!("This is not JSON of the documented shape (line {}, column {}).", error.line(), error.column());
            Failure::because(Refusal::Malformed, place).into()
        })
    }
}

impl<T: DeserializeOwned + IntoParams, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(params)) => Ok(Self(params)),
            Err(_) => Err(given_twice::<T>(&parts.uri).into()),
        }
    }
}

/// Every text can be read as text, so a query that cannot be read gives something twice.
fn given_twice<T: IntoParams>(uri: &Uri) -> Failure {
    let given = Query::<Vec<(String, String)>>::try_from_uri(uri).map_or_else(|_| Vec::new(), |Query(given)| given);
    let is_twice = |name: &str| given.iter().filter(|(other, _)| other == name).count() > 1;
    match T::into_params(|| None).into_iter().find(|parameter| is_twice(&parameter.name)) {
        Some(parameter) => invalid(format!("`{}` must be given once; it is given more often.", parameter.name)),
        None => Refusal::ParameterInvalid.into(),
    }
}

fn authorization(parts: &Parts) -> Option<&str> {
    // A value that is no text is no token: "" is malformed, not missing.
    parts.headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap_or_default())
}

fn unread(rejection: BytesRejection) -> Refusal {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE { Refusal::TooLarge } else { Refusal::Malformed }
}

fn refusal_of(error: AuthError) -> Refusal {
    match error {
        AuthError::Missing => Refusal::TokenMissing,
        AuthError::Malformed => Refusal::TokenMalformed,
        AuthError::Signature | AuthError::Key => Refusal::TokenSignature,
        AuthError::Unavailable => Refusal::Unavailable,
        AuthError::Expired => Refusal::TokenExpired,
        AuthError::NotYetValid => Refusal::TokenNotYetValid,
        AuthError::Lifetime => Refusal::TokenLifetime,
        AuthError::Audience => Refusal::TokenAudience,
        AuthError::Issuer => Refusal::TokenIssuer,
        AuthError::Subject => Refusal::TokenSubject,
    }
}

/// Compares in a time that depends on the lengths alone. An empty key opens nothing.
pub(super) fn same(given: &[u8], key: &[u8]) -> bool {
    let differing = given.iter().zip(key).fold(0, |bits, (a, b)| black_box(bits | (a ^ b)));
    !key.is_empty() && given.len() == key.len() && differing == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_same_in_every_byte() {
        assert!(same(b"secret", b"secret"));
        for (given, key) in [("secret", "secreT"), ("secre", "secret"), ("secrets", "secret"), ("", ""), ("", "secret")]
        {
            assert!(!same(given.as_bytes(), key.as_bytes()), "{given} {key}");
        }
    }
}
