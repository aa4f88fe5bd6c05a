//! A position as the simulated phones send it, and steps over the globe.

use std::f64::consts::TAU;

use nearcast_geo::Position;

/// Mean radius of the earth in metres; steps are taken on this sphere, distances are judged on WGS84.
const SPHERE_M: f64 = 6_371_008.8;

const UNITS_PER_DEGREE: f64 = 1e7;

/// A position in units of 1e-7 degrees, about a centimetre: what a phone sends, and what it recognises in a frame.
///
/// Whole numbers, so that no rounding on the way through several JSON parsers makes two positions of one.
/// `Debug` leaves the coordinates out.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Point {
    lat_e7: i32,
    lon_e7: i32,
}

impl Point {
    /// The nearest point to a position.
    pub(crate) fn of(position: Position) -> Self {
        Self::of_degrees(position.lat_deg(), position.lon_deg())
    }

    /// The nearest point to two coordinates as a frame carries them. Numbers out of range are clamped: the result is
    /// then nobody's point, which an audit notices.
    pub(crate) fn of_degrees(lat: f64, lon: f64) -> Self {
        // The casts saturate, and turn NaN into 0.
        Self { lat_e7: (lat * UNITS_PER_DEGREE).round() as i32, lon_e7: (lon * UNITS_PER_DEGREE).round() as i32 }
    }

    /// Degrees north.
    pub(crate) fn lat(self) -> f64 {
        f64::from(self.lat_e7) / UNITS_PER_DEGREE
    }

    /// Degrees east.
    pub(crate) fn lon(self) -> f64 {
        f64::from(self.lon_e7) / UNITS_PER_DEGREE
    }

    /// The same place for geometry; `None` when the coordinates are out of range.
    pub(crate) fn position(self) -> Option<Position> {
        Position::new(self.lat(), self.lon()).ok()
    }

    /// This point, or one a centimetre off where it equals `other`: no two reports in a row are the same point.
    pub(crate) fn unlike(self, other: Option<Self>) -> Self {
        if other != Some(self) {
            return self;
        }
        Self { lat_e7: if self.lat_e7 > 0 { self.lat_e7 - 1 } else { self.lat_e7 + 1 }, ..self }
    }
}

impl std::fmt::Debug for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Point(…)")
    }
}

/// The position `metres` away in the direction `bearing` (radians clockwise from north), along a great circle.
/// Right at the poles and across the antimeridian.
pub(crate) fn ahead(from: Position, bearing: f64, metres: f64) -> Position {
    let angle = metres / SPHERE_M;
    let (sin_lat, cos_lat) = from.lat_deg().to_radians().sin_cos();
    let sin_to = sin_lat * angle.cos() + cos_lat * angle.sin() * bearing.cos();
    let turn = (bearing.sin() * angle.sin() * cos_lat).atan2(angle.cos() - sin_lat * sin_to);
    let lat = sin_to.clamp(-1.0, 1.0).asin().to_degrees();
    let lon = (from.lon_deg() + turn.to_degrees() + 540.0).rem_euclid(360.0) - 180.0;
    // Both are finite and in range by construction.
    Position::new(lat.clamp(-90.0, 90.0), lon.clamp(-180.0, 180.0)).unwrap_or(from)
}

/// The direction in which the great circle to `to` leaves `from`, radians clockwise from north, 0 to 2π.
pub(crate) fn bearing(from: Position, to: Position) -> f64 {
    let (sin_from, cos_from) = from.lat_deg().to_radians().sin_cos();
    let (sin_to, cos_to) = to.lat_deg().to_radians().sin_cos();
    let turn = (to.lon_deg() - from.lon_deg()).to_radians();
    (turn.sin() * cos_to).atan2(cos_from * sin_to - sin_from * cos_to * turn.cos()).rem_euclid(TAU)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearcast_geo::straight_line_m;

    #[test]
    fn a_point_survives_a_parser_that_is_off_by_one() {
        for (lat, lon) in [(52.516_312_3, 13.377_704_1), (-89.999_999_9, 179.999_999_9), (0.0, -180.0)] {
            let point = Point::of_degrees(lat, lon);
            assert_eq!(Point::of_degrees(point.lat().next_up(), point.lon().next_down()), point);
            assert_eq!(Point::of_degrees(point.lat().next_down(), point.lon().next_up()), point);
            assert_eq!(point.position().map(Point::of), Some(point));
        }
    }

    #[test]
    fn the_same_point_twice_is_moved_by_a_centimetre() {
        for point in [Point::of_degrees(90.0, 1.0), Point::of_degrees(-90.0, 1.0), Point::of_degrees(0.0, 0.0)] {
            assert_eq!(point.unlike(None), point);
            let moved = point.unlike(Some(point));
            let (a, b) = (point.position().unwrap(), moved.position().unwrap());
            assert!(moved != point && straight_line_m(a, b) < 0.02);
        }
    }

    #[test]
    fn steps_have_their_length_and_lead_where_the_bearing_says() {
        for (lat, lon) in [(52.5, 13.4), (0.0, 179.999), (-33.0, -179.999), (89.99, 20.0), (-90.0, 0.0)] {
            let from = Position::new(lat, lon).unwrap();
            for eighth in 0..8 {
                let to = ahead(from, f64::from(eighth) * TAU / 8.0, 5_000.0);
                let metres = straight_line_m(from, to);
                // The sphere and the ellipsoid differ by at most 0.7 %.
                assert!((metres - 5_000.0).abs() < 35.0, "{lat} {lon} {metres}");
                let back = ahead(from, bearing(from, to), 5_000.0);
                assert!(straight_line_m(back, to) < 0.5, "{lat} {lon} {eighth}");
            }
        }
    }

    #[test]
    fn coordinates_do_not_show() {
        assert_eq!(format!("{:?}", Point::of_degrees(48.1, 11.5)), "Point(…)");
    }
}
