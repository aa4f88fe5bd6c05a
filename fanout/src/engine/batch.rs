//! Many records at once, each loaded before its turn.
//!
//! A record of one user among ten million reads some sixty lines at random, nearly all from memory. One after the other
//! that is 6 µs; asked for some records ahead, many are on their way at once. The steps depend on each other: the name
//! leads to the number, that to slot and links, those to the friends' slots. Each is a hint: what has changed by the time
//! of the record's turn costs time and nothing else.

use nearcast_schemas::codec::LocationEventRef;

use super::links::Says;
use super::out::Outbox;
use super::people::{Id, hash_of};
use super::prefetch::prefetch;
use super::{Engine, Stamp};

/// One record of the locations.
#[derive(Clone, Debug)]
pub struct Located<'a> {
    /// Where it stands.
    pub at: Stamp,
    /// Whose it is.
    pub user: &'a str,
    /// What happened.
    pub event: LocationEventRef<'a>,
}

/// What is known of a record before its turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ahead {
    pub(super) hash: u64,
    /// Whom the hash most likely means.
    pub(super) id: Option<Id>,
}

impl Ahead {
    pub(super) fn of(user: &str) -> Self {
        Self { hash: hash_of(user), id: None }
    }
}

/// How many records before its turn each step is made.
const HASHED: usize = 16;
const GUESSED: usize = 11;
const ROW: usize = 6;
const LINKS: usize = 2;
/// Links loaded ahead: what comes after them is fetched in its turn.
pub(super) const LINKS_AHEAD: usize = 96;

impl Engine {
    /// Takes records in their order: the same as [`Engine::location`] for each, and faster.
    pub fn locations(&mut self, batch: &[Located<'_>], out: &mut Outbox) {
        let mut ahead = std::mem::take(&mut self.ahead);
        ahead.clear();
        for turn in 0..batch.len() + HASHED {
            if let Some(record) = batch.get(turn) {
                let record = Ahead::of(record.user);
                self.people.prefetch_index(record.hash);
                ahead.push(record);
            }
            let step = |ahead: usize| (turn + ahead).checked_sub(HASHED).filter(|&at| at < batch.len());
            if let Some(at) = step(GUESSED) {
                ahead[at].id = self.people.guess(ahead[at].hash);
            }
            if let Some(id) = step(ROW).and_then(|at| ahead[at].id)
                && let Some(slot) = self.people.prefetch_row(id)
            {
                self.slots.prefetch_own(slot);
            }
            if let Some(id) = step(LINKS).and_then(|at| ahead[at].id) {
                self.prefetch_friends(id);
            }
            if let Some(at) = step(0) {
                let record = &batch[at];
                self.take(record.at, record.user, ahead[at], &record.event, out);
            }
        }
        self.ahead = ahead;
    }

    /// Begins to load the slots of a user's friends, and the sessions of those who see the user already: they will be told.
    #[inline]
    fn prefetch_friends(&self, id: Id) {
        self.people.prefetch_display(id);
        let (hot, routes) = (self.slots.all_hot(), self.slots.all_routes());
        for link in self.people.online(id).iter().take(LINKS_AHEAD) {
            prefetch(hot, link.slot() as usize);
            if link.says(Says::Shown) {
                prefetch(routes, link.slot() as usize);
            }
        }
    }
}
