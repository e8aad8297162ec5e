//! The machine's clock. The rules take `now` as an argument; this module reads it.

use web_time::{Instant, SystemTime};

use smart_record_core::{Clock, Timestamp};

/// The machine's wall clock.
///
/// It has to be right to within
/// [`Limits::max_clock_skew`](smart_record_core::Limits::max_clock_skew) (5 minutes by default), as
/// NTP keeps it. A node whose clock is further off refuses what others accept.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }
}

/// The monotonic instant of wall-clock time `at`; `None` if it is out of range.
pub(crate) fn instant(at: Timestamp, now: Timestamp) -> Option<Instant> {
    Instant::now().checked_add(at.saturating_since(now))
}

/// The wall-clock time of a monotonic instant; `now` if it has passed.
pub(crate) fn wall_clock(at: Instant, now: Timestamp) -> Timestamp {
    now.saturating_add(at.saturating_duration_since(Instant::now()))
}
