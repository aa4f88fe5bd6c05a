//! Is this a report? Ranges, plausible times, and the phone's clock corrected.

use nearcast_geo::Position;
use nearcast_schemas::event::Fix;
use nearcast_schemas::ids::check_id;
use nearcast_schemas::refusal::Refusal;
use serde::{Deserialize, Serialize};

/// A phone's clock that is off by at most this counts as right, in ms. Larger offsets are rounded to twice this.
///
/// A report that is sent again has to get the same time, because the time is part of a report's key in the history; but
/// the offset that is measured contains the way of the message, which differs from one sending to the next.
pub const CLOCK_TOLERANCE_MS: i64 = 5_000;

/// A report may be dated this much later than its phone's own clock, in ms.
const AHEAD_MS: i64 = 60_000;

/// A report as it came in. `Debug` leaves the coordinates out.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RawFix {
    /// Number of the report, growing per installation; at least 0.
    pub n: i64,
    /// WGS84 degrees, -90 to 90.
    pub lat: f64,
    /// WGS84 degrees, -180 to 180.
    pub lon: f64,
    /// When the phone was there by its own clock, in ms since the epoch.
    pub time: i64,
    /// Radius of 68 % confidence in metres, at least 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy_m: Option<f64>,
    /// Metres a second, at least 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed_mps: Option<f64>,
    /// Degrees clockwise from true north, 0 to 360.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heading_deg: Option<f64>,
    /// Metres above the ellipsoid, -12 000 to 100 000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub altitude_m: Option<f64>,
}

impl std::fmt::Debug for RawFix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawFix").field("n", &self.n).finish_non_exhaustive()
    }
}

/// Which ages are taken how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgeLimits {
    /// A report older than this by its phone's own clock is late: history only; ms.
    pub max_age_ms: i64,
    /// A report older than this is refused; ms.
    pub max_late_ms: i64,
}

/// A report that may be published.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// As it goes into the log.
    pub fix: Fix,
    /// Where, for computing.
    pub position: Position,
    /// Too old to be shown as now: for the history alone.
    pub late: bool,
}

/// Checks one report of `device` that came at `now_ms` by the server's clock. `clock` is what the phone's clock showed
/// when it sent, in ms since the epoch; without it the phone's clock counts as right.
///
/// The corrected time may be up to [`CLOCK_TOLERANCE_MS`] ahead of `now_ms`: capping it at `now_ms` would give a report
/// that is sent again another time.
///
/// # Errors
/// [`Refusal::IdInvalid`] for the device, [`Refusal::NumberNotGrowing`] for a negative `n`,
/// [`Refusal::PositionOutOfRange`], [`Refusal::MeasureOutOfRange`]; [`Refusal::TimeOutOfRange`] for a report that is
/// older than the limit or more than a minute ahead of its phone's own clock.
pub fn validate(
    raw: &RawFix,
    device: &str,
    clock: Option<i64>,
    now_ms: i64,
    limits: &AgeLimits,
) -> Result<Checked, Refusal> {
    check_id(device).map_err(|_| Refusal::IdInvalid)?;
    if raw.n < 0 {
        return Err(Refusal::NumberNotGrowing);
    }
    let position = Position::new(raw.lat, raw.lon).map_err(|_| Refusal::PositionOutOfRange)?;
    let accuracy_m = measure(raw.accuracy_m, 0.0, f64::from(f32::MAX))?;
    let speed_mps = measure(raw.speed_mps, 0.0, f64::from(f32::MAX))?;
    let heading_deg = measure(raw.heading_deg, 0.0, 360.0)?;
    let altitude_m = measure(raw.altitude_m, -12_000.0, 100_000.0)?;

    let clock = clock.unwrap_or(now_ms);
    if raw.time <= 0 || clock <= 0 {
        return Err(Refusal::TimeOutOfRange);
    }
    // Both are positive, so no difference overflows.
    let age_ms = clock - raw.time;
    if age_ms < -AHEAD_MS || age_ms > limits.max_late_ms {
        return Err(Refusal::TimeOutOfRange);
    }
    let corrected = raw.time.saturating_add(clock_offset_ms(clock, now_ms));
    let fix = Fix {
        lat: position.lat_deg(),
        lon: position.lon_deg(),
        accuracy_m,
        speed_mps,
        heading_deg,
        altitude_m,
        device: device.to_owned(),
        n: raw.n,
        device_time: raw.time,
        fixed_at: corrected.min(now_ms.saturating_add(CLOCK_TOLERANCE_MS)),
    };
    Ok(Checked { fix, position, late: age_ms > limits.max_age_ms })
}

/// What has to be added to the phone's times: the difference of the clocks, rounded to twice the tolerance.
fn clock_offset_ms(clock: i64, now_ms: i64) -> i64 {
    const STEP_MS: i64 = 2 * CLOCK_TOLERANCE_MS;
    let offset = now_ms.saturating_sub(clock);
    let magnitude = offset.saturating_abs();
    // Exactly the tolerance still counts as right.
    let steps = magnitude.saturating_add(CLOCK_TOLERANCE_MS - 1) / STEP_MS;
    offset.signum() * steps * STEP_MS
}

fn measure(value: Option<f64>, least: f64, most: f64) -> Result<Option<f32>, Refusal> {
    match value {
        None => Ok(None),
        // `contains` is false for NaN.
        Some(value) if (least..=most).contains(&value) => Ok(Some(value as f32)),
        Some(_) => Err(Refusal::MeasureOutOfRange),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: i64 = 1_760_000_000_000;
    const LIMITS: AgeLimits = AgeLimits { max_age_ms: 60_000, max_late_ms: 30 * 86_400_000 };

    fn raw() -> RawFix {
        RawFix {
            n: 7,
            lat: 48.0,
            lon: 11.0,
            time: NOW,
            accuracy_m: None,
            speed_mps: None,
            heading_deg: None,
            altitude_m: None,
        }
    }

    fn check(change: impl Fn(&mut RawFix), expect: Result<(), Refusal>) {
        let mut fix = raw();
        change(&mut fix);
        assert_eq!(validate(&fix, "d", None, NOW, &LIMITS).map(|_| ()), expect, "n {}", fix.n);
    }

    #[test]
    fn ranges() {
        check(|_| (), Ok(()));
        check(|f| f.n = -1, Err(Refusal::NumberNotGrowing));
        check(|f| f.lat = 90.001, Err(Refusal::PositionOutOfRange));
        check(|f| f.lon = f64::NAN, Err(Refusal::PositionOutOfRange));
        check(|f| f.accuracy_m = Some(-0.1), Err(Refusal::MeasureOutOfRange));
        check(|f| f.accuracy_m = Some(1e300), Err(Refusal::MeasureOutOfRange));
        check(|f| f.speed_mps = Some(f64::INFINITY), Err(Refusal::MeasureOutOfRange));
        check(|f| f.heading_deg = Some(360.0), Ok(()));
        check(|f| f.heading_deg = Some(360.1), Err(Refusal::MeasureOutOfRange));
        check(|f| f.altitude_m = Some(-12_001.0), Err(Refusal::MeasureOutOfRange));
        check(|f| f.altitude_m = Some(8_848.0), Ok(()));
    }

    #[test]
    fn a_device_is_an_id() {
        for device in ["", "a b", &"x".repeat(65)] {
            assert_eq!(validate(&raw(), device, None, NOW, &LIMITS), Err(Refusal::IdInvalid));
        }
    }

    /// A report of `time` from a phone whose clock shows `clock`, both relative to the server's.
    fn dated(time: i64, clock: Option<i64>) -> Result<(i64, bool), Refusal> {
        let fix = RawFix { time: NOW + time, ..raw() };
        let checked = validate(&fix, "d", clock.map(|clock| NOW + clock), NOW, &LIMITS)?;
        assert_eq!(checked.fix.device_time, NOW + time);
        Ok((checked.fix.fixed_at - NOW, checked.late))
    }

    #[test]
    fn times_are_corrected_by_the_phones_clock() {
        assert_eq!(dated(-1_000, None), Ok((-1_000, false)));
        assert_eq!(dated(-1_000, Some(0)), Ok((-1_000, false)));
        assert_eq!(dated(4_000, Some(5_000)), Ok((4_000, false)), "the tolerance counts as right");
        assert_eq!(dated(-6_000, Some(-5_000)), Ok((-6_000, false)));
        assert_eq!(dated(-3_600_000, Some(-3_600_000)), Ok((0, false)), "an hour behind, and fresh");
        assert_eq!(dated(3_600_000 - 90_000, Some(3_600_000)), Ok((-90_000, true)), "an hour ahead, and late");
        assert_eq!(dated(-7_000, Some(-7_000)), Ok((3_000, false)), "within the tolerance of now");
        assert_eq!(dated(50_000, Some(0)), Ok((5_000, false)), "never more than the tolerance ahead of now");
    }

    #[test]
    fn ages() {
        assert_eq!(dated(-60_000, None), Ok((-60_000, false)));
        assert_eq!(dated(-60_001, None), Ok((-60_001, true)));
        assert_eq!(dated(-LIMITS.max_late_ms, None), Ok((-LIMITS.max_late_ms, true)));
        assert_eq!(dated(-LIMITS.max_late_ms - 1, None), Err(Refusal::TimeOutOfRange));
        assert_eq!(dated(60_000, None), Ok((5_000, false)));
        assert_eq!(dated(60_001, None), Err(Refusal::TimeOutOfRange));
        assert_eq!(dated(0, Some(-60_001)), Err(Refusal::TimeOutOfRange), "ahead of its own clock");
        assert_eq!(dated(-NOW, None), Err(Refusal::TimeOutOfRange));
        assert_eq!(dated(0, Some(-NOW)), Err(Refusal::TimeOutOfRange));
    }

    #[test]
    fn coordinates_do_not_show_in_debug_output() {
        let fix = RawFix { lat: 48.137, lon: 11.575, ..raw() };
        let checked = validate(&fix, "d", None, NOW, &LIMITS).unwrap();
        let text = format!("{fix:?} {checked:?}");
        assert!(!text.contains("48.1") && !text.contains("11.5"), "{text}");
    }

    proptest! {
        #[test]
        fn what_passes_is_in_range_and_nothing_panics(
            numbers in any::<[f64; 6]>(), times in any::<[i64; 3]>(), n in any::<i64>(), clock in any::<bool>(),
        ) {
            let fix = RawFix {
                n, lat: numbers[0], lon: numbers[1], time: times[0], accuracy_m: Some(numbers[2]),
                speed_mps: Some(numbers[3]), heading_deg: Some(numbers[4]), altitude_m: Some(numbers[5]),
            };
            if let Ok(checked) = validate(&fix, "d", clock.then_some(times[1]), times[2], &LIMITS) {
                prop_assert!((-90.0..=90.0).contains(&checked.fix.lat));
                prop_assert!((-180.0..=180.0).contains(&checked.fix.lon));
                prop_assert!(checked.fix.heading_deg.is_some_and(|h| (0.0..=360.0).contains(&h)));
                prop_assert!(checked.fix.n >= 0);
            }
        }

        #[test]
        fn plausible_reports_are_dated_within_the_tolerance(
            age in 0..LIMITS.max_late_ms, skew in -86_400_000_i64..86_400_000, way in 0_i64..2_000,
        ) {
            // The phone takes the position, waits, and sends at `NOW - way` by the server's clock.
            let (clock, sent) = (NOW - way + skew, NOW - way);
            let fix = RawFix { time: clock - age, ..raw() };
            let checked = validate(&fix, "d", Some(clock), NOW, &LIMITS).unwrap();
            let off = checked.fix.fixed_at - (sent - age);
            prop_assert!(off.abs() <= CLOCK_TOLERANCE_MS + way, "{off}");
            prop_assert_eq!(checked.late, age > LIMITS.max_age_ms);
        }

        #[test]
        fn a_report_sent_again_gets_the_same_time(
            age in 0_i64..86_400_000, skew in -4_000_i64..4_000, hours in -12_i64..12,
            ways in any::<[u8; 2]>(), later in 0_i64..600_000,
        ) {
            // A clock that is off by hours and up to four seconds; ways of up to a quarter second.
            let skew = skew + hours * 3_600_000;
            let time = NOW + skew - age;
            let dated = |received: i64, way: u8| {
                let clock = received - i64::from(way) + skew;
                let checked = validate(&RawFix { time, ..raw() }, "d", Some(clock), received, &LIMITS).unwrap();
                checked.fix.fixed_at
            };
            prop_assert_eq!(dated(NOW + i64::from(ways[0]), ways[0]), dated(NOW + later + i64::from(ways[1]), ways[1]));
        }
    }
}
