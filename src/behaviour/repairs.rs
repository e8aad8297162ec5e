//! Who was sent what was lacking, so that nobody is sent it again and again in vain.
//!
//! **Invariants.** Pure. A peer who still says what it said before, or lacks just what it was sent, has not taken it: it is
//! sent something again only after a while, which doubles. The number of peers that are remembered is bounded.

use std::time::Duration;

use hashlink::LruCache;
use libp2p_identity::PeerId;

use smart_record_core::{RecordKey, Timestamp};

/// How many repairs are remembered: some 600 KB. A guess.
const REMEMBERED: usize = 4_096;
/// How long a repair has to show at first: as long as it may take to arrive. A guess.
const SHORTEST: Duration = Duration::from_secs(10);
/// The longest that one waits who takes nothing. Less than the interval of replication, so that this has its turn.
const LONGEST: Duration = Duration::from_secs(30 * 60);

/// A repair that was begun.
#[derive(Clone, Copy, Debug)]
struct Repaired {
    had: u64,
    sent: u64,
    at: Timestamp,
    wait: Duration,
}

/// The latest repairs.
#[derive(Debug)]
pub(super) struct Repairs {
    recent: LruCache<(RecordKey, PeerId), Repaired>,
}

impl Repairs {
    pub(super) fn new() -> Self {
        Self { recent: LruCache::new(REMEMBERED) }
    }

    /// Whether the peer may be sent what it lacks now; if so, takes note of that. `had` and `sent` are fingerprints of what it
    /// has said, and of what it is sent.
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
                // Unless the clock was set back.
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
    fn one_who_takes_nothing_is_sent_it_more_and_more_rarely() {
        let (mut repairs, key, peer) = (Repairs::new(), RecordKey::new("/sr/a"), PeerId::random());
        // It is asked every second for a day, and the record is another each time.
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
        assert!(
            repairs.admit(&key, PeerId::random(), 0, 0, NOW),
            "others have nothing to do with it"
        );
        assert!(repairs.admit(&key, peer, 0, 0, NOW), "the clock was set back");
    }

    #[test]
    fn one_who_has_taken_it_is_sent_the_next_at_once() {
        let (mut repairs, key, peer) = (Repairs::new(), RecordKey::new("/sr/a"), PeerId::random());
        for n in 0..100 {
            assert!(repairs.admit(&key, peer, n, n, NOW));
            assert!(!repairs.admit(&key, peer, n, n + 1, NOW), "it says the same as before");
            assert!(!repairs.admit(&key, peer, n + 1, n, NOW), "it lacks the same as before");
        }
    }

    #[test]
    fn repairs_are_forgotten_rather_than_kept_without_end() {
        let mut repairs = Repairs::new();
        for _ in 0..2 * REMEMBERED {
            assert!(repairs.admit(&"/sr/a".into(), PeerId::random(), 0, 0, NOW));
        }
        assert_eq!(repairs.recent.len(), REMEMBERED);
    }
}
