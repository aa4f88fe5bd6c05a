//! Share links.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use nearcast_runtime::auth::LinkSigner;
use nearcast_runtime::clock::now_ms;
use nearcast_schemas::event::Sharing;
use nearcast_schemas::refusal::Refusal;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::extract::{Body, Caller, Someone, same};
use super::me::Precision;
use super::parameter::invalid;
use super::problem::Problem;
use crate::failure::Failure;
use crate::links::{Key, ShareLink, name};
use crate::service::Service;

/// A link lives for this long at most: a week; ms.
const LONGEST_MS: i64 = 7 * 86_400_000;
/// Whoever opened a link opens it again after this; s.
const TOKEN_S: i64 = 900;

/// A link that the caller wants.
#[derive(Deserialize, ToSchema)]
pub(super) struct NewLink {
    /// `exact` or `coarse`. The coarser of this and what the caller shares with everybody holds.
    precision: Precision,
    /// When it ends; in ms since the epoch, within a week from now.
    #[schema(example = 1_767_225_600_000_i64)]
    until: i64,
}

/// One of the caller's links.
#[derive(Serialize, ToSchema)]
pub(super) struct Link {
    /// Names the link; whoever knows it alone sees nothing.
    id: String,
    precision: Precision,
    /// In ms since the epoch.
    created_at: i64,
    /// When it ends, in ms since the epoch.
    until: i64,
}

/// A link that was made.
#[derive(Serialize, ToSchema)]
pub(super) struct MadeLink {
    #[serde(flatten)]
    link: Link,
    /// What opens it. It is told this once. Put it into the fragment of an address (`…#key`), which browsers keep to
    /// themselves, and into no query.
    key: String,
}

/// The caller's links that are not over.
#[derive(Serialize, ToSchema)]
pub(super) struct Links {
    links: Vec<Link>,
}

/// The key of a link.
#[derive(Deserialize, ToSchema)]
pub(super) struct OpenLink {
    /// As it was told to whoever made the link.
    key: String,
}

/// What whoever holds a link may see.
#[derive(Serialize, ToSchema)]
pub(super) struct OpenedLink {
    /// For a WebSocket at a gateway, which shows the one person and takes no report; for nothing else.
    token: String,
    /// Until when the token is taken, in ms since the epoch. Open the link again for another, and show it by `auth`.
    token_until: i64,
    precision: Precision,
    /// When the link ends, in ms since the epoch.
    until: i64,
    /// Whom it shows.
    user: Shown,
}

/// Whom a link shows.
#[derive(Serialize, ToSchema)]
pub(super) struct Shown {
    id: String,
    display_name: String,
    picture_url: Option<String>,
}

impl Link {
    fn of(link: &ShareLink) -> Self {
        let ShareLink { viewer, precision, created_at, until, .. } = link;
        Self { id: name(viewer).to_owned(), precision: (*precision).into(), created_at: *created_at, until: *until }
    }
}

/// The caller's share links that are not over.
#[utoipa::path(get, path = "/v1/links", tag = "links", responses((status = 200, body = Links)))]
pub(super) async fn list_links(
    State(service): State<Arc<Service>>,
    Caller(me): Caller,
) -> Result<Json<Links>, Problem> {
    let now_ms = now_ms();
    let mut links = service.store.links(&me).await?;
    links.retain(|link| link.is_alive(now_ms));
    links.sort_by_key(|link| (link.created_at, link.viewer.clone()));
    Ok(Json(Links { links: links.iter().map(Link::of).collect() }))
}

/// Makes a link by which anybody who has its key sees the caller's live position.
///
/// What the caller shares with everybody holds for links too: while that is `hidden`, a link shows nothing. At most 20 links
/// of one user live at a time. Asked twice, it makes two.
#[utoipa::path(post, path = "/v1/links", tag = "links", request_body = NewLink, responses((status = 201, body = MadeLink)))]
pub(super) async fn make_link(
    State(service): State<Arc<Service>>,
    Caller(me): Caller,
    Body(new): Body<NewLink>,
) -> Result<(StatusCode, Json<MadeLink>), Problem> {
    signer(&service)?;
    let now_ms = now_ms();
    let precision = Sharing::from(new.precision);
    if precision == Sharing::Hidden {
        return Err(invalid("`precision` of a link is `exact` or `coarse`.").into());
    }
    if new.until <= now_ms || new.until > now_ms + LONGEST_MS {
        return Err(invalid("`until` must be in the future, within a week from now.").into());
    }
    let (key, link) = service.changes.create_link(&me, precision, new.until).await?;
    Ok((StatusCode::CREATED, Json(MadeLink { link: Link::of(&link), key: key.text() })))
}

/// Takes a link back.
///
/// Nobody sees through it what the caller reports after the answer, and every live session by it ends within a second, with
/// `bye` and `link_ended`. Of a link that is no more or is somebody else's it changes nothing.
#[utoipa::path(
    delete, path = "/v1/links/{id}", tag = "links",
    params(("id" = String, Path, description = "The link's id")),
    responses((status = 204, description = "There is no such link of the caller's"))
)]
pub(super) async fn remove_link(
    State(service): State<Arc<Service>>,
    Caller(me): Caller,
    Someone(id): Someone,
) -> Result<StatusCode, Problem> {
    if Key::is_name(&id) {
        service.changes.remove_link(&me, &id).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Opens a link: for whoever has its key, without a token.
///
/// The answer's token is for a WebSocket at a gateway, where `hello` begins a session that shows the one person at any
/// distance. It lasts 15 minutes, and no longer than the link.
#[utoipa::path(
    post, path = "/v1/links/open", tag = "links", request_body = OpenLink,
    responses((status = 200, body = OpenedLink)), security(())
)]
pub(super) async fn open_link(
    State(service): State<Arc<Service>>,
    Body(OpenLink { key }): Body<OpenLink>,
) -> Result<Json<OpenedLink>, Problem> {
    let signer = signer(&service)?;
    let now_ms = now_ms();
    let key = Key::read(&key).ok_or(Refusal::LinkEnded)?;
    let link = service.store.link(&key.viewer()).await?;
    let link = link.filter(|link| link.is_alive(now_ms) && same(&key.hash(), &link.secret_hash));
    let link = link.ok_or(Refusal::LinkEnded)?;
    let owner = service.store.user(&link.owner).await?.ok_or(Refusal::LinkEnded)?;
    let token_until_s = (now_ms / 1_000 + TOKEN_S).min(link.until / 1_000);
    let token = signer.sign(&link.viewer, token_until_s).map_err(|_| Refusal::Internal)?;
    let user = Shown { id: owner.id, display_name: owner.profile.display_name, picture_url: owner.profile.picture_url };
    let (precision, until) = (link.precision.into(), link.until);
    Ok(Json(OpenedLink { token, token_until: token_until_s * 1_000, precision, until, user }))
}

fn signer(service: &Service) -> Result<&LinkSigner, Failure> {
    let none = || Failure::because(Refusal::Forbidden, "This deployment has no share links; see auth.link_secret.");
    service.link_signer.as_ref().ok_or_else(none)
}
