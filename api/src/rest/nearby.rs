//! Who is nearby, by page.
//!
//! The first page fixes the order of all ids for 60 s. Positions are not kept with it: each page shows those who may be
//! shown when it is asked for, where they are then. So a page may be shorter than its limit, and what was taken back
//! meanwhile is not on it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use nearcast_runtime::clock::now_ms;
use nearcast_schemas::delivery::ResetEntry;
use nearcast_schemas::refusal::Refusal;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::cursor;
use super::extract::{Caller, Params};
use super::parameter::limit;
use super::problem::Problem;
use crate::failure::Failure;
use crate::rules::{nearby, visibility};
use crate::service::Service;

/// How long an order is kept.
const SNAPSHOT_FOR: Duration = Duration::from_secs(60);
const PAGE: u32 = 20;
const LARGEST_PAGE: u32 = 100;

/// Which page.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Page {
    /// How many, 1 to 100; without it 20.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100)]
    limit: Option<String>,
    /// `next_cursor` of the page before, at most 60 s after the first page. One that is older or unknown is refused with
    /// `cursor_expired`: begin again without it.
    cursor: Option<String>,
}

/// A friend who is nearby.
#[derive(Serialize, ToSchema)]
pub(super) struct NearbyFriend {
    id: String,
    display_name: String,
    /// WGS84 degrees.
    lat: f64,
    /// WGS84 degrees.
    lon: f64,
    /// Straight line from the caller's last position, in metres.
    distance_m: Option<f64>,
    /// When the friend was there, in ms since the epoch.
    at: i64,
    /// The position is the centre of the area in which the friend is.
    approximate: bool,
    /// Radius of 68 % confidence, in metres.
    #[serde(skip_serializing_if = "Option::is_none")]
    accuracy_m: Option<f32>,
    /// Metres a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    speed_mps: Option<f32>,
    /// Degrees clockwise from true north.
    #[serde(skip_serializing_if = "Option::is_none")]
    heading_deg: Option<f32>,
}

/// A page of friends who are nearby, nearest first.
#[derive(Serialize, ToSchema)]
pub(super) struct NearbyPage {
    friends: Vec<NearbyFriend>,
    /// How many were nearby when the first page was asked for.
    total: usize,
    /// False when the caller has not reported a position lately, so that nobody is nearby for that reason.
    position_known: bool,
    /// For the next page; null on the last.
    next_cursor: Option<String>,
}

impl NearbyFriend {
    fn of(entry: ResetEntry) -> Self {
        let ResetEntry { friend, display_name, position, distance_dm } = entry;
        Self {
            id: friend,
            display_name,
            lat: position.lat,
            lon: position.lon,
            distance_m: (distance_dm >= 0).then(|| f64::from(distance_dm) / 10.0),
            at: position.at,
            approximate: position.coarse,
            accuracy_m: position.accuracy_m,
            speed_mps: position.speed_mps,
            heading_deg: position.heading_deg,
        }
    }
}

/// The caller's friends who are nearby, nearest first, by page.
///
/// The first page fixes the order for 60 s; each page shows those who may be shown when it is asked for, so it may be
/// shorter than its limit.
#[utoipa::path(get, path = "/v1/nearby", tag = "positions", params(Page), responses((status = 200, body = NearbyPage)))]
pub(super) async fn get_nearby(
    State(service): State<Arc<Service>>,
    Caller(me): Caller,
    Params(page): Params<Page>,
) -> Result<Json<NearbyPage>, Problem> {
    let limit = limit(page.limit.as_deref(), PAGE, LARGEST_PAGE)?;
    let page = match &page.cursor {
        None => first(&service, &me, limit).await?,
        Some(cursor) => {
            let (snapshot, offset) = cursor::snapshot(cursor)?;
            following(&service, &me, limit, &snapshot, offset).await?
        }
    };
    Ok(Json(page))
}

async fn first(service: &Service, me: &str, limit: usize) -> Result<NearbyPage, Failure> {
    let list = visibility(me, &service.store.list(me).await?, &service.deployment, now_ms());
    let around = service.around(me, &list).await?;
    let mut found = nearby(&list, &around.seen, &around.moment);
    let total = found.len();
    let next_cursor = if total > limit {
        let ids: Vec<&str> = found.iter().map(|entry| entry.friend.as_str()).collect();
        let bytes = serde_json::to_vec(&ids).unwrap_or_default();
        let snapshot = format!("{:032x}", rand::random::<u128>());
        service.cache.put_page(&snapshot_key(me, &snapshot), &bytes, SNAPSHOT_FOR).await?;
        Some(cursor::in_snapshot(&snapshot, limit))
    } else {
        None
    };
    found.truncate(limit);
    let friends = found.into_iter().map(NearbyFriend::of).collect();
    Ok(NearbyPage { friends, total, position_known: around.moment.viewer.is_some(), next_cursor })
}

async fn following(
    service: &Service,
    me: &str,
    limit: usize,
    snapshot: &str,
    offset: usize,
) -> Result<NearbyPage, Failure> {
    let bytes = service.cache.get_page(&snapshot_key(me, snapshot)).await?.ok_or(Refusal::CursorExpired)?;
    let ids: Vec<String> = serde_json::from_slice(&bytes).map_err(|_| Refusal::CursorExpired)?;
    let total = ids.len();
    let end = offset.saturating_add(limit).min(total);
    let page = ids.get(offset..end).ok_or(Refusal::CursorExpired)?;

    let mut list = visibility(me, &service.store.list(me).await?, &service.deployment, now_ms());
    list.entries.retain(|entry| page.contains(&entry.friend));
    let around = service.around(me, &list).await?;
    let mut found: HashMap<String, ResetEntry> =
        nearby(&list, &around.seen, &around.moment).into_iter().map(|entry| (entry.friend.clone(), entry)).collect();
    let friends = page.iter().filter_map(|id| found.remove(id)).map(NearbyFriend::of).collect();
    let next_cursor = (end < total).then(|| cursor::in_snapshot(snapshot, end));
    Ok(NearbyPage { friends, total, position_known: around.moment.viewer.is_some(), next_cursor })
}

/// The caller's id is part of it: a cursor is of no use to anybody else.
fn snapshot_key(me: &str, snapshot: &str) -> String {
    format!("nearby:{snapshot}:{me}")
}
