//! Some records as the worker reads them: encoded, and decoded again.

use std::ops::Range;

use nearcast_fanout::engine::{Located, Stamp};

use crate::reports::{Encoder, Report, START_MS};
use crate::world::write_id;

/// Gateway processes that the sessions are spread over.
const GATEWAYS: u32 = 16;

/// Some records as they are read: keys and values, encoded.
pub struct Records {
    encoder: Encoder,
    id: String,
    keys: String,
    values: Vec<u8>,
    rows: Vec<(Stamp, Range<usize>, Range<usize>)>,
}

impl Records {
    pub fn new() -> Self {
        Self {
            encoder: Encoder::new(GATEWAYS),
            id: String::new(),
            keys: String::new(),
            values: Vec::new(),
            rows: Vec::new(),
        }
    }

    pub fn clear(&mut self) {
        self.keys.clear();
        self.values.clear();
        self.rows.clear();
    }

    /// Appends the hello that begins the user's session; its offset is the user's number. It waits for no list, as with
    /// sessions that began a while ago.
    pub fn hello(&mut self, report: Report) {
        let (offset, value) = (i64::from(report.user), self.values.len());
        self.encoder.hello(report, offset, 0, &mut self.values);
        self.push(offset, report, value);
    }

    /// Appends a report of the user's session.
    pub fn fix(&mut self, offset: i64, report: Report) {
        let value = self.values.len();
        self.encoder.fix(report, offset, i64::from(report.user), &mut self.values);
        self.push(offset, report, value);
    }

    fn push(&mut self, offset: i64, report: Report, value: usize) {
        let key = self.keys.len();
        write_id(report.user, &mut self.id);
        self.keys.push_str(&self.id);
        let at = Stamp { offset, append_ms: report.append_ms };
        self.rows.push((at, key..self.keys.len(), value..self.values.len()));
    }

    /// The append time of the last record, ms since the epoch.
    pub fn last_ms(&self) -> i64 {
        self.rows.last().map_or(START_MS, |(at, ..)| at.append_ms)
    }

    /// Decodes all of them, as the worker does.
    pub fn decode<'a>(&'a self, into: &mut Vec<Located<'a>>) {
        let codec = self.encoder.codec();
        for (at, key, value) in &self.rows {
            let event = codec.decode_location(&self.values[value.clone()]).expect("it was encoded here");
            into.push(Located { at: *at, user: &self.keys[key.clone()], event });
        }
    }
}
