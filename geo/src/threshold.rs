//! The limits of a radius, precomputed for the hot path.

use crate::UNITS_PER_METRE;

/// Once in range, a friend is out only beyond this multiple of the radius.
pub const EXIT_RATIO: f64 = 1.025;

/// The limits at which a pair enters and leaves a radius, for [`chord_squared`](crate::chord_squared).
///
/// A pair that was out is in when its distance is at most the radius; a pair that was in is out only
/// beyond [`EXIT_RATIO`] × the radius; in the band between, either answer is right. The limits are
/// moved into the band by [`chord_error_m`], so that the rounding of coordinates and of single
/// precision never breaks the definition: a pair whose [`straight_line_m`](crate::straight_line_m)
/// is at most the radius is always in, one beyond 1.025 × the radius is always out, without any
/// tolerance in an audit. Below a radius of 2 m the band is narrower than the rounding, and a pair
/// may be judged wrong by [`chord_error_m`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    enter_squared: f32,
    exit_squared: f32,
}

/// A radius that is negative, infinite or not a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("radius is not a finite number of metres from 0")]
pub struct RadiusError;

impl Threshold {
    /// No limit: every pair is in range. For viewers without a radius, such as a share link.
    pub const UNLIMITED: Self = Self { enter_squared: f32::INFINITY, exit_squared: f32::INFINITY };

    /// The limits of a radius in metres, 0 or more.
    ///
    /// # Errors
    ///
    /// [`RadiusError`] when the radius is negative, infinite or not a number.
    pub fn new(radius_m: f64) -> Result<Self, RadiusError> {
        if !(0.0..=f64::MAX).contains(&radius_m) {
            return Err(RadiusError);
        }
        Ok(Self::from_checked(radius_m))
    }

    fn from_checked(radius_m: f64) -> Self {
        let exit_m = radius_m * EXIT_RATIO;
        let enter_limit_m = radius_m + chord_error_m(radius_m);
        let exit_limit_m = (exit_m - chord_error_m(exit_m)).max(enter_limit_m);
        Self { enter_squared: limit_squared(enter_limit_m), exit_squared: limit_squared(exit_limit_m) }
    }

    /// Whether a pair that was out of range is in range now.
    #[inline]
    #[must_use]
    pub fn enters(self, chord_squared: f32) -> bool {
        chord_squared <= self.enter_squared
    }

    /// Whether a pair that was in range still is.
    #[inline]
    #[must_use]
    pub fn stays(self, chord_squared: f32) -> bool {
        chord_squared <= self.exit_squared
    }

    /// Whether a pair is in range, given whether it was.
    #[inline]
    #[must_use]
    pub fn in_range(self, was_in: bool, chord_squared: f32) -> bool {
        let limit = if was_in { self.exit_squared } else { self.enter_squared };
        chord_squared <= limit
    }

    /// The limit of [`enters`](Self::enters), in (1/128 m)².
    #[inline]
    #[must_use]
    pub fn enter_squared(self) -> f32 {
        self.enter_squared
    }

    /// The limit of [`stays`](Self::stays), in (1/128 m)².
    #[inline]
    #[must_use]
    pub fn exit_squared(self) -> f32 {
        self.exit_squared
    }
}

impl From<u32> for Threshold {
    /// The limits of a radius in whole metres.
    fn from(radius_m: u32) -> Self {
        Self::from_checked(f64::from(radius_m))
    }
}

/// How far, in metres, the root of [`chord_squared`](crate::chord_squared) may be from
/// [`straight_line_m`](crate::straight_line_m) at a given distance in metres: 1.7 cm at 8 km.
///
/// Rounding moves each end by at most half a unit in each of three coordinates, so their difference
/// by √3 units. Single precision (ε = 2⁻²⁴) rounds two factors, a product and two sums, 5 ε of the
/// square and 2.5 ε of its root; the comparison's limit is rounded too; 2⁻²¹ = 8 ε leaves room.
#[must_use]
pub fn chord_error_m(distance_m: f64) -> f64 {
    const ROUNDING_M: f64 = 1.732_050_808 / UNITS_PER_METRE as f64;
    const SINGLE_PRECISION: f64 = 1.0 / (1 << 21) as f64;
    ROUNDING_M + distance_m * SINGLE_PRECISION
}

fn limit_squared(limit_m: f64) -> f32 {
    let units = limit_m * f64::from(UNITS_PER_METRE);
    (units * units) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn squared(metres: f64) -> f32 {
        limit_squared(metres)
    }

    #[test]
    fn eight_kilometres() {
        let threshold = Threshold::new(8_000.0).unwrap();
        assert_eq!(threshold, Threshold::from(8_000));
        for (metres, enters, stays) in [
            (0.0, true, true),
            (8_000.0, true, true),
            (8_000.05, false, true),
            (8_199.95, false, true),
            (8_200.0, false, false),
            (1e7, false, false),
        ] {
            let d2 = squared(metres);
            assert_eq!(threshold.enters(d2), enters, "{metres}");
            assert_eq!(threshold.stays(d2), stays, "{metres}");
            assert_eq!(threshold.in_range(false, d2), enters, "{metres}");
            assert_eq!(threshold.in_range(true, d2), stays, "{metres}");
        }
    }

    #[test]
    fn limits_are_ordered_at_every_radius() {
        for exponent in -4..=16 {
            let threshold = Threshold::new(10.0_f64.powi(exponent)).unwrap();
            assert!(threshold.enter_squared() <= threshold.exit_squared(), "1e{exponent}");
        }
        let nothing = Threshold::new(0.0).unwrap();
        assert!(nothing.enters(0.0) && !nothing.stays(squared(0.1)));
    }

    #[test]
    fn radii_that_are_none() {
        for radius in [-1.0, -f64::MIN_POSITIVE, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(Threshold::new(radius), Err(RadiusError), "{radius}");
        }
    }

    #[test]
    fn unlimited_takes_everything() {
        assert!(Threshold::UNLIMITED.enters(f32::MAX) && Threshold::UNLIMITED.stays(f32::MAX));
        let whole_globe = Threshold::new(f64::MAX).unwrap();
        assert!(whole_globe.enters(squared(12_756_274.0)));
    }
}
