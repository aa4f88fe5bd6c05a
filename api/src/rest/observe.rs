//! What goes around every request: its time limit and its metrics.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::problem::Problem;
use crate::events::Answered;
use crate::failure::Failure;
use crate::service::Service;

/// Gives a request the configured time. A change that is under way goes on.
pub(super) async fn within_time(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    let limit = service.request_timeout;
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::from(Failure::TimeOver(limit)).into_response(),
    }
}

/// Counts and times a request by its route's template: a path holds ids.
pub(super) async fn measured(request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    // Anybody can invent a method.
    let method = match *request.method() {
        Method::GET => "GET",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "other",
    };
    let response = next.run(request).await;
    let route = route.as_deref().unwrap_or("none");
    Answered { route, method, status: response.status().as_u16(), after: begun.elapsed() }.emit();
    response
}
