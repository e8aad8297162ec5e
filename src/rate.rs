//! How often each of many may do something.
//!
//! **Invariants.** Pure. Each has a rate of its own, so one that is over it takes nothing from others. How many are
//! remembered is bounded; one that was forgotten begins anew.
//!
//! **Spec.** The generic cell rate algorithm: a token bucket that remembers one instant.

use std::{hash::Hash, time::Duration};

use hashlink::LruCache;

use crate::time::Timestamp;

/// Once every `spacing` on average, `burst` times at once after a pause.
#[derive(Debug)]
pub(crate) struct RateLimit<K: Eq + Hash> {
    /// When each would be back at its full burst.
    full_at: LruCache<K, Timestamp>,
    spacing: Duration,
    burst: Duration,
}

impl<K: Eq + Hash> RateLimit<K> {
    pub(crate) fn new(max_remembered: usize, spacing: Duration, burst: u32) -> Self {
        let full_at = LruCache::new(max_remembered);
        Self { full_at, spacing, burst: spacing.saturating_mul(burst) }
    }

    /// Whether it may be done once more now; if not, when. If so, it counts as done.
    pub(crate) fn admit(&mut self, who: K, now: Timestamp) -> Result<(), Timestamp> {
        let full_at = self.full_at(&who, now);
        let (next, open_at) = self.next(full_at);
        let is_over = open_at > now;
        self.full_at.insert(who, if is_over { full_at } else { next });
        if is_over { Err(open_at) } else { Ok(()) }
    }

    /// As [`admit`](Self::admit), but it does not count as done.
    pub(crate) fn check(&self, who: &K, now: Timestamp) -> Result<(), Timestamp> {
        let (_, open_at) = self.next(self.full_at(who, now));
        if open_at > now { Err(open_at) } else { Ok(()) }
    }

    /// It was not done after all.
    pub(crate) fn give_back(&mut self, who: &K) {
        if let Some(full_at) = self.full_at.peek_mut(who) {
            *full_at = full_at.saturating_sub(self.spacing);
        }
    }

    /// The clock was set back: nobody is locked out for longer than a burst from now on. Who is admitted is not in any case, but
    /// those who are only ever [checked](Self::check) would be.
    pub(crate) fn on_clock_set_back(&mut self, now: Timestamp) {
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
