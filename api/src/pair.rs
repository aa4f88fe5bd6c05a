//! What two users are to each other, and how each step changes it. Pure.

use nearcast_schemas::event::Sharing;
use nearcast_schemas::refusal::Refusal;

/// The two users of a pair, in the order of their bytes, so that a pair has one name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PairIds {
    low: String,
    high: String,
}

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The user whose id sorts first.
    Low,
    /// The other.
    High,
}

/// What the two are to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bond {
    /// Nothing, or nothing any more.
    Strangers,
    /// This one asked, and the other has not answered.
    Asked(Side),
    /// Friends.
    Friends,
}

/// What one of the two shares with the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// How finely.
    pub precision: Sharing,
    /// When the sharing ends, in ms since the epoch; 0 for no end.
    pub until: i64,
    /// Only within this distance, in metres; 0 for no limit of its own.
    pub within_m: u32,
}

/// The canonical row of a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Who.
    pub ids: PairIds,
    /// What they are to each other.
    pub bond: Bond,
    /// Since when, in ms since the epoch.
    pub since: i64,
    /// What the low one shares with the high one.
    pub low_shares: Share,
    /// What the high one shares with the low one.
    pub high_shares: Share,
    /// Grows with each change and is at least the time of the change in µs since the epoch, so that it serves as the
    /// write timestamp of whatever is derived from the row; 0 where there is no row.
    pub version: i64,
}

/// A step that one of the two takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Asks for friendship; the answer to somebody who asked is a friendship.
    Request,
    /// Accepts what the other asked.
    Accept,
    /// Ends a friendship, declines or cancels.
    Remove,
    /// Changes what is shared with the other.
    Share(Share),
}

impl PairIds {
    /// The pair of two users; `None` when they are one.
    pub fn new(a: &str, b: &str) -> Option<Self> {
        match a.cmp(b) {
            std::cmp::Ordering::Less => Some(Self { low: a.to_owned(), high: b.to_owned() }),
            std::cmp::Ordering::Greater => Some(Self { low: b.to_owned(), high: a.to_owned() }),
            std::cmp::Ordering::Equal => None,
        }
    }

    /// The user whose id sorts first.
    pub fn low(&self) -> &str {
        &self.low
    }

    /// The other.
    pub fn high(&self) -> &str {
        &self.high
    }

    /// Who is on this side.
    pub fn id(&self, side: Side) -> &str {
        match side {
            Side::Low => &self.low,
            Side::High => &self.high,
        }
    }

    /// The side of `user`, who is one of the two.
    pub fn side_of(&self, user: &str) -> Side {
        if user == self.low { Side::Low } else { Side::High }
    }
}

impl Side {
    /// The other side.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Low => Self::High,
            Self::High => Self::Low,
        }
    }
}

impl Default for Share {
    /// What new friends share: asking and accepting is the consent.
    fn default() -> Self {
        Self { precision: Sharing::Exact, until: 0, within_m: 0 }
    }
}

impl Share {
    /// What is in force at `now_ms`: nothing once the end has come.
    #[must_use]
    pub fn at(self, now_ms: i64) -> Self {
        if self.until != 0 && now_ms >= self.until {
            return Self { precision: Sharing::Hidden, until: 0, within_m: 0 };
        }
        self
    }
}

impl Pair {
    /// Two users between whom nothing ever was.
    pub fn strangers(ids: PairIds) -> Self {
        Self {
            ids,
            bond: Bond::Strangers,
            since: 0,
            low_shares: Share::default(),
            high_shares: Share::default(),
            version: 0,
        }
    }

    /// What this side shares with the other.
    pub fn shares(&self, side: Side) -> Share {
        match side {
            Side::Low => self.low_shares,
            Side::High => self.high_shares,
        }
    }

    /// The pair after `side` took a step at `now_ms`; `None` when the step changes nothing, so that a call that is sent
    /// twice succeeds twice.
    ///
    /// # Errors
    /// [`Refusal::NoSuchRequest`] to accept what nobody asked; [`Refusal::NotAFriend`] to share with somebody else.
    pub fn after(&self, side: Side, step: Step, now_ms: i64) -> Result<Option<Self>, Refusal> {
        let bond = match (step, self.bond) {
            (Step::Request, Bond::Strangers) => Bond::Asked(side),
            (Step::Request | Step::Accept, Bond::Asked(asker)) if asker != side => Bond::Friends,
            (Step::Request, Bond::Asked(_)) | (Step::Request | Step::Accept, Bond::Friends) => return Ok(None),
            (Step::Accept, _) => return Err(Refusal::NoSuchRequest),
            (Step::Remove, Bond::Strangers) => return Ok(None),
            (Step::Remove, _) => Bond::Strangers,
            (Step::Share(share), Bond::Friends) if self.shares(side) == share => return Ok(None),
            (Step::Share(_), Bond::Friends) => Bond::Friends,
            (Step::Share(_), _) => return Err(Refusal::NotAFriend),
        };
        let mut next = Self { bond, version: (self.version + 1).max(now_ms.saturating_mul(1_000)), ..self.clone() };
        if let Step::Share(share) = step {
            match side {
                Side::Low => next.low_shares = share,
                Side::High => next.high_shares = share,
            }
        } else {
            // Nothing of an earlier friendship outlives it.
            next.low_shares = Share::default();
            next.high_shares = Share::default();
            next.since = now_ms;
        }
        Ok(Some(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    fn pair(bond: Bond) -> Pair {
        let ids = PairIds::new("bob", "alice").unwrap();
        Pair { bond, since: 5, version: 7, ..Pair::strangers(ids) }
    }

    fn check(bond: Bond, side: Side, step: Step, expect: Result<Option<Bond>, Refusal>) {
        let got = pair(bond).after(side, step, NOW);
        assert_eq!(got.map(|next| next.map(|pair| pair.bond)), expect, "{bond:?} {side:?} {step:?}");
    }

    #[test]
    fn a_pair_has_one_name() {
        assert_eq!(PairIds::new("a", "b"), PairIds::new("b", "a"));
        assert_eq!(PairIds::new("a", "a"), None);
        let ids = PairIds::new("b", "a").unwrap();
        assert_eq!((ids.low(), ids.high()), ("a", "b"));
        assert_eq!((ids.side_of("a"), ids.side_of("b")), (Side::Low, Side::High));
        assert_eq!(ids.id(Side::Low.other()), "b");
    }

    #[test]
    fn steps_of_either_side() {
        let shared = Step::Share(Share { precision: Sharing::Coarse, until: 9, within_m: 500 });
        for side in [Side::Low, Side::High] {
            let other = side.other();
            check(Bond::Strangers, side, Step::Request, Ok(Some(Bond::Asked(side))));
            check(Bond::Asked(side), side, Step::Request, Ok(None));
            check(Bond::Asked(other), side, Step::Request, Ok(Some(Bond::Friends)));
            check(Bond::Friends, side, Step::Request, Ok(None));

            check(Bond::Strangers, side, Step::Accept, Err(Refusal::NoSuchRequest));
            check(Bond::Asked(side), side, Step::Accept, Err(Refusal::NoSuchRequest));
            check(Bond::Asked(other), side, Step::Accept, Ok(Some(Bond::Friends)));
            check(Bond::Friends, side, Step::Accept, Ok(None));

            check(Bond::Strangers, side, Step::Remove, Ok(None));
            check(Bond::Asked(side), side, Step::Remove, Ok(Some(Bond::Strangers)));
            check(Bond::Asked(other), side, Step::Remove, Ok(Some(Bond::Strangers)));
            check(Bond::Friends, side, Step::Remove, Ok(Some(Bond::Strangers)));

            check(Bond::Strangers, side, shared, Err(Refusal::NotAFriend));
            check(Bond::Asked(side), side, shared, Err(Refusal::NotAFriend));
            check(Bond::Asked(other), side, shared, Err(Refusal::NotAFriend));
            check(Bond::Friends, side, shared, Ok(Some(Bond::Friends)));
        }
    }

    #[test]
    fn what_is_shared_belongs_to_one_side_and_one_friendship() {
        let share = Share { precision: Sharing::Hidden, until: 0, within_m: 0 };
        let shared = pair(Bond::Friends).after(Side::High, Step::Share(share), NOW).unwrap().unwrap();
        assert_eq!((shared.shares(Side::Low), shared.shares(Side::High)), (Share::default(), share));
        assert_eq!(shared.since, 5, "the friendship is as old as before");
        assert_eq!(shared.after(Side::High, Step::Share(share), NOW), Ok(None));
        let ended = shared.after(Side::Low, Step::Remove, NOW).unwrap().unwrap();
        assert_eq!(ended.shares(Side::High), Share::default());
    }

    #[test]
    fn a_share_that_has_ended_shares_nothing() {
        let nothing = Share { precision: Sharing::Hidden, until: 0, within_m: 0 };
        let open = Share { precision: Sharing::Coarse, until: 0, within_m: 500 };
        let ends = Share { until: NOW, ..open };
        assert_eq!(open.at(NOW), open);
        assert_eq!(ends.at(NOW - 1), ends);
        assert_eq!(ends.at(NOW), nothing);
        assert_eq!(nothing.at(NOW), nothing);
    }

    #[test]
    fn versions_grow_and_are_times_in_microseconds() {
        let first = pair(Bond::Strangers).after(Side::Low, Step::Request, NOW).unwrap().unwrap();
        assert_eq!(first.version, NOW * 1_000);
        let second = first.after(Side::High, Step::Accept, NOW - 60_000).unwrap().unwrap();
        assert_eq!(second.version, NOW * 1_000 + 1, "also when a clock is behind");
    }
}
