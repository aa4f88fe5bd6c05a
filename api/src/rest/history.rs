//! The caller's own history.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use nearcast_history_sink::history::HistoryRow;
use nearcast_runtime::clock::now_ms;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use utoipa::{IntoParams, ToSchema};

use super::cursor;
use super::extract::{Caller, Params};
use super::friends::limit;
use super::me::invalid;
use super::problem::Problem;
use crate::failure::Failure;
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
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_cursor` of the page before, with the same `from` and `to`.
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
    let limit = limit(range.limit, PAGE, LARGEST_PAGE)?;
    let to = range.to.as_deref().map(|to| moment("to", to)).transpose()?.unwrap_or_else(now_ms);
    let from = range.from.as_deref().map(|from| moment("from", from)).transpose()?.unwrap_or(to.saturating_sub(DAY_MS));
    if from > to || to.saturating_sub(from) > LONGEST_MS {
        return Err(invalid("`from` must be at most 31 days before `to`, and not after it.").into());
    }
    let after = range.cursor.as_deref().map(cursor::key).transpose()?;
    // One more than asked for says whether there is another page.
    let mut rows = service.history.range(&me, from, to, limit + 1, after.as_ref()).await?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next_cursor = rows.last().filter(|_| more).map(|row| cursor::after_key(&row.key()));
    Ok(Json(HistoryPage { fixes: rows.into_iter().map(PastFix::from).collect(), next_cursor }))
}

/// A time in ms since the epoch, from a number of them or from RFC 3339.
fn moment(name: &str, text: &str) -> Result<i64, Failure> {
    if let Ok(ms) = text.parse() {
        return Ok(ms);
    }
    // A `+` that was not escaped arrives as a space.
    let time = OffsetDateTime::parse(&text.replace(' ', "+"), &Rfc3339)
        .map_err(|_| invalid(format!("`{name}` must be in ms since the epoch or in RFC 3339.")))?;
    // Years of four digits are far within an i64.
    Ok((time.unix_timestamp_nanos() / 1_000_000) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Option<i64>) {
        assert_eq!(moment("from", text).ok(), expect, "{text}");
    }

    #[test]
    fn times_in_both_forms() {
        check("1700000000000", Some(1_700_000_000_000));
        check("-1", Some(-1));
        check("2023-11-14T22:13:20Z", Some(1_700_000_000_000));
        check("2023-11-14T22:13:20.250Z", Some(1_700_000_000_250));
        check("2023-11-15T00:13:20+02:00", Some(1_700_000_000_000));
        check("2023-11-15T00:13:20 02:00", Some(1_700_000_000_000));
        for bad in ["", "now", "2023-11-14", "1e3", "99999999999999999999"] {
            check(bad, None);
        }
    }
}
