//! Distances in double precision: the definition of range, and the number shown to people.

use geographiclib_rs::{Geodesic, InverseGeodesic};

use crate::Position;
use crate::ellipsoid::{FLATTENING, SEMI_MAJOR_M, SEMI_MINOR_M};

/// The straight-line distance of two positions on WGS84 in metres, 0 to 12 756 274.
///
/// This is what "distance" means in Nearcast; audits decide with it. It shares no step with
/// [`Ecef`](crate::Ecef): with the reduced latitude β, tan β = (1 − f) tan φ, a point is
/// (a cos β cos λ, a cos β sin λ, b sin β), and the difference of two longitudes enters by the
/// haversine of their difference, so that near points lose no digits.
/// Source: Snyder, "Map Projections: A Working Manual" (USGS PP 1395, 1987), section 3, where β is the
/// parametric latitude.
#[must_use]
pub fn straight_line_m(a: Position, b: Position) -> f64 {
    let (sin_a, cos_a) = reduced_latitude(a.lat_deg());
    let (sin_b, cos_b) = reduced_latitude(b.lat_deg());
    let half_turn = ((a.lon_deg() - b.lon_deg()) / 2.0).to_radians().sin();
    let outward = cos_a - cos_b;
    let around_squared = 4.0 * cos_a * cos_b * half_turn * half_turn;
    let across_m = SEMI_MAJOR_M * (outward * outward + around_squared).sqrt();
    let upward_m = SEMI_MINOR_M * (sin_a - sin_b);
    across_m.hypot(upward_m)
}

/// Sine and cosine of the reduced latitude.
fn reduced_latitude(lat_deg: f64) -> (f64, f64) {
    let (sin_lat, cos_lat) = lat_deg.to_radians().sin_cos();
    let sin = (1.0 - FLATTENING) * sin_lat;
    let length = sin.hypot(cos_lat);
    (sin / length, cos_lat / length)
}

/// The length of the shortest way along the WGS84 ellipsoid in metres, 0 to 20 003 932.
///
/// For display: it is what a map's scale measures. Range is never decided with it. Accurate to
/// 15 nm. Source: Karney, "Algorithms for geodesics", Journal of Geodesy 87 (2013), 43–55.
#[must_use]
pub fn geodesic_m(a: Position, b: Position) -> f64 {
    Geodesic::wgs84().inverse(a.lat_deg(), a.lon_deg(), b.lat_deg(), b.lon_deg())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(a: (f64, f64), b: (f64, f64), straight: f64, geodesic: f64) {
        let (a, b) = (Position::new(a.0, a.1).unwrap(), Position::new(b.0, b.1).unwrap());
        for (a, b) in [(a, b), (b, a)] {
            assert!((straight_line_m(a, b) - straight).abs() < 1e-3, "{}", straight_line_m(a, b));
            assert!((geodesic_m(a, b) - geodesic).abs() < 1e-3, "{}", geodesic_m(a, b));
        }
    }

    #[test]
    fn the_ellipsoid_by_its_axes() {
        let quarter = std::f64::consts::FRAC_PI_2 * SEMI_MAJOR_M;
        check((0.0, 0.0), (0.0, 90.0), 2.0_f64.sqrt() * SEMI_MAJOR_M, quarter);
        check((90.0, 0.0), (-90.0, 0.0), 2.0 * SEMI_MINOR_M, 20_003_931.458_6);
        check((0.0, 0.0), (0.0, 180.0), 2.0 * SEMI_MAJOR_M, 20_003_931.458_6);
    }

    #[test]
    fn one_place_by_two_names() {
        check((33.0, 180.0), (33.0, -180.0), 0.0, 0.0);
        check((90.0, 10.0), (90.0, -130.0), 0.0, 0.0);
        check((-90.0, 10.0), (-90.0, -130.0), 0.0, 0.0);
    }

    #[test]
    fn a_kilometre_across_the_antimeridian() {
        // 0.01° of the equator on either side: a · 0.02° along the circle.
        let arc = SEMI_MAJOR_M * 0.02_f64.to_radians();
        let chord = 2.0 * SEMI_MAJOR_M * 0.01_f64.to_radians().sin();
        check((0.0, 179.99), (0.0, -179.99), chord, arc);
    }
}
