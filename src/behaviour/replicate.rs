//! When which stored record is replicated.
//!
//! Kademlia's own job takes a snapshot of everything once an interval and sends it in a burst, stale by then; and
//! any inbound PUT, junk too, takes its key out of the next run. This one walks through the store, a record at a time.
//!
//! **Invariants.** Every record has its turn once an interval, as of that moment. Nothing that a stranger sends
//! takes a record's turn away. The replica of rank `n`, counted by distance from the key, takes every `n + 1`st of its
//! turns, so 20 replicas together replicate a record 3.6 times an interval instead of 20 times.
//!
//! **Spec.** `docs/design.md`, section "Behaviour and client".

use std::time::Duration;

use libp2p_kad::KBucketKey;

use super::env::Env;
use crate::store::storage::RecordId;
use smart_record_core::{RecordKey, Timestamp};

/// The shortest time between two turns: with more records than fit, an interval takes longer.
const SHORTEST: Duration = Duration::from_millis(5);

/// The walk through the store.
#[derive(Debug)]
pub(super) struct Replicate {
    interval: Duration,
    /// The record whose turn was the last.
    cursor: Option<RecordId>,
    next_at: Timestamp,
    round: u64,
}

impl Replicate {
    pub(super) fn new(interval: Duration, now: Timestamp) -> Self {
        // Not at once: a node that has just started knows nobody.
        let half = interval.checked_div(2).unwrap_or_default();
        Self { interval, cursor: None, next_at: now.saturating_add(half), round: 0 }
    }

    pub(super) fn next_at(&self) -> Timestamp {
        self.next_at
    }

    /// If it is time, the record after which the next turn is, out of so many.
    fn due(&mut self, now: Timestamp, records: usize) -> Option<Option<RecordId>> {
        if self.next_at > now.saturating_add(self.interval) {
            // The clock was set back.
            self.next_at = now;
        }
        if now < self.next_at {
            return None;
        }
        let records = u32::try_from(records.max(1)).unwrap_or(u32::MAX);
        let pace = self.interval.checked_div(records).unwrap_or(self.interval).max(SHORTEST);
        self.next_at = now.saturating_add(pace);
        Some(self.cursor)
    }

    /// Gives the next stored record its turn, if it is time. Returns its key if the turn is ours to take.
    pub(super) fn take_turn(&mut self, env: &mut Env, now: Timestamp) -> Option<Option<RecordKey>> {
        // With an empty store it is nobody's turn, and the next is in an interval.
        let store = env.kad.store_mut();
        let cursor = self.due(now, store.usage().records)?;
        let mut next = store.next_record(cursor);
        if matches!(next, Ok(None)) {
            self.took(None);
            next = store.next_record(None);
        }
        let (id, key) = match next {
            Ok(Some(next)) => next,
            Ok(None) => return Some(None),
            Err(error) => {
                tracing::warn!(%error, "replication begins anew");
                self.took(None);
                return Some(None);
            }
        };
        self.took(Some(id));
        let rank = rank(env, &key);
        let is_ours = self.is_ours(&key, rank);
        tracing::trace!(%key, rank, is_ours, "a stored record has its turn");
        Some(is_ours.then_some(key))
    }

    /// This was the record's turn; `None`: there was none left, so that the next is the first again.
    fn took(&mut self, record: Option<RecordId>) {
        self.cursor = record;
        if record.is_none() {
            self.round = self.round.wrapping_add(1);
        }
    }

    /// Whether the replica of this rank takes the turn.
    fn is_ours(&self, key: &RecordKey, rank: usize) -> bool {
        let [offset, ..] = key.digest();
        let every = u64::try_from(rank).unwrap_or(u64::MAX).saturating_add(1);
        self.round.wrapping_add(u64::from(offset)).checked_rem(every) == Some(0)
    }
}

/// How many peers that we know are closer to the key than we are.
fn rank(env: &mut Env, key: &RecordKey) -> usize {
    let target = KBucketKey::new(key.as_bytes().to_vec());
    let ours = KBucketKey::from(env.local).distance(&target);
    let closest = env.kad.get_closest_local_peers(&target);
    let closer = closest.take_while(|peer| peer.distance(&target) < ours);
    closer.take(env.bounds.closest).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);
    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    #[test]
    fn turns_are_spread_over_the_interval() {
        let mut replicate = Replicate::new(HOUR, NOW);
        assert_eq!(replicate.due(NOW, 60), None);
        let mut now = NOW.saturating_add(HOUR / 2);
        for n in 0..60_u8 {
            let before = n.checked_sub(1).map(|n| RecordId([n; 32]));
            assert_eq!(replicate.due(now, 60), Some(before));
            replicate.took(Some(RecordId([n; 32])));
            assert_eq!(replicate.due(now, 60), None, "one at a time");
            now = now.saturating_add(HOUR / 60);
        }
    }

    #[test]
    fn a_clock_that_is_set_back_stops_nothing() {
        let mut replicate = Replicate::new(HOUR, NOW);
        assert!(replicate.due(NOW.saturating_sub(24 * HOUR), 1).is_some());
    }

    #[test]
    fn together_the_ranks_take_a_few_turns_an_interval_and_each_takes_some() {
        let mut replicate = Replicate::new(HOUR, NOW);
        let key = RecordKey::new("/sr/a");
        let mut turns = [0_usize; 20];
        for _ in 0..1_000 {
            for (rank, turns) in turns.iter_mut().enumerate() {
                *turns += usize::from(replicate.is_ours(&key, rank));
            }
            replicate.took(None);
        }
        assert_eq!(turns[0], 1_000);
        assert!(turns.iter().all(|turns| *turns >= 49));
        assert!((3_500..3_700).contains(&turns.iter().sum::<usize>()), "{turns:?}");
    }

    #[test]
    fn an_empty_store_is_looked_at_once_an_interval() {
        let interval = Duration::from_secs(60);
        let mut replicate = Replicate::new(interval, NOW);
        for _ in 0..3 {
            let at = replicate.next_at();
            assert!(replicate.due(at, 0).is_some());
            assert_eq!(replicate.next_at(), at.saturating_add(interval));
        }
    }
}
