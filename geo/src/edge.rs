//! The distance from a position to the edge of a cell.

use crate::{Cell, Position};

/// The mean Earth radius that H3 gives its lengths for (the authalic radius of WGS84), metres.
const MEAN_RADIUS_M: f64 = 6_371_007.180_918_475;

/// The distance in metres from a position, inside or outside, to the nearest point of a cell's edge.
///
/// H3 reads latitude and longitude as places on a sphere, on which an edge is made of pieces of great
/// circles; so the distance is measured on that sphere, and differs from the one on the ellipsoid by
/// at most 0.6 %. For a piece from u to v (unit vectors) with normal n = u × v / |u × v|, the nearest
/// point is on the piece when (n × u) · p ≥ 0 and (v × n) · p ≥ 0, and then asin |n · p| away;
/// otherwise it is an end.
pub(crate) fn distance_to_edge_m(position: Position, cell: Cell) -> f64 {
    let boundary = cell.index().boundary();
    let p = Vector::of(position.lat_deg().to_radians(), position.lon_deg().to_radians());
    let corner = |i: usize| {
        let corner = boundary[i % boundary.len()];
        Vector::of(corner.lat_radians(), corner.lng_radians())
    };
    let angle = (0..boundary.len()).map(|i| p.angle_to_arc(corner(i), corner(i + 1))).fold(f64::INFINITY, f64::min);
    angle * MEAN_RADIUS_M
}

#[derive(Clone, Copy)]
struct Vector([f64; 3]);

impl Vector {
    /// The unit vector of a place on the sphere, from radians.
    fn of(lat: f64, lon: f64) -> Self {
        let (sin_lat, cos_lat) = lat.sin_cos();
        let (sin_lon, cos_lon) = lon.sin_cos();
        Self([cos_lat * cos_lon, cos_lat * sin_lon, sin_lat])
    }

    fn dot(self, other: Self) -> f64 {
        let ([a, b, c], [x, y, z]) = (self.0, other.0);
        a * x + b * y + c * z
    }

    fn cross(self, other: Self) -> Self {
        let ([a, b, c], [x, y, z]) = (self.0, other.0);
        Self([b * z - c * y, c * x - a * z, a * y - b * x])
    }

    /// The angle between two unit vectors in radians, without loss of digits for near ones.
    fn angle_to(self, other: Self) -> f64 {
        let ([a, b, c], [x, y, z]) = (self.0, other.0);
        let difference = Self([a - x, b - y, c - z]);
        2.0 * (difference.dot(difference).sqrt() / 2.0).min(1.0).asin()
    }

    /// The angle to the nearest point of the shorter great-circle arc between two unit vectors.
    fn angle_to_arc(self, u: Self, v: Self) -> f64 {
        let normal = u.cross(v);
        let beside = normal.cross(u).dot(self) >= 0.0 && v.cross(normal).dot(self) >= 0.0;
        let length = normal.dot(normal).sqrt();
        if beside && length > 0.0 {
            (normal.dot(self).abs() / length).min(1.0).asin()
        } else {
            self.angle_to(u).min(self.angle_to(v))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Resolution;
    use proptest::prelude::*;

    /// A place at a bearing (radians) and distance (metres) from another, on the same sphere.
    fn away(from: Position, bearing: f64, distance_m: f64) -> Position {
        let (sin_lat, cos_lat) = from.lat_deg().to_radians().sin_cos();
        let (sin_lon, cos_lon) = from.lon_deg().to_radians().sin_cos();
        let (sin_d, cos_d) = (distance_m / MEAN_RADIUS_M).sin_cos();
        let (north, east) = (sin_d * bearing.cos(), sin_d * bearing.sin());
        let x = cos_lat * cos_lon * cos_d - sin_lat * cos_lon * north - sin_lon * east;
        let y = cos_lat * sin_lon * cos_d - sin_lat * sin_lon * north + cos_lon * east;
        let z = sin_lat * cos_d + cos_lat * north;
        Position::from_computed(z.atan2(x.hypot(y)).to_degrees(), y.atan2(x).to_degrees())
    }

    /// Checks the distance against H3's own idea of what belongs to a cell: nothing on a circle a
    /// little smaller changes sides, something on a circle a little larger does.
    fn check(position: Position, cell: Cell) {
        let distance = distance_to_edge_m(position, cell);
        let inside = |p| Cell::of(p, cell.resolution()) == cell;
        let bearings = || (0..720).map(|i| f64::from(i).to_radians() / 2.0);
        let edge_m = cell.resolution().edge_length_m();
        for bearing in bearings() {
            assert_eq!(
                inside(away(position, bearing, distance * 0.999 - 1e-6 * edge_m)),
                inside(position),
                "distance {distance} at bearing {bearing}",
            );
        }
        assert!(
            bearings().any(|b| { inside(away(position, b, distance * 1.005 + 1e-2 * edge_m)) != inside(position) }),
            "distance {distance}",
        );
    }

    fn cells_around(position: Position, resolution: Resolution) -> Vec<Cell> {
        let edge_m = resolution.edge_length_m();
        let mut cells: Vec<_> = (0..12)
            .map(|i| Cell::of(away(position, f64::from(i) * std::f64::consts::FRAC_PI_6, 1.2 * edge_m), resolution))
            .chain([Cell::of(position, resolution)])
            .collect();
        cells.sort();
        cells.dedup();
        cells
    }

    #[test]
    fn poles_antimeridian_and_pentagons() {
        for resolution in [Resolution::Five, Resolution::Six, Resolution::Seven] {
            let mut places = vec![(90.0, 0.0), (-90.0, 0.0), (0.0, 180.0), (65.0, -179.999)];
            places.extend(resolution.pentagons().take(4).map(|pentagon| {
                let center = h3o::LatLng::from(pentagon);
                (center.lat(), center.lng())
            }));
            for (lat, lon) in places {
                let place = Position::new(lat, lon).unwrap();
                for cell in cells_around(place, resolution) {
                    check(place, cell);
                }
            }
        }
    }

    #[test]
    fn the_far_side_of_the_globe() {
        let cell = Cell::of(Position::new(10.0, 20.0).unwrap(), Resolution::Seven);
        let distance = distance_to_edge_m(Position::new(-10.0, -160.0).unwrap(), cell);
        // Half the circumference of H3's sphere, give or take the cell.
        assert!((distance - 20_015_109.0).abs() < 3_000.0, "{distance}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn agrees_with_membership(sin_lat in -1.0..1.0_f64, lon in -180.0..180.0_f64, resolution in 4..10_u8) {
            let place = Position::from_computed(sin_lat.asin().to_degrees(), lon);
            for cell in cells_around(place, Resolution::try_from(resolution).unwrap()) {
                check(place, cell);
            }
        }
    }
}
