//! A copy of what a worker knows, taken part by part while records go on coming.

use std::collections::BTreeMap;

use nearcast_fanout::engine::{Copied, Engine, Row, SavedUser, rows};

/// What one part holds, and when and where it stood.
struct Part {
    now_ms: i64,
    next: i64,
    bytes: Vec<u8>,
}

pub struct Copying {
    slots: usize,
    at: Copied,
    parts: Vec<Part>,
    /// The end of the log when the copy began.
    pub next: usize,
    /// ms since the epoch.
    pub began_ms: i64,
    /// It is of the engine that runs.
    pub is_own: bool,
}

impl Copying {
    pub fn new(slots: usize, next: usize, began_ms: i64) -> Self {
        Self { slots, at: Copied::Slots(0), parts: Vec::new(), next, began_ms, is_own: true }
    }

    /// The engine that it is of has ended.
    pub fn of_another(self) -> Self {
        Self { is_own: false, ..self }
    }

    /// Takes one part more; whether it was the last.
    pub fn go_on(&mut self, engine: &Engine, next: usize) -> bool {
        let mut bytes = Vec::new();
        self.at = engine.save(self.at, self.slots, &mut bytes).0;
        self.parts.push(Part { now_ms: engine.now_ms(), next: next as i64, bytes });
        self.at == Copied::All
    }

    /// The engine, which is new, with all parts.
    pub fn restored(&self, mut engine: Engine) -> Engine {
        for part in &self.parts {
            engine.restore(part.now_ms, &[part.next], &part.bytes).unwrap();
        }
        engine.check().unwrap();
        engine
    }
}

/// Both know the same of everybody. Which cell is shown depends on the instants at which somebody looked, and whether a
/// session still waits for its list on whether that was read.
pub fn assert_same(old: &Engine, new: &Engine) {
    assert_eq!(old.now_ms(), new.now_ms());
    let (mut old_bytes, mut new_bytes) = (Vec::new(), Vec::new());
    old.save(Copied::Slots(0), usize::MAX / 2, &mut old_bytes);
    new.save(Copied::Slots(0), usize::MAX / 2, &mut new_bytes);
    assert_eq!(users(&new_bytes), users(&old_bytes));
}

fn users(bytes: &[u8]) -> BTreeMap<&str, SavedUser<'_>> {
    let rows = rows(bytes).filter_map(|row| match row.unwrap() {
        Row::User(mut row) => {
            row.reporting.iter_mut().chain(&mut row.watching).for_each(|session| session.waits_for = 0);
            Some((row.user, SavedUser { coarse: None, ..*row }))
        }
        Row::Superseded(_) => None,
    });
    rows.collect()
}
