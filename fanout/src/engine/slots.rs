//! What is known of a user who is online: a slot of 16 bytes that pair checks read, and a cold row for hits.

use nearcast_geo::Ecef;
use nearcast_schemas::event::{Mode, Sharing};

use super::people::Id;
use super::session::Sessions;

const POSITION: u32 = 1;
const ACTIVE: u32 = 1 << 1;
const COARSE: u32 = 1 << 2;
const SHARING_SHIFT: u32 = 3;
const SHARING_MASK: u32 = 3 << SHARING_SHIFT;
const RADIUS_SHIFT: u32 = 8;

/// Largest radius that a slot holds, in metres.
pub(super) const MAX_RADIUS_M: i32 = (1 << 24) - 1;

/// All that deciding a pair needs of either end: four slots a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Slot {
    place: Ecef,
    /// Flags below, the viewer's radius in metres above.
    state: u32,
}

impl Slot {
    const EMPTY: Self = Self { place: Ecef { x: 0, y: 0, z: 0 }, state: 0 };

    /// The last position within the time to live.
    #[inline]
    pub(super) fn place(self) -> Option<Ecef> {
        (self.state & POSITION != 0).then_some(self.place)
    }

    pub(super) fn set_place(&mut self, place: Option<Ecef>) {
        self.state &= !POSITION;
        if let Some(place) = place {
            self.place = place;
            self.state |= POSITION;
        }
    }

    /// A viewer whose view is kept: owned, connected and given a reset.
    #[inline]
    pub(super) fn is_active(self) -> bool {
        self.state & ACTIVE != 0
    }

    pub(super) fn set_active(&mut self, active: bool) {
        self.set(ACTIVE, active);
    }

    /// The user has a coarse position.
    #[inline]
    pub(super) fn is_coarse(self) -> bool {
        self.state & COARSE != 0
    }

    pub(super) fn set_coarse(&mut self, coarse: bool) {
        self.set(COARSE, coarse);
    }

    /// How finely the user's position may be shown at present: the coarser of the mode with its end applied and of what
    /// the report allows.
    #[inline]
    pub(super) fn sharing(self) -> Sharing {
        match (self.state & SHARING_MASK) >> SHARING_SHIFT {
            0 => Sharing::Exact,
            1 => Sharing::Coarse,
            _ => Sharing::Hidden,
        }
    }

    pub(super) fn set_sharing(&mut self, sharing: Sharing) {
        let bits = match sharing {
            Sharing::Exact => 0,
            Sharing::Coarse => 1,
            Sharing::Hidden => 2,
        };
        self.state = self.state & !SHARING_MASK | bits << SHARING_SHIFT;
    }

    /// The viewer's own radius in metres; 0 for none.
    #[inline]
    pub(super) fn radius_m(self) -> i32 {
        (self.state >> RADIUS_SHIFT) as i32
    }

    /// `radius_m` is 0 to [`MAX_RADIUS_M`].
    pub(super) fn set_radius_m(&mut self, radius_m: i32) {
        debug_assert!((0..=MAX_RADIUS_M).contains(&radius_m));
        self.state = self.state & ((1 << RADIUS_SHIFT) - 1) | (radius_m as u32) << RADIUS_SHIFT;
    }

    fn set(&mut self, flag: u32, on: bool) {
        if on {
            self.state |= flag;
        } else {
            self.state &= !flag;
        }
    }
}

/// The last report, as it is shown.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct Report {
    pub(super) lat: f64,
    pub(super) lon: f64,
    /// Append time, ms since the epoch.
    pub(super) at: i64,
    pub(super) accuracy_m: Option<f32>,
    pub(super) speed_mps: Option<f32>,
    pub(super) heading_deg: Option<f32>,
    /// How finely it may ever be shown.
    pub(super) sharing: Sharing,
}

impl Report {
    /// What stands where there is no report.
    pub(super) const NONE: Self = Self {
        lat: 0.0,
        lon: 0.0,
        at: 0,
        accuracy_m: None,
        speed_mps: None,
        heading_deg: None,
        sharing: Sharing::Exact,
    };
}

/// What hits, resets and records of the user itself need.
pub(super) struct Cold {
    pub(super) id: Id,
    /// Partition of the visibility topic that the user belongs to as a viewer.
    pub(super) partition: i32,
    /// Append time of the last record of this user, ms since the epoch.
    pub(super) last_record_ms: i64,
    /// The position; as long as the slot has one.
    pub(super) report: Report,
    pub(super) mode: Mode,
    /// The time of the one timer of the mode's end that counts, ms since the epoch.
    pub(super) mode_timer_ms: i64,
    pub(super) sessions: Sessions,
}

/// The slots. A slot belongs to one user while the user is online.
#[derive(Default)]
pub(super) struct Slots {
    hot: Vec<Slot>,
    cold: Vec<Option<Cold>>,
    free: Vec<u32>,
}

impl Slots {
    /// Slots, free ones included.
    pub(super) fn capacity(&self) -> usize {
        self.hot.len()
    }

    /// Slots in use.
    pub(super) fn len(&self) -> usize {
        self.hot.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, cold: Cold) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.hot[slot as usize] = Slot::EMPTY;
            self.cold[slot as usize] = Some(cold);
            return slot;
        }
        self.hot.push(Slot::EMPTY);
        self.cold.push(Some(cold));
        (self.hot.len() - 1) as u32
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<Cold> {
        self.hot[slot as usize] = Slot::EMPTY;
        self.free.push(slot);
        self.cold[slot as usize].take()
    }

    #[inline]
    pub(super) fn hot(&self, slot: u32) -> Slot {
        self.hot[slot as usize]
    }

    #[inline]
    pub(super) fn hot_mut(&mut self, slot: u32) -> &mut Slot {
        &mut self.hot[slot as usize]
    }

    /// The row of a slot in use.
    #[inline]
    #[expect(
        clippy::expect_used,
        reason = "whoever holds a slot's number holds the user's id, and frees both together"
    )]
    pub(super) fn cold(&self, slot: u32) -> &Cold {
        self.cold[slot as usize].as_ref().expect("a slot in use")
    }

    /// The row of a slot in use.
    #[expect(clippy::expect_used, reason = "as in `cold`")]
    pub(super) fn cold_mut(&mut self, slot: u32) -> &mut Cold {
        self.cold[slot as usize].as_mut().expect("a slot in use")
    }

    /// The row of any slot.
    pub(super) fn get(&self, slot: u32) -> Option<&Cold> {
        self.cold.get(slot as usize)?.as_ref()
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = (u32, &Cold)> {
        self.cold.iter().enumerate().filter_map(|(slot, cold)| Some((slot as u32, cold.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_sixteen_bytes() {
        assert_eq!(size_of::<Slot>(), 16);
    }

    #[test]
    fn the_parts_of_the_state_do_not_touch_each_other() {
        let mut slot = Slot::EMPTY;
        slot.set_radius_m(MAX_RADIUS_M);
        slot.set_sharing(Sharing::Hidden);
        slot.set_active(true);
        slot.set_place(Some(Ecef { x: 1, y: 2, z: 3 }));
        assert_eq!((slot.radius_m(), slot.sharing()), (MAX_RADIUS_M, Sharing::Hidden));
        assert!(slot.is_active() && !slot.is_coarse() && slot.place().is_some());
        slot.set_radius_m(8_000);
        slot.set_sharing(Sharing::Coarse);
        slot.set_place(None);
        slot.set_coarse(true);
        slot.set_active(false);
        assert_eq!((slot.radius_m(), slot.sharing()), (8_000, Sharing::Coarse));
        assert!(!slot.is_active() && slot.is_coarse() && slot.place().is_none());
    }
}
