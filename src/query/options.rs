//! Policies and deadlines of reads and writes.

use std::time::Duration;

use super::lookup::ReadPolicy;

/// Policy and deadline of a read. Those that are not set are as in the
/// [`BehaviourConfig`](crate::behaviour::BehaviourConfig).
///
/// ```
/// use std::time::Duration;
/// use libp2p_smart_record::query::{ReadOptions, ReadPolicy};
///
/// let options = ReadOptions::default().with_deadline(Duration::from_secs(2));
/// assert_eq!(options.policy(), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    policy: Option<ReadPolicy>,
    deadline: Option<Duration>,
    complete_at: Option<usize>,
}

impl ReadOptions {
    /// Condition for the read to return, if set.
    pub const fn policy(&self) -> Option<ReadPolicy> {
        self.policy
    }

    /// Maximum duration of the read, if set. It then returns what was found until then.
    pub const fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// Number of peers that have to cover every part of a record, if set.
    pub const fn complete_at(&self) -> Option<usize> {
        self.complete_at
    }

    /// Sets [`complete_at`](Self::complete_at), instead of
    /// [`BehaviourConfig::complete_at`](crate::behaviour::BehaviourConfig::complete_at).
    #[must_use]
    pub const fn with_complete_at(mut self, peers: usize) -> Self {
        self.complete_at = Some(peers);
        self
    }

    /// Sets [`policy`](Self::policy), instead of
    /// [`BehaviourConfig::read_policy`](crate::behaviour::BehaviourConfig::read_policy).
    #[must_use]
    pub const fn with_policy(mut self, policy: ReadPolicy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Sets [`deadline`](Self::deadline), instead of
    /// [`BehaviourConfig::read_deadline`](crate::behaviour::BehaviourConfig::read_deadline).
    #[must_use]
    pub const fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }
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
