//! A checked geographic position.

use std::fmt;

/// A point of the WGS84 ellipsoid by latitude and longitude; height is not kept.
///
/// Both coordinates are finite and in range, and zero is never negative. Longitudes −180° and 180°
/// are both allowed and name the same meridian; so equality of positions is equality of
/// coordinates, not of places.
///
/// `Debug` prints `Position(…)`: a position is a secret of its owner and must not reach a log line.
#[derive(Clone, Copy, PartialEq)]
pub struct Position {
    lat_deg: f64,
    lon_deg: f64,
}

/// Why two numbers are not a [`Position`]. Names the field and never the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PositionError {
    /// The latitude is not a finite number from −90 to 90.
    #[error("latitude is not a number from -90 to 90 degrees")]
    Latitude,
    /// The longitude is not a finite number from −180 to 180.
    #[error("longitude is not a number from -180 to 180 degrees")]
    Longitude,
}

impl Position {
    /// A position from degrees: latitude in [−90, 90] north, longitude in [−180, 180] east.
    ///
    /// # Errors
    ///
    /// [`PositionError`] with the first field that is out of range, infinite or not a number.
    pub fn new(lat_deg: f64, lon_deg: f64) -> Result<Self, PositionError> {
        // `contains` is false for NaN.
        if !(-90.0..=90.0).contains(&lat_deg) {
            return Err(PositionError::Latitude);
        }
        if !(-180.0..=180.0).contains(&lon_deg) {
            return Err(PositionError::Longitude);
        }
        Ok(Self::normalised(lat_deg, lon_deg))
    }

    /// A position from finite degrees that may exceed their range by a rounding error.
    pub(crate) fn from_computed(lat_deg: f64, lon_deg: f64) -> Self {
        debug_assert!(lat_deg.is_finite() && lon_deg.is_finite());
        Self::normalised(lat_deg.clamp(-90.0, 90.0), lon_deg.clamp(-180.0, 180.0))
    }

    fn normalised(lat_deg: f64, lon_deg: f64) -> Self {
        // Adding positive zero turns -0.0 into 0.0 and changes nothing else (IEEE 754, 6.3).
        Self { lat_deg: lat_deg + 0.0, lon_deg: lon_deg + 0.0 }
    }

    /// Latitude in degrees, −90 to 90, positive to the north.
    #[inline]
    #[must_use]
    pub fn lat_deg(self) -> f64 {
        self.lat_deg
    }

    /// Longitude in degrees, −180 to 180, positive to the east.
    #[inline]
    #[must_use]
    pub fn lon_deg(self) -> f64 {
        self.lon_deg
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Position(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lat: f64, lon: f64, expect: Result<(), PositionError>) {
        assert_eq!(Position::new(lat, lon).map(|_| ()), expect, "{lat} {lon}");
    }

    #[test]
    fn accepts_the_whole_globe_and_refuses_everything_else() {
        for lat in [-90.0, -45.5, 0.0, 90.0] {
            for lon in [-180.0, 0.0, 12.25, 180.0] {
                check(lat, lon, Ok(()));
            }
        }
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300] {
            check(bad, 0.0, Err(PositionError::Latitude));
            check(0.0, bad, Err(PositionError::Longitude));
            check(bad, bad, Err(PositionError::Latitude));
        }
        check(90.0_f64.next_up(), 0.0, Err(PositionError::Latitude));
        check((-90.0_f64).next_down(), 0.0, Err(PositionError::Latitude));
        check(0.0, 180.0_f64.next_up(), Err(PositionError::Longitude));
        check(0.0, (-180.0_f64).next_down(), Err(PositionError::Longitude));
    }

    #[test]
    fn negative_zero_is_zero() {
        let position = Position::new(-0.0, -0.0).unwrap();
        assert!(position.lat_deg().is_sign_positive());
        assert!(position.lon_deg().is_sign_positive());
        let computed = Position::from_computed(-0.0, -180.000_000_1);
        assert!(computed.lat_deg().is_sign_positive());
        assert_eq!(computed.lon_deg(), -180.0);
    }

    #[test]
    fn coordinates_do_not_show_in_debug_output_or_errors() {
        let position = Position::new(48.137, 11.575).unwrap();
        assert_eq!(format!("{position:?} {position:#?}"), "Position(…) Position(…)");
        let error = Position::new(148.137, 11.575).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("48"));
    }
}
