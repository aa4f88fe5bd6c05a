//! When a phone loses its socket, and when it comes back.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How a socket ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The network goes: TCP is reset without a WebSocket close.
    Cut,
    /// The app goes: a WebSocket close.
    Close,
}

/// One phone's seeded faults.
pub(crate) struct Faults {
    rng: ChaCha8Rng,
    per_minute: f64,
}

impl Faults {
    /// Faults of the phone numbered `index`, at a rate per minute of a connected socket; 0 for none.
    pub(crate) fn new(seed: u64, index: u32, per_minute: f64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Streams of the graph and of the movement lie below.
        rng.set_stream((1 << 32) + u64::from(index));
        Self { rng, per_minute }
    }

    /// How this socket will end and after how many seconds, unless the run ends before: exponentially distributed, as
    /// faults without memory are.
    pub(crate) fn next(&mut self) -> Option<(f64, Fault)> {
        let draw = 1.0 - self.rng.random::<f64>();
        let fault = if self.rng.random() { Fault::Cut } else { Fault::Close };
        (self.per_minute > 0.0).then(|| (-draw.ln() * 60.0 / self.per_minute, fault))
    }

    /// How long to wait before the connection attempt numbered `failed` + 1 after a loss, in seconds: 1 s doubling to
    /// 60 s, times a random factor of 0.5 to 1, as docs/protocol.md asks of clients.
    pub(crate) fn back_off(&mut self, failed: u32) -> f64 {
        let full = f64::from(1_u32 << failed.min(6)).min(60.0);
        full * self.rng.random_range(0.5..1.0)
    }

    /// One in `n`, by chance.
    pub(crate) fn one_in(&mut self, n: u32) -> bool {
        self.rng.random_range(0..n) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_come_at_their_rate() {
        let mut faults = Faults::new(1, 1, 0.5);
        let drawn: Vec<(f64, Fault)> = (0..2_000).filter_map(|_| faults.next()).collect();
        let mean = drawn.iter().map(|d| d.0).sum::<f64>() / 2_000.0;
        assert!((110.0..130.0).contains(&mean), "{mean} s");
        let cuts = drawn.iter().filter(|d| d.1 == Fault::Cut).count();
        assert!((900..1_100).contains(&cuts), "{cuts}");
        assert_eq!(Faults::new(1, 1, 0.0).next(), None);
    }

    #[test]
    fn backs_off_doubling_to_a_minute() {
        let mut faults = Faults::new(1, 1, 0.0);
        for (failed, full) in [(0, 1.0), (1, 2.0), (5, 32.0), (6, 60.0), (40, 60.0)] {
            for _ in 0..50 {
                let seconds = faults.back_off(failed);
                assert!((full * 0.5..full).contains(&seconds), "{failed}: {seconds}");
            }
        }
    }

    #[test]
    fn the_seed_decides() {
        let drawn = |seed, index| Faults::new(seed, index, 1.0).next();
        assert_eq!(drawn(1, 1), drawn(1, 1));
        assert_ne!(drawn(1, 1), drawn(1, 2));
    }
}
