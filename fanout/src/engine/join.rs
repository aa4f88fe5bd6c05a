//! The decision of one pair, and the walk that makes it: over all friendships of a user, in both directions at once.

use nearcast_geo::{Ecef, Threshold, UNITS_PER_METRE, chord_squared};
use nearcast_schemas::delivery::{FriendPosition, RemovalReason};
use nearcast_schemas::event::Sharing;
use nearcast_schemas::list::Precision;
use nearcast_schemas::rule;

use super::Engine;
use super::links::{Link, Says};
use super::lists::Special;
use super::out::Outbox;
use super::people::Id;
use super::slots::Slot;
use super::tell::Shown;

/// Links decided together.
const STRETCH: usize = 64;

/// The friend's side of a decision.
#[derive(Clone, Copy)]
struct Friend {
    exact: Option<Ecef>,
    /// The centre of the cell.
    coarse: Option<Ecef>,
    sharing: Sharing,
    /// The reason where there is no position.
    gone: RemovalReason,
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

impl Verdict {
    fn is_inside(self) -> bool {
        matches!(self, Self::Inside { .. })
    }
}

/// Decides a pair, given whether the friend was in the view. `now_ms`: ms since the epoch.
fn decide(friend: &Friend, viewer: Slot, special: Option<&Special>, inside: bool, now_ms: i64) -> Verdict {
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

/// Decides a pair of which both have positions, the friend shares exactly, and the entry has no rules of its own.
#[inline(always)]
fn decide_plain(squared: f32, limits: Threshold, inside: bool) -> Verdict {
    if limits.in_range(inside, squared) {
        Verdict::Inside { precision: Precision::Exact, chord_squared: Some(squared) }
    } else {
        Verdict::Outside(RemovalReason::OutOfRange)
    }
}

/// The limits of the radius that was asked for last: most viewers have the same.
struct Limits {
    radius_m: i32,
    limits: Threshold,
}

impl Limits {
    fn of(radius_m: i32) -> Self {
        let limits = if radius_m == 0 { Threshold::UNLIMITED } else { Threshold::from(radius_m.unsigned_abs()) };
        Self { radius_m, limits }
    }

    #[inline(always)]
    fn get(&mut self, radius_m: i32) -> Threshold {
        if radius_m != self.radius_m {
            *self = Self::of(radius_m);
        }
        self.limits
    }
}

/// Decimetres; -1 where the viewer has no position.
pub(super) fn distance_dm(chord_squared: Option<f32>) -> i32 {
    // At most the Earth's diameter, 1.3e8 dm; rounded.
    chord_squared.map_or(-1, |squared| (f64::from(squared).sqrt() * 10.0 / f64::from(UNITS_PER_METRE) + 0.5) as i32)
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

/// What a walk is to decide.
#[derive(Clone, Copy)]
pub(super) struct Walk<'a> {
    /// The pairs with everybody who may see the user, and which of them are told again.
    pub(super) friend: Option<Refresh>,
    /// The reason of those removals where the user has no position.
    pub(super) gone: RemovalReason,
    /// The pairs with everybody whom the user may see, if the user's view is kept.
    pub(super) viewer: bool,
    /// Of those: the band of the radius counts as out.
    pub(super) strict: bool,
    /// Of those: who is told again, in order of their numbers.
    pub(super) again: &'a [Id],
}

impl Walk<'_> {
    pub(super) const NONE: Self =
        Self { friend: None, gone: RemovalReason::Silent, viewer: false, strict: false, again: &[] };
}

/// A pair that is not as before, or is to be told again.
struct Change {
    /// Among the user's links.
    at: u32,
    other: u32,
    was_inside: bool,
    verdict: Verdict,
}

/// Room for one walk's changes.
#[derive(Default)]
pub(super) struct Changes {
    /// The user as a friend.
    friend: Vec<Change>,
    /// The user as a viewer.
    viewer: Vec<Change>,
}

impl Engine {
    /// Decides the pairs of a friend with everybody who may see them.
    pub(super) fn friend_join(&mut self, id: Id, refresh: Refresh, out: &mut Outbox) {
        self.join(id, Walk { friend: Some(refresh), ..Walk::NONE }, out);
    }

    /// Decides the pairs of a viewer with everybody on the list.
    pub(super) fn viewer_join(&mut self, id: Id, out: &mut Outbox) {
        self.join(id, Walk { viewer: true, ..Walk::NONE }, out);
    }

    /// Decides pairs of a user. All are decided before any is applied: most stay as they are.
    pub(super) fn join(&mut self, id: Id, walk: Walk<'_>, out: &mut Outbox) {
        let Some(slot) = self.people.slot(id) else { return };
        if self.people.online(id).is_empty() {
            return;
        }
        let mut changes = std::mem::take(&mut self.changes);
        self.decide_all(id, slot, walk, &mut changes);
        self.apply(id, slot, &changes);
        self.tell_changes(id, slot, &changes, out);
        changes.friend.clear();
        changes.viewer.clear();
        self.changes = changes;
    }

    /// Decides the pairs of a user with all friends who are online, a stretch of links at a time: first the friends' slots
    /// are fetched, a loop that does nothing else so that many are on their way at once; then one without a branch on
    /// what is near finds the pairs that something is to be said about; and those few are decided.
    fn decide_all(&mut self, id: Id, slot: u32, walk: Walk<'_>, changes: &mut Changes) {
        let hot = self.slots.all_hot();
        let links = self.people.online(id);
        let own = hot[slot as usize];
        let own_limits = Limits::of(own.radius_m()).limits;
        let mut limits = Limits::of(own.radius_m());
        let viewing = walk.viewer && own.is_active();
        let plain = own.is_plain() && walk.friend != Some(Refresh::Coarse) && walk.again.is_empty() && !walk.strict;
        let mut others = [Slot::EMPTY; STRETCH];
        let mut picked = [0_u32; STRETCH];
        let mut checks = 0;
        for (stretch, links) in links.chunks(STRETCH).enumerate() {
            for (other, link) in others.iter_mut().zip(links) {
                *other = hot[link.slot() as usize];
            }
            let mut found = 0;
            for (at, (&link, other)) in links.iter().zip(&others).enumerate() {
                let seen = walk.friend.is_some() & link.says(Says::Seen) & other.is_active();
                let sees = viewing & link.says(Says::Sees);
                checks += u64::from(seen) + u64::from(sees);
                let squared = chord_squared(own.last_place(), other.last_place());
                let (shown, in_view) = (link.says(Says::Shown), link.says(Says::InView));
                let tells = seen & (shown | limits.get(other.radius_m()).in_range(shown, squared));
                let turns = sees & (in_view != own_limits.in_range(in_view, squared));
                let ordinary = plain & other.is_plain() & !link.says(Says::Special);
                picked[found] = at as u32;
                found += usize::from(tells | turns | !ordinary & (seen | sees));
            }
            for &at in &picked[..found] {
                let (link, other) = (links[at as usize], others[at as usize]);
                let at = (stretch * STRETCH) as u32 + at;
                let seen = walk.friend.is_some() && link.says(Says::Seen) && other.is_active();
                let sees = viewing && link.says(Says::Sees);
                if !plain || !other.is_plain() || link.says(Says::Special) {
                    self.decide_slowly(id, own, at, link, walk, (seen, sees), changes);
                    continue;
                }
                let squared = chord_squared(own.last_place(), other.last_place());
                let other_slot = link.slot();
                if seen {
                    let was_inside = link.says(Says::Shown);
                    let verdict = decide_plain(squared, limits.get(other.radius_m()), was_inside);
                    if was_inside || verdict.is_inside() {
                        changes.friend.push(Change { at, other: other_slot, was_inside, verdict });
                    }
                }
                if sees {
                    let was_inside = link.says(Says::InView);
                    let verdict = decide_plain(squared, own_limits, was_inside);
                    if was_inside != verdict.is_inside() {
                        changes.viewer.push(Change { at, other: other_slot, was_inside, verdict });
                    }
                }
            }
        }
        self.stats.pair_checks += checks;
    }

    /// The same where anything is out of the ordinary.
    #[cold]
    #[expect(clippy::too_many_arguments, reason = "the inside of a loop")]
    fn decide_slowly(
        &self,
        id: Id,
        own: Slot,
        at: u32,
        link: Link,
        walk: Walk<'_>,
        (seen, sees): (bool, bool),
        changes: &mut Changes,
    ) {
        let other_slot = link.slot();
        let other = self.slots.hot(other_slot);
        if let Some(refresh) = walk.friend.filter(|_| seen) {
            let was_inside = link.says(Says::Shown);
            let friend = Friend { gone: walk.gone, ..self.friend(id, own) };
            let special = self.special_of(link, self.slots.id(other_slot), id);
            let verdict = decide(&friend, other, special, was_inside, self.now_ms);
            let tells = match verdict {
                Verdict::Outside(_) => was_inside,
                Verdict::Inside { precision, .. } => !was_inside || refresh.covers(precision),
            };
            if tells {
                changes.friend.push(Change { at, other: other_slot, was_inside, verdict });
            }
        }
        if sees {
            let was_inside = link.says(Says::InView);
            let other_id = self.slots.id(other_slot);
            let friend = self.friend(other_id, other);
            let special = self.special_of(link, id, other_id);
            let verdict = decide(&friend, own, special, was_inside && !walk.strict, self.now_ms);
            let again = || verdict.is_inside() && walk.again.binary_search(&other_id).is_ok();
            if verdict.is_inside() != was_inside || again() {
                changes.viewer.push(Change { at, other: other_slot, was_inside, verdict });
            }
        }
    }

    /// Notes at both ends who came into a view or left it.
    fn apply(&mut self, id: Id, slot: u32, changes: &Changes) {
        let moved = |change: &&Change| change.was_inside != change.verdict.is_inside();
        for change in changes.friend.iter().filter(moved) {
            let viewer = self.slots.id(change.other);
            let came = change.verdict.is_inside();
            self.people.set_at(id, change.at as usize, viewer, Says::Shown, came);
            self.roll_digest(viewer, change.other, id, came);
            self.arm_digest(viewer);
        }
        for change in changes.viewer.iter().filter(moved) {
            let friend = self.slots.id(change.other);
            let came = change.verdict.is_inside();
            self.people.set_at(id, change.at as usize, friend, Says::InView, came);
            self.roll_digest(id, slot, friend, came);
            self.arm_digest(id);
        }
    }

    fn tell_changes(&mut self, id: Id, slot: u32, changes: &Changes, out: &mut Outbox) {
        let mut positions: [Option<FriendPosition>; 2] = [None, None];
        for change in &changes.friend {
            match change.verdict {
                Verdict::Outside(reason) => self.tell_removed(change.other, id, reason, out),
                Verdict::Inside { precision, chord_squared } => {
                    let position = &mut positions[usize::from(precision == Precision::Coarse)];
                    if position.is_none() {
                        *position = self.position_shown(id, slot, precision);
                    }
                    if let Some(position) = position {
                        self.tell_shown(change.other, &Shown { friend: id, position }, chord_squared, out);
                    }
                }
            }
        }
        for change in &changes.viewer {
            let friend = self.slots.id(change.other);
            match change.verdict {
                Verdict::Outside(reason) => self.tell_removed(slot, friend, reason, out),
                Verdict::Inside { precision, chord_squared } => {
                    if let Some(position) = &self.position_shown(friend, change.other, precision) {
                        self.tell_shown(slot, &Shown { friend, position }, chord_squared, out);
                    }
                }
            }
        }
    }

    /// The friends in a viewer's view with how they are shown and how far they are, squared; in no order.
    pub(super) fn in_view(&self, id: Id) -> Vec<(Id, Precision, Option<f32>)> {
        let Some(slot) = self.people.slot(id) else { return Vec::new() };
        let own = self.slots.hot(slot);
        let links = self.people.online(id).iter().filter(|link| link.says(Says::InView));
        let shown = links.filter_map(|&link| {
            let friend_id = self.slots.id(link.slot());
            let friend = self.friend(friend_id, self.slots.hot(link.slot()));
            match decide(&friend, own, self.special_of(link, id, friend_id), true, self.now_ms) {
                Verdict::Inside { precision, chord_squared } => Some((friend_id, precision, chord_squared)),
                Verdict::Outside(_) => None,
            }
        });
        shown.collect()
    }

    /// The friend's side of decisions, from the slot.
    fn friend(&self, id: Id, slot: Slot) -> Friend {
        Friend {
            exact: slot.place(),
            coarse: if slot.is_coarse() { self.coarse.get(&id).map(|coarse| coarse.place) } else { None },
            sharing: slot.sharing(),
            gone: RemovalReason::Silent,
        }
    }

    fn special_of(&self, link: Link, viewer: Id, friend: Id) -> Option<&Special> {
        if link.says(Says::Special) { self.special.get(&(viewer, friend)) } else { None }
    }
}
