//! What others send, when it is validated off the swarm's task: who may send how much, and how much may wait.
//!
//! **Invariants.** Pure. Each source has a rate of its own, so one that floods takes nothing from others; the queue is
//! bounded, and when it is full the newest are refused, so that what is waiting is done in its time. The number of
//! sources that are remembered is bounded.
//!
//! **Spec.** `docs/design.md`, section "Behaviour and client".

use std::time::Duration;

use libp2p_identity::PeerId;

use crate::rate::RateLimit;
use smart_record_core::Timestamp;

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

/// Bounds what comes in.
#[derive(Debug)]
pub(super) struct Inbound {
    sources: RateLimit<PeerId>,
    waiting: usize,
    max_waiting: usize,
}

impl Inbound {
    pub(super) fn new(rate: u32, burst: u32, max_waiting: usize) -> Self {
        let spacing = Duration::from_secs(1).checked_div(rate).unwrap_or(Duration::MAX);
        Self { sources: RateLimit::new(SOURCES, spacing, burst), waiting: 0, max_waiting }
    }

    /// Whether the source may send one more now.
    pub(super) fn admit(&mut self, source: PeerId, now: Timestamp) -> Result<(), InboundRefusal> {
        self.sources.admit(source, now).map_err(|_| InboundRefusal::RateLimited)
    }

    /// Takes a place in the queue.
    pub(super) fn enter(&mut self) -> Result<(), InboundRefusal> {
        if self.waiting >= self.max_waiting {
            return Err(InboundRefusal::QueueFull);
        }
        self.waiting = self.waiting.saturating_add(1);
        Ok(())
    }

    /// Gives a place back.
    pub(super) fn leave(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn admitted(inbound: &mut Inbound, source: PeerId, now: Timestamp) -> usize {
        std::iter::repeat_with(|| inbound.admit(source, now)).take_while(Result::is_ok).count()
    }

    #[test]
    fn each_source_has_its_burst_and_its_rate() {
        let mut inbound = Inbound::new(10, 20, 1);
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

    #[test]
    fn the_newest_are_refused_when_the_queue_is_full() {
        let mut inbound = Inbound::new(1, 1, 2);
        assert_eq!((inbound.enter(), inbound.enter()), (Ok(()), Ok(())));
        assert_eq!(inbound.enter(), Err(InboundRefusal::QueueFull));
        inbound.leave();
        assert_eq!(inbound.enter(), Ok(()));
    }
}
