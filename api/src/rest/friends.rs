//! Friendship, and what is shared with each friend.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use nearcast_runtime::clock::now_ms;
use nearcast_schemas::event::Sharing;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::cursor;
use super::extract::{Body, Caller, Params, Someone};
use super::me::{Friendship, Precision};
use super::parameter::{in_range, invalid, limit};
use super::problem::Problem;
use crate::failure::Failure;
use crate::pair::{PairIds, Share, Step};
use crate::service::Service;
use crate::store::{Direction, Friend, Profile};

/// Profiles of one page that are read at once.
const PROFILES_AT_ONCE: usize = 32;
const PAGE: u32 = 50;
const LARGEST_PAGE: u32 = 100;

/// Which friends.
#[derive(Clone, Copy, ToSchema)]
#[schema(rename_all = "snake_case")]
enum Which {
    /// Friends.
    Accepted,
    /// Requests that the caller may accept.
    Incoming,
    /// Requests of the caller that wait.
    Outgoing,
}

/// Which page of which friends.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Page {
    /// Which; without it, `accepted`.
    #[param(inline, value_type = Option<Which>)]
    state: Option<String>,
    /// How many, 1 to 100; without it 50.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100)]
    limit: Option<String>,
    /// `next_cursor` of the page before. One that is unknown is refused with `cursor_expired`: begin again without it.
    cursor: Option<String>,
}

/// What the caller shares with a friend.
#[derive(Clone, Copy, Deserialize, Serialize, ToSchema)]
pub(super) struct ShareBody {
    /// How finely.
    precision: Precision,
    /// When the sharing ends; in ms since the epoch, in the future. Not with `hidden`.
    until: Option<i64>,
    /// Only within this distance, in metres; without it, within the friend's radius.
    #[schema(value_type = Option<u32>, minimum = 1)]
    within_m: Option<i64>,
}

/// A friend, or a request.
#[derive(Serialize, ToSchema)]
pub(super) struct FriendItem {
    id: String,
    display_name: String,
    picture_url: Option<String>,
    /// Since when, in ms since the epoch.
    since: i64,
    /// What the caller shares with this friend now: `hidden` once its `until` is past. For friends only.
    #[serde(skip_serializing_if = "Option::is_none")]
    sharing: Option<ShareBody>,
}

/// A page of friends, by id.
#[derive(Serialize, ToSchema)]
pub(super) struct FriendPage {
    friends: Vec<FriendItem>,
    /// For the next page; null on the last.
    next_cursor: Option<String>,
}

/// What the two users are to each other now.
#[derive(Serialize, ToSchema)]
pub(super) struct StateBody {
    state: Friendship,
}

impl Which {
    fn of(given: Option<&str>) -> Result<Self, Failure> {
        match given {
            None | Some("accepted") => Ok(Self::Accepted),
            Some("incoming") => Ok(Self::Incoming),
            Some("outgoing") => Ok(Self::Outgoing),
            Some(_) => Err(invalid("`state` must be `accepted`, `incoming` or `outgoing`; it is something else.")),
        }
    }
}

impl ShareBody {
    fn of(share: Share) -> Self {
        Self {
            precision: share.precision.into(),
            until: (share.until != 0).then_some(share.until),
            within_m: (share.within_m != 0).then_some(share.within_m.into()),
        }
    }

    fn checked(self, now_ms: i64, max_radius_m: u32) -> Result<Share, Failure> {
        let precision = self.precision.into();
        if self.until.is_some() && precision == Sharing::Hidden {
            return Err(invalid("`until` says when sharing ends; `hidden` shares nothing."));
        }
        if self.until.is_some_and(|until| until <= now_ms) {
            return Err(invalid("`until` must be in the future."));
        }
        let most = i64::from(max_radius_m);
        let within_m = self.within_m.map_or(Ok(0), |metres| in_range("within_m", metres, 1..=most))?;
        Ok(Share { precision, until: self.until.unwrap_or(0), within_m })
    }
}

/// The caller's friends or requests, by page.
#[utoipa::path(get, path = "/v1/friends", tag = "friends", params(Page), responses((status = 200, body = FriendPage)))]
pub(super) async fn list_friends(
    State(service): State<Arc<Service>>,
    Caller(me): Caller,
    Params(page): Params<Page>,
) -> Result<Json<FriendPage>, Problem> {
    let limit = limit(page.limit.as_deref(), PAGE, LARGEST_PAGE)?;
    let which = Which::of(page.state.as_deref())?;
    let after = page.cursor.as_deref().map(cursor::id).transpose()?;
    let after = after.as_deref();
    // One more than asked for says whether there is another page.
    let requests = async |direction| {
        let requests = service.store.requests(&me, direction, after, limit + 1).await?;
        Ok::<_, Failure>(requests.into_iter().map(|request| (request.other, request.since, None)).collect())
    };
    let mut rows: Vec<(String, i64, Option<ShareBody>)> = match which {
        Which::Accepted => {
            let now_ms = now_ms();
            let row = |friend: Friend| (friend.id, friend.since, Some(ShareBody::of(friend.mine.at(now_ms))));
            service.store.friends(&me, after, limit + 1).await?.into_iter().map(row).collect()
        }
        Which::Incoming => requests(Direction::Incoming).await?,
        Which::Outgoing => requests(Direction::Outgoing).await?,
    };
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next_cursor = rows.last().filter(|_| more).map(|(id, ..)| cursor::after_id(id));
    let friends = stream::iter(rows)
        .map(|(id, since, sharing)| item(&service, id, since, sharing))
        .buffered(PROFILES_AT_ONCE)
        .try_collect()
        .await?;
    Ok(Json(FriendPage { friends, next_cursor }))
}

async fn item(service: &Service, id: String, since: i64, sharing: Option<ShareBody>) -> Result<FriendItem, Failure> {
    let profile = service.store.user(&id).await?.map(|user| user.profile);
    let unnamed = || Profile { display_name: id.clone(), picture_url: None, radius_m: None };
    let Profile { display_name, picture_url, .. } = profile.unwrap_or_else(unnamed);
    Ok(FriendItem { id, display_name, picture_url, since, sharing })
}

/// Asks somebody for friendship.
///
/// Whoever was asked by that user becomes a friend at once.
#[utoipa::path(
    post, path = "/v1/friends/{id}/request", tag = "friends",
    params(("id" = String, Path, description = "The other user's id")),
    responses((status = 200, body = StateBody))
)]
pub(super) async fn request_friend(
    State(service): State<Arc<Service>>,
    Caller(me): Caller,
    Someone(other): Someone,
) -> Result<Json<StateBody>, Problem> {
    step(&service, &me, &other, Step::Request).await
}

/// Accepts what somebody asked.
///
/// Both then share with each other, exactly and without an end.
#[utoipa::path(
    post, path = "/v1/friends/{id}/accept", tag = "friends",
    params(("id" = String, Path, description = "The other user's id")),
    responses((status = 200, body = StateBody))
)]
pub(super) async fn accept_friend(
    State(service): State<Arc<Service>>,
    Caller(me): Caller,
    Someone(other): Someone,
) -> Result<Json<StateBody>, Problem> {
    step(&service, &me, &other, Step::Accept).await
}

async fn step(service: &Service, me: &str, other: &str, step: Step) -> Result<Json<StateBody>, Problem> {
    let pair = service.changes.step(me, other, step).await?;
    let state = PairIds::new(me, other).map_or(Friendship::Oneself, |ids| Friendship::of(&pair, ids.side_of(me)));
    Ok(Json(StateBody { state }))
}

/// Removes a friend, declines a request or takes one back.
///
/// Neither sees a position that the other reports after the answer.
#[utoipa::path(
    delete, path = "/v1/friends/{id}", tag = "friends",
    params(("id" = String, Path, description = "The other user's id")),
    responses((status = 204, description = "They are nothing to each other"))
)]
pub(super) async fn remove_friend(
    State(service): State<Arc<Service>>,
    Caller(me): Caller,
    Someone(other): Someone,
) -> Result<StatusCode, Problem> {
    service.changes.step(&me, &other, Step::Remove).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Changes what the caller shares with a friend.
///
/// It holds for every position reported after the answer.
#[utoipa::path(
    put, path = "/v1/friends/{id}/sharing", tag = "friends",
    params(("id" = String, Path, description = "The friend's id")),
    request_body = ShareBody,
    responses((status = 200, body = ShareBody))
)]
pub(super) async fn share_with_friend(
    State(service): State<Arc<Service>>,
    Caller(me): Caller,
    Someone(other): Someone,
    Body(body): Body<ShareBody>,
) -> Result<Json<ShareBody>, Problem> {
    let share = body.checked(now_ms(), service.deployment.max_radius_m)?;
    service.changes.step(&me, &other, Step::Share(share)).await?;
    Ok(Json(ShareBody::of(share)))
}
