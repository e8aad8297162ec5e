//! How much certainty is asked for, and how long it may take.

use std::time::Duration;

use super::lookup::ReadPolicy;

/// When a read is told, and how long it may take. What is not set is as the
/// [`BehaviourConfig`](crate::behaviour::BehaviourConfig) has it.
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
}

impl ReadOptions {
    /// When what was found is enough, if set.
    pub const fn policy(&self) -> Option<ReadPolicy> {
        self.policy
    }

    /// How long the read may take at most, if set. It then comes to what was found until then.
    pub const fn deadline(&self) -> Option<Duration> {
        self.deadline
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

/// How many peers have to take a write before it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum WritePolicy {
    /// More than half of the closest that answer, and at least three where there are so many. Any
    /// read that is [settled](ReadPolicy::Settled) then asks one of them.
    #[default]
    Majority,
    /// So many, or all where there are fewer.
    Acknowledgements(usize),
    /// All that it is sent to, except those that have failed, or have been silent for two seconds
    /// longer than they had time.
    All,
}

/// The least that a majority is, where there are so many peers.
const FEWEST: usize = 3;

impl WritePolicy {
    /// How many have to take it, if so many of the closest answer.
    pub(crate) fn needed(self, closest: usize) -> usize {
        match self {
            Self::Majority => (closest / 2).saturating_add(1).max(FEWEST).min(closest),
            Self::Acknowledgements(n) => n.min(closest),
            // It ends when nobody is left.
            Self::All => usize::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_is_more_than_half_and_three_where_there_are_so_many() {
        let needed = |closest| WritePolicy::Majority.needed(closest);
        assert_eq!([0, 1, 2, 3, 4, 5, 13, 20].map(needed), [0, 1, 2, 3, 3, 3, 7, 11]);
        assert_eq!(WritePolicy::Acknowledgements(5).needed(3), 3);
        assert_eq!(WritePolicy::Acknowledgements(5).needed(20), 5);
    }
}
