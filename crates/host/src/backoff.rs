//! Pauses between attempts that fail.
//!
//! **Invariants.** An attempt is either due at a time, under way, or not wanted. Pauses double up
//! to a maximum, and vary so that nodes that lost the same peer do not return all at once.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use tokio::time::Instant;

/// First pause. A guess: a peer that restarts is back within seconds.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause. A guess: one dial a minute costs nobody anything.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Attempts at something until it succeeds, with growing pauses.
#[derive(Debug)]
pub(super) struct Backoff {
    /// Pause after the next failure.
    pause: Duration,
    /// When the next attempt is due.
    due_at: Option<Instant>,
}

impl Backoff {
    /// The first attempt is due now.
    pub(super) fn new(now: Instant) -> Self {
        Self { pause: FIRST_PAUSE, due_at: Some(now) }
    }

    /// No attempt is due before one is noted as failed.
    pub(super) const fn none() -> Self {
        Self { pause: FIRST_PAUSE, due_at: None }
    }

    /// When the next attempt is due, unless one is under way or none is wanted.
    pub(super) const fn due_at(&self) -> Option<Instant> {
        self.due_at
    }

    /// Begins an attempt if one is due.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        self.due_at.take_if(|at| *at <= now).is_some()
    }

    /// Schedules the attempt after one that failed, and returns the pause. `jitter` is any number.
    pub(super) fn failed(&mut self, now: Instant, jitter: u64) -> Duration {
        // Between three quarters and five quarters of the pause.
        let percent = u32::try_from(jitter % 51).unwrap_or(0).saturating_add(75);
        let pause = self.pause.saturating_mul(percent).checked_div(100).unwrap_or(MAX_PAUSE);
        self.pause = self.pause.saturating_mul(2).min(MAX_PAUSE);
        self.due_at = now.checked_add(pause);
        pause
    }

    /// Ends the attempts; the next failure is followed by the first pause.
    pub(super) fn succeeded(&mut self) {
        *self = Self::none();
    }
}

/// A random number for [`Backoff::failed`].
pub(super) fn jitter() -> u64 {
    // Each has keys of its own.
    RandomState::new().hash_one(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_one_second_to_a_minute() {
        let mut now = Instant::now();
        let mut attempts = Backoff::new(now);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            assert!(attempts.begin(now) && !attempts.begin(now), "one at a time");
            let pause = attempts.failed(now, 25);
            assert!(!attempts.begin(now), "not before the pause is over");
            now += pause;
            pauses.push(pause.as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        attempts.succeeded();
        assert_eq!(attempts.due_at(), None);
        assert_eq!(attempts.failed(now, 25), FIRST_PAUSE);
    }

    #[test]
    fn pauses_vary_by_a_quarter() {
        let now = Instant::now();
        let pause = |jitter| Backoff::new(now).failed(now, jitter);
        assert_eq!((pause(0), pause(50)), (FIRST_PAUSE * 3 / 4, FIRST_PAUSE * 5 / 4));
        assert_eq!(pause(51), pause(0));
        assert!(pause(u64::MAX) <= FIRST_PAUSE * 5 / 4);
    }
}
