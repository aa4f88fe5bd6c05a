//! Earth-centred fixed-point coordinates: the form in which range is decided.

use std::fmt;

use crate::Position;
use crate::ellipsoid::{ECCENTRICITY_SQUARED, SEMI_MAJOR_M};

/// Units of an [`Ecef`] coordinate in one metre: a unit is 1/128 m, about 7.8 mm.
pub const UNITS_PER_METRE: i32 = 128;

/// A point of the WGS84 ellipsoid (height 0) in Earth-centred, Earth-fixed coordinates.
///
/// Each coordinate is in units of 1/128 m, rounded to nearest, and within ±816 401 536 for a value
/// made from a [`Position`]; a difference of two such coordinates fits an `i32`.
///
/// `Debug` prints `Ecef(…)`, as [`Position`] does and for the same reason.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Ecef {
    /// Towards latitude 0°, longitude 0°.
    pub x: i32,
    /// Towards latitude 0°, longitude 90° east.
    pub y: i32,
    /// Towards the north pole.
    pub z: i32,
}

impl From<Position> for Ecef {
    /// Source: EPSG Guidance Note 7-2, coordinate operation method 9602, with height 0.
    fn from(position: Position) -> Self {
        let (sin_lat, cos_lat) = position.lat_deg().to_radians().sin_cos();
        let (sin_lon, cos_lon) = position.lon_deg().to_radians().sin_cos();
        let prime_vertical_m = SEMI_MAJOR_M / (1.0 - ECCENTRICITY_SQUARED * sin_lat * sin_lat).sqrt();
        Self {
            x: to_units(prime_vertical_m * cos_lat * cos_lon),
            y: to_units(prime_vertical_m * cos_lat * sin_lon),
            z: to_units(prime_vertical_m * (1.0 - ECCENTRICITY_SQUARED) * sin_lat),
        }
    }
}

fn to_units(metres: f64) -> i32 {
    // The Earth's radius is 38 % of what an i32 holds at this scale.
    (metres * f64::from(UNITS_PER_METRE)).round() as i32
}

/// The squared straight-line distance of two points in squared units, that is (1/128 m)².
///
/// Single precision and without a multiplication for the scale: this is the compare of the hot path,
/// to be judged by a [`Threshold`](crate::Threshold), whose limits are in the same unit. How far the
/// square root may be from the definition is [`chord_error_m`](crate::chord_error_m).
///
/// Differences wrap, so that arbitrary coordinates give a number and not a panic; with coordinates
/// from a [`Position`] nothing wraps.
#[inline]
#[must_use]
pub fn chord_squared(a: Ecef, b: Ecef) -> f32 {
    let dx = a.x.wrapping_sub(b.x) as f32;
    let dy = a.y.wrapping_sub(b.y) as f32;
    let dz = a.z.wrapping_sub(b.z) as f32;
    dx * dx + dy * dy + dz * dz
}

/// The straight-line distance of two points in metres, in double precision.
///
/// Exact for the rounded coordinates; so it is within 1.4 cm of
/// [`straight_line_m`](crate::straight_line_m) at any distance.
#[must_use]
pub fn chord_m(a: Ecef, b: Ecef) -> f64 {
    let dx = f64::from(a.x) - f64::from(b.x);
    let dy = f64::from(a.y) - f64::from(b.y);
    let dz = f64::from(a.z) - f64::from(b.z);
    (dx * dx + dy * dy + dz * dz).sqrt() / f64::from(UNITS_PER_METRE)
}

impl fmt::Debug for Ecef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ecef(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lat: f64, lon: f64, expect_m: (f64, f64, f64)) {
        let got = Ecef::from(Position::new(lat, lon).unwrap());
        for (unit, metre) in [(got.x, expect_m.0), (got.y, expect_m.1), (got.z, expect_m.2)] {
            let off_m = f64::from(unit) / f64::from(UNITS_PER_METRE) - metre;
            assert!(off_m.abs() <= 0.5 / f64::from(UNITS_PER_METRE) + 1e-4, "{lat} {lon}: {off_m}");
        }
    }

    #[test]
    fn axes_of_the_ellipsoid() {
        check(0.0, 0.0, (6_378_137.0, 0.0, 0.0));
        check(0.0, 90.0, (0.0, 6_378_137.0, 0.0));
        check(0.0, 180.0, (-6_378_137.0, 0.0, 0.0));
        check(90.0, 77.0, (0.0, 0.0, 6_356_752.314_245));
        check(-90.0, -77.0, (0.0, 0.0, -6_356_752.314_245));
    }

    #[test]
    fn one_place_has_one_point() {
        let point = |lat, lon| Ecef::from(Position::new(lat, lon).unwrap());
        assert_eq!(point(12.5, 180.0), point(12.5, -180.0));
        assert_eq!(point(90.0, 0.0), point(90.0, 123.4));
        assert_eq!(point(-90.0, -5.0), point(-90.0, 123.4));
    }

    #[test]
    fn chord_of_the_axes() {
        let equator = Ecef { x: 816_401_536, y: 0, z: 0 };
        let antipode = Ecef { x: -816_401_536, ..equator };
        assert_eq!(chord_m(equator, antipode), 2.0 * 6_378_137.0);
        assert_eq!(chord_squared(equator, equator), 0.0);
        let three_four_five = Ecef { x: 816_401_536 + 3 * 128, y: 4 * 128, z: 0 };
        assert_eq!(chord_squared(equator, three_four_five), (5.0 * 128.0) * (5.0 * 128.0));
        assert_eq!(chord_m(equator, three_four_five), 5.0);
    }

    #[test]
    fn arbitrary_coordinates_do_not_panic() {
        let low = Ecef { x: i32::MIN, y: i32::MIN, z: i32::MIN };
        let high = Ecef { x: i32::MAX, y: i32::MAX, z: i32::MAX };
        assert!(chord_squared(low, high).is_finite());
        assert!(chord_m(low, high).is_finite());
    }

    #[test]
    fn coordinates_do_not_show_in_debug_output() {
        let point = Ecef { x: 7, y: 8, z: 9 };
        assert_eq!(format!("{point:?}"), "Ecef(…)");
    }
}
