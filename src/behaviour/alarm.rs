//! The timer by which a behaviour wakes for what is due.
//!
//! **Invariants.** It only wakes, and no longer than a minute ahead, because a clock can be set.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use futures::FutureExt;
use futures_timer::Delay;

use smart_record_core::Timestamp;

/// It never sleeps for longer.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// Nor for less: what could not be begun for want of room waits for something else to end.
const SHORTEST_SLEEP: Duration = Duration::from_millis(10);

/// The timer, and the latest time that was seen.
pub(super) struct Alarm {
    timer: Delay,
    at: Option<Timestamp>,
    latest: Timestamp,
}

impl Alarm {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { timer: Delay::new(Duration::ZERO), at: None, latest: now }
    }

    /// Takes note of the time. Returns whether the clock was set back.
    pub(super) fn was_set_back(&mut self, now: Timestamp) -> bool {
        std::mem::replace(&mut self.latest, now) > now
    }

    /// Whether it has rung, once.
    pub(super) fn has_rung(&mut self, cx: &mut Context<'_>) -> bool {
        let has_rung = self.at.is_some() && self.timer.poll_unpin(cx).is_ready();
        if has_rung {
            self.at = None;
        }
        has_rung
    }

    /// Sets it to the next time at which something is due. Anything may wake us earlier; then it stays as it is unless it would
    /// ring too late.
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
