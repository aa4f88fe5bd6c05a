//! Two workers, the log, and the phones: runs a history and compares after each step.

use std::collections::BTreeMap;

use nearcast_fanout::engine::{Engine, Located, Outbox, Settings, Stamp};
use nearcast_geo::{Coarsener, Position, Resolution};
use nearcast_schemas::codec::LocationEventRef;
use nearcast_schemas::event::{Fix, LocationEvent, LocationKind, Mode, NO_SESSION, Role, Route};
use nearcast_schemas::list::{Precision, VisibilityEntry, VisibilityList};
use nearcast_schemas::topics::partition_of;

use crate::client::Phones;
use crate::copy::{Copying, assert_same};
use crate::oracle::{self, Known, Logged, Must};
use crate::step::{EntryRule, GATEWAYS, MIDDLES, PARTITIONS, Step, TTL_MS, USERS, WORKERS, Which};

pub const MAX_RADIUS_M: i32 = 20_000;
const COARSE_PERIOD_MS: u32 = 120_000;
const START_MS: i64 = 1_700_000_000_000;

#[derive(Clone, Copy)]
struct Session {
    hello: i64,
    gateway: usize,
    handle: i32,
    role: Role,
    /// When it was superseded or left.
    ended_ms: Option<i64>,
}

struct Worker {
    engine: Engine,
    out: Outbox,
    copying: Option<Copying>,
    copied: Option<Copying>,
}

pub struct World {
    middle: (f64, f64),
    now_ms: i64,
    log: Vec<Logged>,
    lists: BTreeMap<String, VisibilityList>,
    versions: BTreeMap<String, i64>,
    modes: BTreeMap<String, Vec<(i64, Mode)>>,
    sessions: BTreeMap<String, Vec<Session>>,
    workers: Vec<Worker>,
    /// The owner of each partition.
    owners: Vec<usize>,
    /// Workers that have not heard that a partition is another's: until which step.
    asleep: Vec<(usize, i32, usize)>,
    epoch: i64,
    phones: Phones,
    /// The gateway to which the next step's batches go wrong.
    wrong: Option<(usize, Wrong)>,
    steps: usize,
}

/// What goes wrong on the way to a gateway.
#[derive(Clone, Copy, PartialEq)]
enum Wrong {
    Lost,
    Mangled,
}

impl Worker {
    fn new(engine: Engine, copied: Option<Copying>) -> Self {
        Self { engine, out: Outbox::default(), copying: None, copied }
    }

    /// Goes on with the copy; the log goes up to `next`.
    fn copy(&mut self, next: usize) {
        if self.copying.as_mut().is_some_and(|copying| copying.go_on(&self.engine, next)) {
            self.copied = self.copying.take();
        }
    }
}

pub fn name(user: usize) -> String {
    format!("user-{user}")
}

fn new_engine() -> Engine {
    let coarsener = Coarsener::new(Resolution::Seven, 100.0, COARSE_PERIOD_MS).unwrap();
    Engine::new(Settings {
        ttl_ms: TTL_MS,
        max_radius_m: MAX_RADIUS_M,
        coarsener,
        coarse_period_ms: i64::from(COARSE_PERIOD_MS),
        digest_every_ms: 10_000,
        visibility_partitions: PARTITIONS,
        discovery_max: 3,
        alias_key: nearcast_fanout::engine::AliasKey([1, 2]),
    })
}

impl World {
    pub fn new(middle: usize) -> Self {
        let workers = (0..WORKERS).map(|_| Worker::new(new_engine(), None)).collect();
        let mut world = Self {
            middle: MIDDLES[middle],
            now_ms: START_MS,
            log: Vec::new(),
            lists: BTreeMap::new(),
            versions: BTreeMap::new(),
            modes: BTreeMap::new(),
            sessions: BTreeMap::new(),
            workers,
            owners: vec![0; PARTITIONS as usize],
            asleep: Vec::new(),
            epoch: 0,
            phones: Phones::default(),
            wrong: None,
            steps: 0,
        };
        for partition in 0..PARTITIONS {
            world.take(partition, partition as usize % WORKERS);
        }
        world
    }

    pub fn run(&mut self, step: &Step) {
        self.steps += 1;
        let wrong = self.wrong.take();
        match step {
            Step::Hello { user, watching, place, gateway, ahead } => {
                self.hello(&name(*user), *watching, place.map(|p| p.around(self.middle)), *gateway, *ahead);
            }
            Step::HelloAgain { user } => self.hello_again(&name(*user)),
            Step::Fix { user, which, place, old_mode } => {
                let place = Some(place.around(self.middle));
                self.record(&name(*user), LocationKind::Fix, *which, place, |event, old| {
                    if *old_mode && let Some(mode) = old {
                        event.mode = mode;
                    }
                });
            }
            Step::Presence { user, which, reset } => {
                self.record(&name(*user), LocationKind::Presence, *which, None, |event, _| event.reset = *reset);
            }
            Step::Leave { user, which } => self.leave(&name(*user), *which),
            Step::Mode { user, sharing, until_in, discoverable } => {
                let until = if *until_in == 0 { 0 } else { self.now_ms + until_in };
                let modes = self.modes.entry(name(*user)).or_default();
                let version = modes.len() as i64 + 1;
                modes.push((self.now_ms, Mode { sharing: *sharing, until, discoverable: *discoverable, version }));
                self.record(&name(*user), LocationKind::Mode, Which::None, None, |_, _| {});
            }
            Step::Erase { user } => {
                self.end_sessions(&name(*user), |_| true);
                self.record(&name(*user), LocationKind::Erase, Which::None, None, |_, _| {});
            }
            Step::List { viewer, radius_m, entries } => self.list(&name(*viewer), *radius_m, entries),
            Step::ListAgain { viewer } => self.give_list(&name(*viewer)),
            Step::Unlist { viewer } => {
                let viewer = name(*viewer);
                self.lists.remove(&viewer);
                self.give_list(&viewer);
            }
            Step::Pass { ms } => self.now_ms += ms,
            Step::Takeover { partition, worker, late } => self.takeover(*partition, *worker, *late),
            Step::Restart { worker, copy: false } => self.restart(*worker),
            Step::Restart { worker, copy: true } => self.restart_from_copy(*worker),
            Step::Copy { worker, slots } => {
                self.workers[*worker].copying = Some(Copying::new(*slots, self.log.len(), self.now_ms));
            }
            Step::Loss { gateway } => self.wrong = Some((*gateway, Wrong::Lost)),
            Step::Mangle { gateway } => self.wrong = Some((*gateway, Wrong::Mangled)),
        }
        for worker in &mut self.workers {
            worker.engine.sweep(self.now_ms, &mut worker.out);
        }
        self.wake(false);
        self.deliver(wrong);
        self.compare();
        for worker in &mut self.workers {
            worker.copy(self.log.len());
        }
    }

    /// Everybody wakes up, and the views are right at rest.
    pub fn finish(&mut self) {
        self.wake(true);
        self.deliver(None);
        self.compare();
    }

    fn hello(&mut self, user: &str, watching: bool, place: Option<Position>, gateway: usize, ahead: bool) {
        let role = if watching { Role::Watching } else { Role::Reporting };
        let offset = self.log.len() as i64;
        let handle = self.phones.by_handle.len() as i32 + 1;
        self.phones.connect(handle, user, gateway);
        if !watching {
            self.end_sessions(user, |session| session.role == Role::Reporting);
        }
        let session = Session { hello: offset, gateway, handle, role, ended_ms: None };
        self.sessions.entry(user.to_owned()).or_default().push(session);
        let mut event = self.event(user, LocationKind::Hello, Some(session), place);
        event.session = NO_SESSION;
        event.list_version = self.lists.get(user).map_or(0, |list| list.version) + i64::from(ahead);
        self.append(user, event);
    }

    fn hello_again(&mut self, user: &str) {
        let Some(mut session) = self.session(user, Which::Latest) else { return };
        let mut event = self.event(user, LocationKind::Hello, Some(session), None);
        event.session = NO_SESSION;
        let known = self.sessions.entry(user.to_owned()).or_default().iter_mut();
        session.hello = self.log.len() as i64;
        known.filter(|known| known.handle == session.handle).for_each(|known| *known = session);
        self.append(user, event);
    }

    fn leave(&mut self, user: &str, which: Which) {
        let Some(session) = self.session(user, which) else { return };
        let event = self.event(user, LocationKind::Leave, Some(session), None);
        self.end_sessions(user, |known| known.hello == session.hello);
        self.append(user, event);
    }

    fn end_sessions(&mut self, user: &str, which: impl Fn(&Session) -> bool) {
        let sessions = self.sessions.entry(user.to_owned()).or_default().iter_mut();
        for session in sessions.filter(|session| session.ended_ms.is_none() && which(session)) {
            session.ended_ms = Some(self.now_ms);
        }
    }

    fn record(
        &mut self,
        user: &str,
        kind: LocationKind,
        which: Which,
        place: Option<Position>,
        change: impl FnOnce(&mut LocationEvent, Option<Mode>),
    ) {
        let session = self.session(user, which);
        if session.is_none() && !matches!(which, Which::None) {
            return;
        }
        let mut event = self.event(user, kind, session, place);
        // A writer that has not heard of the last change, if that was not long ago.
        let modes = self.modes.get(user).map_or(&[][..], Vec::as_slice);
        let old = match modes {
            [.., (_, before), (at, _)] if self.now_ms - at < TTL_MS / 2 => Some(*before),
            [(at, _)] if self.now_ms - at < TTL_MS / 2 => Some(Mode::default()),
            _ => None,
        };
        change(&mut event, old);
        self.append(user, event);
    }

    fn session(&self, user: &str, which: Which) -> Option<Session> {
        let sessions = self.sessions.get(user)?;
        let lately = |session: &&Session| session.ended_ms.is_some_and(|at| self.now_ms - at < TTL_MS / 2);
        match which {
            Which::Latest => sessions.iter().rfind(|s| s.role == Role::Reporting && s.ended_ms.is_none()),
            Which::Old => sessions.iter().filter(|s| s.role == Role::Reporting).find(lately),
            // A gateway closes what is superseded.
            Which::Watching => sessions.iter().find(|s| {
                s.role == Role::Watching && s.ended_ms.is_none() && !self.phones.by_handle[&s.handle].superseded
            }),
            Which::None => None,
        }
        .copied()
    }

    fn event(
        &self,
        user: &str,
        kind: LocationKind,
        session: Option<Session>,
        place: Option<Position>,
    ) -> LocationEvent {
        let fix = place.map(|place| Fix {
            lat: place.lat_deg(),
            lon: place.lon_deg(),
            accuracy_m: None,
            speed_mps: None,
            heading_deg: None,
            altitude_m: None,
            device: "d".to_owned(),
            n: 1,
            device_time: 0,
            fixed_at: 0,
        });
        LocationEvent {
            kind,
            session: session.map_or(NO_SESSION, |session| session.hello),
            route: session.map(|session| Route {
                gateway: format!("g{}", session.gateway),
                incarnation: 1,
                handle: session.handle,
                role: session.role,
            }),
            list_version: 0,
            reset: false,
            mode: self.modes.get(user).and_then(|modes| modes.last()).map_or(Mode::default(), |(_, mode)| *mode),
            fix,
            gateway_time: 0,
        }
    }

    fn append(&mut self, user: &str, event: LocationEvent) {
        let record = Logged { user: user.to_owned(), offset: self.log.len() as i64, append_ms: self.now_ms, event };
        for worker in &mut self.workers {
            give(worker, &record);
        }
        self.log.push(record);
    }

    fn list(&mut self, viewer: &str, radius_m: i32, entries: &[EntryRule]) {
        let version = self.versions.entry(viewer.to_owned()).or_default();
        *version += 1;
        let entry = |rule: &EntryRule| VisibilityEntry {
            friend: name(rule.friend),
            display_name: String::new(),
            precision: if rule.coarse { Precision::Coarse } else { Precision::Exact },
            radius_m: rule.radius_m,
            expires_at: if rule.expires_in == 0 { 0 } else { self.now_ms + rule.expires_in },
        };
        let entries = entries.iter().map(entry).filter(|entry| entry.friend != viewer).collect();
        self.lists.insert(viewer.to_owned(), VisibilityList::list(*version, self.now_ms, radius_m, entries));
        self.give_list(viewer);
    }

    /// Gives the viewer's list to whoever reads its partition, also to those who have not heard that it is another's.
    fn give_list(&mut self, viewer: &str) {
        let partition = partition_of(viewer.as_bytes(), PARTITIONS);
        let asleep = self.asleep.iter().filter(|(_, p, _)| *p == partition).map(|(worker, ..)| *worker);
        for worker in asleep.chain([self.owners[partition as usize]]).collect::<Vec<_>>() {
            let worker = &mut self.workers[worker];
            match self.lists.get(viewer) {
                Some(list) => worker.engine.list(partition, self.now_ms, viewer, &list.into(), &mut worker.out),
                None => worker.engine.unlist(partition, viewer, &mut worker.out),
            }
        }
    }

    fn takeover(&mut self, partition: i32, worker: usize, late: bool) {
        let before = self.owners[partition as usize];
        self.asleep.retain(|(sleeper, p, _)| (*sleeper, *p) != (worker, partition));
        if before != worker && late {
            self.asleep.push((before, partition, self.steps + 5));
        } else if before != worker {
            self.workers[before].engine.disown(partition);
        }
        self.take(partition, worker);
    }

    fn take(&mut self, partition: i32, worker: usize) {
        self.epoch += 1;
        self.owners[partition as usize] = worker;
        let worker = &mut self.workers[worker];
        for (viewer, list) in &self.lists {
            if partition_of(viewer.as_bytes(), PARTITIONS) == partition {
                worker.engine.list(partition, self.now_ms, viewer, &list.into(), &mut worker.out);
            }
        }
        worker.engine.own(partition, self.epoch, &mut worker.out);
        while worker.engine.resets(2, 3, &mut worker.out) {}
    }

    /// A new process reads the last time to live of the log, one partition after the other, and claims what it had.
    fn restart(&mut self, worker: usize) {
        self.asleep.retain(|(sleeper, ..)| *sleeper != worker);
        let copied = self.workers[worker].copied.take().map(Copying::of_another);
        self.workers[worker] = Worker::new(new_engine(), copied);
        for user in (0..USERS).map(name) {
            let window = |record: &&Logged| record.user == user && record.append_ms > self.now_ms - TTL_MS;
            let records: Vec<_> = self.log.iter().filter(window).map(located).collect();
            let Worker { engine, out, .. } = &mut self.workers[worker];
            engine.locations(&records, out);
        }
        self.claim_again(worker);
    }

    /// A new process takes the last whole copy, reads the log from where the copy began, one partition after the other,
    /// and claims what it had. It knows what the old one knew.
    fn restart_from_copy(&mut self, worker: usize) {
        let Some(copied) = self.workers[worker].copied.take_if(|copied| self.now_ms - copied.began_ms < TTL_MS) else {
            return self.restart(worker);
        };
        self.asleep.retain(|(sleeper, ..)| *sleeper != worker);
        let mut engine = copied.restored(new_engine());
        let mut out = Outbox::default();
        for user in (0..USERS).map(name) {
            let records = self.log[copied.next..].iter().filter(|record| record.user == user);
            engine.locations(&records.map(located).collect::<Vec<_>>(), &mut out);
        }
        engine.replayed();
        engine.sweep(self.now_ms, &mut out);
        engine.check().unwrap();
        let mut old = std::mem::replace(&mut self.workers[worker], Worker::new(engine, Some(copied)));
        if self.workers[worker].copied.as_ref().is_some_and(|copied| copied.is_own) {
            old.engine.sweep(self.now_ms, &mut old.out);
            assert_same(&old.engine, &self.workers[worker].engine);
        }
        self.claim_again(worker);
    }

    fn claim_again(&mut self, worker: usize) {
        let Worker { engine, out, .. } = &mut self.workers[worker];
        engine.sweep(self.now_ms, out);
        assert!(out.is_empty(), "nobody is told anything before owning");
        for partition in (0..PARTITIONS).filter(|p| self.owners[*p as usize] == worker).collect::<Vec<_>>() {
            self.take(partition, worker);
        }
    }

    fn wake(&mut self, all: bool) {
        let steps = self.steps;
        for (worker, partition, _) in self.asleep.extract_if(.., |(_, _, until)| all || *until <= steps) {
            self.workers[worker].engine.disown(partition);
        }
    }

    fn deliver(&mut self, wrong: Option<(usize, Wrong)>) {
        let mut mangled = false;
        for worker in &mut self.workers {
            worker.engine.check().unwrap();
            let mut went_wrong = Vec::new();
            for batch in worker.out.take() {
                let gateway = gateway_of(&worker.engine, batch.gateway);
                if wrong.is_some_and(|(at, _)| at == gateway) {
                    went_wrong.push(batch);
                } else {
                    self.phones.deliver(gateway, &batch, true);
                }
            }
            match wrong.filter(|_| !went_wrong.is_empty()) {
                None => {}
                Some((at, Wrong::Lost)) => {
                    let numbers = worker.engine.gateways().filter(|n| gateway_of(&worker.engine, *n) == at);
                    for number in numbers.collect::<Vec<_>>() {
                        worker.engine.lost(number, &mut worker.out);
                    }
                    while worker.engine.resets(1, 2, &mut worker.out) {}
                }
                Some((at, Wrong::Mangled)) => {
                    mangled = true;
                    for batch in went_wrong.iter().rev().chain(&went_wrong) {
                        self.phones.deliver(at, batch, false);
                    }
                }
            }
        }
        if let Some((at, _)) = wrong.filter(|_| mangled) {
            self.ask_again(at);
        }
        for worker in &mut self.workers {
            for batch in worker.out.take() {
                self.phones.deliver(gateway_of(&worker.engine, batch.gateway), &batch, true);
            }
        }
    }

    /// The sequence of a worker had a gap: every session of the gateway asks for a reset.
    fn ask_again(&mut self, gateway: usize) {
        let handles = self.phones.at_gateway(gateway);
        let asking: Vec<(String, Session)> = self
            .sessions
            .iter()
            .flat_map(|(user, sessions)| sessions.iter().map(|session| (user.clone(), *session)))
            .filter(|(_, session)| session.ended_ms.is_none() && handles.contains(&session.handle))
            .filter(|(_, session)| !self.phones.by_handle[&session.handle].superseded)
            .collect();
        for (user, session) in asking {
            let mut event = self.event(&user, LocationKind::Presence, Some(session), None);
            event.reset = true;
            self.append(&user, event);
        }
    }

    /// Whether any session of a viewer holds a friend.
    pub fn sees(&self, viewer: &str, friend: &str) -> bool {
        self.phones.by_handle.values().any(|phone| phone.user == viewer && phone.view.contains_key(friend))
    }

    /// Whoever is shown takes part and is no friend, whoever is shown somebody takes part, and all phones hold the same.
    fn compare_strangers(&self, known: &BTreeMap<String, Known>) {
        for (handle, phone) in &self.phones.by_handle {
            let viewer = &known[&phone.user];
            if viewer.depends || !viewer.sessions.contains_key(handle) || phone.strangers.is_empty() {
                continue;
            }
            // Whose list was deleted waits for another one, and a new owner says nothing until then.
            if !self.lists.contains_key(&phone.user) {
                continue;
            }
            assert!(viewer.takes_part(self.now_ms), "{} sees strangers and is not seen", phone.user);
            let owner = self.owners[partition_of(phone.user.as_bytes(), PARTITIONS) as usize];
            let told = self.workers[owner].engine.strangers(&phone.user).unwrap_or_default();
            assert_eq!(phone.strangers.len(), told.len(), "{}", phone.user);
            let friends = self.lists.get(&phone.user).map_or(&[][..], |list| &list.entries);
            for stranger in &told {
                assert!(
                    !friends.iter().any(|entry| entry.friend == *stranger),
                    "{}: {stranger} is a friend",
                    phone.user
                );
                let known = &known[stranger];
                assert!(known.depends || known.takes_part(self.now_ms), "{}: {stranger} takes no part", phone.user);
            }
        }
    }

    fn compare(&self) {
        let known: BTreeMap<String, Known> =
            (0..USERS).map(name).map(|user| (user.clone(), oracle::known(&self.log, &user, self.now_ms))).collect();
        self.compare_strangers(&known);
        for (user, known_user) in &known {
            let Some(list) = self.lists.get(user).filter(|_| !known_user.depends) else { continue };
            let must = oracle::view(known_user, list, &known, self.now_ms);
            let owner = self.owners[partition_of(user.as_bytes(), PARTITIONS) as usize];
            let live: Vec<i32> = known_user
                .sessions
                .iter()
                .filter(|(_, waits)| **waits <= list.version)
                .map(|(handle, _)| *handle)
                .collect();
            if !live.is_empty() {
                let view = self.workers[owner].engine.view(user);
                let view = view.unwrap_or_else(|| panic!("{user} is connected and has no view"));
                let view = view.into_iter().map(|seen| (seen.friend, seen.coarse)).collect();
                check_view(user, &view, &must);
            }
            for handle in live {
                let phone = &self.phones.by_handle[&handle];
                assert!(!phone.superseded, "{user}: the session {handle} is in force");
                check_view(user, &phone.view.iter().map(|(f, p)| (f.clone(), p.coarse)).collect(), &must);
                for (friend, position) in &phone.view {
                    match &must[friend] {
                        Must::Exact(place, at) => {
                            assert_eq!(
                                (position.lat, position.lon),
                                (place.lat_deg(), place.lon_deg()),
                                "{user}: {friend}"
                            );
                            assert_eq!(position.at, *at, "{user}: {friend}");
                        }
                        _ => assert!(position.at <= self.now_ms),
                    }
                }
            }
        }
    }
}

fn check_view(user: &str, view: &BTreeMap<String, bool>, must: &BTreeMap<String, Must>) {
    for (friend, must) in must {
        let right = match must {
            Must::Free => true,
            Must::Absent => !view.contains_key(friend),
            Must::Exact(..) => view.get(friend) == Some(&false),
            Must::Coarse => view.get(friend) == Some(&true),
        };
        assert!(right, "{user} has {:?} of {friend}, which must be {must:?}", view.get(friend));
    }
    let stranger = view.keys().find(|friend| !must.contains_key(*friend));
    assert_eq!(stranger, None, "{user} sees a stranger");
}

fn give(worker: &mut Worker, record: &Logged) {
    let Located { at, user, event } = located(record);
    worker.engine.location(at, user, &event, &mut worker.out);
}

fn located(record: &Logged) -> Located<'_> {
    let at = Stamp { offset: record.offset, append_ms: record.append_ms };
    Located { at, user: &record.user, event: LocationEventRef::from(&record.event) }
}

fn gateway_of(engine: &Engine, number: u32) -> usize {
    (0..GATEWAYS).find(|gateway| format!("g{gateway}") == engine.gateway(number).0).unwrap()
}
