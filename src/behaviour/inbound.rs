//! What others send, when it is validated off the swarm's task: who may send how much, and why it is refused.
//!
//! **Invariants.** Pure. Each source has a rate of its own, so one that floods takes nothing from others. The
//! number of sources that are remembered is bounded.
//!
//! **Spec.** `docs/design.md`, section "Behaviour and client".

use std::time::Duration;

use libp2p_identity::PeerId;

use crate::rate::RateLimit;

/// How many sources are remembered; more than Kademlia keeps connections to, and some 100 KB.
const SOURCES: usize = 1_024;

/// Why an inbound record was refused unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum InboundRefusal {
    /// The peer sends more than [`inbound_rate`](super::BehaviourConfig::inbound_rate).
    RateLimited,
    /// [`inbound_queue`](super::BehaviourConfig::inbound_queue) records are waiting.
    QueueFull,
    /// What validates has come to an end: the executor that it was given to has dropped it.
    Stopped,
}

impl InboundRefusal {
    /// All reasons.
    pub const ALL: [Self; 3] = [Self::RateLimited, Self::QueueFull, Self::Stopped];

    /// The reason in words, as a metric's label has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limited",
            Self::QueueFull => "queue_full",
            Self::Stopped => "stopped",
        }
    }
}

/// What each source may send.
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
        assert_eq!(admitted(&mut inbound, other, NOW), 20, "nothing was taken from others");
        let after = |millis| NOW.saturating_add(Duration::from_millis(millis));
        assert_eq!(admitted(&mut inbound, flooder, after(99)), 0);
        assert_eq!(admitted(&mut inbound, flooder, after(100)), 1);
        assert_eq!(admitted(&mut inbound, flooder, after(1_100)), 10);
        assert_eq!(admitted(&mut inbound, flooder, after(100_000)), 20, "never more than a burst");
        assert_eq!(admitted(&mut inbound, flooder, NOW), 0);
        assert_eq!(admitted(&mut inbound, flooder, after(2_000)), 20, "the clock was set back");
    }
}
