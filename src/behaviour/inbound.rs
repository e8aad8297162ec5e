//! Rate limits and refusals of inbound records that are validated off the swarm's task.
//!
//! **Invariants.** Pure. Each source has its own rate limit, so a flooding source does not affect
//! others. The number of remembered sources is bounded.
//!
//! **Spec.** `docs/design.md`, section "Behaviour and client".

use std::time::Duration;

use libp2p_identity::PeerId;

use crate::rate::RateLimit;

/// Maximum number of remembered sources: more than Kademlia keeps connections to, and some 100 KB.
const SOURCES: usize = 1_024;

/// Reason why an inbound record was refused without validation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum InboundRefusal {
    /// The peer sends more than [`inbound_rate`](super::BehaviourConfig::inbound_rate).
    RateLimited,
    /// [`inbound_queue`](super::BehaviourConfig::inbound_queue) records are waiting.
    QueueFull,
    /// The validation task has ended: its executor dropped it.
    Stopped,
}

impl InboundRefusal {
    /// All reasons.
    pub const ALL: [Self; 3] = [Self::RateLimited, Self::QueueFull, Self::Stopped];

    /// Name of the reason, as in the label of a metric.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limited",
            Self::QueueFull => "queue_full",
            Self::Stopped => "stopped",
        }
    }
}

/// Rate limits of all sources.
pub(super) fn sources(rate: u32, burst: u32) -> RateLimit<PeerId> {
    let spacing = Duration::from_secs(1).checked_div(rate).unwrap_or(Duration::MAX);
    RateLimit::new(SOURCES, spacing, burst)
}

#[cfg(test)]
mod tests {
    use super::*;
    use smart_record_core::Timestamp;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn admitted(inbound: &mut RateLimit<PeerId>, source: PeerId, now: Timestamp) -> usize {
        std::iter::repeat_with(|| inbound.admit(source, now)).take_while(Result::is_ok).count()
    }

    #[test]
    fn each_source_has_its_burst_and_its_rate() {
        let mut inbound = sources(10, 20);
        let (flooder, other) = (PeerId::random(), PeerId::random());
        assert_eq!(admitted(&mut inbound, flooder, NOW), 20);
        assert_eq!(admitted(&mut inbound, other, NOW), 20, "sources have separate limits");
        let after = |millis| NOW.saturating_add(Duration::from_millis(millis));
        assert_eq!(admitted(&mut inbound, flooder, after(99)), 0);
        assert_eq!(admitted(&mut inbound, flooder, after(100)), 1);
        assert_eq!(admitted(&mut inbound, flooder, after(1_100)), 10);
        assert_eq!(admitted(&mut inbound, flooder, after(100_000)), 20, "never more than a burst");
        assert_eq!(admitted(&mut inbound, flooder, NOW), 0);
        assert_eq!(admitted(&mut inbound, flooder, after(2_000)), 20, "the clock was set back");
    }
}
