//! `LocationEvent` as bytes. The decoder is the hottest of the system: every worker reads every record.

use std::borrow::Cow;

use super::error::Fault;
use super::read::Reader;
use super::write;
use crate::event::{Fix, LocationEvent, LocationKind, Mode, Role, Route};

/// A [`LocationEvent`] whose strings borrow from the record it was decoded from, where they can.
#[derive(Clone, Debug, PartialEq)]
pub struct LocationEventRef<'a> {
    /// As in [`LocationEvent::kind`].
    pub kind: LocationKind,
    /// As in [`LocationEvent::session`].
    pub session: i64,
    /// As in [`LocationEvent::route`].
    pub route: Option<RouteRef<'a>>,
    /// As in [`LocationEvent::list_version`].
    pub list_version: i64,
    /// As in [`LocationEvent::reset`].
    pub reset: bool,
    /// As in [`LocationEvent::mode`].
    pub mode: Mode,
    /// As in [`LocationEvent::fix`].
    pub fix: Option<FixRef<'a>>,
    /// As in [`LocationEvent::gateway_time`].
    pub gateway_time: i64,
}

/// A [`Route`] that borrows where it can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteRef<'a> {
    /// As in [`Route::gateway`].
    pub gateway: Cow<'a, str>,
    /// As in [`Route::incarnation`].
    pub incarnation: i64,
    /// As in [`Route::handle`].
    pub handle: i32,
    /// As in [`Route::role`].
    pub role: Role,
}

/// A [`Fix`] that borrows where it can. `Debug` leaves the coordinates out: positions are secrets.
#[derive(Clone, PartialEq)]
pub struct FixRef<'a> {
    /// As in [`Fix::lat`]. The decoder does not check the range.
    pub lat: f64,
    /// As in [`Fix::lon`]. The decoder does not check the range.
    pub lon: f64,
    /// As in [`Fix::accuracy_m`].
    pub accuracy_m: Option<f32>,
    /// As in [`Fix::speed_mps`].
    pub speed_mps: Option<f32>,
    /// As in [`Fix::heading_deg`].
    pub heading_deg: Option<f32>,
    /// As in [`Fix::altitude_m`].
    pub altitude_m: Option<f32>,
    /// As in [`Fix::device`].
    pub device: Cow<'a, str>,
    /// As in [`Fix::n`].
    pub n: i64,
    /// As in [`Fix::device_time`].
    pub device_time: i64,
    /// As in [`Fix::fixed_at`].
    pub fixed_at: i64,
}

impl std::fmt::Debug for FixRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FixRef").field("n", &self.n).finish_non_exhaustive()
    }
}

impl LocationEventRef<'_> {
    /// The event with strings of its own.
    pub fn to_owned(&self) -> LocationEvent {
        LocationEvent {
            kind: self.kind,
            session: self.session,
            route: self.route.as_ref().map(RouteRef::to_owned),
            list_version: self.list_version,
            reset: self.reset,
            mode: self.mode,
            fix: self.fix.as_ref().map(FixRef::to_owned),
            gateway_time: self.gateway_time,
        }
    }
}

impl RouteRef<'_> {
    /// The route with strings of its own.
    pub fn to_owned(&self) -> Route {
        Route {
            gateway: self.gateway.as_ref().into(),
            incarnation: self.incarnation,
            handle: self.handle,
            role: self.role,
        }
    }
}

impl FixRef<'_> {
    /// The fix with strings of its own.
    pub fn to_owned(&self) -> Fix {
        Fix {
            lat: self.lat,
            lon: self.lon,
            accuracy_m: self.accuracy_m,
            speed_mps: self.speed_mps,
            heading_deg: self.heading_deg,
            altitude_m: self.altitude_m,
            device: self.device.as_ref().into(),
            n: self.n,
            device_time: self.device_time,
            fixed_at: self.fixed_at,
        }
    }
}

impl<'a> From<&'a LocationEvent> for LocationEventRef<'a> {
    fn from(event: &'a LocationEvent) -> Self {
        Self {
            kind: event.kind,
            session: event.session,
            route: event.route.as_ref().map(|route| RouteRef {
                gateway: Cow::Borrowed(&route.gateway),
                incarnation: route.incarnation,
                handle: route.handle,
                role: route.role,
            }),
            list_version: event.list_version,
            reset: event.reset,
            mode: event.mode,
            fix: event.fix.as_ref().map(|fix| FixRef {
                lat: fix.lat,
                lon: fix.lon,
                accuracy_m: fix.accuracy_m,
                speed_mps: fix.speed_mps,
                heading_deg: fix.heading_deg,
                altitude_m: fix.altitude_m,
                device: Cow::Borrowed(&fix.device),
                n: fix.n,
                device_time: fix.device_time,
                fixed_at: fix.fixed_at,
            }),
            gateway_time: event.gateway_time,
        }
    }
}

impl From<LocationEvent> for LocationEventRef<'static> {
    fn from(event: LocationEvent) -> Self {
        Self {
            kind: event.kind,
            session: event.session,
            route: event.route.map(|route| RouteRef {
                gateway: Cow::Owned(route.gateway),
                incarnation: route.incarnation,
                handle: route.handle,
                role: route.role,
            }),
            list_version: event.list_version,
            reset: event.reset,
            mode: event.mode,
            fix: event.fix.map(|fix| FixRef {
                lat: fix.lat,
                lon: fix.lon,
                accuracy_m: fix.accuracy_m,
                speed_mps: fix.speed_mps,
                heading_deg: fix.heading_deg,
                altitude_m: fix.altitude_m,
                device: Cow::Owned(fix.device),
                n: fix.n,
                device_time: fix.device_time,
                fixed_at: fix.fixed_at,
            }),
            gateway_time: event.gateway_time,
        }
    }
}

pub(super) fn read<'a>(from: &mut Reader<'a>) -> Result<LocationEventRef<'a>, Fault> {
    Ok(LocationEventRef {
        kind: from.symbol()?,
        session: from.long()?,
        route: from.optional(read_route)?,
        list_version: from.long()?,
        reset: from.boolean()?,
        mode: read_mode(from)?,
        fix: from.optional(read_fix)?,
        gateway_time: from.long()?,
    })
}

fn read_route<'a>(from: &mut Reader<'a>) -> Result<RouteRef<'a>, Fault> {
    Ok(RouteRef {
        gateway: Cow::Borrowed(from.string()?),
        incarnation: from.long()?,
        handle: from.int()?,
        role: from.symbol()?,
    })
}

pub(super) fn read_mode(from: &mut Reader<'_>) -> Result<Mode, Fault> {
    Ok(Mode { sharing: from.symbol()?, until: from.long()?, discoverable: from.boolean()?, version: from.long()? })
}

fn read_fix<'a>(from: &mut Reader<'a>) -> Result<FixRef<'a>, Fault> {
    Ok(FixRef {
        lat: from.double()?,
        lon: from.double()?,
        accuracy_m: from.optional(Reader::float)?,
        speed_mps: from.optional(Reader::float)?,
        heading_deg: from.optional(Reader::float)?,
        altitude_m: from.optional(Reader::float)?,
        device: Cow::Borrowed(from.string()?),
        n: from.long()?,
        device_time: from.long()?,
        fixed_at: from.long()?,
    })
}

pub(super) fn write(event: &LocationEvent, out: &mut Vec<u8>) {
    // A full event with ids of ordinary length.
    out.reserve(128);
    write::symbol(event.kind, out);
    write::long(event.session, out);
    write::optional(event.route.as_ref(), out, write_route);
    write::long(event.list_version, out);
    write::boolean(event.reset, out);
    write_mode(&event.mode, out);
    write::optional(event.fix.as_ref(), out, write_fix);
    write::long(event.gateway_time, out);
}

fn write_route(route: &Route, out: &mut Vec<u8>) {
    write::string(&route.gateway, out);
    write::long(route.incarnation, out);
    write::int(route.handle, out);
    write::symbol(route.role, out);
}

pub(super) fn write_mode(mode: &Mode, out: &mut Vec<u8>) {
    write::symbol(mode.sharing, out);
    write::long(mode.until, out);
    write::boolean(mode.discoverable, out);
    write::long(mode.version, out);
}

fn write_fix(fix: &Fix, out: &mut Vec<u8>) {
    write::double(fix.lat, out);
    write::double(fix.lon, out);
    write::optional(fix.accuracy_m, out, write::float);
    write::optional(fix.speed_mps, out, write::float);
    write::optional(fix.heading_deg, out, write::float);
    write::optional(fix.altitude_m, out, write::float);
    write::string(&fix.device, out);
    write::long(fix.n, out);
    write::long(fix.device_time, out);
    write::long(fix.fixed_at, out);
}
