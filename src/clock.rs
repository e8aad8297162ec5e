//! The machine's clock: the edge between the rules, which take `now` as an argument, and the system.

use web_time::{Instant, SystemTime};

use smart_record_core::{Clock, Timestamp};

/// The machine's wall clock.
///
/// It has to be right to within [`Limits::max_clock_skew`](smart_record_core::Limits::max_clock_skew) (5 minutes by
/// default), as on any machine that keeps its clock with NTP: a node whose clock is further off refuses
/// what others accept.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }
}

/// The instant of the monotonic clock at which wall-clock time `at` comes; `None` if it is out of range.
pub(crate) fn instant(at: Timestamp, now: Timestamp) -> Option<Instant> {
    Instant::now().checked_add(at.saturating_since(now))
}

/// The wall-clock time at which an instant of the monotonic clock comes; `now` if it has passed.
pub(crate) fn wall_clock(at: Instant, now: Timestamp) -> Timestamp {
    now.saturating_add(at.saturating_duration_since(Instant::now()))
}
