//! A script of records for tests, and what sessions are told in words.

use std::collections::BTreeMap;

use nearcast_geo::{Coarsener, Resolution};
use nearcast_schemas::codec::LocationEventRef;
use nearcast_schemas::delivery::{Item, RemovalReason};
use nearcast_schemas::event::{Fix, LocationEvent, LocationKind, Mode, NO_SESSION, Role, Route, Sharing};
use nearcast_schemas::list::{Precision, VisibilityEntry, VisibilityList};
use nearcast_schemas::topics::partition_of;

use super::{AliasKey, Engine, Outbox, Settings, Stamp};

pub(super) const PARTITIONS: i32 = 4;
pub(super) const TTL_MS: i64 = 600_000;
pub(super) const COARSE_PERIOD_MS: i64 = 300_000;
pub(super) const START_MS: i64 = 1_700_000_000_000;

const ALIAS_KEY: AliasKey = AliasKey([1, 2]);

/// A place on the equator, so many metres east of longitude 0.
pub(super) fn east(metres: f64) -> (f64, f64) {
    (0.0, (metres / 6_378_137.0).to_degrees())
}

pub(super) fn entry(friend: &str) -> VisibilityEntry {
    VisibilityEntry {
        friend: friend.to_owned(),
        display_name: friend.to_uppercase(),
        precision: Precision::Exact,
        radius_m: 0,
        expires_at: 0,
    }
}

pub(super) fn mode(sharing: Sharing, version: i64) -> Mode {
    Mode { sharing, until: 0, discoverable: false, version }
}

pub(super) struct Script {
    pub(super) engine: Engine,
    pub(super) out: Outbox,
    pub(super) now_ms: i64,
    pub(super) offset: i64,
    handles: i32,
    modes: BTreeMap<String, Mode>,
    /// The names that sessions have in what they are told: the user, from the second session on with its number.
    names: BTreeMap<i32, String>,
}

/// One connected session.
#[derive(Clone, Copy)]
pub(super) struct Connected {
    offset: i64,
    handle: i32,
    role: Role,
}

impl Script {
    /// An engine that owns nothing.
    pub(super) fn new() -> Self {
        let coarsener = Coarsener::new(Resolution::Seven, 100.0, COARSE_PERIOD_MS as u32).unwrap();
        let settings = Settings {
            ttl_ms: TTL_MS,
            max_radius_m: 20_000,
            coarsener,
            coarse_period_ms: COARSE_PERIOD_MS,
            digest_every_ms: 60_000,
            visibility_partitions: PARTITIONS,
            discovery_max: 3,
            alias_key: ALIAS_KEY,
        };
        Self {
            engine: Engine::new(settings),
            out: Outbox::default(),
            now_ms: START_MS,
            offset: 0,
            handles: 0,
            modes: BTreeMap::new(),
            names: BTreeMap::new(),
        }
    }

    /// An engine that owns everything.
    pub(super) fn owner() -> Self {
        let mut script = Self::new();
        script.own(1);
        script
    }

    pub(super) fn own(&mut self, epoch: i64) {
        for partition in 0..PARTITIONS {
            self.engine.own(partition, epoch, &mut self.out);
        }
        while self.engine.resets(1, 7, &mut self.out) {}
    }

    /// A user with a list of friends at a place, connected.
    pub(super) fn user(&mut self, name: &str, friends: &[&str], metres: f64) -> Connected {
        self.list(name, 1, 8_000, friends.iter().map(|friend| entry(friend)).collect());
        self.hello(name, Role::Reporting, 1, Some(east(metres)))
    }

    pub(super) fn hello(&mut self, user: &str, role: Role, list_version: i64, place: Option<(f64, f64)>) -> Connected {
        self.handles += 1;
        let again = self.names.values().filter(|name| name.split('#').next() == Some(user)).count();
        let name = if again == 0 { user.to_owned() } else { format!("{user}#{}", again + 1) };
        self.names.insert(self.handles, name);
        let connected = Connected { offset: self.offset, handle: self.handles, role };
        let mut event = self.event(user, LocationKind::Hello, Some(connected), place);
        event.session = NO_SESSION;
        event.list_version = list_version;
        self.send(user, event);
        connected
    }

    pub(super) fn event(
        &mut self,
        user: &str,
        kind: LocationKind,
        session: Option<Connected>,
        place: Option<(f64, f64)>,
    ) -> LocationEvent {
        let route = session.map(|session| Route {
            gateway: "g0".to_owned(),
            incarnation: 7,
            handle: session.handle,
            role: session.role,
        });
        let fix = place.map(|(lat, lon)| Fix {
            lat,
            lon,
            accuracy_m: Some(5.0),
            speed_mps: None,
            heading_deg: None,
            altitude_m: None,
            device: "d".to_owned(),
            n: 1,
            device_time: self.now_ms,
            fixed_at: self.now_ms,
        });
        LocationEvent {
            kind,
            session: session.map_or(NO_SESSION, |session| session.offset),
            route,
            list_version: 0,
            reset: false,
            mode: self.modes.get(user).copied().unwrap_or_default(),
            fix,
            gateway_time: self.now_ms,
        }
    }

    pub(super) fn send(&mut self, user: &str, event: LocationEvent) {
        let at = Stamp { offset: self.offset, append_ms: self.now_ms };
        self.offset += 1;
        self.engine.location(at, user, &LocationEventRef::from(&event), &mut self.out);
    }

    pub(super) fn fix(&mut self, user: &str, session: Connected, metres: f64) {
        let event = self.event(user, LocationKind::Fix, Some(session), Some(east(metres)));
        self.send(user, event);
    }

    pub(super) fn plain(&mut self, user: &str, kind: LocationKind, session: Connected) {
        let event = self.event(user, kind, Some(session), None);
        self.send(user, event);
    }

    pub(super) fn presence(&mut self, user: &str, session: Connected, reset: bool) {
        let mut event = self.event(user, LocationKind::Presence, Some(session), None);
        event.reset = reset;
        self.send(user, event);
    }

    /// The user changes how they share, and all later records say so.
    pub(super) fn mode(&mut self, user: &str, mode: Mode) {
        self.modes.insert(user.to_owned(), mode);
        let event = self.event(user, LocationKind::Mode, None, None);
        self.send(user, event);
    }

    pub(super) fn list(&mut self, viewer: &str, version: i64, radius_m: i32, entries: Vec<VisibilityEntry>) {
        let list = VisibilityList::list(version, self.now_ms, radius_m, entries);
        let partition = partition_of(viewer.as_bytes(), PARTITIONS);
        self.engine.list(partition, self.now_ms, viewer, &(&list).into(), &mut self.out);
    }

    /// Lets time pass; users do not report in it.
    pub(super) fn pass(&mut self, ms: i64) {
        self.now_ms += ms;
        self.engine.sweep(self.now_ms, &mut self.out);
    }

    /// What sessions were told since the last call, an item a line, and that the state agrees with itself.
    pub(super) fn told(&mut self) -> Vec<String> {
        self.engine.check().unwrap();
        let items: Vec<_> = self.out.take().iter().flat_map(|batch| batch.items.decode().unwrap()).collect();
        items.into_iter().flat_map(|item| self.words(&item)).collect()
    }

    /// Whom an alias means, for this viewer.
    fn stranger(&self, viewer: &str, alias: i64) -> &str {
        let is = |name: &&str| ALIAS_KEY.alias(viewer, name).cast_signed() == alias;
        self.names.values().map(String::as_str).find(is).unwrap()
    }

    fn words(&self, item: &Item) -> Vec<String> {
        let name = |handle: &i32| self.names[handle].clone();
        let metres = |dm: i32| if dm < 0 { "?".to_owned() } else { format!("{}", (dm + 5) / 10) };
        let about = |coarse: bool| if coarse { "~" } else { "" };
        match item {
            Item::Upsert(upsert) => {
                let friend = format!("{}{}", about(upsert.position.coarse), upsert.friend);
                let told = |to: &nearcast_schemas::delivery::UpsertViewer| {
                    format!("{}: {friend} at {}", name(&to.handle), metres(to.distance_dm))
                };
                upsert.viewers.iter().map(told).collect()
            }
            Item::Removal(removal) => {
                let reason = match removal.reason {
                    RemovalReason::OutOfRange => "out of range",
                    RemovalReason::Silent => "silent",
                    RemovalReason::NotShared => "not shared",
                };
                removal.viewers.iter().map(|to| format!("{}: {} {reason}", name(to), removal.friend)).collect()
            }
            Item::Reset(reset) => {
                let entry = |entry: &nearcast_schemas::delivery::ResetEntry| {
                    format!("{}{} {}", about(entry.position.coarse), entry.friend, metres(entry.distance_dm))
                };
                let entries: Vec<_> = reset.entries.iter().map(entry).collect();
                let part = if reset.parts == 1 { String::new() } else { format!(" {}/{}", reset.part, reset.parts) };
                let (name, version) = (name(&reset.handle), reset.list_version);
                vec![format!("{name}: reset{part} v{version} [{}]", entries.join(", "))]
            }
            Item::Applied(applied) => vec![format!("{}: applied v{}", name(&applied.handle), applied.list_version)],
            Item::Digest(digest) => vec![format!("{}: digest of {}", name(&digest.handle), digest.count)],
            Item::Strangers(strangers) => {
                let viewer = name(&strangers.viewer);
                let entry = |stranger: &nearcast_schemas::delivery::Stranger| {
                    let known = self.stranger(viewer.split('#').next().unwrap(), stranger.alias);
                    format!("{known} {}", metres(stranger.distance_dm))
                };
                let entries: Vec<_> = strangers.entries.iter().map(entry).collect();
                vec![format!("{viewer}: strangers [{}]", entries.join(", "))]
            }
            Item::Superseded(superseded) => vec![format!("{}: superseded", name(&superseded.handle))],
        }
    }
}
