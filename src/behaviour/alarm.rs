//! The timer that wakes a behaviour for deadlines of the store's clock.
//!
//! **Invariants.** The timer decides nothing; it only wakes the task. It never sleeps longer than a
//! minute, because the clock can be set.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use futures::FutureExt;
use futures_timer::Delay;

use smart_record_core::Timestamp;

/// Maximum sleep.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// Minimum sleep. Work that found no free slot waits for another operation to end, which wakes the
/// task by itself.
const SHORTEST_SLEEP: Duration = Duration::from_millis(10);

/// The timer, and the latest time seen.
pub(super) struct Alarm {
    timer: Delay,
    at: Option<Timestamp>,
    latest: Timestamp,
}

impl Alarm {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { timer: Delay::new(Duration::ZERO), at: None, latest: now }
    }

    /// Updates the latest time. Returns whether the clock was set back.
    pub(super) fn was_set_back(&mut self, now: Timestamp) -> bool {
        std::mem::replace(&mut self.latest, now) > now
    }

    /// Returns once whether the timer has fired.
    pub(super) fn has_fired(&mut self, cx: &mut Context<'_>) -> bool {
        let has_fired = self.at.is_some() && self.timer.poll_unpin(cx).is_ready();
        if has_fired {
            self.at = None;
        }
        has_fired
    }

    /// Sets the timer to the next deadline. A timer that fires earlier stays as it is: the task is
    /// woken for other reasons too.
    pub(super) fn set(
        &mut self,
        next: Option<Timestamp>,
        now: Timestamp,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let sleep = next.map_or(LONGEST_SLEEP, |at| at.saturating_since(now));
        let sleep = sleep.clamp(SHORTEST_SLEEP, LONGEST_SLEEP);
        let wake_at = now.saturating_add(sleep);
        if self.at.is_some_and(|at| at <= wake_at) {
            return Poll::Pending;
        }
        self.at = Some(wake_at);
        self.timer.reset(sleep);
        self.timer.poll_unpin(cx)
    }
}
