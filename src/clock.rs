//! Where `now` comes from: the edge between the pure core and the machine's clocks.

use std::fmt::Debug;

use web_time::{Instant, SystemTime};

use smart_record_core::Timestamp;

/// Tells the time.
///
/// Every rule of this crate takes `now` as an argument; a store asks its clock once for each call and
/// hands the answer down. Tests put in a clock of their own.
pub trait Clock: Send + Sync + Debug + 'static {
    /// The time now, in Unix milliseconds.
    fn now(&self) -> Timestamp;
}

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

impl<C: Clock> Clock for std::sync::Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
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
