//! How others reach a connection's task: its feed, and a way to wake it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use crate::deliveries::Reach;
use crate::feed::Feed;

/// One connection, as others see it. Clones are the same.
#[derive(Clone, Debug)]
pub struct Link(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    feed: Mutex<Feed>,
    task: AtomicWaker,
    woken: AtomicBool,
}

impl Link {
    /// For a connection with this feed.
    pub fn new(feed: Feed) -> Self {
        Self(Arc::new(Shared { feed: Mutex::new(feed), task: AtomicWaker::new(), woken: AtomicBool::new(false) }))
    }

    /// Resolves when somebody has woken the task since the last time. One task alone may ask.
    pub fn poll_woken(&self, cx: &mut Context<'_>) -> Poll<()> {
        // First, so that no waking falls between the two.
        self.0.task.register(cx.waker());
        if self.0.woken.swap(false, Ordering::AcqRel) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Reach for Link {
    fn feed<R>(&self, change: impl FnOnce(&mut Feed) -> R) -> R {
        // A feed is whole between any two of its calls, so one that panicked elsewhere can be used.
        change(&mut self.0.feed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn wake(&self) {
        self.0.woken.store(true, Ordering::Release);
        self.0.task.wake();
    }
}
