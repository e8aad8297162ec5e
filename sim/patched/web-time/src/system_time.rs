//! Wall-clock time.

use std::{
    error::Error,
    fmt::{self, Display, Formatter},
    ops::{Add, AddAssign, Sub, SubAssign},
    time::Duration,
};

use crate::arithmetic::arithmetic;

/// As [`std::time::UNIX_EPOCH`].
pub const UNIX_EPOCH: SystemTime = SystemTime::UNIX_EPOCH;

/// As [`std::time::SystemTime`], from 1970 on.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SystemTime(Duration);

impl SystemTime {
    /// As [`std::time::SystemTime::UNIX_EPOCH`].
    pub const UNIX_EPOCH: Self = Self(Duration::ZERO);

    /// The current time of a clock that is right.
    #[must_use]
    pub fn now() -> Self {
        Self(smart_record_sim_clock::wall_clock())
    }

    /// Time since `earlier`.
    ///
    /// # Errors
    /// [`SystemTimeError`] if that is later.
    pub fn duration_since(&self, earlier: Self) -> Result<Duration, SystemTimeError> {
        let later = || SystemTimeError(earlier.0.saturating_sub(self.0));
        self.0.checked_sub(earlier.0).ok_or_else(later)
    }

    /// Time since then.
    ///
    /// # Errors
    /// [`SystemTimeError`] if it is in the future.
    pub fn elapsed(&self) -> Result<Duration, SystemTimeError> {
        Self::now().duration_since(*self)
    }
}

arithmetic!(SystemTime, "a time");

/// As [`std::time::SystemTimeError`].
#[derive(Clone, Debug)]
pub struct SystemTimeError(Duration);

impl SystemTimeError {
    /// How much later the other time is.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.0
    }
}

impl Display for SystemTimeError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("second time provided was later than self")
    }
}

impl Error for SystemTimeError {}
