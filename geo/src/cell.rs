//! H3 cells: the areas of discovery, coarse positions and heat maps.

use std::fmt;

use h3o::{CellIndex, LatLng};

use crate::Position;

/// The size of a cell: 0 (edge 1 281 km) to 15 (edge 0.6 m); a step divides the edge by √7.
///
/// Made from a number by `Resolution::try_from(7_u8)`. See <https://h3geo.org/docs/core-library/restable>.
pub use h3o::Resolution;

/// A cell of the H3 grid, which carries its own resolution.
///
/// `Debug` prints `Cell(…)`: a cell is somebody's coarse position more often than not.
/// [`u64::from`] gives its public number, the same in every H3 library.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cell(CellIndex);

/// A number that is not an H3 cell. The message does not contain it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the number of an H3 cell")]
pub struct CellError;

impl Cell {
    /// The cell that contains a position.
    #[must_use]
    pub fn of(position: Position, resolution: Resolution) -> Self {
        #[expect(clippy::expect_used, reason = "fails for infinite or NaN only, which no Position holds")]
        let point = LatLng::new(position.lat_deg(), position.lon_deg()).expect("a position is finite");
        Self(point.to_cell(resolution))
    }

    /// The middle of the cell: the only place that a coarse position ever names.
    #[must_use]
    pub fn center(self) -> Position {
        let center = LatLng::from(self.0);
        Position::from_computed(center.lat(), center.lng())
    }

    /// The resolution that the cell was made at.
    #[must_use]
    pub fn resolution(self) -> Resolution {
        self.0.resolution()
    }

    /// The cell of a coarser or the same resolution that this one belongs to; `None` for a finer one.
    ///
    /// A parent's area is not exactly the union of its children's: near its edge a position's parent
    /// cell may differ from its cell at the parent's resolution.
    #[must_use]
    pub fn parent(self, resolution: Resolution) -> Option<Self> {
        self.0.parent(resolution).map(Self)
    }

    /// The cells that are exactly so many steps from this one to a neighbour away; 0 is the cell itself. Around most
    /// cells there are six a step; around one of the grid's twelve pentagons, fewer.
    #[must_use]
    pub fn ring(self, steps: u32) -> Vec<Self> {
        self.0.grid_ring::<Vec<_>>(steps).into_iter().map(Self).collect()
    }

    /// The H3 index behind.
    pub(crate) fn index(self) -> CellIndex {
        self.0
    }
}

impl From<Cell> for u64 {
    fn from(cell: Cell) -> Self {
        cell.0.into()
    }
}

impl TryFrom<u64> for Cell {
    type Error = CellError;

    fn try_from(number: u64) -> Result<Self, CellError> {
        CellIndex::try_from(number).map(Self).map_err(|_| CellError)
    }
}

impl fmt::Debug for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cell(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers from the H3 documentation and the reference library.
    fn check(lat: f64, lon: f64, resolution: Resolution, expect: u64) {
        let cell = Cell::of(Position::new(lat, lon).unwrap(), resolution);
        assert_eq!(u64::from(cell), expect, "{:x}", u64::from(cell));
        assert_eq!(Cell::try_from(expect), Ok(cell));
        assert_eq!(cell.resolution(), resolution);
    }

    #[test]
    fn known_cells() {
        check(37.3615593, -122.0553238, Resolution::Seven, 0x87283472bffffff);
        check(37.775938728915946, -122.41795063018799, Resolution::Nine, 0x8928308280fffff);
    }

    #[test]
    fn a_center_lies_in_its_cell() {
        for resolution in Resolution::range(Resolution::Zero, Resolution::Fifteen) {
            for lat in [-90.0, -89.999, -33.3, 0.0, 0.1, 58.2825, 89.999, 90.0] {
                for lon in [-180.0, -179.999, -0.001, 0.0, 11.25, 179.999, 180.0] {
                    let cell = Cell::of(Position::new(lat, lon).unwrap(), resolution);
                    let center = cell.center();
                    assert!(Position::new(center.lat_deg(), center.lon_deg()).is_ok());
                    assert_eq!(Cell::of(center, resolution), cell, "{lat} {lon} {resolution}");
                }
            }
        }
    }

    #[test]
    fn parents_are_coarser() {
        let cell = Cell::of(Position::new(48.0, 11.0).unwrap(), Resolution::Seven);
        let parent = cell.parent(Resolution::Four).unwrap();
        assert_eq!(parent.resolution(), Resolution::Four);
        assert_eq!(cell.parent(Resolution::Seven), Some(cell));
        assert_eq!(cell.parent(Resolution::Eight), None);
        assert_eq!(Cell::of(cell.center(), Resolution::Four), parent);
    }

    #[test]
    fn rings_hold_each_cell_around_once() {
        // In a plain place, and at a pentagon of the resolution.
        for (number, expect) in [(0x87283472bffffff, [1, 6, 12, 18]), (0x870800000ffffff, [1, 5, 10, 15])] {
            let middle = Cell::try_from(number).unwrap();
            let mut within = std::collections::BTreeSet::new();
            for (steps, expect) in (0..).zip(expect) {
                let ring = middle.ring(steps);
                assert_eq!(ring.len(), expect, "{steps}");
                let next_to_before = |cell: &Cell| cell.ring(1).iter().any(|cell| within.contains(cell));
                assert!(steps == 0 || ring.iter().all(next_to_before));
                assert!(!ring.iter().any(|cell| within.contains(cell)));
                within.extend(ring);
            }
        }
    }

    #[test]
    fn numbers_that_are_no_cell() {
        for number in [0, 1, u64::MAX, 0x0728_3472_bfff_ffff] {
            assert_eq!(Cell::try_from(number), Err(CellError));
        }
    }

    #[test]
    fn an_optional_cell_is_eight_bytes_and_shows_nothing() {
        assert_eq!(size_of::<Option<Cell>>(), 8);
        let cell = Cell::of(Position::new(48.0, 11.0).unwrap(), Resolution::Seven);
        assert_eq!(format!("{cell:?}"), "Cell(…)");
    }
}
