//! The coarse positions of those whom anybody may see coarsely, friends or strangers.
//!
//! A track begins with the first need for it and ends with the position, and not with the need: an observer who comes
//! and goes must not get a reading each time. A report that may never be shown ends it too: no cell follows from one. It is evaluated by a timer at the instants of its own schedule, so that
//! what is sent does not follow the reports; and only after a new report, so that it does not say of somebody silent
//! that they were seen.

use nearcast_geo::{CoarsePosition, CoarseTrack, Ecef, Position};
use nearcast_schemas::coarse::schedule_seed;
use nearcast_schemas::delivery::FriendPosition;
use nearcast_schemas::event::Sharing;

use super::Engine;
use super::join::Refresh;
use super::out::Outbox;
use super::people::{Id, Single};
use super::timers::Due;

/// The coarse position of one user.
pub(super) struct Coarse {
    track: CoarseTrack,
    /// The centre of the cell, as pairs are decided.
    pub(super) place: Ecef,
}

impl Coarse {
    fn new(track: CoarseTrack) -> Self {
        Self { track, place: Ecef::from(track.shown().cell.center()) }
    }

    pub(super) fn track(&self) -> CoarseTrack {
        self.track
    }

    pub(super) fn shown(&self) -> CoarsePosition {
        self.track.shown()
    }

    /// What viewers are told: the cell and the scheduled instant, and nothing of the report.
    pub(super) fn position(&self) -> FriendPosition {
        let CoarsePosition { cell, at_ms } = self.track.shown();
        let center = cell.center();
        FriendPosition {
            lat: center.lat_deg(),
            lon: center.lon_deg(),
            at: at_ms,
            coarse: true,
            accuracy_m: None,
            speed_mps: None,
            heading_deg: None,
        }
    }
}

impl Engine {
    /// Begins a user's track if anybody may see them coarsely, friend or stranger; whether it did.
    pub(super) fn ensure_coarse(&mut self, id: Id) -> bool {
        let Some(slot) = self.people.slot(id) else { return false };
        let hot = self.slots.hot(slot);
        let needed =
            self.people.coarse_entries(id) > 0 || hot.sharing() == Sharing::Coarse || self.is_discoverable(slot);
        let hidden = self.slots.cold(slot).reported_as() == Sharing::Hidden;
        if hot.place().is_none() || hidden || hot.is_coarse() || !needed {
            return false;
        }
        let Some(position) = self.position_of(slot) else { return false };
        let seed = schedule_seed(self.people.name(id));
        let track = CoarseTrack::start(&self.settings.coarsener, seed, position, self.now_ms);
        self.coarse.insert(id, Coarse::new(track));
        self.slots.hot_mut(slot).set_coarse(true);
        self.arm_single(self.next_instant(track), Single::Coarse, id);
        true
    }

    /// What is shown of a user who has a track.
    pub(super) fn coarse_shown(&self, id: Id) -> Option<CoarsePosition> {
        self.coarse.get(&id).map(|coarse| coarse.track.shown())
    }

    /// Goes on with a track from what was shown last, as long as there is a position that may be shown.
    pub(super) fn restore_coarse(&mut self, id: Id, slot: u32, shown: CoarsePosition) {
        if self.slots.hot(slot).place().is_some() && self.slots.cold(slot).reported_as() != Sharing::Hidden {
            let track = CoarseTrack::from(shown);
            self.coarse.insert(id, Coarse::new(track));
            self.slots.hot_mut(slot).set_coarse(true);
            self.arm_single(self.next_instant(track), Single::Coarse, id);
        }
    }

    /// The position is gone, and the track with it.
    pub(super) fn end_coarse(&mut self, id: Id, slot: u32, out: &mut Outbox) {
        if self.slots.hot(slot).is_coarse() {
            self.coarse.remove(&id);
            self.slots.hot_mut(slot).set_coarse(false);
            self.leave_crowd(id, out);
        }
    }

    /// Evaluates a user's track if an instant has come since the last report.
    pub(super) fn coarse_due(&mut self, id: Id, out: &mut Outbox) {
        let Some(slot) = self.people.slot(id).filter(|&slot| self.slots.hot(slot).is_coarse()) else { return };
        let Some(position) = self.position_of(slot) else { return };
        let reported_at = self.slots.cold(slot).at_ms(self.now_ms);
        let Some(coarse) = self.coarse.get_mut(&id) else { return };
        let mut track = coarse.track;
        let news = track.catch_up(&self.settings.coarsener, position, reported_at, self.now_ms).is_some();
        if news {
            *coarse = Coarse::new(track);
        }
        self.arm_single(self.next_instant(track), Single::Coarse, id);
        if news {
            self.friend_join(id, Refresh::Coarse, out);
        }
    }

    /// The first instant of the track's schedule that is after now.
    pub(super) fn next_instant(&self, track: CoarseTrack) -> i64 {
        let period = self.settings.coarse_period_ms;
        let at = track.shown().at_ms;
        at + ((self.now_ms - at).max(0) / period + 1) * period
    }

    fn position_of(&self, slot: u32) -> Option<Position> {
        self.slots.hot(slot).place()?;
        let report = self.slots.report(slot, self.now_ms);
        Position::new(report.lat, report.lon).ok()
    }

    fn arm_single(&mut self, at_ms: i64, timer: Single, id: Id) {
        if self.people.start_timer(id, timer) {
            self.timers.add(at_ms, Due::User(timer, id));
        }
    }

    /// A digest goes out some time after the first change that it covers.
    pub(super) fn arm_digest(&mut self, id: Id) {
        self.arm_single(self.now_ms + self.settings.digest_every_ms, Single::Digest, id);
    }
}
