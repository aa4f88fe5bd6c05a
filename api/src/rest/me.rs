//! Profiles, and how a user shares with everybody.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use nearcast_runtime::clock::now_ms;
use nearcast_schemas::deployment::Deployment;
use nearcast_schemas::event::{Mode, Sharing};
use nearcast_schemas::refusal::Refusal;
use nearcast_schemas::rule::sharing_at;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{Body, Caller, Someone};
use super::parameter::{in_range, invalid};
use super::problem::Problem;
use crate::changes::NewMode;
use crate::failure::Failure;
use crate::pair::{Bond, Pair, PairIds, Side};
use crate::rules::viewer_radius_m;
use crate::service::Service;
use crate::store::{Profile, Read, User};

/// Longest display name, in characters.
const NAME_CHARS: usize = 64;
/// Longest picture address, in bytes.
const URL_BYTES: usize = 2_048;

/// How finely a position is shared.
#[derive(Clone, Copy, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Precision {
    /// As reported.
    Exact,
    /// Approximately.
    Coarse,
    /// Not at all.
    Hidden,
}

/// What the caller says about themselves.
#[derive(Deserialize, ToSchema)]
pub(super) struct NewProfile {
    /// 1 to 64 characters.
    #[schema(example = "Alice")]
    display_name: String,
    /// An http or https address of at most 2048 bytes.
    picture_url: Option<String>,
    /// Friends within this many metres are nearby; without it the deployment's radius holds.
    #[schema(value_type = Option<u32>, minimum = 1)]
    radius_m: Option<i64>,
}

/// The caller's own profile.
#[derive(Serialize, ToSchema)]
pub(super) struct Me {
    id: String,
    display_name: String,
    picture_url: Option<String>,
    /// The radius that holds, in metres.
    radius_m: i32,
    /// In ms since the epoch.
    created_at: i64,
}

/// What the two users are to each other, as the caller sees it.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Friendship {
    /// Nothing.
    None,
    /// The caller asked.
    Outgoing,
    /// The other asked the caller.
    Incoming,
    /// Friends.
    Accepted,
    /// The caller.
    Oneself,
}

/// Somebody.
#[derive(Serialize, ToSchema)]
pub(super) struct Person {
    id: String,
    display_name: String,
    picture_url: Option<String>,
    friendship: Friendship,
}

/// How the caller wants to share with everybody.
#[derive(Deserialize, ToSchema)]
pub(super) struct NewSharing {
    /// The coarser of this and what is shared with a friend holds for that friend.
    sharing: Precision,
    /// When it ends and `exact` holds again; in ms since the epoch, in the future. Not with `exact`.
    until: Option<i64>,
    /// Whether strangers nearby may be shown the caller approximately. Without it, as it is.
    discoverable: Option<bool>,
}

/// How the caller shares with everybody.
#[derive(Serialize, ToSchema)]
pub(super) struct SharingNow {
    sharing: Precision,
    /// When it ends and `exact` holds again; in ms since the epoch.
    until: Option<i64>,
    discoverable: bool,
    /// Grows with each change.
    version: i64,
}

impl From<Sharing> for Precision {
    fn from(sharing: Sharing) -> Self {
        match sharing {
            Sharing::Exact => Self::Exact,
            Sharing::Coarse => Self::Coarse,
            Sharing::Hidden => Self::Hidden,
        }
    }
}

impl From<Precision> for Sharing {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::Exact => Self::Exact,
            Precision::Coarse => Self::Coarse,
            Precision::Hidden => Self::Hidden,
        }
    }
}

impl Friendship {
    /// What the pair is to the one on this side.
    pub fn of(pair: &Pair, side: Side) -> Self {
        match pair.bond {
            Bond::Strangers => Self::None,
            Bond::Asked(asker) if asker == side => Self::Outgoing,
            Bond::Asked(_) => Self::Incoming,
            Bond::Friends => Self::Accepted,
        }
    }
}

impl Me {
    fn of(user: User, deployment: &Deployment) -> Self {
        Self {
            radius_m: viewer_radius_m(user.profile.radius_m, deployment),
            id: user.id,
            display_name: user.profile.display_name,
            picture_url: user.profile.picture_url,
            created_at: user.created_at,
        }
    }
}

impl SharingNow {
    fn of(mode: &Mode, now_ms: i64) -> Self {
        let ends = mode.until > now_ms && mode.sharing != Sharing::Exact;
        Self {
            sharing: sharing_at(mode, now_ms).into(),
            until: ends.then_some(mode.until),
            discoverable: mode.discoverable,
            version: mode.version,
        }
    }
}

/// The caller's profile.
#[utoipa::path(get, path = "/v1/me", tag = "me", responses((status = 200, body = Me)))]
pub(super) async fn get_me(State(service): State<Arc<Service>>, Caller(me): Caller) -> Result<Json<Me>, Problem> {
    let user = service.store.user(&me).await?.ok_or(Refusal::NoSuchUser)?;
    Ok(Json(Me::of(user, &service.deployment)))
}

/// Replaces the caller's profile.
///
/// Friends see a new name within seconds.
#[utoipa::path(put, path = "/v1/me", tag = "me", request_body = NewProfile, responses((status = 200, body = Me)))]
pub(super) async fn put_me(
    State(service): State<Arc<Service>>,
    Caller(me): Caller,
    Body(new): Body<NewProfile>,
) -> Result<Json<Me>, Problem> {
    let profile = checked(new, service.deployment.max_radius_m)?;
    let user = service.changes.set_profile(&me, profile).await?;
    Ok(Json(Me::of(user, &service.deployment)))
}

fn checked(new: NewProfile, max_radius_m: u32) -> Result<Profile, Failure> {
    let display_name = new.display_name.trim().to_owned();
    if display_name.is_empty()
        || display_name.chars().count() > NAME_CHARS
        || display_name.chars().any(char::is_control)
    {
        return Err(invalid("`display_name` must have 1 to 64 characters and no control characters."));
    }
    let is_address = |url: &String| {
        let long_enough = url.len() > "https://".len() && url.len() <= URL_BYTES;
        long_enough
            && (url.starts_with("https://") || url.starts_with("http://"))
            && !url.chars().any(|c| c.is_control() || c.is_whitespace())
    };
    if new.picture_url.as_ref().is_some_and(|url| !is_address(url)) {
        return Err(invalid("`picture_url` must be an http or https address of at most 2048 bytes."));
    }
    let radius_m = new.radius_m.map(|metres| in_range("radius_m", metres, 1..=i64::from(max_radius_m))).transpose()?;
    Ok(Profile { display_name, picture_url: new.picture_url, radius_m })
}

/// How the caller shares with everybody.
#[utoipa::path(get, path = "/v1/me/sharing", tag = "me", responses((status = 200, body = SharingNow)))]
pub(super) async fn get_sharing(
    State(service): State<Arc<Service>>,
    Caller(me): Caller,
) -> Result<Json<SharingNow>, Problem> {
    let user = service.store.user(&me).await?.ok_or(Refusal::NoSuchUser)?;
    Ok(Json(SharingNow::of(&user.mode, now_ms())))
}

/// Changes how the caller shares with everybody.
///
/// It holds for every position reported after the answer. What is reported meanwhile is never shown more finely than the
/// sharing of that moment allows: after `hidden`, friends see the caller again from the next report on, so send one.
#[utoipa::path(put, path = "/v1/me/sharing", tag = "me", request_body = NewSharing, responses((status = 200, body = SharingNow)))]
pub(super) async fn put_sharing(
    State(service): State<Arc<Service>>,
    Caller(me): Caller,
    Body(new): Body<NewSharing>,
) -> Result<Json<SharingNow>, Problem> {
    let now_ms = now_ms();
    let sharing = new.sharing.into();
    let until = match new.until {
        None => 0,
        Some(_) if sharing == Sharing::Exact => {
            return Err(invalid("`until` says when `coarse` or `hidden` ends; `exact` has no end.").into());
        }
        Some(until) if until <= now_ms => return Err(invalid("`until` must be in the future.").into()),
        Some(until) => until,
    };
    let new = NewMode { sharing, until, discoverable: new.discoverable };
    let mode = service.changes.set_mode(&me, new).await?;
    Ok(Json(SharingNow::of(&mode, now_ms)))
}

/// Somebody's profile, as far as everybody may know it.
#[utoipa::path(
    get, path = "/v1/users/{id}", tag = "friends",
    params(("id" = String, Path, description = "The user's id")),
    responses((status = 200, body = Person))
)]
pub(super) async fn get_user(
    State(service): State<Arc<Service>>,
    Caller(me): Caller,
    Someone(id): Someone,
) -> Result<Json<Person>, Problem> {
    let user = service.store.user(&id).await?.ok_or(Refusal::NoSuchUser)?;
    let friendship = match PairIds::new(&me, &id) {
        Some(ids) => Friendship::of(&service.store.pair(&ids, Read::Answered).await?, ids.side_of(&me)),
        None => Friendship::Oneself,
    };
    let Profile { display_name, picture_url, .. } = user.profile;
    Ok(Json(Person { id, display_name, picture_url, friendship }))
}
