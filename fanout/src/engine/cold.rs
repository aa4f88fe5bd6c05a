//! The row of what the user's own records read, in 52 bytes.

use bytemuck::{Pod, Zeroable};
use nearcast_schemas::event::{Mode, NO_SESSION, Sharing};

use super::session::ResetCause;

/// Where a float is not given: a NaN that no phone sends.
const NO_FLOAT: u32 = 0x7fc0_dead;

/// The last report, as it is shown.
#[derive(Clone, Copy, Debug, PartialEq)]
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

/// A mode that is not the default.
#[derive(Clone, Copy, Debug)]
pub(super) struct ModeKept {
    pub(super) mode: Mode,
    /// The time of the one timer of its end that counts, ms since the epoch.
    pub(super) timer_ms: i64,
}

/// The row. Times are the low 32 bits of ms since the epoch: whatever is kept was written within the time to live, so
/// that the present time tells the rest (see [`wide`]).
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Cold {
    /// Two words each, so that the row needs no more than four bytes' alignment.
    lat: [u32; 2],
    lon: [u32; 2],
    at: u32,
    floats: [u32; 3],
    last: u32,
    seen: u32,
    /// The highest reporting session seen, plus one, in 48 bits; flags above.
    latest: [u32; 2],
    /// The next slot in the list of the wheel.
    pub(super) next: u32,
}

const LATEST_BITS: u32 = 48;
const LATEST_MASK: u64 = (1 << LATEST_BITS) - 1;
const LEFT: u64 = 1 << 48;
const WAITS: u64 = 1 << 49;
const MODE_SEEN: u64 = 1 << 50;
const MODE_KEPT: u64 = 1 << 51;
const SHARING_SHIFT: u32 = 52;
const CAUSE_SHIFT: u32 = 54;

/// The time in ms since the epoch whose low 32 bits are given: the one nearest to now, within 24 days.
pub(super) fn wide(low: u32, now_ms: i64) -> i64 {
    now_ms - i64::from((now_ms as u32).wrapping_sub(low).cast_signed())
}

fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

fn whole([low, high]: [u32; 2]) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

impl Cold {
    /// Of a user whose first record was appended at `append_ms`.
    pub(super) fn new(append_ms: i64) -> Self {
        let mut cold = Self { last: append_ms as u32, ..Self::zeroed() };
        cold.set_latest(NO_SESSION, false);
        cold.set_report(&Report::NONE);
        cold
    }

    fn bits(&self) -> u64 {
        whole(self.latest)
    }

    fn set_bits(&mut self, mask: u64, bits: u64) {
        self.latest = halves(self.bits() & !mask | bits);
    }

    pub(super) fn report(&self, now_ms: i64) -> Report {
        let float = |bits: u32| (bits != NO_FLOAT).then(|| f32::from_bits(bits));
        Report {
            lat: f64::from_bits(whole(self.lat)),
            lon: f64::from_bits(whole(self.lon)),
            at: self.at_ms(now_ms),
            accuracy_m: float(self.floats[0]),
            speed_mps: float(self.floats[1]),
            heading_deg: float(self.floats[2]),
            sharing: self.reported_as(),
        }
    }

    pub(super) fn set_report(&mut self, report: &Report) {
        self.lat = halves(report.lat.to_bits());
        self.lon = halves(report.lon.to_bits());
        self.at = report.at as u32;
        let floats = [report.accuracy_m, report.speed_mps, report.heading_deg];
        self.floats = floats.map(|float| float.map_or(NO_FLOAT, f32::to_bits));
        let sharing = match report.sharing {
            Sharing::Exact => 0,
            Sharing::Coarse => 1,
            Sharing::Hidden => 2,
        };
        self.set_bits(3 << SHARING_SHIFT, sharing << SHARING_SHIFT);
    }

    /// How finely the last report may ever be shown.
    pub(super) fn reported_as(&self) -> Sharing {
        match self.bits() >> SHARING_SHIFT & 3 {
            0 => Sharing::Exact,
            1 => Sharing::Coarse,
            _ => Sharing::Hidden,
        }
    }

    /// Append time of the last report, ms since the epoch; if there is one.
    pub(super) fn at_ms(&self, now_ms: i64) -> i64 {
        wide(self.at, now_ms)
    }

    /// Append time of the last record of this user, ms since the epoch.
    pub(super) fn last_record_ms(&self, now_ms: i64) -> i64 {
        wide(self.last, now_ms)
    }

    pub(super) fn set_last_record(&mut self, append_ms: i64, now_ms: i64) {
        self.last = self.last_record_ms(now_ms).max(append_ms) as u32;
    }

    /// Append time of the last record of the reporting session, ms since the epoch; if there is one.
    pub(super) fn seen_ms(&self, now_ms: i64) -> i64 {
        wide(self.seen, now_ms)
    }

    pub(super) fn set_seen_ms(&mut self, seen_ms: i64) {
        self.seen = seen_ms as u32;
    }

    pub(super) fn set_seen(&mut self, seen_ms: i64, cause: ResetCause) {
        self.set_seen_ms(seen_ms);
        self.set_bits(3 << CAUSE_SHIFT, (cause as u64) << CAUSE_SHIFT);
    }

    /// Why the reporting session's next reset is due.
    pub(super) fn cause(&self) -> ResetCause {
        match self.bits() >> CAUSE_SHIFT & 3 {
            0 => ResetCause::Hello,
            1 => ResetCause::Asked,
            2 => ResetCause::Ownership,
            _ => ResetCause::Delivery,
        }
    }

    /// The highest reporting session seen.
    pub(super) fn latest(&self) -> i64 {
        (self.bits() & LATEST_MASK) as i64 - 1
    }

    pub(super) fn left(&self) -> bool {
        self.bits() & LEFT != 0
    }

    /// The reporting session's reset waits for a list.
    pub(super) fn waits(&self) -> bool {
        self.bits() & WAITS != 0
    }

    pub(super) fn set_waits(&mut self, waits: bool) {
        self.set_bits(WAITS, if waits { WAITS } else { 0 });
    }

    /// `latest`: an offset below 2⁴⁸ - 1, which no partition reaches, or none.
    pub(super) fn set_latest(&mut self, latest: i64, left: bool) {
        let flags = if left { LEFT } else { 0 };
        self.set_bits(LATEST_MASK | LEFT, (latest + 1) as u64 & LATEST_MASK | flags);
    }

    /// Whether the newest mode is kept apart, being another than the default; `None` before the first.
    pub(super) fn mode(&self) -> Option<bool> {
        (self.bits() & MODE_SEEN != 0).then_some(self.bits() & MODE_KEPT != 0)
    }

    pub(super) fn set_mode(&mut self, kept: bool) {
        self.set_bits(MODE_SEEN | MODE_KEPT, MODE_SEEN | if kept { MODE_KEPT } else { 0 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_700_000_000_000;

    #[test]
    fn the_row_says_what_it_was_told() {
        assert_eq!(size_of::<Cold>(), 52);
        let mut cold = Cold::new(NOW_MS - 5);
        assert_eq!((cold.latest(), cold.mode(), cold.last_record_ms(NOW_MS)), (NO_SESSION, None, NOW_MS - 5));
        let report = Report {
            lat: 48.137_154,
            lon: -179.999_999_9,
            at: NOW_MS - 600_000,
            accuracy_m: Some(5.0),
            speed_mps: None,
            heading_deg: Some(359.9),
            sharing: Sharing::Hidden,
        };
        cold.set_report(&report);
        cold.set_latest((1 << 48) - 2, true);
        cold.set_waits(true);
        cold.set_seen(NOW_MS - 7, ResetCause::Delivery);
        cold.set_mode(true);
        assert_eq!(cold.report(NOW_MS), report);
        assert_eq!((cold.latest(), cold.left(), cold.waits(), cold.mode()), ((1 << 48) - 2, true, true, Some(true)));
        assert_eq!((cold.seen_ms(NOW_MS), cold.cause()), (NOW_MS - 7, ResetCause::Delivery));
        cold.set_latest(0, false);
        cold.set_waits(false);
        assert_eq!((cold.latest(), cold.left(), cold.waits(), cold.mode()), (0, false, false, Some(true)));
        assert_eq!(cold.report(NOW_MS), report);
    }

    #[test]
    fn the_low_half_of_a_time_is_enough() {
        for ago in [-1_000, 0, 1, 600_000, 2_000_000_000] {
            for now in [NOW_MS, (NOW_MS >> 32) << 32, ((NOW_MS >> 32) << 32) - 1] {
                assert_eq!(wide((now - ago) as u32, now), now - ago);
            }
        }
    }
}
