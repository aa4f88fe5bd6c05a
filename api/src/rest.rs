//! HTTP: the public API, the endpoints that gateways ask, and what goes around every request.

mod cors;
mod cursor;
mod extract;
mod friends;
mod history;
mod internal;
mod links;
mod locations;
mod me;
mod nearby;
mod observe;
mod openapi;
mod parameter;
mod problem;
mod sign_out;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post};
use nearcast_schemas::refusal::Refusal;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::service::Service;
use problem::Problem;

/// Larger bodies are refused.
const BODY_BYTES: usize = 1_000_000;

/// The public routes and the document that describes them, generated from the same code.
fn public(max_radius_m: u32) -> (Router<Arc<Service>>, OpenApi) {
    let (router, document) = OpenApiRouter::with_openapi(openapi::frame())
        .routes(routes!(me::get_me, me::put_me))
        .routes(routes!(me::get_sharing, me::put_sharing))
        .routes(routes!(sign_out::sign_out))
        .routes(routes!(me::get_user))
        .routes(routes!(friends::list_friends))
        .routes(routes!(friends::remove_friend))
        .routes(routes!(friends::request_friend))
        .routes(routes!(friends::accept_friend))
        .routes(routes!(friends::share_with_friend))
        .routes(routes!(links::list_links, links::make_link))
        .routes(routes!(links::remove_link))
        .routes(routes!(links::open_link))
        .routes(routes!(nearby::get_nearby))
        .routes(routes!(locations::report_locations))
        .routes(routes!(history::get_history))
        .split_for_parts();
    (router, openapi::finish(document, max_radius_m))
}

/// Every route, answered with JSON whatever happens. `health` has routes that need no service; pages of `cors_origins`
/// may call the public ones.
pub(crate) fn router(service: Arc<Service>, health: Router<Arc<Service>>, cors_origins: &[String]) -> Router {
    let (public, document) = public(service.deployment.max_radius_m);
    let document = openapi::text(&document);
    let router = public
        .route("/openapi.json", get(move || openapi::answer(document.clone())))
        .route("/internal/v1/hello", post(internal::hello))
        .route("/internal/v1/friend", post(internal::friend))
        .merge(health)
        .fallback(async || Problem::from(Refusal::NoSuchPath))
        .method_not_allowed_fallback(async || Problem::from(Refusal::MethodNotAllowed))
        .layer(middleware::from_fn_with_state(Arc::clone(&service), observe::within_time))
        .layer(DefaultBodyLimit::max(BODY_BYTES));
    // Around everything that answers, so that a page can read refusals too.
    let router = match cors::layer(cors_origins) {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router.layer(middleware::from_fn(observe::measured)).with_state(service)
}
