//! Refusals as HTTP answers.

use std::borrow::Cow;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use nearcast_schemas::refusal::{Refusal, Retry};
use serde::Serialize;
use utoipa::ToSchema;

use crate::events::RequestFailed;
use crate::failure::Failure;

/// A refusal with its sentence.
pub(super) struct Problem {
    refusal: Refusal,
    message: Cow<'static, str>,
}

/// Why a call was not done.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct Body {
    /// A stable code of the table of codes.
    #[schema(example = "not_a_friend")]
    code: &'static str,
    /// For people. Not stable.
    message: Cow<'static, str>,
}

impl<F: Into<Failure>> From<F> for Problem {
    fn from(failure: F) -> Self {
        let failure = failure.into();
        let refusal = failure.refusal();
        if failure.is_ours() {
            RequestFailed { code: refusal.code(), error: &failure }.emit();
        }
        Self { refusal, message: failure.message() }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let row = self.refusal.row();
        let status = StatusCode::from_u16(row.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(Body { code: row.code, message: self.message })).into_response();
        if row.retry == Retry::After && status.is_server_error() {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if row.retry == Retry::NewToken {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
