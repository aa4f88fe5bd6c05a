//! The decision of one pair, and the two walks that make it: over everybody who may see a friend, and over everybody
//! whom a viewer may see.

use nearcast_geo::{Ecef, Threshold, UNITS_PER_METRE, chord_squared};
use nearcast_schemas::delivery::{FriendPosition, RemovalReason};
use nearcast_schemas::event::Sharing;
use nearcast_schemas::list::Precision;
use nearcast_schemas::rule;

use super::Engine;
use super::lists::Special;
use super::out::{Address, Outbox, Shown};
use super::people::Id;
use super::session::Session;
use super::slots::Slot;

/// The friend's side of a decision.
#[derive(Clone, Copy)]
pub(super) struct Friend {
    pub(super) exact: Option<Ecef>,
    /// The centre of the cell.
    pub(super) coarse: Option<Ecef>,
    pub(super) sharing: Sharing,
    /// The reason where there is no position.
    pub(super) gone: RemovalReason,
}

/// What is to be true of a pair.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Verdict {
    /// The friend is not in the view.
    Outside(RemovalReason),
    /// The friend is in the view.
    Inside {
        /// How the friend is shown.
        precision: Precision,
        /// In (1/128 m)²; `None` where the viewer has no position.
        chord_squared: Option<f32>,
    },
}

/// Decides a pair, given whether the friend was in the view. `now_ms`: ms since the epoch.
#[inline]
pub(super) fn decide(friend: &Friend, viewer: Slot, special: Option<&Special>, inside: bool, now_ms: i64) -> Verdict {
    let (precision, expires_at, entry_radius_m) = match special {
        None => (Precision::Exact, 0, 0),
        Some(special) => (special.precision, special.expires_at, special.radius_m),
    };
    let Some(precision) = rule::shown_as(precision, expires_at, friend.sharing, now_ms) else {
        return Verdict::Outside(RemovalReason::NotShared);
    };
    let place = match precision {
        Precision::Exact => friend.exact,
        Precision::Coarse => friend.coarse,
    };
    let Some(place) = place else { return Verdict::Outside(friend.gone) };
    let chord_squared = viewer.place().map(|viewer| chord_squared(viewer, place));
    let Some(radius_m) = rule::radius_m(viewer.radius_m(), entry_radius_m) else {
        return Verdict::Inside { precision, chord_squared };
    };
    match chord_squared {
        // The viewer is silent, which ends the view as a friend's silence ends an entry.
        None => Verdict::Outside(RemovalReason::Silent),
        Some(squared) if Threshold::from(radius_m.unsigned_abs()).in_range(inside, squared) => {
            Verdict::Inside { precision, chord_squared }
        }
        Some(_) => Verdict::Outside(RemovalReason::OutOfRange),
    }
}

/// Decimetres; -1 where the viewer has no position.
pub(super) fn distance_dm(chord_squared: Option<f32>) -> i32 {
    // At most the Earth's diameter, 1.3e8 dm.
    chord_squared.map_or(-1, |squared| (f64::from(squared).sqrt() * 10.0 / f64::from(UNITS_PER_METRE)).round() as i32)
}

/// Which entries that stay in their views are sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refresh {
    /// Those that show the exact position: it is new.
    Exact,
    /// Those that show the cell: it was evaluated.
    Coarse,
    /// Either: how the friend shares has changed.
    All,
}

impl Refresh {
    fn covers(self, precision: Precision) -> bool {
        match self {
            Self::All => true,
            Self::Exact => precision == Precision::Exact,
            Self::Coarse => precision == Precision::Coarse,
        }
    }
}

impl Engine {
    /// The friend's side of decisions, from the slot.
    fn friend(&self, id: Id, slot: Slot) -> Friend {
        Friend {
            exact: slot.place(),
            coarse: if slot.is_coarse() { self.coarse.get(&id).map(|coarse| coarse.place) } else { None },
            sharing: slot.sharing(),
            gone: RemovalReason::Silent,
        }
    }

    /// Decides the pairs of a friend with everybody who may see them. `gone` is the reason of removals where the friend
    /// has no position.
    pub(super) fn friend_join(&mut self, id: Id, refresh: Refresh, gone: RemovalReason, out: &mut Outbox) {
        if self.people.watchers(id).is_empty() {
            return;
        }
        let Some(slot) = self.people.slot(id) else { return };
        let friend = Friend { gone, ..self.friend(id, self.slots.hot(slot)) };
        let mut shown = [None, None];
        for at in 0..self.people.watchers(id).len() {
            let link = self.people.watchers(id)[at];
            let Some(viewer_slot) = self.people.slot(link.id()) else { continue };
            let viewer = self.slots.hot(viewer_slot);
            if !viewer.is_active() {
                continue;
            }
            self.stats.pair_checks += 1;
            let special = if link.is_special() { self.special(link.id(), id) } else { None };
            match decide(&friend, viewer, special, link.is_inside(), self.now_ms) {
                Verdict::Outside(_) if !link.is_inside() => {}
                Verdict::Outside(reason) => {
                    self.tell_removed(link.id(), id, reason, out);
                    self.set_inside(link.id(), id, false);
                }
                Verdict::Inside { precision, chord_squared } => {
                    if !link.is_inside() {
                        self.set_inside(link.id(), id, true);
                    } else if !refresh.covers(precision) {
                        continue;
                    }
                    let shown = &mut shown[usize::from(precision == Precision::Coarse)];
                    if shown.is_none() {
                        *shown = self.shown(id, precision);
                    }
                    if let Some(shown) = shown {
                        self.tell_shown(link.id(), shown, chord_squared, out);
                    }
                }
            }
        }
    }

    /// Decides the pairs of an active viewer with everybody on the list. `strict`: the band of the radius counts as out.
    /// Entries of `refresh`, in order of their numbers, are sent again if they stay.
    pub(super) fn viewer_join(&mut self, id: Id, strict: bool, refresh: &[Id], out: &mut Outbox) {
        let Some(slot) = self.people.slot(id) else { return };
        let hot = self.slots.hot(slot);
        if !hot.is_active() {
            return;
        }
        // Decided first and applied after: most pairs stay as they are.
        let mut changes = std::mem::take(&mut self.changes);
        let Some(viewer) = self.viewers.get(&id) else { return };
        let mut checks = 0;
        for link in &viewer.friends {
            let Some(friend_slot) = self.people.slot(link.id()) else { continue };
            checks += 1;
            let friend = self.friend(link.id(), self.slots.hot(friend_slot));
            let special = if link.is_special() { viewer.special.get(&link.id()) } else { None };
            let verdict = decide(&friend, hot, special, link.is_inside() && !strict, self.now_ms);
            let inside = matches!(verdict, Verdict::Inside { .. });
            if inside != link.is_inside() || inside && refresh.binary_search(&link.id()).is_ok() {
                changes.push((link.id(), link.is_inside(), verdict));
            }
        }
        self.stats.pair_checks += checks;
        for (friend, inside, verdict) in changes.drain(..) {
            match verdict {
                Verdict::Outside(reason) => {
                    self.tell_removed(id, friend, reason, out);
                    self.set_inside(id, friend, false);
                }
                Verdict::Inside { precision, chord_squared } => {
                    if !inside {
                        self.set_inside(id, friend, true);
                    }
                    if let Some(shown) = self.shown(friend, precision) {
                        self.tell_shown(id, &shown, chord_squared, out);
                    }
                }
            }
        }
        self.changes = changes;
    }

    /// The friends in a viewer's view with how they are shown and how far they are, squared; in no order.
    pub(super) fn in_view(&self, id: Id) -> Vec<(Id, Precision, Option<f32>)> {
        let (Some(viewer), Some(slot)) = (self.viewers.get(&id), self.people.slot(id)) else { return Vec::new() };
        let hot = self.slots.hot(slot);
        let friends = viewer.friends.iter().filter(|link| link.is_inside());
        let shown = friends.filter_map(|link| {
            let friend = self.friend(link.id(), self.slots.hot(self.people.slot(link.id())?));
            match decide(&friend, hot, viewer.special.get(&link.id()), true, self.now_ms) {
                Verdict::Inside { precision, chord_squared } => Some((link.id(), precision, chord_squared)),
                Verdict::Outside(_) => None,
            }
        });
        shown.collect()
    }

    fn special(&self, viewer: Id, friend: Id) -> Option<&Special> {
        self.viewers.get(&viewer)?.special.get(&friend)
    }

    /// Notes at both ends that a friend came into a view or left it.
    fn set_inside(&mut self, viewer: Id, friend: Id, inside: bool) {
        if let Some(back) = self.people.watchers_mut(friend).iter_mut().find(|back| back.id() == viewer) {
            back.set_inside(inside);
        }
        let Some(row) = self.viewers.get_mut(&viewer) else { return };
        if let Some(at) = row.position_of(friend) {
            row.friends[at].set_inside(inside);
        }
        let name = self.people.name(friend);
        if inside {
            row.digest.add(name);
            row.inside += 1;
        } else {
            row.digest.remove(name);
            row.inside -= 1;
        }
        self.arm_digest(viewer);
    }

    /// What viewers are told of a friend's position.
    pub(super) fn shown(&self, id: Id, precision: Precision) -> Option<Shown> {
        let position = match precision {
            Precision::Exact => {
                let report = &self.slots.cold(self.people.slot(id)?).report;
                FriendPosition {
                    lat: report.lat,
                    lon: report.lon,
                    at: report.at,
                    coarse: false,
                    accuracy_m: report.accuracy_m,
                    speed_mps: report.speed_mps,
                    heading_deg: report.heading_deg,
                }
            }
            Precision::Coarse => self.coarse.get(&id)?.position(),
        };
        let (name, display_name) = (self.people.name(id).clone(), self.people.display_name(id).clone());
        Some(Shown { friend: id, name, display_name, position })
    }

    /// Calls `tell` for each session of a viewer that has its view under the partition's present epoch.
    pub(super) fn each_session(&self, viewer: Id, mut tell: impl FnMut(&Session, Address)) {
        let Some(slot) = self.people.slot(viewer) else { return };
        let cold = self.slots.cold(slot);
        let Some(epoch) = self.partitions[cold.partition as usize].epoch else { return };
        for session in cold.sessions.iter().filter(|session| session.epoch == epoch) {
            let (gateway, handle, partition) = (session.gateway, session.handle, cold.partition);
            tell(session, Address { gateway, handle, partition, epoch });
        }
    }

    fn tell_shown(&mut self, viewer: Id, shown: &Shown, chord_squared: Option<f32>, out: &mut Outbox) {
        let distance_dm = distance_dm(chord_squared);
        let mut told = 0;
        self.each_session(viewer, |_, to| {
            out.upsert(to, shown, distance_dm);
            told += 1;
        });
        self.stats.upserts += told;
    }

    pub(super) fn tell_removed(&mut self, viewer: Id, friend: Id, reason: RemovalReason, out: &mut Outbox) {
        let name = self.people.name(friend);
        let mut told = 0;
        self.each_session(viewer, |_, to| {
            out.removal(to, friend, name, reason);
            told += 1;
        });
        match reason {
            RemovalReason::OutOfRange => self.stats.removals_out_of_range += told,
            RemovalReason::Silent => self.stats.removals_silent += told,
            RemovalReason::NotShared => self.stats.removals_not_shared += told,
        }
    }
}
