//! Distances against Karney's geodesics over the whole globe, poles and antimeridian included.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use geographiclib_rs::{DirectGeodesic, Geodesic};
use nearcast_geo::{
    EXIT_RATIO, Ecef, Position, Threshold, UNITS_PER_METRE, chord_error_m, chord_m, chord_squared, geodesic_m,
    straight_line_m,
};
use proptest::prelude::*;

/// A place at an azimuth (degrees) and distance (metres along the ellipsoid) from another.
fn away(from: Position, azimuth_deg: f64, distance_m: f64) -> Position {
    let (lat, lon): (f64, f64) = Geodesic::wgs84().direct(from.lat_deg(), from.lon_deg(), azimuth_deg, distance_m);
    Position::new(lat, lon).unwrap()
}

fn hot_path_m(a: Position, b: Position) -> f64 {
    f64::from(chord_squared(a.into(), b.into())).sqrt() / f64::from(UNITS_PER_METRE)
}

/// The chord of a geodesic by the series of the circle that osculates it: s − s³ / 24 R². R is
/// between the least and greatest radius of curvature of the ellipsoid, b²/a and a²/b.
fn chord_bounds_m(geodesic_m: f64) -> (f64, f64) {
    let chord = |radius_m: f64| geodesic_m - geodesic_m.powi(3) / (24.0 * radius_m * radius_m);
    (chord(6_335_439.0), chord(6_399_594.0))
}

/// Everything that is claimed of a pair some kilometres apart.
fn check_near(a: Position, b: Position) {
    let geodesic = geodesic_m(a, b);
    let straight = straight_line_m(a, b);
    let (least, most) = chord_bounds_m(geodesic);
    assert!((least - 1e-6..=most + 1e-6).contains(&straight), "{straight} for {geodesic}");
    check_pair(a, b);

    let hot = hot_path_m(a, b);
    assert!((hot - straight).abs() <= 0.02, "hot path {hot}, definition {straight}");
    assert!((hot - geodesic).abs() <= 0.02, "hot path {hot}, geodesic {geodesic}");
}

/// Everything that is claimed of any pair.
fn check_pair(a: Position, b: Position) {
    let (from, to) = (Ecef::from(a), Ecef::from(b));
    let straight = straight_line_m(a, b);
    assert_eq!(straight, straight_line_m(b, a));
    assert_eq!(chord_squared(from, to), chord_squared(to, from));
    assert!((chord_m(from, to) - straight).abs() <= 0.014, "{straight}");
    assert!((hot_path_m(a, b) - straight).abs() <= chord_error_m(straight), "{straight}");
    assert!(straight <= geodesic_m(a, b) + 1e-6, "{straight}");
}

/// The definition of range holds exactly, however close to its limits a pair is.
fn check_threshold(a: Position, b: Position) {
    let straight = straight_line_m(a, b);
    let d2 = chord_squared(a.into(), b.into());
    let in_range = Threshold::new(straight).unwrap();
    assert!(in_range.enters(d2) && in_range.stays(d2), "{straight} is in its own radius");
    let out_of_range = Threshold::new((straight / EXIT_RATIO).next_down()).unwrap();
    assert!(!out_of_range.enters(d2) && !out_of_range.stays(d2), "{straight} is beyond the band");
}

/// Places all over the globe: evenly by area, and thickly about poles, equator and antimeridian.
fn place() -> impl Strategy<Value = (f64, f64)> {
    let lat = prop_oneof![
        4 => (-1.0..=1.0_f64).prop_map(|sin_lat| sin_lat.asin().to_degrees()),
        1 => 89.9..=90.0_f64,
        1 => -90.0..=-89.9_f64,
        1 => -0.1..=0.1_f64,
        1 => prop::sample::select(vec![-90.0, 0.0, 90.0]),
    ];
    let lon = prop_oneof![
        4 => -180.0..=180.0_f64,
        1 => 179.9..=180.0_f64,
        1 => -180.0..=-179.9_f64,
        1 => prop::sample::select(vec![-180.0, -90.0, 0.0, 90.0, 180.0]),
    ];
    (lat, lon)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn eight_kilometres_anywhere(
        (lat, lon) in place(),
        azimuth in -180.0..=180.0_f64,
        distance in prop_oneof![Just(8_000.0_f64), 0.0..8_200.0_f64],
    ) {
        let here = Position::new(lat, lon).unwrap();
        let there = away(here, azimuth, distance);
        prop_assert!((geodesic_m(here, there) - distance).abs() < 1e-6);
        check_near(here, there);
    }

    #[test]
    fn any_two_places((lat_a, lon_a) in place(), (lat_b, lon_b) in place()) {
        check_pair(Position::new(lat_a, lon_a).unwrap(), Position::new(lat_b, lon_b).unwrap());
    }

    #[test]
    fn range_is_exact_at_its_limits(
        (lat, lon) in place(),
        azimuth in -180.0..=180.0_f64,
        exponent in 0.5..7.0_f64,
    ) {
        let here = Position::new(lat, lon).unwrap();
        check_threshold(here, away(here, azimuth, 10.0_f64.powf(exponent)));
    }
}

#[test]
fn eight_kilometres_on_a_grid_of_the_globe() {
    for lat in (-90..=90).step_by(3) {
        for lon in (-180..=180).step_by(10) {
            let here = Position::new(f64::from(lat), f64::from(lon)).unwrap();
            for azimuth in (0..360).step_by(30) {
                let there = away(here, f64::from(azimuth), 8_000.0);
                check_near(here, there);
                check_threshold(here, there);
            }
        }
    }
}

#[test]
fn fixed_pairs() {
    let pairs = [
        // Over either pole.
        ((89.97, 20.0), (89.97, -160.0)),
        ((-89.97, 0.0), (-89.97, 180.0)),
        ((90.0, 0.0), (89.93, 45.0)),
        ((-90.0, 0.0), (-89.93, -45.0)),
        // Over the antimeridian.
        ((0.0, 179.97), (0.0, -179.97)),
        ((65.0, 179.95), (65.03, -179.95)),
        ((-16.5, -179.98), (-16.55, 179.98)),
        ((-16.5, 180.0), (-16.55, -180.0)),
        // Over equator and prime meridian.
        ((0.03, -0.03), (-0.03, 0.03)),
        // One place.
        ((48.137, 11.575), (48.137, 11.575)),
    ];
    for ((lat_a, lon_a), (lat_b, lon_b)) in pairs {
        let a = Position::new(lat_a, lon_a).unwrap();
        let b = Position::new(lat_b, lon_b).unwrap();
        assert!(geodesic_m(a, b) < 10_000.0);
        check_near(a, b);
    }
}
