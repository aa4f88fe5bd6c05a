//! The OpenAPI document: what the handlers do not say themselves.

use axum::body::Bytes;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa::OpenApi;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, Content, Ref, RefOr, ResponseBuilder};

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
    tags(
        (name = "me", description = "Profile and sharing"),
        (name = "friends", description = "Friendship, and what is shared with each friend"),
        (name = "links", description = "Share links: one user's live position for whoever has the key"),
        (name = "positions", description = "Who is nearby, reports and history")
    )
)]
struct Frame;

/// The document without paths.
pub(super) fn frame() -> utoipa::openapi::OpenApi {
    Frame::openapi()
}

/// What a token must be, and that no call needs a scope.
const TOKEN: &str = "A JWT signed with HS256, EdDSA, RS256 or ES256, as the deployment is configured. `sub` is the user's id, 1 to 64 \
                     bytes without control characters and white space; `exp` and `aud` are required, and `iss` where the \
                     deployment asks for one. `iat` should be there: without it, no token is taken after a sign-out. \
                     A token in the URL is refused. No call needs a scope: a valid token may do everything that its user may. \
                     `scope` and `scp` are read and not looked at.";

/// Schemas with a radius that the deployment's largest bounds, and the radius.
const RADII: [(&str, &str); 2] = [("NewProfile", "radius_m"), ("ShareBody", "within_m")];

/// Adds to every operation how it refuses and what token it takes, and to every radius the deployment's largest.
pub(super) fn finish(mut document: utoipa::openapi::OpenApi, max_radius_m: u32) -> utoipa::openapi::OpenApi {
    let components = document.components.get_or_insert_with(Components::new);
    let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").description(Some(TOKEN)).build();
    components.add_security_scheme("token", SecurityScheme::Http(token));
    for (schema, radius) in RADII {
        let Some(RefOr::T(Schema::Object(schema))) = components.schemas.get_mut(schema) else { continue };
        if let Some(RefOr::T(Schema::Object(radius))) = schema.properties.get_mut(radius) {
            radius.maximum = Some(i64::from(max_radius_m).into());
        }
    }
    for path in document.paths.paths.values_mut() {
        let operations = [&mut path.get, &mut path.put, &mut path.post, &mut path.delete];
        for operation in operations.into_iter().flatten() {
            add_refusal(operation);
            // Those that say nothing take a token.
            operation.security.get_or_insert_with(|| vec![SecurityRequirement::new("token", NO_SCOPES)]);
        }
    }
    document
}

const NO_SCOPES: [&str; 0] = [];

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
