//! Users by number: names interned, counted by reference, with what belongs to a name alone.

use std::collections::HashMap;
use std::sync::Arc;

use super::lists::Link;

/// The slot of a user who is offline.
pub(super) const NO_SLOT: u32 = u32::MAX;

/// A user's number. Below 2³⁰, so that a [`Link`] has two bits to spare.
///
/// A number is used again only when nothing refers to it: no slot, no list, no entry of a list, no timer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) struct Id(u32);

impl Id {
    pub(super) const MAX: u32 = (1 << 30) - 1;

    pub(super) fn new(number: u32) -> Self {
        debug_assert!(number <= Self::MAX);
        Self(number)
    }

    pub(super) fn number(self) -> u32 {
        self.0
    }

    fn index(self) -> usize {
        self.0 as usize
    }
}

/// A timer that a user has at most one of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Single {
    /// The time to live of position, sessions and memory.
    Ttl = 1,
    /// The schedule of the coarse position.
    Coarse = 2,
    /// The digest of the view.
    Digest = 4,
}

/// What friends call a user, by the list that was published last.
struct DisplayName {
    text: Arc<str>,
    published_at: i64,
}

struct Person {
    name: Arc<str>,
    references: u32,
    /// Entries of lists that show this user coarsely.
    coarse_entries: u32,
    timers: u8,
    display: Option<DisplayName>,
    /// Whose lists this user is on: the reverse index.
    watchers: Vec<Link>,
}

/// All users whom anything refers to.
#[derive(Default)]
pub(super) struct People {
    by_name: HashMap<Arc<str>, Id>,
    rows: Vec<Person>,
    /// Apart from the rows, because a pair check reads nothing else of them.
    slots: Vec<u32>,
    free: Vec<Id>,
}

impl People {
    /// How many users are known.
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    pub(super) fn find(&self, name: &str) -> Option<Id> {
        self.by_name.get(name).copied()
    }

    /// The number of a name, with one reference more.
    pub(super) fn acquire_named(&mut self, name: &str) -> Id {
        if let Some(id) = self.find(name) {
            self.acquire(id);
            return id;
        }
        let name: Arc<str> = name.into();
        let person = Person {
            name: name.clone(),
            references: 1,
            coarse_entries: 0,
            timers: 0,
            display: None,
            watchers: Vec::new(),
        };
        let id = if let Some(id) = self.free.pop() {
            self.rows[id.index()] = person;
            id
        } else {
            assert!(self.rows.len() < Id::MAX as usize, "more than 2^30 users");
            let id = Id::new(self.rows.len() as u32);
            self.rows.push(person);
            self.slots.push(NO_SLOT);
            id
        };
        self.by_name.insert(name, id);
        id
    }

    pub(super) fn acquire(&mut self, id: Id) {
        self.rows[id.index()].references += 1;
    }

    /// Gives one reference back; the last one frees the number.
    pub(super) fn release(&mut self, id: Id) {
        let person = &mut self.rows[id.index()];
        person.references -= 1;
        if person.references == 0 {
            debug_assert!(person.watchers.is_empty() && person.coarse_entries == 0 && person.timers == 0);
            debug_assert_eq!(self.slots[id.index()], NO_SLOT);
            self.by_name.remove(&person.name);
            person.display = None;
            person.watchers = Vec::new();
            self.free.push(id);
        }
    }

    pub(super) fn name(&self, id: Id) -> &Arc<str> {
        &self.rows[id.index()].name
    }

    /// What friends call the user; the id where no list said.
    pub(super) fn display_name(&self, id: Id) -> &Arc<str> {
        let person = &self.rows[id.index()];
        person.display.as_ref().map_or(&person.name, |display| &display.text)
    }

    /// Takes the name of a list published at `published_at`, unless a later list said another.
    /// Takes what somebody is called, unless a list that was published later said something else. True when it is
    /// another name than before.
    pub(super) fn set_display_name(&mut self, id: Id, text: &str, published_at: i64) -> bool {
        let display = &mut self.rows[id.index()].display;
        match display {
            Some(known) if published_at < known.published_at => false,
            Some(known) if &*known.text == text => {
                known.published_at = published_at;
                false
            }
            _ => display.replace(DisplayName { text: text.into(), published_at }).is_some(),
        }
    }

    #[inline]
    pub(super) fn slot(&self, id: Id) -> Option<u32> {
        let slot = self.slots[id.index()];
        (slot != NO_SLOT).then_some(slot)
    }

    pub(super) fn set_slot(&mut self, id: Id, slot: u32) {
        self.slots[id.index()] = slot;
    }

    #[inline]
    pub(super) fn watchers(&self, id: Id) -> &[Link] {
        &self.rows[id.index()].watchers
    }

    pub(super) fn watchers_mut(&mut self, id: Id) -> &mut Vec<Link> {
        &mut self.rows[id.index()].watchers
    }

    pub(super) fn coarse_entries(&self, id: Id) -> u32 {
        self.rows[id.index()].coarse_entries
    }

    pub(super) fn coarse_entries_mut(&mut self, id: Id) -> &mut u32 {
        &mut self.rows[id.index()].coarse_entries
    }

    /// Notes that a timer runs; false when it did already.
    pub(super) fn start_timer(&mut self, id: Id, timer: Single) -> bool {
        let timers = &mut self.rows[id.index()].timers;
        let started = *timers & timer as u8 == 0;
        *timers |= timer as u8;
        started
    }

    pub(super) fn stop_timer(&mut self, id: Id, timer: Single) {
        self.rows[id.index()].timers &= !(timer as u8);
    }

    pub(super) fn runs(&self, id: Id, timer: Single) -> bool {
        self.rows[id.index()].timers & timer as u8 != 0
    }

    /// Every number in use, with its references.
    pub(super) fn references(&self) -> impl Iterator<Item = (Id, u32)> {
        self.by_name.values().map(|&id| (id, self.rows[id.index()].references))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_used_again_only_when_nothing_refers_to_it() {
        let mut people = People::default();
        let alice = people.acquire_named("alice");
        assert_eq!(people.acquire_named("alice"), alice);
        people.release(alice);
        assert_eq!(people.find("alice"), Some(alice));
        assert_ne!(people.acquire_named("bob"), alice);
        people.release(alice);
        assert_eq!(people.find("alice"), None);
        assert_eq!(people.acquire_named("carol"), alice);
        assert_eq!(&**people.name(alice), "carol");
        assert_eq!(&**people.display_name(alice), "carol");
    }

    #[test]
    fn the_last_published_name_counts() {
        let mut people = People::default();
        let id = people.acquire_named("u1");
        people.set_display_name(id, "Bobby", 20);
        people.set_display_name(id, "Bob", 10);
        assert_eq!(&**people.display_name(id), "Bobby");
        people.set_display_name(id, "Robert", 20);
        assert_eq!(&**people.display_name(id), "Robert");
    }
}
