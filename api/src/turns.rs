//! Changes of one thing wait for each other within this process, so that compare-and-sets seldom fail.

use std::hash::{BuildHasher, Hash, RandomState};
use std::time::Duration;

use rand::Rng;
use tokio::sync::{Mutex, MutexGuard};

/// Things that share a turn wait for each other without need; with this many that is seldom.
const TURNS: usize = 1_024;

/// Turns by name. Take one at a time, so that nobody waits in a circle.
pub(crate) struct Turns {
    hasher: RandomState,
    turns: Vec<Mutex<()>>,
}

impl Turns {
    pub fn new() -> Self {
        Self { hasher: RandomState::new(), turns: (0..TURNS).map(|_| Mutex::new(())).collect() }
    }

    /// Waits until nobody else has the turn of this name.
    pub async fn take<N: Hash + ?Sized>(&self, name: &N) -> MutexGuard<'_, ()> {
        let index = self.hasher.hash_one(name) as usize % self.turns.len();
        self.turns[index].lock().await
    }
}

/// Waits a little, longer with each attempt, after another process was first.
pub(crate) async fn step_back(attempt: u32) {
    let most_ms = 5_u64 << attempt.min(6);
    let ms = rand::rng().random_range(1..=most_ms);
    tokio::time::sleep(Duration::from_millis(ms)).await;
}
