//! How others reach a connection's task: its feed, and a way to wake it.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::deliveries::Reach;
use crate::feed::Feed;

/// One connection, as others see it. Clones are the same.
#[derive(Clone, Debug)]
pub struct Link(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    feed: Mutex<Feed>,
    wake: Notify,
}

impl Link {
    /// For a connection with this feed.
    pub fn new(feed: Feed) -> Self {
        Self(Arc::new(Shared { feed: Mutex::new(feed), wake: Notify::new() }))
    }

    /// Resolves when somebody has woken the task.
    pub fn woken(&self) -> Notified<'_> {
        self.0.wake.notified()
    }
}

impl Reach for Link {
    fn feed<R>(&self, change: impl FnOnce(&mut Feed) -> R) -> R {
        // A feed is whole between any two of its calls, so one that panicked elsewhere can be used.
        change(&mut self.0.feed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn wake(&self) {
        self.0.wake.notify_one();
    }
}
