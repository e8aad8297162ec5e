//! The order of updates within a space.
//!
//! **Invariants.** [`Position`] is a total order: equal only for the same update bytes.
//!
//! **Spec.** Hybrid logical clocks: Kulkarni et al., "Logical Physical Clocks", 2014, without its logical part: a writer
//! orders its own updates only. `docs/design.md`, section "Update".

use std::fmt;

use crate::time::Timestamp;

/// A writer's hybrid logical clock: Unix microseconds, but always greater than the one before.
///
/// It needs no state to keep: after a restart the clock is past whatever was issued, and where it is not, the
/// writer's own space tells the last one.
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

    /// The last clock that is issued at `at`: what comes after it is issued a millisecond later. It stands for that of
    /// records that carry milliseconds.
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

/// Where an update stands in its space: by `seq`, then by the SHA-256 of its bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The update's clock.
    pub seq: Seq,
    /// SHA-256 of the update's bytes.
    pub hash: [u8; 32],
}

/// With the beginning of the hash, which tells positions apart.
impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.seq)?;
        self.hash.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
