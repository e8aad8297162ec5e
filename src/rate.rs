//! How often each of many may do something.
//!
//! **Invariants.** Pure: the time is an argument. Each has a rate of its own, so one that is over it takes nothing from others. How
//! many are remembered is bounded; one that was forgotten begins anew.
//!
//! **Spec.** The generic cell rate algorithm: a token bucket that remembers one instant.

use std::{hash::Hash, time::Duration};

use hashlink::LruCache;

use smart_record_core::Timestamp;

/// A rate limit for each of many, such as peers or hosts.
///
/// ```
/// use std::time::Duration;
/// use libp2p_smart_record::{Timestamp, rate::RateLimit};
///
/// let now = Timestamp::from_millis(1_700_000_000_000);
/// // Once a second on average, twice at once after a pause.
/// let mut limit = RateLimit::new(1_000, Duration::from_secs(1), 2);
/// assert_eq!(limit.admit("ann", now), Ok(()));
/// assert_eq!(limit.admit("ann", now), Ok(()));
/// assert_eq!(limit.admit("ann", now), Err(Timestamp::from_millis(1_700_000_001_000)));
/// assert_eq!(limit.admit("zoe", now), Ok(()));
/// ```
#[derive(Debug)]
pub struct RateLimit<K: Eq + Hash> {
    /// When each would be back at its full burst.
    full_at: LruCache<K, Timestamp>,
    spacing: Duration,
    burst: Duration,
}

impl<K: Eq + Hash> RateLimit<K> {
    /// Once every `spacing` on average, `burst` times at once after a pause; a burst of 0 admits nobody. Those who did
    /// something most recently are remembered, `max_remembered` of them, at least one.
    pub fn new(max_remembered: usize, spacing: Duration, burst: u32) -> Self {
        let full_at = LruCache::new(max_remembered.max(1));
        Self { full_at, spacing, burst: spacing.saturating_mul(burst) }
    }

    /// Admits one more now, and counts it as done.
    ///
    /// # Errors
    /// The time from which it would be admitted.
    pub fn admit(&mut self, who: K, now: Timestamp) -> Result<(), Timestamp> {
        let full_at = self.full_at(&who, now);
        let (next, open_at) = self.next(full_at);
        let is_over = open_at > now;
        self.full_at.insert(who, if is_over { full_at } else { next });
        if is_over { Err(open_at) } else { Ok(()) }
    }

    /// As [`admit`](Self::admit), but nothing counts as done.
    ///
    /// # Errors
    /// The time from which it would be admitted.
    pub fn check(&self, who: &K, now: Timestamp) -> Result<(), Timestamp> {
        let (_, open_at) = self.next(self.full_at(who, now));
        if open_at > now { Err(open_at) } else { Ok(()) }
    }

    /// Takes back one that was admitted, because it was not done after all.
    pub fn give_back(&mut self, who: &K) {
        if let Some(full_at) = self.full_at.peek_mut(who) {
            *full_at = full_at.saturating_sub(self.spacing);
        }
    }

    /// Has nobody wait for longer than a burst takes from `now`, which is earlier than before. Whoever calls
    /// [`admit`](Self::admit) does not in any case; those who are only ever [checked](Self::check) would.
    pub fn on_clock_set_back(&mut self, now: Timestamp) {
        let latest = now.saturating_add(self.burst);
        self.full_at.iter_mut().for_each(|(_, full_at)| *full_at = (*full_at).min(latest));
    }

    fn full_at(&self, who: &K, now: Timestamp) -> Timestamp {
        let full_at = self.full_at.peek(who).copied().unwrap_or(now).max(now);
        // A clock that was set back does not lock anybody out for longer than a burst.
        full_at.min(now.saturating_add(self.burst))
    }

    /// When it would be full after once more, and from when on that may be.
    fn next(&self, full_at: Timestamp) -> (Timestamp, Timestamp) {
        let next = full_at.saturating_add(self.spacing);
        (next, next.saturating_sub(self.burst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_when_it_may_be_done_again() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let mut limit = RateLimit::new(10, Duration::from_secs(10), 2);
        assert_eq!(limit.admit("a", now), Ok(()));
        assert_eq!((limit.check(&"a", now), limit.check(&"a", now)), (Ok(()), Ok(())));
        assert_eq!(limit.admit("a", now), Ok(()));
        let then = now.saturating_add(Duration::from_secs(10));
        assert_eq!(limit.admit("a", now), Err(then));
        assert_eq!(limit.admit("b", now), Ok(()));
        assert_eq!(limit.admit("a", then), Ok(()));
        assert!(limit.admit("a", then).is_err());
        limit.give_back(&"a");
        assert_eq!(limit.admit("a", then), Ok(()));
    }

    #[test]
    fn a_clock_that_was_set_back_locks_nobody_out() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let mut limit = RateLimit::new(10, Duration::from_secs(10), 2);
        while limit.admit("a", now).is_ok() {}
        let then = now.saturating_sub(Duration::from_secs(3_600));
        limit.on_clock_set_back(then);
        assert!(limit.check(&"a", then).is_err());
        assert_eq!(limit.check(&"a", then.saturating_add(Duration::from_secs(10))), Ok(()));
    }

    #[test]
    fn the_number_that_is_remembered_is_bounded() {
        let mut limit = RateLimit::new(10, Duration::from_secs(10), 2);
        (0..100).for_each(|n| assert_eq!(limit.admit(n, Timestamp::EPOCH), Ok(())));
        assert_eq!(limit.full_at.len(), 10);
    }
}
