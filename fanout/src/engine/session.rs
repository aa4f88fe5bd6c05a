//! The sessions of one user: which of them moves the position, and where views are sent.

use nearcast_schemas::event::{NO_SESSION, Role};

/// The generation of a session that was never sent a view, and of a partition that was never owned.
pub(super) const NO_GENERATION: u16 = 0;

/// Why a session is due a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetCause {
    /// It began.
    Hello = 0,
    /// It asked.
    Asked = 1,
    /// The viewer's partition came to this worker, or the session came back after a silence.
    Ownership = 2,
    /// A batch for its gateway may be lost.
    Delivery = 3,
}

/// One connected session.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Session {
    /// Offset of its hello in the user's partition of the locations.
    pub(super) hello: i64,
    /// The gateway's process, by the engine's number.
    pub(super) gateway: u32,
    /// The gateway's name for it.
    pub(super) handle: i32,
    /// Append time of its last record, ms since the epoch.
    pub(super) seen_ms: i64,
    /// The version of the viewer's list that its reset waits for.
    pub(super) waits_for: i64,
    /// The generation that it was sent its view under; another than the partition's own means that a reset is due.
    pub(super) generation: u16,
    /// Why the next reset is due.
    pub(super) cause: ResetCause,
}

impl Session {
    /// Whether both are one socket: a hello that was not acknowledged may be said again.
    pub(super) fn is_same_socket(&self, other: &Self) -> bool {
        (self.gateway, self.handle) == (other.gateway, other.handle)
    }
}

/// What a record meant for the sessions of its user.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Turn {
    /// The record may move the position.
    pub(super) moves: bool,
    /// Its session has a route now that had none.
    pub(super) appeared: bool,
    /// A session that this one took the place of; on the same socket where the hello was said again.
    pub(super) replaced: Option<Session>,
    /// The record is of a session that has lost its place.
    pub(super) ignored: bool,
}

const IGNORED: Turn = Turn { moves: false, appeared: false, replaced: None, ignored: true };

/// The sessions of one user.
#[derive(Debug)]
pub(super) struct Sessions {
    /// The highest reporting session seen; records of lower ones count for nothing.
    pub(super) latest: i64,
    /// The latest session has left: its late records bring no route back.
    pub(super) left: bool,
    /// The latest session, if it has a route.
    pub(super) reporting: Option<Session>,
    pub(super) watching: Vec<Session>,
}

#[cfg(test)]
impl Default for Sessions {
    fn default() -> Self {
        Self { latest: NO_SESSION, left: false, reporting: None, watching: Vec::new() }
    }
}

impl Sessions {
    /// A record of `session` came, of whatever kind but a leave.
    pub(super) fn seen(&mut self, role: Role, session: Session) -> Turn {
        if role == Role::Reporting { self.seen_reporting(session) } else { self.seen_watching(role, session) }
    }

    fn seen_reporting(&mut self, session: Session) -> Turn {
        if session.hello < self.latest {
            return IGNORED;
        }
        if session.hello == self.latest {
            let appeared = self.reporting.is_none() && !self.left;
            if let Some(known) = &mut self.reporting {
                known.seen_ms = session.seen_ms;
            } else if appeared {
                self.reporting = Some(session);
            }
            return Turn { moves: true, appeared, ..Turn::default() };
        }
        self.latest = session.hello;
        self.left = false;
        Turn { moves: true, appeared: true, replaced: self.reporting.replace(session), ignored: false }
    }

    fn seen_watching(&mut self, role: Role, session: Session) -> Turn {
        if let Some(known) = self.watching.iter_mut().find(|known| known.hello == session.hello) {
            known.seen_ms = session.seen_ms;
            return Turn::default();
        }
        if let Some(known) = self.watching.iter_mut().find(|known| known.is_same_socket(&session)) {
            if session.hello < known.hello {
                return IGNORED;
            }
            return Turn { appeared: true, replaced: Some(std::mem::replace(known, session)), ..Turn::default() };
        }
        if self.watching.len() < role.at_once() {
            self.watching.push(session);
            return Turn { appeared: true, ..Turn::default() };
        }
        match self.watching.iter_mut().min_by_key(|known| known.hello) {
            Some(oldest) if oldest.hello < session.hello => {
                Turn { appeared: true, replaced: Some(std::mem::replace(oldest, session)), ..Turn::default() }
            }
            _ => IGNORED,
        }
    }

    /// A record came that names a session and no route, or no session at all: whether it may move the position.
    pub(super) fn seen_without_route(&self, session: i64) -> bool {
        session == NO_SESSION || session >= self.latest
    }

    /// A session ended; returned if it had a route.
    pub(super) fn leave(&mut self, role: Role, hello: i64) -> Option<Session> {
        if role != Role::Reporting {
            let at = self.watching.iter().position(|known| known.hello == hello)?;
            return Some(self.watching.swap_remove(at));
        }
        if hello < self.latest {
            return None;
        }
        self.latest = hello;
        self.left = true;
        self.reporting.take()
    }

    /// Everything of before `offset` is over: the user was erased by the record at it.
    pub(super) fn erase(&mut self, offset: i64) -> Vec<Session> {
        self.latest = offset;
        self.left = true;
        self.reporting.take().into_iter().chain(self.watching.drain(..)).collect()
    }

    /// Takes out the sessions for which `gone` holds.
    pub(super) fn drop_if(&mut self, mut gone: impl FnMut(&Session) -> bool) -> Vec<Session> {
        let reporting = self.reporting.take_if(|session| gone(session));
        reporting.into_iter().chain(self.watching.extract_if(.., |session| gone(session))).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Session> {
        self.reporting.iter().chain(&self.watching)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Session> {
        self.reporting.iter_mut().chain(&mut self.watching)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.reporting.is_none() && self.watching.is_empty()
    }

    /// Append time of the record after which the first session will expire, ms since the epoch.
    pub(super) fn oldest_seen_ms(&self) -> Option<i64> {
        self.iter().map(|session| session.seen_ms).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(hello: i64, handle: i32) -> Session {
        Session {
            hello,
            gateway: 0,
            handle,
            seen_ms: hello,
            waits_for: 0,
            generation: NO_GENERATION,
            cause: ResetCause::Hello,
        }
    }

    fn handles(sessions: &Sessions) -> Vec<i32> {
        sessions.iter().map(|session| session.handle).collect()
    }

    #[test]
    fn a_newer_hello_supersedes_and_an_older_session_counts_for_nothing() {
        let mut sessions = Sessions::default();
        let first = sessions.seen(Role::Reporting, session(10, 1));
        assert_eq!(first, Turn { moves: true, appeared: true, ..Turn::default() });
        let second = sessions.seen(Role::Reporting, session(20, 2));
        assert_eq!(second.replaced.map(|old| old.handle), Some(1));
        assert_eq!(sessions.seen(Role::Reporting, session(10, 1)), IGNORED);
        assert_eq!(sessions.leave(Role::Reporting, 10), None);
        assert_eq!(handles(&sessions), [2]);
        assert!(!sessions.seen_without_route(10));
        assert!(sessions.seen_without_route(NO_SESSION));
    }

    #[test]
    fn late_records_of_a_session_that_left_move_the_position_and_bring_no_route_back() {
        let mut sessions = Sessions::default();
        sessions.seen(Role::Reporting, session(10, 1));
        assert!(sessions.leave(Role::Reporting, 10).is_some());
        let late = sessions.seen(Role::Reporting, session(10, 1));
        assert_eq!(late, Turn { moves: true, ..Turn::default() });
        assert!(sessions.is_empty());
        assert!(sessions.seen(Role::Reporting, session(11, 2)).appeared);
    }

    #[test]
    fn a_session_that_was_dropped_for_its_silence_comes_back() {
        let mut sessions = Sessions::default();
        sessions.seen(Role::Reporting, session(10, 1));
        assert_eq!(sessions.drop_if(|session| session.seen_ms < 11).len(), 1);
        assert!(sessions.seen(Role::Reporting, session(10, 1)).appeared);
        assert!(!sessions.seen(Role::Reporting, session(10, 1)).appeared);
    }

    #[test]
    fn the_newest_three_watch() {
        let mut sessions = Sessions::default();
        for hello in [10, 20, 30] {
            assert!(sessions.seen(Role::Watching, session(hello, hello as i32)).appeared);
        }
        let fourth = sessions.seen(Role::Watching, session(40, 40));
        assert_eq!(fourth.replaced.map(|old| old.handle), Some(10));
        assert!(!fourth.moves);
        assert_eq!(sessions.seen(Role::Watching, session(10, 10)), IGNORED);
        let mut left = handles(&sessions);
        left.sort_unstable();
        assert_eq!(left, [20, 30, 40]);
    }

    #[test]
    fn twenty_look_through_one_link() {
        let mut sessions = Sessions::default();
        for hello in 1..=20 {
            assert!(sessions.seen(Role::Link, session(hello, hello as i32)).replaced.is_none());
        }
        let next = sessions.seen(Role::Link, session(21, 21));
        assert_eq!(next.replaced.map(|old| old.handle), Some(1));
    }

    #[test]
    fn a_hello_said_again_takes_its_own_place() {
        let mut sessions = Sessions::default();
        sessions.seen(Role::Reporting, session(10, 1));
        sessions.seen(Role::Watching, session(11, 2));
        for (role, hello, handle) in [(Role::Reporting, 20, 1), (Role::Watching, 21, 2)] {
            let again = sessions.seen(role, session(hello, handle));
            assert!(again.appeared && again.replaced.is_some_and(|old| old.is_same_socket(&session(hello, handle))));
            assert_eq!(sessions.seen(role, session(hello - 10, handle)), IGNORED);
        }
        assert_eq!(handles(&sessions), [1, 2]);
    }

    #[test]
    fn an_erased_user_has_no_session_of_before() {
        let mut sessions = Sessions::default();
        sessions.seen(Role::Reporting, session(10, 1));
        sessions.seen(Role::Watching, session(11, 2));
        assert_eq!(sessions.erase(12).len(), 2);
        assert_eq!(sessions.seen(Role::Reporting, session(10, 1)), IGNORED);
        assert!(sessions.seen(Role::Reporting, session(13, 3)).appeared);
    }
}
