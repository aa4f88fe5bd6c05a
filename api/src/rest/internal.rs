//! What gateways ask.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use nearcast_geo::Position;
use nearcast_runtime::clock::now_ms;
use nearcast_schemas::event::{Mode, Role};
use nearcast_schemas::ids::{check_id, is_link};
use nearcast_schemas::internal::{FriendAnswer, FriendRequest, HelloAnswer, HelloRequest};
use nearcast_schemas::refusal::Refusal;
use nearcast_schemas::rule::radius_m;

use super::extract::{Body, Gateway};
use super::problem::Problem;
use crate::events::FirstAnswerUnknown;
use crate::rules::{Moment, entry, nearby, shown};
use crate::service::Service;

/// A user says hello at a gateway. The log holds the viewer's list when this answers.
pub(super) async fn hello(
    State(service): State<Arc<Service>>,
    _: Gateway,
    Body(hello): Body<HelloRequest>,
) -> Result<Json<HelloAnswer>, Problem> {
    check_id(&hello.user).map_err(|_| Refusal::IdInvalid)?;
    if is_link(&hello.user) != (hello.role == Role::Link) {
        return Err(Refusal::NoSuchUser.into());
    }
    // The session is in the registry by now: a sign-out either is found here, or finds the session.
    if service.sign_outs.cover(&hello.user, hello.issued_at).await {
        return Err(Refusal::SignedOut.into());
    }
    let place = match hello.place {
        Some(place) => Some(Position::new(place.lat, place.lon).map_err(|_| Refusal::PositionOutOfRange)?),
        None => None,
    };
    let mode = async { mode(&service, &hello).await };
    let list = async { service.lists.current(&hello.user).await.map_err(Problem::from) };
    let (mode, list) = tokio::try_join!(mode, list)?;
    let around = service.around(&hello.user, &list).await;
    let nearby_known = around.is_ok();
    let (nearby, last_report) = match around {
        Ok(around) => {
            let moment = Moment { viewer: place.or(around.moment.viewer), ..around.moment };
            (nearby(&list, &around.seen, &moment), around.own.and_then(|own| own.last_report()))
        }
        Err(error) => {
            FirstAnswerUnknown { error: &error }.emit();
            (Vec::new(), None)
        }
    };
    let (list_version, radius_m) = (list.version, list.radius_m);
    Ok(Json(HelloAnswer { list_version, mode, last_report, radius_m, nearby, nearby_known }))
}

/// How whoever says hello shares. A user is registered by then; a share link has to be one, and shares nothing.
async fn mode(service: &Service, hello: &HelloRequest) -> Result<Mode, Problem> {
    if hello.role == Role::Link {
        let link = service.store.link(&hello.user).await?;
        link.filter(|link| link.is_alive(now_ms())).ok_or(Refusal::LinkEnded)?;
        return Ok(Mode::default());
    }
    service.register(&hello.user).await?;
    Ok(service.store.user(&hello.user).await?.ok_or(Refusal::NoSuchUser)?.mode)
}

/// A viewer asks for one friend's last position. The viewer's own radius is a wish about the list and does not bound
/// this; the friend's and the deployment's do.
pub(super) async fn friend(
    State(service): State<Arc<Service>>,
    _: Gateway,
    Body(asked): Body<FriendRequest>,
) -> Result<Json<FriendAnswer>, Problem> {
    check_id(&asked.viewer).map_err(|_| Refusal::IdInvalid)?;
    check_id(&asked.friend).map_err(|_| Refusal::IdInvalid)?;
    let friend = service.store.friend(&asked.viewer, &asked.friend).await?;
    let friend = friend.ok_or(Refusal::NotAFriend)?;
    let entry = match entry(&friend) {
        Some(entry) => {
            let [seen, own] = two(service.cache.positions(&[asked.friend, asked.viewer]).await?);
            let moment = service.moment(own.as_ref());
            let most_m = i32::try_from(service.deployment.max_radius_m).unwrap_or(i32::MAX);
            seen.and_then(|seen| shown(&entry, &seen, &moment, radius_m(most_m, entry.radius_m)))
        }
        // Whether a friend shares nothing or is silent is not told.
        None => None,
    };
    Ok(Json(FriendAnswer { display_name: friend.display_name, entry }))
}

/// The answers to two questions.
fn two<T>(answers: Vec<Option<T>>) -> [Option<T>; 2] {
    let mut answers = answers.into_iter();
    [answers.next().flatten(), answers.next().flatten()]
}
