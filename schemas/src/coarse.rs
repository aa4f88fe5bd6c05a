//! What every part that computes an approximate position must agree on, so that all show the same cell at the same
//! instant: an observer who gets two readings learns more than one.

/// How far beyond the edge of the shown cell a position has to be before another cell is shown, as a share of the mean
/// edge of a cell.
pub const MARGIN_OF_EDGE: f64 = 0.1;

/// The seed of a user's schedule of approximate positions: FNV-1a (64 bits) of the user's id.
pub fn schedule_seed(user: &str) -> u64 {
    crate::digest::fnv1a(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_never_changes() {
        // A published vector of FNV-1a.
        assert_eq!(schedule_seed("foobar"), 0x8594_4171_f739_67e8);
    }
}
