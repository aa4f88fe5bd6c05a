//! How many things may be on their way at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Counts what is on its way. Clones count together.
#[derive(Clone, Debug)]
pub(crate) struct InFlight(Arc<Counter>);

#[derive(Debug)]
struct Counter {
    waiting: AtomicUsize,
    limit: usize,
    changed: fn(f64),
    empty: Notify,
}

/// Leave for some to be on their way; dropped, they are no longer.
#[derive(Debug)]
pub(crate) struct Permit {
    counter: Arc<Counter>,
    count: usize,
}

impl InFlight {
    /// At most `limit` at once; `changed` is told by how much the number changes.
    pub fn new(limit: usize, changed: fn(f64)) -> Self {
        Self(Arc::new(Counter { waiting: AtomicUsize::new(0), limit, changed, empty: Notify::new() }))
    }

    /// Leave for this many, for all or for none.
    pub fn reserve(&self, count: usize) -> Option<Permit> {
        let before = self.0.waiting.fetch_add(count, Ordering::AcqRel);
        let permit = Permit { counter: Arc::clone(&self.0), count };
        (self.0.changed)(count as f64);
        // Too many: the permit is dropped and gives them back.
        (before.saturating_add(count) <= self.0.limit).then_some(permit)
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::Acquire)
    }

    /// Returns when none waits.
    pub async fn empty(&self) {
        loop {
            // Enrolled before looking, so that the last one's end is not missed.
            let emptied = self.0.empty.notified();
            tokio::pin!(emptied);
            emptied.as_mut().enable();
            if self.waiting() == 0 {
                return;
            }
            emptied.await;
        }
    }
}

impl Permit {
    /// The share of one of them; of none when all shares are taken.
    pub fn split_one(&mut self) -> Self {
        let count = self.count.min(1);
        self.count -= count;
        Self { counter: Arc::clone(&self.counter), count }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.count == 0 {
            return;
        }
        (self.counter.changed)(-(self.count as f64));
        if self.counter.waiting.fetch_sub(self.count, Ordering::AcqRel) == self.count {
            self.counter.empty.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_or_none() {
        let in_flight = InFlight::new(3, |_| ());
        let mut two = in_flight.reserve(2).unwrap();
        assert!(in_flight.reserve(2).is_none());
        assert_eq!(in_flight.waiting(), 2, "what was refused counts no longer");
        let one = in_flight.reserve(1).unwrap();
        assert!(in_flight.reserve(1).is_none());
        let half = two.split_one();
        drop(two);
        assert_eq!(in_flight.waiting(), 2);
        drop((half, one));
        assert_eq!(in_flight.waiting(), 0);
    }

    #[tokio::test]
    async fn says_when_none_waits() {
        let in_flight = InFlight::new(3, |_| ());
        in_flight.empty().await;
        let permit = in_flight.reserve(2).unwrap();
        let empty = tokio::spawn({
            let in_flight = in_flight.clone();
            async move { in_flight.empty().await }
        });
        tokio::task::yield_now().await;
        assert!(!empty.is_finished());
        drop(permit);
        empty.await.unwrap();
    }
}
