//! Positions on WGS84, distances, cells, coarsening.
//!
//! Pure code without I/O, clock or randomness: time and seeds are arguments.
//!
//! | question | answer | cost |
//! |---|---|---|
//! | is a friend in range? | [`chord_squared`] of two [`Ecef`], judged by a [`Threshold`] | about 1 ns |
//! | what would the definition say? | [`straight_line_m`] in double precision | tens of ns |
//! | what distance is shown? | [`geodesic_m`] along the ellipsoid | about 1 µs |
//! | which area is somebody in? | [`Cell::of`] | about 0.4 µs |
//! | what may an observer of an approximate friend learn? | [`CoarsePosition`], kept by [`CoarseTrack`] | nothing between two instants |
//!
//! Distance in Nearcast means the straight line between two points of the WGS84 ellipsoid. At 8 km
//! it is half a millimetre shorter than the way along the surface.
//!
//! Invariant: no coordinate and no cell appears in `Debug` output or in an error message, because
//! both end up in logs.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod cell;
mod coarse;
mod distance;
mod ecef;
mod edge;
mod ellipsoid;
mod position;
mod threshold;

pub use cell::{Cell, CellError, Resolution};
pub use coarse::{CoarsePosition, CoarseTrack, Coarsener, CoarsenerError};
pub use distance::{geodesic_m, straight_line_m};
pub use ecef::{Ecef, UNITS_PER_METRE, chord_m, chord_squared};
pub use position::{Position, PositionError};
pub use threshold::{EXIT_RATIO, RadiusError, Threshold, chord_error_m};
