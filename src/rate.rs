//! Rate limits for many keys.
//!
//! **Invariants.** Pure: the time is an argument. Each key has its own rate, so a key over its rate
//! takes nothing from others. The number of remembered keys is bounded; a forgotten key starts with
//! its full burst.
//!
//! **Spec.** The generic cell rate algorithm: a token bucket that stores one instant.

use std::{hash::Hash, time::Duration};

use hashlink::LruCache;

use smart_record_core::Timestamp;
pub use smart_record_lookup::Subnet;

/// A rate limit for each of many keys, such as peers or hosts.
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
    /// When each key has its full burst again.
    full_at: LruCache<K, Timestamp>,
    spacing: Duration,
    burst: Duration,
}

impl<K: Eq + Hash> RateLimit<K> {
    /// A limit of one action every `spacing` on average and `burst` actions at once after a pause;
    /// a burst of 0 admits nothing. Remembers the `max_remembered` keys, at least one, that acted
    /// most recently.
    pub fn new(max_remembered: usize, spacing: Duration, burst: u32) -> Self {
        let full_at = LruCache::new(max_remembered.max(1));
        Self { full_at, spacing, burst: spacing.saturating_mul(burst) }
    }

    /// Admits and counts one action now.
    ///
    /// # Errors
    /// The time from which the action would be admitted.
    pub fn admit(&mut self, who: K, now: Timestamp) -> Result<(), Timestamp> {
        let full_at = self.full_at(&who, now);
        let (next, open_at) = self.next(full_at);
        let is_over = open_at > now;
        self.full_at.insert(who, if is_over { full_at } else { next });
        if is_over { Err(open_at) } else { Ok(()) }
    }

    /// As [`admit`](Self::admit), but counts nothing.
    ///
    /// # Errors
    /// The time from which the action would be admitted.
    pub fn check(&self, who: &K, now: Timestamp) -> Result<(), Timestamp> {
        let (_, open_at) = self.next(self.full_at(who, now));
        if open_at > now { Err(open_at) } else { Ok(()) }
    }

    /// Takes back an admitted action that was not done.
    pub fn give_back(&mut self, who: &K) {
        if let Some(full_at) = self.full_at.peek_mut(who) {
            *full_at = full_at.saturating_sub(self.spacing);
        }
    }

    /// Handles a clock that was set back to `now`: no key waits for longer than a burst takes. Only
    /// keys that are [checked](Self::check) and never admitted need it.
    pub fn on_clock_set_back(&mut self, now: Timestamp) {
        let latest = now.saturating_add(self.burst);
        self.full_at.iter_mut().for_each(|(_, full_at)| *full_at = (*full_at).min(latest));
    }

    fn full_at(&self, who: &K, now: Timestamp) -> Timestamp {
        let full_at = self.full_at.peek(who).copied().unwrap_or(now).max(now);
        // After the clock was set back, no key waits for longer than a burst takes.
        full_at.min(now.saturating_add(self.burst))
    }

    /// When the key would have its full burst after one more action, and from when on that action
    /// is admitted.
    fn next(&self, full_at: Timestamp) -> (Timestamp, Timestamp) {
        let next = full_at.saturating_add(self.spacing);
        (next, next.saturating_sub(self.burst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_when_the_action_would_be_admitted() {
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
    fn a_clock_that_was_set_back_blocks_a_key_for_at_most_a_burst() {
        let now = Timestamp::from_millis(1_700_000_000_000);
        let mut limit = RateLimit::new(10, Duration::from_secs(10), 2);
        while limit.admit("a", now).is_ok() {}
        let then = now.saturating_sub(Duration::from_secs(3_600));
        limit.on_clock_set_back(then);
        assert!(limit.check(&"a", then).is_err());
        assert_eq!(limit.check(&"a", then.saturating_add(Duration::from_secs(10))), Ok(()));
    }

    #[test]
    fn the_number_of_remembered_keys_is_bounded() {
        let mut limit = RateLimit::new(10, Duration::from_secs(10), 2);
        (0..100).for_each(|n| assert_eq!(limit.admit(n, Timestamp::EPOCH), Ok(())));
        assert_eq!(limit.full_at.len(), 10);
    }
}
