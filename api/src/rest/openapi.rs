//! The OpenAPI document: what the handlers do not say themselves.

use axum::body::Bytes;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Components, Content, Ref, ResponseBuilder};

use super::problem;

/// Title, tags and security.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Nearcast",
        description = "Friends, sharing, who is nearby, and history. Every refusal has the body `Problem`. \
                       Calls may be repeated: sent twice, they do what they do once. Times are in ms since the epoch. \
                       A user is registered by the first call with a token of theirs.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(problem::Body)),
    security(("token" = [])),
    tags(
        (name = "me", description = "Profile and sharing"),
        (name = "friends", description = "Friendship, and what is shared with each friend"),
        (name = "positions", description = "Who is nearby, reports and history")
    )
)]
struct Frame;

/// The document without paths.
pub(super) fn frame() -> utoipa::openapi::OpenApi {
    Frame::openapi()
}

/// Adds to every operation how it refuses, and how tokens are sent.
pub(super) fn finish(mut document: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    let components = document.components.get_or_insert_with(Components::new);
    components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    for path in document.paths.paths.values_mut() {
        let operations = [&mut path.get, &mut path.put, &mut path.post, &mut path.delete];
        operations.into_iter().flatten().for_each(add_refusal);
    }
    document
}

fn add_refusal(operation: &mut Operation) {
    let refusal = ResponseBuilder::new()
        .description("Refused; `code` says why")
        .content("application/json", Content::new(Some(Ref::from_schema_name("Problem"))))
        .build();
    operation.responses.responses.insert("default".to_owned(), refusal.into());
}

/// The document as it is served.
pub(super) fn text(document: &utoipa::openapi::OpenApi) -> Bytes {
    // Made of strings and maps by string, which always can be written.
    document.to_json().unwrap_or_default().into()
}

/// The answer to whoever asks for it.
pub(super) async fn answer(document: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], document).into_response()
}
