//! How many connections there may be and how quickly they may come, of everybody and of one address.
//!
//! Nothing here grows without bound: an address is held while it has connections, and the rates forget, every
//! [`KEPT`] questions, whom they would treat like a newcomer.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use nearcast_schemas::refusal::Refusal;

use super::networks::Source;

/// Questions between two looks at whom the rates may forget: at most so many addresses more than those that came just now.
const KEPT: usize = 65_536;
/// Whoever has too many connections open has to close one first; that takes a while.
const COME_BACK: Duration = Duration::from_secs(10);

/// A connection is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denied {
    /// Why.
    pub refusal: Refusal,
    /// When to come back.
    pub retry_after: Duration,
}

type BySource<C> = RateLimiter<Source, HashMapStateStore<Source>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// The rate of handshakes, of everybody and of one address. Twice a second's worth may come at once.
pub struct Handshakes<C: Clock = DefaultClock> {
    clock: C,
    all: Option<RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<C::Instant>>>,
    by_source: Option<BySource<C>>,
    asked: AtomicUsize,
}

impl<C: Clock + Clone> Handshakes<C> {
    /// Handshakes a second; 0 is without a limit.
    pub fn new(clock: C, per_s: u32, per_s_per_address: u32) -> Self {
        Self {
            all: quota(per_s).map(|quota| RateLimiter::direct_with_clock(quota, clock.clone())),
            by_source: quota(per_s_per_address).map(|quota| RateLimiter::hashmap_with_clock(quota, clock.clone())),
            clock,
            asked: AtomicUsize::new(0),
        }
    }

    /// One more of anybody.
    ///
    /// # Errors
    /// When there were too many.
    pub fn check_all(&self) -> Result<(), Denied> {
        let Some(all) = &self.all else { return Ok(()) };
        let denied = |retry_after| Denied { refusal: Refusal::Busy, retry_after };
        all.check().map_err(|until| denied(until.wait_time_from(self.clock.now())))
    }

    /// One more of an address.
    ///
    /// # Errors
    /// When there were too many.
    pub fn check(&self, source: Source) -> Result<(), Denied> {
        let Some(by_source) = &self.by_source else { return Ok(()) };
        if self.asked.fetch_add(1, Ordering::Relaxed) % KEPT == KEPT - 1 {
            by_source.retain_recent();
            by_source.shrink_to_fit();
        }
        let checked = by_source.check_key(&source);
        let denied = |retry_after| Denied { refusal: Refusal::TooFast, retry_after };
        checked.map_err(|until| denied(until.wait_time_from(self.clock.now())))
    }
}

fn quota(per_s: u32) -> Option<Quota> {
    let per_s = NonZeroU32::new(per_s)?;
    Some(Quota::per_second(per_s).allow_burst(per_s.saturating_mul(TWO)))
}

const TWO: NonZeroU32 = NonZeroU32::MIN.saturating_add(1);

/// Open connections by address.
#[derive(Default)]
pub struct Places {
    most: Option<NonZeroU32>,
    held: Mutex<HashMap<Source, u32>>,
}

impl Places {
    /// So many of one address; 0 is without a limit.
    pub fn new(most: u32) -> Self {
        Self { most: NonZeroU32::new(most), held: Mutex::default() }
    }

    /// One more of an address, while the place lives.
    ///
    /// # Errors
    /// When it has as many as it may.
    pub fn take(self: &Arc<Self>, source: Source) -> Result<Option<Place>, Denied> {
        let Some(most) = self.most else { return Ok(None) };
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(source).or_default();
        if *count >= most.get() {
            return Err(Denied { refusal: Refusal::TooManyConnections, retry_after: COME_BACK });
        }
        *count += 1;
        Ok(Some(Place { of: Arc::clone(self), source }))
    }
}

/// A connection that counts as one of its address.
pub struct Place {
    of: Arc<Places>,
    source: Source,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.of.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.source);
            }
        }
        // After a flood the room is given back; half empty is empty enough.
        if held.capacity() > 1_024 && held.len() < held.capacity() / 4 {
            held.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use governor::clock::FakeRelativeClock;
    use std::net::{IpAddr, Ipv4Addr};

    fn source(number: u32) -> Source {
        IpAddr::from(Ipv4Addr::from(number)).into()
    }

    #[test]
    fn twice_a_seconds_worth_comes_at_once_and_then_the_rate() {
        let clock = FakeRelativeClock::default();
        let handshakes = Handshakes::new(clock.clone(), 0, 10);
        let granted = |source| (0..100).filter(|_| handshakes.check(source).is_ok()).count();
        assert_eq!(granted(source(1)), 20);
        let denied = handshakes.check(source(1)).unwrap_err();
        assert_eq!(denied.refusal, Refusal::TooFast);
        assert!(denied.retry_after > Duration::ZERO && denied.retry_after <= Duration::from_millis(100));
        assert_eq!(granted(source(2)), 20, "an address does not pay for another");
        clock.advance(Duration::from_millis(500));
        assert_eq!(granted(source(1)), 5);
        assert!(handshakes.check_all().is_ok());
    }

    #[test]
    fn everybody_together() {
        let clock = FakeRelativeClock::default();
        let handshakes = Handshakes::new(clock.clone(), 5, 0);
        assert_eq!((0..100).filter(|_| handshakes.check_all().is_ok()).count(), 10);
        assert_eq!(handshakes.check_all().unwrap_err().refusal, Refusal::Busy);
        assert_eq!((0..100).filter(|_| handshakes.check(source(1)).is_ok()).count(), 100);
        clock.advance(Duration::from_secs(1));
        assert_eq!((0..100).filter(|_| handshakes.check_all().is_ok()).count(), 5);
    }

    #[test]
    fn who_came_long_ago_is_forgotten() {
        let clock = FakeRelativeClock::default();
        let handshakes = Handshakes::new(clock.clone(), 0, 10);
        let len = |handshakes: &Handshakes<FakeRelativeClock>| handshakes.by_source.as_ref().unwrap().len();
        let mut most = 0;
        for number in 0..3 * KEPT {
            clock.advance(Duration::from_millis(1));
            handshakes.check(source(number as u32)).unwrap();
            most = most.max(len(&handshakes));
        }
        assert!(most <= KEPT + 1_000, "{most} addresses are kept");
        // Whoever has just used up what it had is not among the forgotten.
        while handshakes.check(source(7)).is_ok() {}
        handshakes.by_source.as_ref().unwrap().retain_recent();
        assert!(handshakes.check(source(7)).is_err());
    }

    #[test]
    fn a_place_is_free_again_when_its_connection_ends() {
        let places = Arc::new(Places::new(2));
        let first = places.take(source(1)).unwrap();
        let _second = places.take(source(1)).unwrap();
        assert_eq!(places.take(source(1)).err().unwrap().refusal, Refusal::TooManyConnections);
        let other = places.take(source(2)).unwrap();
        drop(first);
        assert!(places.take(source(1)).unwrap().is_some());
        drop(other);
        assert_eq!(places.held.lock().unwrap().len(), 1, "only who has connections is known");

        let unlimited = Arc::new(Places::new(0));
        assert!((0..1_000).all(|_| unlimited.take(source(1)).unwrap().is_none()));
    }
}
