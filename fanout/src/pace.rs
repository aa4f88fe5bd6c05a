//! How often what was decided goes out.

use std::time::Duration;

/// What a produce request costs the worker's core; 28 to 35 µs were measured.
const REQUEST: Duration = Duration::from_micros(30);
/// Produce requests may take one part in this many of a core.
const SHARE: u32 = 20;

/// The adaptive tick: short while few gateways are written to, and longer the more there are, because a tick writes one
/// batch to each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The tick while requests are few.
    pub shortest: Duration,
    /// The tick while they are many: what deliveries may wait here.
    pub longest: Duration,
}

impl Pace {
    /// How long the next tick lasts, after one that wrote so many batches: so long that as many again take a twentieth of
    /// a core.
    pub fn after(self, batches: usize) -> Duration {
        let batches = u32::try_from(batches).unwrap_or(u32::MAX);
        REQUEST.saturating_mul(SHARE).saturating_mul(batches).clamp(self.shortest, self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tick_follows_the_batches_within_its_bounds() {
        let pace = Pace { shortest: Duration::from_millis(10), longest: Duration::from_millis(50) };
        let check = |batches, ms| assert_eq!(pace.after(batches), Duration::from_millis(ms), "{batches}");
        check(0, 10);
        check(16, 10);
        check(40, 24);
        check(100, 50);
        check(usize::MAX, 50);
    }
}
