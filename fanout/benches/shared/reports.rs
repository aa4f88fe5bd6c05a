//! The reports, one after the other as they stand in the log.

use std::f64::consts::TAU;

use nearcast_schemas::codec::Codec;
use nearcast_schemas::event::{Fix, LocationEvent, LocationKind, Mode, NO_SESSION, Role, Route};

use crate::world::{SEED, World, moved, scramble};

/// Everybody reports once in this time.
pub const REPORT_EVERY_MS: i64 = 30_000;
/// When the first hello is appended, ms since the epoch.
pub const START_MS: i64 = 1_700_000_000_000;
/// Reports of a user on the way out, and on the way back.
const LEG: u64 = 8;

/// One report.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    pub user: u32,
    pub lat: f64,
    pub lon: f64,
    /// ms since the epoch.
    pub append_ms: i64,
}

/// Where everybody is, and who reports next. Whoever begins with the same world gets the same reports.
pub struct Walk<'a> {
    world: &'a World,
    places: Vec<(f64, f64)>,
    next: u64,
}

impl<'a> Walk<'a> {
    pub fn new(world: &'a World) -> Self {
        Self { world, places: world.homes(), next: 0 }
    }

    /// Where the users are, by number: latitude and longitude in degrees.
    pub fn places(&self) -> &[(f64, f64)] {
        &self.places
    }

    /// Reports so far.
    pub fn reports(&self) -> u64 {
        self.next
    }

    /// The next report. Its user goes out and comes back, at every turn another way: mostly on foot, 20 to 80 m a
    /// report, and every eighth time by car, ten times as far. So the cities keep their size, and some cross the band of
    /// the radius in one report.
    pub fn step(&mut self) -> Report {
        let users = u64::from(self.world.size.users);
        let user = self.world.reporter(self.next);
        let lap = self.next / users;
        let tour = scramble(SEED ^ (lap / (2 * LEG)), user.into());
        let back = if lap / LEG % 2 == 1 { 0.5 } else { 0.0 };
        let gait = if tour.is_multiple_of(8) { 10.0 } else { 1.0 };
        let metres = gait * (20.0 + 60.0 * fraction(scramble(!SEED ^ lap, user.into())));
        let place = &mut self.places[user as usize];
        *place = moved(*place, metres, TAU * (fraction(tour) + back));
        // Everybody said hello in the time before.
        let append_ms = START_MS + (users + self.next) as i64 * REPORT_EVERY_MS / users as i64;
        self.next += 1;
        Report { user, lat: place.0, lon: place.1, append_ms }
    }
}

/// 0 to 1.
fn fraction(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// Writes records of one session a user, as gateways do.
pub struct Encoder {
    codec: Codec,
    event: LocationEvent,
    gateways: u32,
}

impl Encoder {
    /// The sessions are spread over so many gateway processes.
    pub fn new(gateways: u32) -> Self {
        let fix = Fix {
            lat: 0.0,
            lon: 0.0,
            accuracy_m: Some(8.0),
            speed_mps: Some(1.4),
            heading_deg: Some(90.0),
            altitude_m: None,
            device: "phone-1".to_owned(),
            n: 0,
            device_time: 0,
            fixed_at: 0,
        };
        let route = Route { gateway: String::new(), incarnation: START_MS, handle: 0, role: Role::Reporting };
        let event = LocationEvent {
            kind: LocationKind::Fix,
            session: NO_SESSION,
            route: Some(route),
            list_version: 0,
            reset: false,
            mode: Mode::default(),
            fix: Some(fix),
            gateway_time: 0,
        };
        Self { codec: Codec::default(), event, gateways }
    }

    pub fn codec(&self) -> &Codec {
        &self.codec
    }

    /// Appends the hello that begins a session.
    pub fn hello(&mut self, report: Report, n: i64, list_version: i64, into: &mut Vec<u8>) {
        self.event.kind = LocationKind::Hello;
        self.event.session = NO_SESSION;
        self.event.list_version = list_version;
        self.encode(report, n, into);
    }

    /// Appends a report of a session.
    pub fn fix(&mut self, report: Report, n: i64, session: i64, into: &mut Vec<u8>) {
        self.event.kind = LocationKind::Fix;
        self.event.session = session;
        self.event.list_version = 0;
        self.encode(report, n, into);
    }

    fn encode(&mut self, report: Report, n: i64, into: &mut Vec<u8>) {
        let Report { user, lat, lon, append_ms } = report;
        if let (Some(fix), Some(route)) = (&mut self.event.fix, &mut self.event.route) {
            (fix.lat, fix.lon, fix.n) = (lat, lon, n);
            (fix.device_time, fix.fixed_at) = (append_ms - 200, append_ms - 200);
            route.gateway.clear();
            write_gateway(user % self.gateways, &mut route.gateway);
            route.handle = user as i32;
        }
        self.event.gateway_time = append_ms - 20;
        self.codec.encode_location(&self.event, into);
    }
}

/// The id of a gateway, below 26.
pub fn write_gateway(gateway: u32, into: &mut String) {
    into.push('g');
    into.push(char::from(b'a' + gateway as u8));
}
