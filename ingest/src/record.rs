//! The records of the locations topic that this crate writes.

use nearcast_schemas::event::{Fix, LocationEvent, LocationKind, Mode, NO_SESSION, Route};

/// A record of a live session.
pub(crate) fn of_session(
    kind: LocationKind,
    session: i64,
    route: &Route,
    mode: Mode,
    fix: Option<Fix>,
    now_ms: i64,
) -> LocationEvent {
    LocationEvent { session, route: Some(route.clone()), ..alone(kind, mode, fix, now_ms) }
}

/// A record that belongs to no session.
pub(crate) fn alone(kind: LocationKind, mode: Mode, fix: Option<Fix>, now_ms: i64) -> LocationEvent {
    LocationEvent {
        kind,
        session: NO_SESSION,
        route: None,
        list_version: 0,
        reset: false,
        mode,
        fix,
        gateway_time: now_ms,
    }
}
