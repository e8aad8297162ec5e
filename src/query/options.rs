//! Policies and deadlines of reads and writes.

use std::time::Duration;

use smart_record_core::settings;

use super::lookup::ReadPolicy;

/// Policy and deadline of a read.
///
/// ```
/// use std::time::Duration;
/// use libp2p_smart_record::query::{ReadOptions, ReadPolicy};
///
/// let options = ReadOptions::default().with_deadline(Duration::from_secs(2));
/// assert_eq!(options.policy(), ReadPolicy::Settled);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadOptions {
    policy: ReadPolicy,
    deadline: Duration,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self::new(ReadPolicy::default(), Duration::from_secs(10))
    }
}

impl ReadOptions {
    pub(crate) const fn new(policy: ReadPolicy, deadline: Duration) -> Self {
        Self { policy, deadline }
    }
}

settings! { ReadOptions:
    /// Condition for the read to return. Defaults to [`ReadPolicy::Settled`].
    policy, with_policy: ReadPolicy;
    /// Maximum duration of the read. It then returns what was found until then. Defaults to ten
    /// seconds: five requests one after the other, each to a silent peer.
    deadline, with_deadline: Duration;
}

impl From<ReadPolicy> for ReadOptions {
    fn from(policy: ReadPolicy) -> Self {
        Self::default().with_policy(policy)
    }
}

/// Number of peers that have to acknowledge a write before it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum WritePolicy {
    /// More than half of the closest peers that answer, and at least three if there are that many.
    /// If all of the closest answer, any [settled](ReadPolicy::Settled) read then has an answer of
    /// one of them.
    #[default]
    Majority,
    /// This number of peers, or all of the closest if there are fewer.
    Acknowledgements(usize),
    /// All recipients, except those that have failed, or have been silent for two seconds longer
    /// than they had time.
    All,
}

/// Minimum of a majority, if there are that many peers.
const FEWEST: usize = 3;

impl WritePolicy {
    /// Number of peers that have to acknowledge the write, if `closest` of the closest peers
    /// answer.
    pub(crate) fn needed(self, closest: usize) -> usize {
        match self {
            Self::Majority => (closest / 2).saturating_add(1).max(FEWEST).min(closest),
            Self::Acknowledgements(n) => n.min(closest),
            // The write returns when no recipient is left.
            Self::All => usize::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_is_more_than_half_and_at_least_three_of_three() {
        let needed = |closest| WritePolicy::Majority.needed(closest);
        assert_eq!([0, 1, 2, 3, 4, 5, 13, 20].map(needed), [0, 1, 2, 3, 3, 3, 7, 11]);
        assert_eq!(WritePolicy::Acknowledgements(5).needed(3), 3);
        assert_eq!(WritePolicy::Acknowledgements(5).needed(20), 5);
    }
}
