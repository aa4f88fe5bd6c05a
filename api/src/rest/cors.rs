//! Calls from web pages of other origins (CORS). Off unless origins are configured.

use std::time::Duration;

use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::config::ANY_ORIGIN;

/// How long a browser need not ask again; the longest that Chromium takes.
const REMEMBERED_FOR: Duration = Duration::from_secs(7_200);

/// Lets pages of these origins call the public paths and read the answers; `None` where there are no origins.
///
/// No cookie is ever used and a page of another origin has no token of its own accord, so that any origin may be let in.
/// What gateways and operators ask is not for pages, whatever is configured.
pub(super) fn layer(origins: &[String]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let any = origins.iter().any(|origin| origin == ANY_ORIGIN);
    let origins = origins.to_vec();
    let allowed = move |origin: &HeaderValue, parts: &Parts| {
        is_public(parts.uri.path()) && (any || origins.iter().any(|known| known.as_bytes() == origin.as_bytes()))
    };
    let layer = CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(allowed))
        .allow_methods([Method::GET, Method::PUT, Method::POST, Method::DELETE])
        .allow_headers([header::AUTHORIZATION, header::CONTENT_TYPE])
        .expose_headers([header::RETRY_AFTER, header::WWW_AUTHENTICATE])
        .max_age(REMEMBERED_FOR);
    Some(layer)
}

fn is_public(path: &str) -> bool {
    path.starts_with("/v1/") || path == "/openapi.json"
}
