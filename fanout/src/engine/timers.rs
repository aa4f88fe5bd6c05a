//! What is to be looked at again, and when.

use std::collections::BTreeMap;

use super::people::{Id, Single};
use super::slots::Slots;

/// Something to look at. What it finds decides what happens; a timer itself decides nothing, and one that is not of use
/// any more does no harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// One of the timers that a user has at most one of.
    User(Single, Id),
    /// The end of a mode; about nothing unless the user's mode waits for this very time.
    Mode(Id),
    /// The expiry of an entry; about nothing unless the viewer's list waits for this very time.
    List(Id),
}

/// A [`Due`] in four bytes: at a time there are as many as views that changed lately.
#[derive(Clone, Copy, Debug)]
struct Packed(u32);

impl From<Due> for Packed {
    fn from(due: Due) -> Self {
        let (id, kind) = match due {
            Due::User(Single::Coarse, id) => (id, 0),
            Due::User(Single::Digest, id) => (id, 1),
            Due::Mode(id) => (id, 2),
            Due::List(id) => (id, 3),
        };
        Self(id.number() << 2 | kind)
    }
}

impl From<Packed> for Due {
    fn from(Packed(bits): Packed) -> Self {
        let id = Id::new(bits >> 2);
        match bits & 3 {
            0 => Self::User(Single::Coarse, id),
            1 => Self::User(Single::Digest, id),
            2 => Self::Mode(id),
            _ => Self::List(id),
        }
    }
}

/// The timers in order of their time.
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeMap<i64, Vec<Packed>>);

impl Timers {
    /// `at_ms`: ms since the epoch.
    pub(super) fn add(&mut self, at_ms: i64, due: Due) {
        self.0.entry(at_ms).or_default().push(due.into());
    }

    /// The time of the earliest timers.
    pub(super) fn first_ms(&self) -> Option<i64> {
        self.0.first_key_value().map(|(&at_ms, _)| at_ms)
    }

    /// The earliest timers.
    pub(super) fn take_first(&mut self) -> impl Iterator<Item = Due> + use<> {
        self.0.pop_first().into_iter().flat_map(|(_, due)| due).map(Due::from)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Due> {
        self.0.values().flatten().map(|&due| due.into())
    }
}

/// No slot follows.
const END: u32 = u32::MAX;
/// ms of a tick. Short, because what is due within the present one is looked at by each sweep.
const TICK_MS: i64 = 128;
/// Ticks of a round: 17 minutes. What is due later is looked at once a round.
const ROUND: i64 = 8_192;

/// Every slot in use, by the tick in which something of it may be too old. A list a tick runs through the slots' rows,
/// so that a user costs four bytes; nothing is moved when a record comes, because all users come round once a time to
/// live and are put where they belong then.
#[derive(Debug)]
pub(super) struct Wheel {
    heads: Vec<u32>,
    /// Ticks before it are empty.
    tick: i64,
}

impl Default for Wheel {
    fn default() -> Self {
        Self { heads: vec![END; ROUND as usize], tick: 0 }
    }
}

impl Wheel {
    /// Looks at the slot at `at_ms`, or somewhat earlier. The slot is in no list.
    pub(super) fn add(&mut self, slots: &mut Slots, slot: u32, at_ms: i64, now_ms: i64) {
        if self.tick == 0 {
            self.tick = now_ms / TICK_MS;
        }
        let tick = (at_ms / TICK_MS).clamp(self.tick, self.tick + ROUND - 1);
        let head = &mut self.heads[(tick % ROUND) as usize];
        *slots.next_mut(slot) = std::mem::replace(head, slot);
    }

    /// Takes out the slots of all ticks up to the present one.
    pub(super) fn take(&mut self, slots: &mut Slots, now_ms: i64) -> Vec<u32> {
        let mut taken = Vec::new();
        let present = (now_ms / TICK_MS).max(self.tick);
        for tick in self.tick..=present.min(self.tick + ROUND - 1) {
            let mut slot = std::mem::replace(&mut self.heads[(tick % ROUND) as usize], END);
            while slot != END {
                taken.push(slot);
                slot = *slots.next_mut(slot);
            }
        }
        self.tick = present;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_come_in_their_tick_and_far_ones_once_a_round() {
        const NOW_MS: i64 = 1_700_000_000_000;
        let (mut wheel, mut slots) = (Wheel::default(), Slots::default());
        for (id, after_ms) in [(0, 10), (1, 1_000), (2, 100_000_000)] {
            let slot = slots.insert(Id::new(id), 0, NOW_MS);
            wheel.add(&mut slots, slot, NOW_MS + after_ms, NOW_MS);
        }
        assert_eq!(wheel.take(&mut slots, NOW_MS + 10), [0]);
        assert!(wheel.take(&mut slots, NOW_MS + 800).is_empty());
        assert_eq!(wheel.take(&mut slots, NOW_MS + 1_000), [1]);
        wheel.add(&mut slots, 1, NOW_MS + 1_001, NOW_MS + 1_000);
        assert_eq!(wheel.take(&mut slots, NOW_MS + 1_001), [1], "within the tick that has begun");
        assert_eq!(wheel.take(&mut slots, NOW_MS + 3_000_000), [2]);
        assert!(wheel.take(&mut slots, NOW_MS + 200_000_000).is_empty());
    }
}
