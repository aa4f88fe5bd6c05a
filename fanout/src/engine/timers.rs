//! What is to be looked at again, and when.

use std::collections::BTreeMap;

use super::people::{Id, Single};

/// Something to look at. What it finds decides what happens; a timer itself decides nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// One of the timers that a user has at most one of.
    User(Single, Id),
    /// The end of a mode; about nothing unless the user's mode waits for this very time.
    Mode { user: Id, at_ms: i64 },
    /// The age and the expiries of a list; about nothing unless the list waits for this very time.
    List { viewer: Id, at_ms: i64 },
}

impl Due {
    /// The user that the timer keeps a reference to.
    pub(super) fn id(self) -> Id {
        match self {
            Due::User(_, id) | Due::Mode { user: id, .. } | Due::List { viewer: id, .. } => id,
        }
    }
}

/// The timers in order of their time.
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeMap<i64, Vec<Due>>);

impl Timers {
    /// `at_ms`: ms since the epoch.
    pub(super) fn add(&mut self, at_ms: i64, due: Due) {
        self.0.entry(at_ms).or_default().push(due);
    }

    /// The earliest timers, if their time is not after `now_ms`.
    pub(super) fn take_due(&mut self, now_ms: i64) -> Option<Vec<Due>> {
        let first = self.0.first_entry()?;
        (*first.key() <= now_ms).then(|| first.remove())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Due> {
        self.0.values().flatten()
    }
}
