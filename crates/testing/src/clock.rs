//! A manual clock, and the time at which most tests begin.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use smart_record_core::{Clock, Timestamp};

/// The time of all tests that do not move the clock: 2023-11-14T22:13:20Z.
pub const NOW: u64 = 1_700_000_000_000;

/// An instant in Unix milliseconds.
pub fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// A clock that moves only when a test moves it. Clones are the same clock.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    /// A clock at this time.
    pub fn at(now: Timestamp) -> Self {
        Self(Arc::new(AtomicU64::new(now.as_millis())))
    }

    /// Sets the clock, forwards or back.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.as_millis(), Ordering::Relaxed);
    }

    /// Moves the clock forwards.
    pub fn advance(&self, by: Duration) {
        self.set(self.now().saturating_add(by));
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::Relaxed))
    }
}
