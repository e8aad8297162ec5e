//! When data kept in the network is due: for a renewal, for being sent again, for another attempt.
//!
//! **Invariants.** Pure. After the clock was set back, nothing waits for longer than it would from
//! now on. A hash of key and peer spreads due times, without randomness: neither all keys of a peer
//! nor all peers of a key are due at once.

use std::time::Duration;

use libp2p_identity::PeerId;
use sha2::{Digest, Sha256};

use smart_record_core::{RecordKey, Timestamp};

/// Shortest interval that a setting may ask for. With none, what has just ended would be due again
/// at once, and the task would do nothing else.
pub(crate) const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);
/// Shortest interval between two renewals, however short the lifetime is.
const SHORTEST: Duration = Duration::from_secs(1);
/// Longest wait for a timer until the clock is read again, because timers may stop while the
/// machine sleeps.
#[cfg(any(feature = "presence", feature = "signed"))]
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// A due time, and the longest wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    at: Timestamp,
    after: Duration,
}

impl Due {
    /// Due `after` from `now`.
    pub(crate) fn after(now: Timestamp, after: Duration) -> Self {
        Self { at: now.saturating_add(after), after }
    }

    pub(crate) const fn at(self) -> Timestamp {
        self.at
    }

    /// Limits the wait to its original length from `now`, in case the clock was set back.
    pub(crate) fn cap(&mut self, now: Timestamp) {
        self.hasten(now, self.after);
    }

    /// Moves the due time to `after` from `now`, if that is earlier.
    pub(crate) fn hasten(&mut self, now: Timestamp, after: Duration) {
        self.at = self.at.min(now.saturating_add(after));
    }
}

/// Delays between attempts that fail, each twice as long as the one before.
#[derive(Clone, Debug, Default)]
pub(crate) struct Retry {
    /// Number of consecutive failures.
    failures: u32,
}

impl Retry {
    /// Counts a failure. Returns the delay before the next attempt: `first` after the first
    /// failure, and at most `longest`.
    pub(crate) fn failed(&mut self, first: Duration, longest: Duration) -> Duration {
        let factor = 2_u32.saturating_pow(self.failures);
        self.failures = self.failures.saturating_add(1);
        first.saturating_mul(factor).min(longest)
    }

    /// Notes a success: the next failure is a first one.
    pub(crate) const fn succeeded(&mut self) {
        self.failures = 0;
    }
}

/// Time until data with a lifetime of `ttl` is renewed: well before it expires, so that a lost
/// renewal or two does no harm.
pub(crate) fn half_life(key: &RecordKey, peer: &PeerId, ttl: Duration) -> Duration {
    jittered(key, peer, share(ttl, 2)).max(SHORTEST)
}

/// Between three quarters and all of `duration`, by key and peer. The quarter was chosen by
/// `docs/scale.md`.
pub(crate) fn jittered(key: &RecordKey, peer: &PeerId, duration: Duration) -> Duration {
    let hash = Sha256::new().chain_update(key.digest()).chain_update(peer.to_bytes()).finalize();
    let [byte, ..]: [u8; 32] = hash.into();
    // A quarter of the duration, times the byte, divided by 256.
    let part = share(duration, 4 * 256).saturating_mul(u32::from(byte));
    duration.saturating_sub(part)
}

fn share(duration: Duration, of: u32) -> Duration {
    duration.checked_div(of).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_clock_that_was_set_back_does_not_prolong_a_wait() {
        let mut due = Due::after(NOW.saturating_add(60 * MINUTE), 10 * MINUTE);
        let mut left = |minutes| {
            let now = NOW.saturating_add(minutes * MINUTE);
            due.cap(now);
            due.at().saturating_since(now) / 60
        };
        for (minutes, minutes_left) in [(65, 5), (0, 10), (4, 6), (10, 0)] {
            assert_eq!(left(minutes), Duration::from_secs(minutes_left));
        }
    }

    #[test]
    fn a_due_time_is_never_moved_back_by_hastening_again() {
        let mut due = Due::after(NOW, 10 * MINUTE);
        due.hasten(NOW, MINUTE);
        due.hasten(NOW.saturating_add(MINUTE / 2), MINUTE);
        assert_eq!(due.at(), NOW.saturating_add(MINUTE));
    }

    #[test]
    fn delays_double_up_to_the_longest_and_begin_anew_after_a_success() {
        let mut retry = Retry::default();
        let mut seconds = || retry.failed(MINUTE, 10 * MINUTE).as_secs();
        assert_eq!([(); 6].map(|()| seconds()), [60, 120, 240, 480, 600, 600]);
        let mut retry = Retry { failures: u32::MAX };
        assert_eq!(retry.failed(MINUTE, Duration::MAX), u32::MAX * MINUTE);
        retry.succeeded();
        assert_eq!(retry.failed(MINUTE, Duration::MAX), MINUTE);
    }

    #[test]
    fn peers_that_start_in_the_same_minute_do_not_stay_together() {
        let (key, peers, hours) = (RecordKey::new("/sr/a"), 10_000_u32, 12);
        let mut minutes = vec![0_u32; 60 * hours];
        for n in 0..peers {
            let [a, b, c, d] = n.to_be_bytes();
            let peer = PeerId::from_bytes(&[0, 4, a, b, c, d]).unwrap();
            let life = half_life(&key, &peer, 60 * MINUTE);
            let started = MINUTE * n / peers;
            let renewals = (1..).map(|renewal| started + life * renewal);
            let renewals = renewals.map(|at| usize::try_from(at.as_secs() / 60).unwrap());
            for minute in renewals.take_while(|minute| *minute < 60 * hours) {
                minutes[minute] += 1;
            }
        }
        let mean = minutes.iter().sum::<u32>() / 720;
        let busiest = |hour: usize| *minutes[60 * (hour - 1)..60 * hour].iter().max().unwrap();
        assert!(busiest(1) < 4 * mean, "{} of {mean}", busiest(1));
        assert!(busiest(2) < 2 * mean, "{} of {mean}", busiest(2));
        assert!(2 * busiest(12) < 3 * mean, "{} of {mean}", busiest(12));
        // Renewing every half an hour would be 333 a minute.
        assert!(mean < 385, "{mean}");
    }

    #[test]
    fn renewals_are_spread_over_time_well_before_the_data_expires() {
        let lives: std::collections::BTreeSet<_> = (0..20)
            .map(|n| RecordKey::new(format!("/sr/{n}")))
            .map(|key| half_life(&key, &PeerId::random(), 100 * MINUTE))
            .collect();
        assert!(lives.iter().all(|life| (75 * MINUTE / 2..=50 * MINUTE).contains(life)));
        assert!(lives.len() > 10, "{lives:?}");
        assert_eq!(half_life(&RecordKey::new("/sr/a"), &PeerId::random(), MINUTE / 600), SHORTEST);
    }
}
