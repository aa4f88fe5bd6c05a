//! The friendships: a block of links a user, first those to who is online if the user is, then the rest.
//!
//! Each is held at both ends, which are changed together. A walk reads one end only.

use super::blocks::{HEADER, Place, Word, size_of_block};
use super::links::{Link, Says};
use super::people::{Id, NONE, OFFLINE, People, SLOT_MASK};
use super::prefetch::prefetch;

impl People {
    /// All links of a user, and how many come first that hold slots.
    #[inline]
    pub(super) fn links_split(&self, id: Id) -> (&[Link], usize) {
        let place = Place(self.rows.as_slice()[id.index()].block);
        if place == Place::NONE {
            return (&[], 0);
        }
        let words = self.blocks.words(place);
        let (links, online) = (words[Word::Links as usize] as usize, words[Word::Online as usize] as usize);
        (bytemuck::cast_slice(&words[HEADER..HEADER + links]), online)
    }

    pub(super) fn links(&self, id: Id) -> &[Link] {
        self.links_split(id).0
    }

    /// The links of a user to those who are online, if the user is.
    #[inline]
    pub(super) fn online(&self, id: Id) -> &[Link] {
        let (links, online) = self.links_split(id);
        &links[..online]
    }

    /// The rest of the links.
    pub(super) fn offline(&self, id: Id) -> &[Link] {
        let (links, online) = self.links_split(id);
        &links[online..]
    }

    fn links_mut(&mut self, id: Id) -> &mut [Link] {
        let place = Place(self.rows.as_slice()[id.index()].block);
        if place == Place::NONE {
            return &mut [];
        }
        let words = self.blocks.words_mut(place);
        let links = words[Word::Links as usize] as usize;
        bytemuck::cast_slice_mut(&mut words[HEADER..HEADER + links])
    }

    /// Where the link of `id` to `other` is among the links.
    pub(super) fn position(&self, id: Id, other: Id) -> Option<usize> {
        let (links, online) = self.links_split(id);
        match (self.slot(id), self.slot(other)) {
            (Some(_), Some(slot)) => links[..online].iter().position(|link| link.slot() == slot),
            _ => links[online..].iter().position(|link| link.id() == other).map(|at| online + at),
        }
    }

    /// Lets both ends of what is between two users say this, or not.
    pub(super) fn set(&mut self, id: Id, other: Id, what: Says, is: bool) {
        if let Some(at) = self.position(id, other) {
            self.links_mut(id)[at].set(what, is);
        }
        if let Some(at) = self.position(other, id) {
            self.links_mut(other)[at].set(what.back(), is);
        }
    }

    /// The same where one end's place among the online is known.
    pub(super) fn set_at(&mut self, id: Id, at: usize, other: Id, what: Says, is: bool) {
        self.links_mut(id)[at].set(what, is);
        if let Some(at) = self.position(other, id) {
            self.links_mut(other)[at].set(what.back(), is);
        }
    }

    /// These users are on the viewer's list from now on; none was before.
    pub(super) fn befriend(&mut self, viewer: Id, friends: &[Id]) {
        let mut added = Vec::with_capacity(friends.len());
        for (at, &friend) in friends.iter().enumerate() {
            if let Some(&next) = friends.get(at + 2) {
                self.prefetch_block(next);
            }
            if let Some(at) = self.position(friend, viewer) {
                self.links_mut(friend)[at].set(Says::Seen, true);
                if let Some(at) = self.position(viewer, friend) {
                    self.links_mut(viewer)[at].set(Says::Sees, true);
                }
            } else {
                added.push((friend, Says::Sees));
                self.append(friend, &[(viewer, Says::Seen)]);
            }
        }
        self.append(viewer, &added);
    }

    /// The friend is not on the viewer's list any more.
    pub(super) fn unfriend(&mut self, viewer: Id, friend: Id) {
        for (id, other, what, view) in
            [(viewer, friend, Says::Sees, Says::InView), (friend, viewer, Says::Seen, Says::Shown)]
        {
            let Some(at) = self.position(id, other) else { continue };
            let is_online = at < self.online(id).len();
            let link = &mut self.links_mut(id)[at];
            link.set(what, false);
            if is_online {
                link.set(view, false);
            }
            if link.is_over() {
                self.remove_link(id, at);
            }
        }
    }

    /// Adds links to users to whom there are none.
    fn append(&mut self, id: Id, others: &[(Id, Says)]) {
        let (before, mut online) = (self.links(id).len(), self.online(id).len());
        self.resize(id, before + others.len());
        let own = self.slot(id);
        for (at, &(other, says)) in (before..).zip(others) {
            let slot = own.and(self.slot(other));
            let mut link = slot.map_or(Link::to_id(other), Link::to_slot);
            link.set(says, true);
            let links = self.links_mut(id);
            links[at] = link;
            if slot.is_some() {
                links.swap(at, online);
                online += 1;
            }
        }
        self.set_word(id, Word::Online, online as u32);
        // Segments are cleaned where nobody holds a place.
        let Self { rows, blocks, .. } = self;
        blocks.clean(|owner, place| rows.as_mut_slice()[owner as usize].block = place.0);
    }

    fn remove_link(&mut self, id: Id, at: usize) {
        let (length, mut online) = (self.links(id).len(), self.online(id).len());
        let links = self.links_mut(id);
        let mut hole = at;
        if at < online {
            online -= 1;
            links[hole] = links[online];
            hole = online;
        }
        links[hole] = links[length - 1];
        self.set_word(id, Word::Online, online as u32);
        self.resize(id, length - 1);
    }

    /// Makes room for so many links, in another block if it takes another size.
    fn resize(&mut self, id: Id, links: usize) {
        let place = self.block(id);
        let held = self.blocks.words(place)[Word::Links as usize] as usize;
        if size_of_block(held) != size_of_block(links) {
            let new = self.blocks.add(id.number(), links);
            let kept = HEADER + held.min(links);
            // The two blocks may be in one segment.
            let words = self.blocks.words(place)[..kept].to_vec();
            self.blocks.words_mut(new)[..kept].copy_from_slice(&words);
            self.blocks.remove(place);
            self.rows.as_mut_slice()[id.index()].block = new.0;
        }
        self.set_word(id, Word::Links, links as u32);
    }

    /// The user's block; a new one where there is none.
    pub(super) fn block(&mut self, id: Id) -> Place {
        let place = Place(self.rows.as_slice()[id.index()].block);
        if place != Place::NONE {
            return place;
        }
        let place = self.blocks.add(id.number(), 0);
        self.rows.as_mut_slice()[id.index()].block = place.0;
        place
    }

    pub(super) fn word(&self, id: Id, word: Word) -> Option<u32> {
        let place = Place(self.rows.as_slice()[id.index()].block);
        if place == Place::NONE {
            return None;
        }
        let value = self.blocks.words(place)[word as usize];
        (value != NONE).then_some(value)
    }

    pub(super) fn set_word(&mut self, id: Id, word: Word, value: u32) {
        if value == NONE && Place(self.rows.as_slice()[id.index()].block) == Place::NONE {
            return;
        }
        let place = self.block(id);
        self.blocks.words_mut(place)[word as usize] = value;
    }

    /// The user has this slot from now on: links to and from others who are online hold slots.
    pub(super) fn come_online(&mut self, id: Id, slot: u32) {
        let row = &mut self.rows.as_mut_slice()[id.index()];
        row.slot = row.slot & !SLOT_MASK | slot;
        let mut online = 0;
        for at in 0..self.links(id).len() {
            if let Some(next) = self.links(id).get(at + 8) {
                prefetch(self.rows.as_slice(), next.id().index());
            }
            let link = self.links(id)[at];
            let other = link.id();
            let Some(others) = self.slot(other) else { continue };
            let links = self.links_mut(id);
            links[at] = link.at_slot(others);
            links.swap(at, online);
            online += 1;
            let first = self.online(other).len();
            let Some(back) = self.offline(other).iter().position(|back| back.id() == id) else { continue };
            let links = self.links_mut(other);
            links[first + back] = links[first + back].at_slot(slot);
            links.swap(first, first + back);
            self.set_word(other, Word::Online, first as u32 + 1);
        }
        if online > 0 {
            self.set_word(id, Word::Online, online as u32);
        }
    }

    /// The user's slot is another's soon: no link holds it any more. `id_of` tells whose a slot is.
    pub(super) fn go_offline(&mut self, id: Id, slot: u32, id_of: impl Fn(u32) -> Id) {
        for at in 0..self.online(id).len() {
            let link = self.links(id)[at];
            let other = id_of(link.slot());
            self.links_mut(id)[at] = link.at_id(other);
            let online = self.online(other).len();
            let Some(back) = self.online(other).iter().position(|back| back.slot() == slot) else { continue };
            let links = self.links_mut(other);
            links[back] = links[back].at_id(id);
            links.swap(back, online - 1);
            self.set_word(other, Word::Online, online as u32 - 1);
        }
        if !self.links(id).is_empty() {
            self.set_word(id, Word::Online, 0);
        }
        let row = &mut self.rows.as_mut_slice()[id.index()];
        row.slot |= OFFLINE;
    }
}
