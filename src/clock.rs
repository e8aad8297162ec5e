//! The machine's clock: the edge between the rules, which take `now` as an argument, and the system.

use web_time::SystemTime;

pub(crate) use smart_record_core::Clock;

use crate::time::Timestamp;

/// The machine's wall clock.
///
/// It has to be right to within [`Limits::max_clock_skew`](crate::Limits::max_clock_skew) (5 minutes by
/// default), as on any machine that keeps its clock with NTP: a node whose clock is further off refuses
/// what others accept.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }
}
