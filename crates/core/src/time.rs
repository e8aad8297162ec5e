//! The instant type that all rules of this crate use.
//!
//! **Invariants.** A [`Timestamp`] is Unix time in milliseconds. Arithmetic on it never wraps. The
//! core takes `now` as an argument and never reads a clock.

use std::{fmt, time::Duration};

use web_time::{SystemTime, UNIX_EPOCH};

/// An instant: milliseconds since the Unix epoch.
///
/// ```
/// use std::time::Duration;
/// use smart_record_core::Timestamp;
///
/// let t = Timestamp::from_millis(1_000);
/// assert_eq!(t.saturating_add(Duration::from_secs(1)).as_millis(), 2_000);
/// ```
#[derive(Clone, Copy, Debug, Default, Eq, PartialOrd, PartialEq, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);
    /// The last representable instant.
    pub const MAX: Self = Self(u64::MAX);

    /// The instant `millis` milliseconds after the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// This instant plus `duration`, in whole milliseconds; [`Timestamp::MAX`] on overflow.
    pub fn saturating_add(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// This instant minus `duration`, in whole milliseconds; the epoch on underflow.
    pub fn saturating_sub(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(millis))
    }

    /// The time from `earlier` to this instant; zero if `earlier` is later.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl From<SystemTime> for Timestamp {
    /// Times before the epoch become the epoch, times beyond the range [`Timestamp::MAX`].
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(since) => Self::EPOCH.saturating_add(since),
            Err(_) => Self::EPOCH,
        }
    }
}

/// The end of the year 9999, the last date in RFC 3339.
const LAST_DATE_MILLIS: u64 = 253_402_300_799_999;

impl fmt::Display for Timestamp {
    /// Formats as RFC 3339: `2026-11-21T08:00:00.000Z`; after the year 9999 as milliseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = Duration::from_millis(self.0);
        match std::time::UNIX_EPOCH.checked_add(since) {
            Some(time) if self.0 <= LAST_DATE_MILLIS => {
                humantime::format_rfc3339_millis(time).fmt(f)
            }
            _ => write!(f, "{}ms", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instant_can_be_shown() {
        for (millis, shown) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_795_249_544_597, "2026-11-21T08:25:44.597Z"),
            (LAST_DATE_MILLIS, "9999-12-31T23:59:59.999Z"),
            (LAST_DATE_MILLIS + 1, "253402300800000ms"),
            (u64::MAX, "18446744073709551615ms"),
        ] {
            assert_eq!(Timestamp::from_millis(millis).to_string(), shown);
        }
    }

    #[test]
    fn arithmetic_never_wraps() {
        assert_eq!(Timestamp::MAX.saturating_add(Duration::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::EPOCH.saturating_sub(Duration::from_millis(1)), Timestamp::EPOCH);
        assert_eq!(Timestamp::EPOCH.saturating_since(Timestamp::MAX), Duration::ZERO);
    }
}
