//! The reports, one after the other as they stand in the log, and the same bytes decoded.

use std::f64::consts::TAU;
use std::ops::Range;

use nearcast_fanout::engine::{Located, Stamp};
use nearcast_schemas::codec::Codec;
use nearcast_schemas::event::{Fix, LocationEvent, LocationKind, Mode, NO_SESSION, Role, Route};

use crate::world::{SEED, World, moved, scramble, write_id};

/// Everybody reports once in this time.
pub const REPORT_EVERY_MS: i64 = 30_000;
/// When the first hello is appended, ms since the epoch.
pub const START_MS: i64 = 1_700_000_000_000;
/// Reports of a user on the way out, and on the way back.
const LEG: u64 = 8;
/// Gateway processes that the sessions are spread over.
const GATEWAYS: u32 = 16;

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

/// Some records as they are read: keys and values, encoded.
pub struct Records {
    codec: Codec,
    event: LocationEvent,
    id: String,
    keys: String,
    values: Vec<u8>,
    rows: Vec<(Stamp, Range<usize>, Range<usize>)>,
}

impl Records {
    pub fn new() -> Self {
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
        Self {
            codec: Codec::default(),
            event,
            id: String::new(),
            keys: String::new(),
            values: Vec::new(),
            rows: Vec::new(),
        }
    }

    pub fn clear(&mut self) {
        self.keys.clear();
        self.values.clear();
        self.rows.clear();
    }

    /// Appends the hello that begins the user's session; its offset is the user's number. It waits for no list, as with
    /// sessions that began a while ago.
    pub fn hello(&mut self, report: Report) {
        self.event.kind = LocationKind::Hello;
        self.event.session = NO_SESSION;
        self.push(i64::from(report.user), report);
    }

    /// Appends a report of the user's session.
    pub fn fix(&mut self, offset: i64, report: Report) {
        self.event.kind = LocationKind::Fix;
        self.event.session = i64::from(report.user);
        self.push(offset, report);
    }

    fn push(&mut self, offset: i64, report: Report) {
        let Report { user, lat, lon, append_ms } = report;
        if let (Some(fix), Some(route)) = (&mut self.event.fix, &mut self.event.route) {
            (fix.lat, fix.lon, fix.n) = (lat, lon, offset);
            (fix.device_time, fix.fixed_at) = (append_ms - 200, append_ms - 200);
            route.gateway.clear();
            route.gateway.push('g');
            route.gateway.push(char::from(b'a' + (user % GATEWAYS) as u8));
            route.handle = user as i32;
        }
        self.event.gateway_time = append_ms - 20;
        write_id(user, &mut self.id);
        let (key, value) = (self.keys.len(), self.values.len());
        self.keys.push_str(&self.id);
        self.codec.encode_location(&self.event, &mut self.values);
        self.rows.push((Stamp { offset, append_ms }, key..self.keys.len(), value..self.values.len()));
    }

    /// The append time of the last record, ms since the epoch.
    pub fn last_ms(&self) -> i64 {
        self.rows.last().map_or(START_MS, |(at, ..)| at.append_ms)
    }

    /// Decodes all of them, as the worker does.
    pub fn decode<'a>(&'a self, into: &mut Vec<Located<'a>>) {
        for (at, key, value) in &self.rows {
            let event = self.codec.decode_location(&self.values[value.clone()]).expect("it was encoded here");
            into.push(Located { at: *at, user: &self.keys[key.clone()], event });
        }
    }
}
