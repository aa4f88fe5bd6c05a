//! The defining constants of WGS84.
//!
//! Source: NGA.STND.0036 (2014), "World Geodetic System 1984", chapter 3.

/// Semi-major axis a, metres.
pub(crate) const SEMI_MAJOR_M: f64 = 6_378_137.0;

/// Flattening f, without unit.
pub(crate) const FLATTENING: f64 = 1.0 / 298.257_223_563;

/// First eccentricity squared, f (2 − f), without unit.
pub(crate) const ECCENTRICITY_SQUARED: f64 = FLATTENING * (2.0 - FLATTENING);

/// Semi-minor axis b = a (1 − f), metres.
pub(crate) const SEMI_MINOR_M: f64 = SEMI_MAJOR_M * (1.0 - FLATTENING);
