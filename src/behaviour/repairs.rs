//! Recent repairs, to limit repairs of peers that do not take them.
//!
//! **Invariants.** Pure. A peer has not taken a repair if it answers as before, or lacks the same
//! again. It is then repaired again only after a delay, which doubles. The number of remembered
//! repairs is bounded.

use std::time::Duration;

use hashlink::LruCache;
use libp2p_identity::PeerId;

use smart_record_core::{RecordKey, Timestamp};

/// Maximum number of remembered repairs: some 600 KB. A guess.
const REMEMBERED: usize = 4_096;
/// Delay before a second repair of the same peer: as long as a repair may take to arrive. A guess.
const SHORTEST: Duration = Duration::from_secs(10);
/// Maximum delay. Less than the replication interval, so that each replication may repair.
const LONGEST: Duration = Duration::from_secs(30 * 60);

/// A repair that was sent.
#[derive(Clone, Copy, Debug)]
struct Repaired {
    had: u64,
    sent: u64,
    at: Timestamp,
    wait: Duration,
}

/// The most recent repairs.
#[derive(Debug)]
pub(super) struct Repairs {
    recent: LruCache<(RecordKey, PeerId), Repaired>,
}

impl Repairs {
    pub(super) fn new() -> Self {
        Self { recent: LruCache::new(REMEMBERED) }
    }

    /// Whether the peer may be repaired now; if so, remembers the repair. `had` and `sent` are
    /// fingerprints of the peer's answer and of what it is sent.
    pub(super) fn admit(
        &mut self,
        key: &RecordKey,
        peer: PeerId,
        had: u64,
        sent: u64,
        now: Timestamp,
    ) -> bool {
        let place = (key.clone(), peer);
        let wait = match self.recent.get(&place) {
            Some(last) if last.had == had || last.sent == sent => {
                // A time before the last repair means that the clock was set back.
                if now < last.at.saturating_add(last.wait) && now >= last.at {
                    return false;
                }
                last.wait.saturating_mul(2).min(LONGEST)
            }
            _ => SHORTEST,
        };
        self.recent.insert(place, Repaired { had, sent, at: now, wait });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    #[test]
    fn a_peer_that_takes_no_repair_is_repaired_with_growing_delays() {
        let (mut repairs, key, peer) = (Repairs::new(), RecordKey::new("/sr/a"), PeerId::random());
        // It is read every second for a day, and the record differs each time.
        let day = 24 * 3_600_u64;
        let sent = (0..day).filter(|second| {
            let now = NOW.saturating_add(Duration::from_secs(*second));
            repairs.admit(&key, peer, 0, *second, now)
        });
        let sent: Vec<_> = sent.collect();
        assert_eq!(sent[..4], [0, 10, 30, 70]);
        assert!(sent.len() < 60, "{}", sent.len());
        let gaps = sent.windows(2).map(|pair| pair[1] - pair[0]);
        assert_eq!(gaps.max(), Some(LONGEST.as_secs()));
        assert!(repairs.admit(&key, PeerId::random(), 0, 0, NOW), "peers are independent");
        assert!(repairs.admit(&key, peer, 0, 0, NOW), "the clock was set back");
    }

    #[test]
    fn a_peer_that_took_a_repair_is_repaired_again_at_once() {
        let (mut repairs, key, peer) = (Repairs::new(), RecordKey::new("/sr/a"), PeerId::random());
        for n in 0..100 {
            assert!(repairs.admit(&key, peer, n, n, NOW));
            assert!(!repairs.admit(&key, peer, n, n + 1, NOW), "it answers as before");
            assert!(!repairs.admit(&key, peer, n + 1, n, NOW), "it lacks the same as before");
        }
    }

    #[test]
    fn the_number_of_remembered_repairs_is_bounded() {
        let mut repairs = Repairs::new();
        for _ in 0..2 * REMEMBERED {
            assert!(repairs.admit(&"/sr/a".into(), PeerId::random(), 0, 0, NOW));
        }
        assert_eq!(repairs.recent.len(), REMEMBERED);
    }
}
