//! What the engine knows from the locations, as [`rows`](super::rows) for a file, and back into an engine that begins.
//!
//! Only what comes from the locations: lists are read again, views and generations follow ownership. The rows are copied
//! some slots at a time while records go on coming, so each part of a copy stands at offsets of its own. Whoever was copied
//! at an offset has the effect of all records below it; so in the replay that follows a user's records are taken from that
//! offset on, and no record needs to bear being taken twice. That costs eight bytes a user while the replay lasts.

use nearcast_geo::{Cell, CoarsePosition, Ecef, Position};
use nearcast_schemas::event::{MOST_WATCHING, Mode, NO_SESSION};
use nearcast_schemas::ids::check_id;
use nearcast_schemas::topics::partition_of;

use super::batch::Ahead;
use super::cold::Report;
use super::out::Outbox;
use super::ownership::SupersededSession;
use super::people::{Id, hash_of};
use super::rows::{BadRow, Row, SavedCell, SavedReport, SavedSession, SavedSuperseded, SavedUser, append, rows};
use super::session::{NO_GENERATION, ResetCause, Session, Sessions};
use super::{Engine, Stamp};

/// Sessions are offsets below this.
const HIGHEST_SESSION: i64 = (1 << 48) - 1;

/// How far a copy has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// The slots before this one.
    Slots(usize),
    /// All slots, and the superseded sessions before this one.
    Superseded(u64),
    /// Everything.
    All,
}

/// While a replay follows a restored copy: for each slot the offset from which on its user's records are news; 0 for all.
#[derive(Default)]
pub(super) struct Marks(Vec<i64>);

impl Marks {
    fn set(&mut self, slot: u32, offset: i64) {
        if self.0.len() <= slot as usize {
            self.0.resize(slot as usize + 1, 0);
        }
        self.0[slot as usize] = offset;
    }

    /// Somebody else has the slot now.
    pub(super) fn clear(&mut self, slot: u32) {
        if let Some(mark) = self.0.get_mut(slot as usize) {
            *mark = 0;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn of(&self, slot: u32) -> i64 {
        self.0.get(slot as usize).copied().unwrap_or(0)
    }
}

impl Engine {
    /// How many slots a copy goes through.
    pub fn slots(&self) -> usize {
        self.slots.capacity()
    }

    /// Appends the rows of so many more slots, or superseded sessions, as they are at [`Engine::now_ms`]; returns how far
    /// the copy has come, and how many rows that were.
    pub fn save(&self, from: Copied, count: usize, bytes: &mut Vec<u8>) -> (Copied, u64) {
        let mut rows = 0;
        let next = match from {
            Copied::Slots(first) => {
                let end = self.slots.capacity().min(first + count);
                for slot in (first as u32..end as u32).filter(|&slot| self.slots.is_used(slot)) {
                    append(&Row::User(Box::new(self.saved_user(slot))), bytes);
                    rows += 1;
                }
                if end == self.slots.capacity() { Copied::Superseded(0) } else { Copied::Slots(end) }
            }
            Copied::Superseded(first) => {
                // Those that were forgotten meanwhile are of no use any more.
                let gone = self.superseded_gone;
                let begin = first.saturating_sub(gone) as usize;
                for known in self.superseded.iter().skip(begin).take(count) {
                    append(&Row::Superseded(self.saved_superseded(known)), bytes);
                    rows += 1;
                }
                let end = begin + rows as usize;
                if end >= self.superseded.len() { Copied::All } else { Copied::Superseded(gone + end as u64) }
            }
            Copied::All => Copied::All,
        };
        (next, rows)
    }

    /// Takes the rows of one part of a copy. It stood at `now_ms`, and at these offsets of the partitions of the
    /// locations: all records below had their effect. Later parts after earlier ones; records and lists after all
    /// parts; then [`Engine::replayed`]. Whoever is too old by now is left out. Returns how many rows there were.
    ///
    /// # Errors
    /// When the bytes are no rows. The engine is of no use then.
    pub fn restore(&mut self, now_ms: i64, next: &[i64], bytes: &[u8]) -> Result<u64, BadRow> {
        self.now_ms = self.now_ms.max(now_ms);
        // Nobody owns anything yet, so nobody is told.
        let (mut count, mut nothing) = (0, Outbox::default());
        for row in rows(bytes) {
            match row? {
                Row::User(row) => self.restore_user(&row, now_ms, next, &mut nothing)?,
                Row::Superseded(row) => self.restore_superseded(&row, now_ms)?,
            }
            count += 1;
        }
        Ok(count)
    }

    /// The replay has passed all offsets of the restored parts.
    pub fn replayed(&mut self) {
        self.marks = Marks::default();
    }

    /// In the replay after a restored copy: whether the copy knows this record already. If not, what time has overtaken
    /// by then of its user goes, as it did when the record came first.
    pub(super) fn is_saved(&mut self, at: Stamp, user: &str, ahead: Ahead, mode: Mode, out: &mut Outbox) -> bool {
        let Some(id) = self.people.find_ahead(ahead, user) else { return false };
        let Some(slot) = self.people.slot(id) else { return false };
        if at.offset < self.marks.of(slot) {
            return true;
        }
        let oldest_ms = at.append_ms - self.settings.ttl_ms;
        self.let_go(slot, oldest_ms, out);
        if self.slots.cold(slot).last_record_ms(self.now_ms) <= oldest_ms {
            // The slot stays, because it is in the wheel: the user begins anew in it.
            let nobody = Sessions { latest: NO_SESSION, left: false, reporting: None, watching: Vec::new() };
            self.slots.set_sessions(slot, nobody);
            self.slots.cold_mut(slot).set_report(&Report::NONE);
            self.slots.set_mode(slot, mode);
            self.arm_mode(id, slot);
        }
        false
    }

    fn saved_user(&self, slot: u32) -> SavedUser<'_> {
        let (id, now_ms) = (self.slots.id(slot), self.now_ms);
        let report = self.slots.hot(slot).place().map(|_| {
            let Report { lat, lon, at, accuracy_m, speed_mps, heading_deg, sharing } = self.slots.report(slot, now_ms);
            SavedReport { lat, lon, at_ago: now_ms - at, accuracy_m, speed_mps, heading_deg, sharing }
        });
        let Sessions { latest, left, reporting, watching } = self.slots.sessions(slot, now_ms);
        SavedUser {
            user: self.people.name(id),
            last_ago: now_ms - self.slots.cold(slot).last_record_ms(now_ms),
            mode: self.slots.mode(slot).filter(|mode| *mode != Mode::default()),
            report,
            coarse: self
                .coarse_shown(id)
                .map(|shown| SavedCell { cell: shown.cell.into(), at_ago: now_ms - shown.at_ms }),
            latest,
            left,
            reporting: reporting.as_ref().map(|session| self.saved_session(session)),
            watching: watching.iter().map(|session| self.saved_session(session)).collect(),
        }
    }

    fn saved_session(&self, session: &Session) -> SavedSession<'_> {
        let (gateway, incarnation) = self.gateways.name(session.gateway);
        let &Session { hello, handle, seen_ms, waits_for, .. } = session;
        SavedSession { hello, gateway, incarnation, handle, seen_ago: self.now_ms - seen_ms, waits_for }
    }

    fn saved_superseded(&self, known: &SupersededSession) -> SavedSuperseded<'_> {
        // There are at most 65 535 partitions.
        let partition = known.partition as u16;
        SavedSuperseded { partition, ago: self.now_ms - known.at_ms, session: self.saved_session(&known.session) }
    }

    fn restore_user(&mut self, row: &SavedUser<'_>, now_ms: i64, next: &[i64], out: &mut Outbox) -> Result<(), BadRow> {
        check_id(row.user).map_err(|_| BadRow)?;
        let partitions = i32::try_from(next.len()).map_err(|_| BadRow)?.max(1);
        let mark = *next.get(partition_of(row.user.as_bytes(), partitions) as usize).ok_or(BadRow)?;
        let sessions = self.restored_sessions(row, now_ms)?;
        let oldest_ms = self.now_ms - self.settings.ttl_ms;
        let last_ms = now_ms.saturating_sub(row.last_ago);
        if last_ms <= oldest_ms {
            return Ok(());
        }
        let (id, slot, is_new) = self.slot_for(row.user, last_ms, out);
        self.marks.set(slot, mark);
        for session in sessions.iter() {
            *self.gateways.sessions_mut(session.gateway) += 1;
        }
        self.slots.set_sessions(slot, sessions);
        self.slots.set_mode(slot, row.mode.unwrap_or_default());
        if let Some((report, place)) = restored_report(row, now_ms)?.filter(|(report, _)| report.at > oldest_ms) {
            self.slots.cold_mut(slot).set_report(&report);
            self.slots.hot_mut(slot).set_place(Some(place));
        }
        self.arm_mode(id, slot);
        self.share(slot);
        if let Some(SavedCell { cell, at_ago }) = row.coarse {
            let cell = Cell::try_from(cell).map_err(|_| BadRow)?;
            self.restore_coarse(id, slot, CoarsePosition { cell, at_ms: now_ms.saturating_sub(at_ago) });
            self.discover(id, out);
        }
        if is_new {
            let at_ms = self.silent_at(slot);
            self.wheel.add(&mut self.slots, slot, at_ms, self.now_ms);
        }
        Ok(())
    }

    /// A slot without anything in it, and whether it is to be put into the wheel: whoever lost a slot during the copy and
    /// came back to another is in the copy twice, and the later row counts.
    fn slot_for(&mut self, user: &str, last_ms: i64, out: &mut Outbox) -> (Id, u32, bool) {
        let known = self.people.find_hashed(hash_of(user), user);
        if let Some((id, slot)) = known.and_then(|id| Some((id, self.people.slot(id)?))) {
            self.end_coarse(id, slot, out);
            self.slots.hot_mut(slot).set_place(None);
            let mut sessions = self.slots.sessions(slot, self.now_ms);
            let ended = sessions.drop_if(|_| true);
            self.slots.set_sessions(slot, sessions);
            self.sessions_ended(slot, ended);
            let now_ms = self.now_ms;
            let cold = self.slots.cold_mut(slot);
            cold.set_report(&Report::NONE);
            cold.set_last_record(last_ms, now_ms);
            return (id, slot, false);
        }
        let id = self.people.named(user);
        let slot = self.slots.insert(id, self.partition_of_name(user), last_ms);
        self.people.come_online(id, slot);
        (id, slot, true)
    }

    fn restored_sessions(&mut self, row: &SavedUser<'_>, now_ms: i64) -> Result<Sessions, BadRow> {
        let fits = |hello: i64| (NO_SESSION..HIGHEST_SESSION).contains(&hello);
        let same = row.reporting.as_ref().is_none_or(|session| session.hello == row.latest);
        if !fits(row.latest) || !same || row.watching.len() > MOST_WATCHING {
            return Err(BadRow);
        }
        let oldest_ms = self.now_ms - self.settings.ttl_ms;
        let reporting = row.reporting.as_ref().map(|session| self.restored_session(session, now_ms));
        let watching: Vec<_> = row.watching.iter().map(|session| self.restored_session(session, now_ms)).collect();
        Ok(Sessions {
            latest: row.latest,
            left: row.left,
            reporting: reporting.filter(|session| session.seen_ms > oldest_ms),
            watching: watching.into_iter().filter(|session| session.seen_ms > oldest_ms).collect(),
        })
    }

    fn restored_session(&mut self, row: &SavedSession<'_>, now_ms: i64) -> Session {
        Session {
            hello: row.hello,
            gateway: self.gateways.number(row.gateway, row.incarnation),
            handle: row.handle,
            seen_ms: now_ms.saturating_sub(row.seen_ago),
            waits_for: row.waits_for,
            generation: NO_GENERATION,
            cause: ResetCause::Ownership,
        }
    }

    fn restore_superseded(&mut self, row: &SavedSuperseded<'_>, now_ms: i64) -> Result<(), BadRow> {
        let partition = usize::from(row.partition);
        if partition >= self.partitions.len() {
            return Err(BadRow);
        }
        let at_ms = now_ms.saturating_sub(row.ago);
        if at_ms > self.now_ms - self.settings.ttl_ms {
            let session = self.restored_session(&row.session, now_ms);
            self.superseded.push_back(SupersededSession { partition, session, at_ms });
        }
        Ok(())
    }
}

fn restored_report(row: &SavedUser<'_>, now_ms: i64) -> Result<Option<(Report, Ecef)>, BadRow> {
    let Some(saved) = &row.report else { return Ok(None) };
    let position = Position::new(saved.lat, saved.lon).map_err(|_| BadRow)?;
    let report = Report {
        lat: position.lat_deg(),
        lon: position.lon_deg(),
        at: now_ms.saturating_sub(saved.at_ago),
        accuracy_m: saved.accuracy_m,
        speed_mps: saved.speed_mps,
        heading_deg: saved.heading_deg,
        sharing: saved.sharing,
    };
    Ok(Some((report, Ecef::from(position))))
}

#[cfg(test)]
mod tests {
    use nearcast_schemas::event::{LocationKind, Role, Sharing};

    use super::super::script::{Script, TTL_MS, east, mode};
    use super::*;

    fn copy(engine: &Engine) -> Vec<u8> {
        let (mut at, mut bytes) = (Copied::Slots(0), Vec::new());
        while at != Copied::All {
            at = engine.save(at, 1, &mut bytes).0;
        }
        bytes
    }

    /// Another worker goes on from a copy that knows all records so far.
    fn restart(script: &mut Script) {
        let mut engine = Engine::new(script.engine.settings);
        engine.restore(script.engine.now_ms(), &[script.offset], &copy(&script.engine)).unwrap();
        script.engine = engine;
    }

    #[test]
    fn a_copy_comes_back_as_it_was() {
        let mut script = Script::new();
        for (at, user) in ["alice", "bob", "carol"].into_iter().enumerate() {
            let session = script.hello(user, Role::Reporting, 1, Some(east(100.0 * at as f64)));
            script.hello(user, Role::Watching, 1, None);
            script.pass(1_000);
            script.presence(user, session, false);
        }
        script.mode("alice", mode(Sharing::Hidden, 2));
        script.mode("bob", Mode { discoverable: true, ..mode(Sharing::Coarse, 3) });
        let event = script.event("carol", LocationKind::Erase, None, None);
        script.send("carol", event);
        let before = copy(&script.engine);
        restart(&mut script);
        script.engine.check().unwrap();
        assert_eq!(script.engine.discoverable(), 1);
        assert_eq!(rows(&copy(&script.engine)).collect::<Vec<_>>(), rows(&before).collect::<Vec<_>>());
    }

    #[test]
    fn a_record_that_the_copy_knows_is_not_taken_again() {
        let mut script = Script::new();
        script.hello("bob", Role::Reporting, 1, Some(east(0.0)));
        script.mode("bob", mode(Sharing::Hidden, 2));
        let begun = script.offset;
        // On its way when the pause began, and of no more use when it is over: taken again, it would be shown.
        let mut late = script.event("bob", LocationKind::Fix, None, Some(east(50.0)));
        late.mode = Mode::default();
        script.send("bob", late.clone());
        script.mode("bob", mode(Sharing::Exact, 3));
        let before = copy(&script.engine);
        restart(&mut script);
        script.offset = begun;
        script.send("bob", late);
        script.mode("bob", mode(Sharing::Exact, 3));
        assert_eq!((script.engine.stats().records, script.engine.stats().records_saved), (2, 2));
        assert_eq!(copy(&script.engine), before);
    }

    #[test]
    fn who_was_silent_for_the_time_to_live_begins_anew_in_the_replay() {
        let end = |is_restarted: bool| {
            let mut script = Script::new();
            let first = script.hello("bob", Role::Reporting, 1, Some(east(0.0)));
            script.hello("bob", Role::Reporting, 1, None);
            script.mode("bob", mode(Sharing::Hidden, 2));
            if is_restarted {
                restart(&mut script);
                script.now_ms += TTL_MS;
            } else {
                script.pass(TTL_MS);
            }
            let mut event = script.event("bob", LocationKind::Fix, Some(first), Some(east(50.0)));
            event.mode = Mode::default();
            script.send("bob", event);
            script.pass(0);
            script.engine.check().unwrap();
            copy(&script.engine)
        };
        assert_eq!(end(true), end(false));
    }

    #[test]
    fn a_supersession_that_nobody_owned_is_in_the_copy() {
        let mut script = Script::new();
        script.hello("alice", Role::Reporting, 0, None);
        script.hello("alice", Role::Reporting, 0, None);
        restart(&mut script);
        script.own(1);
        assert_eq!(script.told(), ["alice: superseded", "alice#2: reset v0 []"]);
    }

    #[test]
    fn what_is_too_old_by_now_is_left_out() {
        let mut script = Script::new();
        script.hello("alice", Role::Reporting, 0, Some(east(0.0)));
        script.hello("alice", Role::Reporting, 0, None);
        let (bytes, now_ms) = (copy(&script.engine), script.now_ms);
        let restored = |later_ms| {
            let mut engine = Engine::new(script.engine.settings);
            // A part of the same copy that came later tells the time.
            engine.restore(now_ms + later_ms, &[9], &[]).unwrap();
            assert_eq!(engine.restore(now_ms, &[9], &bytes), Ok(2));
            (engine.users(), engine.superseded.len())
        };
        assert_eq!(restored(TTL_MS - 1), (1, 1));
        assert_eq!(restored(TTL_MS), (0, 0));
    }

    #[test]
    fn rows_that_no_engine_wrote_are_refused() {
        let check = |bytes: &[u8]| {
            let mut engine = Engine::new(Script::new().engine.settings);
            assert_eq!(engine.restore(1_700_000_000_000, &[9], bytes), Err(BadRow));
        };
        check(&[7]);
        let mut script = Script::new();
        script.hello("alice", Role::Reporting, 0, Some(east(0.0)));
        let bytes = copy(&script.engine);
        check(&bytes[..bytes.len() - 1]);
        check(&[&bytes[..], b"\0"].concat());
    }
}
