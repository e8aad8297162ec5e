//! The order of updates within a space.
//!
//! **Invariants.** [`Position`] is totally ordered. Two positions are equal only for the same
//! update bytes.
//!
//! **Spec.** Hybrid logical clocks: Kulkarni et al., "Logical Physical Clocks", 2014, without the
//! logical part, because a writer orders only its own updates. `docs/design.md`, section "Update".

use std::fmt;

use crate::time::Timestamp;

/// The hybrid logical clock of a writer: Unix microseconds, always greater than the previous value.
///
/// It needs no stored state. After a restart the time is normally later than every value issued
/// before. Otherwise the writer's own space shows the last value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(u64);

impl Seq {
    /// The clock at `micros` microseconds since the Unix epoch.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// `max(last + 1, now)`.
    ///
    /// ```
    /// use smart_record_core::{Seq, Timestamp};
    ///
    /// let now = Timestamp::from_millis(5);
    /// let first = Seq::next(None, now);
    /// assert_eq!(first.as_micros(), 5_000);
    /// assert_eq!(Seq::next(Some(first), now).as_micros(), 5_001);
    /// ```
    pub fn next(last: Option<Self>, now: Timestamp) -> Self {
        let now = Self(now.as_millis().saturating_mul(1_000));
        last.map_or(now, |last| now.max(Self(last.0.saturating_add(1))))
    }

    /// The greatest value issued at `at`, in the last microsecond of its millisecond. Records with
    /// times in milliseconds use it.
    pub const fn last_at(at: Timestamp) -> Self {
        Self(at.as_millis().saturating_mul(1_000).saturating_add(999))
    }

    /// The time of issue, rounded down to milliseconds.
    pub const fn issued_at(self) -> Timestamp {
        Timestamp::from_millis(self.0 / 1_000)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The position of an update in its space: ordered by `seq`, then by the SHA-256 of the update
/// bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The clock of the update.
    pub seq: Seq,
    /// SHA-256 of the update bytes.
    pub hash: [u8; 32],
}

/// Prints the first bytes of the hash, which are enough to distinguish positions.
impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.seq)?;
        self.hash.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
