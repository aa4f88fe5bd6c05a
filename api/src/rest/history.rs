//! The caller's own history.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use nearcast_history_sink::history::HistoryRow;
use nearcast_runtime::clock::now_ms;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::cursor;
use super::extract::{Caller, Params};
use super::parameter::{invalid, limit, moment};
use super::problem::Problem;
use crate::service::Service;

const PAGE: u32 = 100;
const LARGEST_PAGE: u32 = 1_000;
const DAY_MS: i64 = 86_400_000;
/// Longest range of one call; a day is a partition of the history database.
const LONGEST_MS: i64 = 31 * DAY_MS;

/// Which page of which time.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Range {
    /// From when on, in ms since the epoch or in RFC 3339; without it, a day before `to`. At most 31 days before `to`.
    from: Option<String>,
    /// Until before when; without it, now.
    to: Option<String>,
    /// How many, 1 to 1000; without it 100.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
    /// `next_cursor` of the page before, with the same `from` and `to`. One that is unknown is refused with
    /// `cursor_expired`: begin again without it.
    cursor: Option<String>,
}

/// Where the caller was.
#[derive(Serialize, ToSchema)]
pub(super) struct PastFix {
    device: String,
    n: i64,
    /// WGS84 degrees.
    lat: f64,
    /// WGS84 degrees.
    lon: f64,
    /// When, by the phone's corrected clock, in ms since the epoch.
    time: i64,
    /// What the phone said, in ms since the epoch.
    device_time: i64,
    /// When the log got it, in ms since the epoch.
    at: i64,
    /// It came late and was never shown as now.
    late: bool,
    /// Radius of 68 % confidence, in metres.
    #[serde(skip_serializing_if = "Option::is_none")]
    accuracy_m: Option<f32>,
    /// Metres a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    speed_mps: Option<f32>,
    /// Degrees clockwise from true north.
    #[serde(skip_serializing_if = "Option::is_none")]
    heading_deg: Option<f32>,
    /// Metres above the ellipsoid.
    #[serde(skip_serializing_if = "Option::is_none")]
    altitude_m: Option<f32>,
}

/// A page of the caller's history, oldest first.
#[derive(Serialize, ToSchema)]
pub(super) struct HistoryPage {
    fixes: Vec<PastFix>,
    /// For the next page; null on the last.
    next_cursor: Option<String>,
}

impl From<HistoryRow> for PastFix {
    fn from(row: HistoryRow) -> Self {
        Self {
            device: row.device,
            n: row.n,
            lat: row.lat,
            lon: row.lon,
            time: row.fixed_at,
            device_time: row.device_time,
            at: row.appended_at,
            late: row.late,
            accuracy_m: row.accuracy_m,
            speed_mps: row.speed_mps,
            heading_deg: row.heading_deg,
            altitude_m: row.altitude_m,
        }
    }
}

/// Where the caller was, by time and page.
#[utoipa::path(get, path = "/v1/me/history", tag = "positions", params(Range), responses((status = 200, body = HistoryPage)))]
pub(super) async fn get_history(
    State(service): State<Arc<Service>>,
    Caller(me): Caller,
    Params(range): Params<Range>,
) -> Result<Json<HistoryPage>, Problem> {
    let limit = limit(range.limit.as_deref(), PAGE, LARGEST_PAGE)?;
    let to = range.to.as_deref().map(|to| moment("to", to)).transpose()?.unwrap_or_else(now_ms);
    let from = range.from.as_deref().map(|from| moment("from", from)).transpose()?.unwrap_or(to - DAY_MS);
    if from > to {
        return Err(invalid("`from` must not be after `to`; it is.").into());
    }
    if to - from > LONGEST_MS {
        return Err(invalid("`from` must be at most 31 days before `to`; it is earlier.").into());
    }
    let after = range.cursor.as_deref().map(cursor::key).transpose()?;
    // One more than asked for says whether there is another page.
    let mut rows = service.history.range(&me, from, to, limit + 1, after.as_ref()).await?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next_cursor = rows.last().filter(|_| more).map(|row| cursor::after_key(&row.key()));
    Ok(Json(HistoryPage { fixes: rows.into_iter().map(PastFix::from).collect(), next_cursor }))
}
