//! What the engine's thread shows of itself to those who watch it.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

/// Written by the engine's thread, read by the watch. Each number stands alone, so the order does not matter.
#[derive(Debug)]
pub struct Vitals {
    loops: AtomicU64,
    held_up: AtomicBool,
    next: Box<[AtomicI64]>,
}

impl Vitals {
    /// Of an engine that will read from these offsets.
    pub fn new(next: &[i64]) -> Self {
        let next = next.iter().map(|&offset| AtomicI64::new(offset)).collect();
        Self { loops: AtomicU64::new(0), held_up: AtomicBool::new(false), next }
    }

    /// The thread came round.
    pub fn came_round(&self) {
        self.loops.fetch_add(1, Ordering::Relaxed);
    }

    /// How often the thread came round.
    pub fn loops(&self) -> u64 {
        self.loops.load(Ordering::Relaxed)
    }

    /// The thread waits for room in the producer's queue.
    pub fn hold_up(&self) {
        self.held_up.store(true, Ordering::Relaxed);
    }

    /// Whether it waited since the last call.
    pub fn was_held_up(&self) -> bool {
        self.held_up.swap(false, Ordering::Relaxed)
    }

    /// A partition of the locations was read up to this offset, exclusive.
    pub fn set_next(&self, partition: usize, next: i64) {
        if let Some(offset) = self.next.get(partition) {
            offset.store(next, Ordering::Relaxed);
        }
    }

    /// The offsets to be read next.
    pub fn next(&self) -> Vec<i64> {
        self.next.iter().map(|offset| offset.load(Ordering::Relaxed)).collect()
    }
}
