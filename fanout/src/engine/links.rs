//! One end of a friendship, in four bytes.

use bytemuck::{Pod, Zeroable};

use super::people::Id;

/// One end of what is between two users: the other user, and what each may see of the other.
///
/// Where both are online it holds the other's slot, so that a pair check follows no number; else the other's number, for
/// nothing is decided about them. Which of the two it is, its place in the list says.
///
/// Invariant: both ends say the same, each from its side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(transparent)]
pub(super) struct Link(u32);

const SEES: u32 = 1;
const SEEN: u32 = 1 << 1;
const SPECIAL: u32 = 1 << 2;
const KEPT: u32 = SEES | SEEN | SPECIAL;
/// Bits of a link that holds a number.
const ID_SHIFT: u32 = 3;
/// These two only where both are online.
const IN_VIEW: u32 = 1 << 3;
const SHOWN: u32 = 1 << 4;
/// Bits of a link that holds a slot.
const SLOT_SHIFT: u32 = 5;

/// Slots are below this.
pub(super) const SLOTS: u32 = 1 << (32 - SLOT_SHIFT);
/// Numbers of users are below this.
pub(super) const IDS: u32 = 1 << (32 - ID_SHIFT);

/// What a link says beside whom it is about. Two ends differ in the point of view alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    /// The other user is on this one's list.
    Sees,
    /// This user is on the other one's list.
    Seen,
    /// The other user is in this one's view.
    InView,
    /// This user is in the other one's view.
    Shown,
    /// An entry of one of the two for the other has rules of its own.
    Special,
}

impl Says {
    const fn bit(self) -> u32 {
        match self {
            Self::Sees => SEES,
            Self::Seen => SEEN,
            Self::InView => IN_VIEW,
            Self::Shown => SHOWN,
            Self::Special => SPECIAL,
        }
    }

    /// The same, said by the other end.
    pub(super) fn back(self) -> Self {
        match self {
            Self::Sees => Self::Seen,
            Self::Seen => Self::Sees,
            Self::InView => Self::Shown,
            Self::Shown => Self::InView,
            Self::Special => Self::Special,
        }
    }
}

impl Link {
    /// A link to a user who is online, or whose list does not need to know.
    pub(super) fn to_slot(slot: u32) -> Self {
        Self(slot << SLOT_SHIFT)
    }

    pub(super) fn to_id(id: Id) -> Self {
        Self(id.number() << ID_SHIFT)
    }

    /// The same friendship by the other's slot.
    pub(super) fn at_slot(self, slot: u32) -> Self {
        Self(slot << SLOT_SHIFT | self.0 & KEPT)
    }

    /// The same friendship by the other's number: nobody is in a view.
    pub(super) fn at_id(self, id: Id) -> Self {
        Self(id.number() << ID_SHIFT | self.0 & KEPT)
    }

    #[inline(always)]
    pub(super) fn slot(self) -> u32 {
        self.0 >> SLOT_SHIFT
    }

    #[inline]
    pub(super) fn id(self) -> Id {
        Id::new(self.0 >> ID_SHIFT)
    }

    #[inline(always)]
    pub(super) fn says(self, what: Says) -> bool {
        self.0 & what.bit() != 0
    }

    pub(super) fn set(&mut self, what: Says, true_: bool) {
        if true_ {
            self.0 |= what.bit();
        } else {
            self.0 &= !what.bit();
        }
    }

    /// Neither is on the other's list any more.
    pub(super) fn is_over(self) -> bool {
        self.0 & (SEES | SEEN) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_keeps_what_it_says_when_the_other_comes_and_goes() {
        let mut link = Link::to_id(Id::new(IDS - 1));
        link.set(Says::Sees, true);
        link.set(Says::Special, true);
        assert_eq!(link.id(), Id::new(IDS - 1));
        let mut online = link.at_slot(SLOTS - 2);
        online.set(Says::InView, true);
        online.set(Says::Shown, true);
        assert_eq!(online.slot(), SLOTS - 2);
        assert!(online.says(Says::Sees) && !online.says(Says::Seen) && online.says(Says::Special));
        assert_eq!(online.at_id(Id::new(IDS - 1)), link);
        online.set(Says::Sees, false);
        assert!(online.is_over());
    }
}
