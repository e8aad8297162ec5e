//! Reasons why requests of other peers are refused before they are looked at.

/// Reason why an inbound record was refused without validation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum InboundRefusal {
    /// There is no work left for the peer, or for its network:
    /// [`work_per_second`](super::BehaviourConfig::work_per_second).
    OverBudget,
    /// [`inbound_queue`](super::BehaviourConfig::inbound_queue) records are waiting.
    QueueFull,
    /// The storage does not keep up with what is written to it.
    StorageLags,
    /// The validation task has ended: its executor dropped it.
    Stopped,
}

impl InboundRefusal {
    /// All reasons.
    pub const ALL: [Self; 4] =
        [Self::OverBudget, Self::QueueFull, Self::StorageLags, Self::Stopped];

    /// Name of the reason, as in the label of a metric.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OverBudget => "over_budget",
            Self::QueueFull => "queue_full",
            Self::StorageLags => "storage_lags",
            Self::Stopped => "stopped",
        }
    }
}

/// A connection was refused: its network is far over the budget.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("peers at this address ask for too much work")]
pub(super) struct TooMuchWork;
