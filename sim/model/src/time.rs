//! Virtual time, in microseconds since the start of the model.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use libp2p_smart_record::{Clock, Timestamp};

/// Microseconds since the start.
pub(crate) type Time = u64;

pub(crate) const MILLISECOND: Time = 1_000;
pub(crate) const SECOND: Time = 1_000 * MILLISECOND;
pub(crate) const MINUTE: Time = 60 * SECOND;
pub(crate) const HOUR: Time = 60 * MINUTE;

/// Wall-clock time at the start.
const START: u64 = 1_798_761_600_000;

pub(crate) const fn duration(time: Time) -> Duration {
    Duration::from_micros(time)
}

/// Rounded up: what is due then has to be due.
pub(crate) fn time(duration: Duration) -> Time {
    Time::try_from(duration.as_nanos().div_ceil(1_000)).unwrap_or(Time::MAX)
}

/// The clock of all stores: virtual time, and by how much this clock is off.
#[derive(Clone, Debug, Default)]
pub(crate) struct ModelClock {
    now: Arc<AtomicU64>,
    ahead_ms: i64,
}

impl ModelClock {
    pub(crate) fn set(&self, now: Time) {
        self.now.store(now, Ordering::Relaxed);
    }

    /// The clock of a node that is off by this much.
    pub(crate) fn off_by(&self, ahead_ms: i64) -> Self {
        Self { now: self.now.clone(), ahead_ms }
    }
}

impl Clock for ModelClock {
    fn now(&self) -> Timestamp {
        let millis = START + self.now.load(Ordering::Relaxed) / MILLISECOND;
        Timestamp::from_millis(millis.saturating_add_signed(self.ahead_ms))
    }
}
