//! Reports over HTTP, for a phone that can only make one call in the background.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use nearcast_ingest::{CLOCK_TOLERANCE_MS, RawFix};
use nearcast_schemas::ids::check_id;
use nearcast_schemas::refusal::Refusal;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{Body, Caller};
use super::problem::Problem;
use crate::failure::Failure;
use crate::service::Service;

/// Most reports in one call.
const MOST: usize = 500;

/// Reports of one device.
#[derive(Deserialize, ToSchema)]
pub(super) struct Reports {
    /// The installation that numbers its reports, 1 to 64 bytes.
    device: String,
    /// What the phone's clock shows while it sends, in ms since the epoch; corrects the times of the reports.
    clock: Option<i64>,
    /// 1 to 500.
    #[schema(value_type = Vec<Fix>, min_items = 1, max_items = 500)]
    fixes: Vec<RawFix>,
}

/// One report.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes `nearcast_ingest::RawFix` in the document")]
pub(super) struct Fix {
    /// Number of the report, growing per installation.
    #[schema(minimum = 0)]
    n: i64,
    /// WGS84 degrees.
    #[schema(minimum = -90, maximum = 90)]
    lat: f64,
    /// WGS84 degrees.
    #[schema(minimum = -180, maximum = 180)]
    lon: f64,
    /// When the phone was there by its own clock, in ms since the epoch.
    time: i64,
    /// Radius of 68 % confidence, in metres.
    #[schema(minimum = 0)]
    accuracy_m: Option<f64>,
    /// Metres a second.
    #[schema(minimum = 0)]
    speed_mps: Option<f64>,
    /// Degrees clockwise from true north.
    #[schema(minimum = 0, maximum = 360)]
    heading_deg: Option<f64>,
    /// Metres above the ellipsoid.
    #[schema(minimum = -12000, maximum = 100_000)]
    altitude_m: Option<f64>,
}

/// What became of each report.
#[derive(Serialize, ToSchema)]
pub(super) struct Reported {
    device: String,
    accepted: Vec<AcceptedReport>,
    refused: Vec<RefusedReport>,
}

/// A report that is in the log.
#[derive(Serialize, ToSchema)]
pub(super) struct AcceptedReport {
    n: i64,
    /// `published`: it moves the position; `stored`: it came late, is older than the position that is shown, or is not the
    /// newest of the call, and is in the history alone.
    #[schema(example = "published")]
    result: &'static str,
}

/// A report that will never be accepted.
#[derive(Serialize, ToSchema)]
pub(super) struct RefusedReport {
    n: i64,
    /// A stable code of the table of codes.
    #[schema(example = "position_out_of_range")]
    code: &'static str,
}

/// Takes reports of a phone that can only make one call in the background.
///
/// What is `accepted` is in the log. After `unknown` or `busy` all of them may be sent again: a report that is sent
/// twice is one report.
#[utoipa::path(
    post, path = "/v1/me/locations", tag = "positions",
    request_body = Reports,
    responses((status = 200, body = Reported))
)]
pub(super) async fn report_locations(
    State(service): State<Arc<Service>>,
    Caller(me): Caller,
    Body(reports): Body<Reports>,
) -> Result<Json<Reported>, Problem> {
    let Reports { device, clock, fixes } = reports;
    check_id(&device).map_err(|_| Refusal::IdInvalid)?;
    if fixes.is_empty() {
        return Err(Failure::because(Refusal::ParameterInvalid, "`fixes` must hold 1 to 500 reports.").into());
    }
    if fixes.len() > MOST {
        return Err(Refusal::TooManyFixes.into());
    }
    let mode = service.store.user(&me).await?.ok_or(Refusal::NoSuchUser)?.mode;
    let now_ms = service.ingest.now_ms();
    let (mut taken, mut refused) = (Vec::with_capacity(fixes.len()), Vec::new());
    for raw in &fixes {
        match service.ingest.validate(raw, &device, clock, now_ms) {
            Ok(checked) => taken.push(checked),
            Err(refusal) => refused.push(RefusedReport { n: raw.n, code: refusal.code() }),
        }
    }
    let last = match taken.iter().any(|checked| !checked.late) {
        true => service.last_seen(&me).await,
        false => None,
    };
    let shown_at = last.as_ref().map(|seen| seen.position.at);
    let last = last.and_then(|seen| seen.last_report());
    let newest = taken.iter().map(|checked| checked.fix.n).max();
    let mut waiting = Vec::with_capacity(taken.len());
    for mut checked in taken {
        let n = checked.fix.n;
        checked.late |= Some(n) != newest || is_older(checked.fix.fixed_at, shown_at);
        waiting.push((n, service.ingest.report_without_session(&me, checked, mode, last.as_ref(), now_ms)?));
    }
    let mut accepted = Vec::with_capacity(waiting.len());
    for (n, pending) in waiting {
        accepted.push(AcceptedReport { n, result: pending.await?.name() });
    }
    Ok(Json(Reported { device, accepted, refused }))
}

/// Whether a fix is older than the position that is shown, so that a report that is sent again does not move the user
/// back. Both in ms since the epoch; the phone's clock may be wrong by what ingest lets pass for right.
fn is_older(fixed_at: i64, shown_at: Option<i64>) -> bool {
    shown_at.is_some_and(|at| fixed_at + CLOCK_TOLERANCE_MS < at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fix_from_before_the_shown_position_is_older() {
        assert!(!is_older(10_000, None));
        assert!(!is_older(10_000, Some(10_050)));
        assert!(!is_older(10_000, Some(15_000)));
        assert!(is_older(10_000, Some(15_001)));
    }
}
