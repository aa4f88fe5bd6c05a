//! What the audit found, counted and with examples.

use serde::Serialize;

use super::truth::Micros;

/// Examples kept.
const EXAMPLES: usize = 20;

/// What is wrong with one friend in one phone's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Finding {
    /// In range and not shown.
    Missing,
    /// Shown and not in range, or no friend.
    Wrong,
    /// Shown where the friend no longer is.
    Stale,
}

/// A finding when it was first seen. Says distances and ages, never where.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Example {
    /// What.
    pub(crate) finding: Finding,
    /// Index of the phone that shows it.
    pub(crate) viewer: u32,
    /// Index of the friend; none for an id of nobody.
    pub(crate) friend: Option<u32>,
    /// When, in ms since the epoch.
    pub(crate) at_ms: i64,
    /// Between their newest possible positions, metres.
    pub(crate) apart_m: Option<f64>,
    /// Since the friend's phone last sent a report, seconds.
    pub(crate) friend_sent_s: Option<f64>,
    /// Since the viewer's phone last sent a report, seconds.
    pub(crate) viewer_sent_s: Option<f64>,
    /// Since the viewer's welcome, seconds.
    pub(crate) welcomed_s: f64,
}

/// The sum of what was found.
#[derive(Default)]
pub(crate) struct Findings {
    /// Times that a friend began to be missing.
    pub(crate) missing: u64,
    /// Times that somebody began to be shown who must not be.
    pub(crate) wrong: u64,
    /// Times that a shown position began to be out of date.
    pub(crate) stale: u64,
    /// Positions that came with a distance that is not theirs.
    pub(crate) distances_off: u64,
    wrong_time: Micros,
    wrong_between: Option<(Micros, Micros)>,
    judged: Micros,
    in_range: Micros,
    /// The first of them.
    pub(crate) examples: Vec<Example>,
}

impl Findings {
    /// Pairs were judged, and in this part of it the friend had to be shown; summed over pairs.
    pub(crate) fn judged(&mut self, pair_time: Micros, in_range: Micros) {
        self.judged += pair_time;
        self.in_range += in_range;
    }

    /// A finding stood for this long until now.
    pub(crate) fn stood(&mut self, lasted: Micros, now: Micros) {
        self.wrong_time += lasted;
        let (first, _) = self.wrong_between.unwrap_or((now, now));
        self.wrong_between = Some((first, now));
    }

    /// A finding that was not there an instant before.
    pub(crate) fn begins(&mut self, example: Example) {
        match example.finding {
            Finding::Missing => self.missing += 1,
            Finding::Wrong => self.wrong += 1,
            Finding::Stale => self.stale += 1,
        }
        if self.examples.len() < EXAMPLES {
            self.examples.push(example);
        }
    }

    /// Seconds of wrong view, summed over pairs.
    pub(crate) fn wrong_seconds(&self) -> f64 {
        seconds(self.wrong_time)
    }

    /// The first and the last instant at which anything was wrong, in ms since the epoch: how long a fault was seen.
    pub(crate) fn wrong_between_ms(&self) -> Option<(i64, i64)> {
        self.wrong_between.map(|(first, last)| (first / 1_000, last / 1_000))
    }

    /// Seconds judged, summed over pairs.
    pub(crate) fn judged_seconds(&self) -> f64 {
        seconds(self.judged)
    }

    /// Seconds in which a friend had to be shown, summed over pairs.
    pub(crate) fn in_range_seconds(&self) -> f64 {
        seconds(self.in_range)
    }

    /// Nothing at all was found.
    pub(crate) fn is_clean(&self) -> bool {
        self.missing + self.wrong + self.stale + self.distances_off == 0 && self.wrong_time == 0
    }
}

pub(crate) fn seconds(micros: Micros) -> f64 {
    micros as f64 / 1e6
}
