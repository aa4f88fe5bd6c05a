//! Signing out.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::extract::Leaver;
use super::problem::Problem;
use crate::service::Service;

/// The caller is signed out.
#[derive(Serialize, ToSchema)]
pub(super) struct SignedOut {
    /// Since when, in ms since the epoch.
    signed_out_at: i64,
    /// Tokens whose `iat` is this second or a later one are taken; in seconds since the epoch.
    tokens_from: i64,
}

/// Signs the caller out everywhere.
///
/// Every live session by a token from before ends within a second, with `bye` and `signed_out`, and no such token is taken
/// any more. `iat` counts whole seconds, so that a token of the same second counts as from before, and one without `iat`
/// always does. Asked again with the same token, it does what it did.
#[utoipa::path(post, path = "/v1/me/sign-out", tag = "me", responses((status = 200, body = SignedOut)))]
pub(super) async fn sign_out(
    State(service): State<Arc<Service>>,
    Leaver { user, issued_at }: Leaver,
) -> Result<Json<SignedOut>, Problem> {
    let sign_outs = service.sign_outs.clone();
    let signed_out = async move { sign_outs.sign_out(&user, issued_at).await };
    let signed_out_at = service.changes.finish(signed_out).await?;
    Ok(Json(SignedOut { signed_out_at, tokens_from: signed_out_at / 1_000 + 1 }))
}
