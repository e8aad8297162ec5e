//! Schedule of the replication of stored records.
//!
//! Kademlia's own job takes a snapshot of all records once per interval and sends it in a burst,
//! when parts of it are stale. Any inbound PUT, even of an invalid record, takes its key out of the
//! next run. This schedule walks through the store, one record at a time.
//!
//! **Invariants.** Every record has one turn per interval, with its content at that moment. No
//! input of other peers changes the turns. The replica of rank `n`, counted by distance from the
//! key, takes every `n + 1`st turn of a record, so 20 replicas together replicate it 3.6 times per
//! interval instead of 20 times.
//!
//! **Spec.** `docs/design.md`, section "Behaviour and client".

use std::time::Duration;

use libp2p_kad::KBucketKey;

use super::env::Env;
use crate::store::storage::RecordId;
use smart_record_core::{RecordKey, Timestamp};

/// Minimum time between two turns. With too many records for that, an interval takes longer.
const SHORTEST: Duration = Duration::from_millis(5);

/// A cursor that walks through the store.
#[derive(Debug)]
pub(super) struct Replicate {
    interval: Duration,
    /// The last record that had its turn.
    cursor: Option<RecordId>,
    next_at: Timestamp,
    round: u64,
}

impl Replicate {
    pub(super) fn new(interval: Duration, now: Timestamp) -> Self {
        // A node that has just started knows no peers.
        let half = interval.checked_div(2).unwrap_or_default();
        Self { interval, cursor: None, next_at: now.saturating_add(half), round: 0 }
    }

    pub(super) fn next_at(&self) -> Timestamp {
        self.next_at
    }

    /// Returns the cursor if the next turn is due. `records` is the number of stored records.
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

    /// Gives the next stored record its turn, if it is due. Returns its key if this replica takes
    /// the turn.
    pub(super) fn take_turn(&mut self, env: &mut Env, now: Timestamp) -> Option<Option<RecordKey>> {
        // With an empty store, the next turn is an interval later.
        let store = env.kad.store_mut();
        let cursor = self.due(now, store.usage().records)?;
        let mut next = store.next_record(cursor);
        if matches!(next, Ok(None)) {
            self.move_cursor(None);
            next = store.next_record(None);
        }
        let (id, key) = match next {
            Ok(Some(next)) => next,
            Ok(None) => return Some(None),
            Err(error) => {
                tracing::warn!(%error, "replication starts over: the store could not be read");
                self.move_cursor(None);
                return Some(None);
            }
        };
        self.move_cursor(Some(id));
        let rank = rank(env, &key);
        let is_ours = self.is_ours(&key, rank);
        tracing::trace!(%key, rank, is_ours, "replication turn");
        Some(is_ours.then_some(key))
    }

    /// Moves the cursor after a turn. `None`: the end was reached, and the next record is the
    /// first.
    fn move_cursor(&mut self, record: Option<RecordId>) {
        self.cursor = record;
        if record.is_none() {
            self.round = self.round.wrapping_add(1);
        }
    }

    /// Whether the replica of this rank takes the current turn.
    fn is_ours(&self, key: &RecordKey, rank: usize) -> bool {
        let [offset, ..] = key.digest();
        let every = u64::try_from(rank).unwrap_or(u64::MAX).saturating_add(1);
        self.round.wrapping_add(u64::from(offset)).checked_rem(every) == Some(0)
    }
}

/// Rank of this node: the number of known peers closer to the key.
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
            replicate.move_cursor(Some(RecordId([n; 32])));
            assert_eq!(replicate.due(now, 60), None, "one at a time");
            now = now.saturating_add(HOUR / 60);
        }
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_stop_replication() {
        let mut replicate = Replicate::new(HOUR, NOW);
        assert!(replicate.due(NOW.saturating_sub(24 * HOUR), 1).is_some());
    }

    #[test]
    fn all_ranks_together_take_3_6_turns_per_interval_and_each_takes_some() {
        let mut replicate = Replicate::new(HOUR, NOW);
        let key = RecordKey::new("/sr/a");
        let mut turns = [0_usize; 20];
        for _ in 0..1_000 {
            for (rank, turns) in turns.iter_mut().enumerate() {
                *turns += usize::from(replicate.is_ours(&key, rank));
            }
            replicate.move_cursor(None);
        }
        assert_eq!(turns[0], 1_000);
        assert!(turns.iter().all(|turns| *turns >= 49));
        assert!((3_500..3_700).contains(&turns.iter().sum::<usize>()), "{turns:?}");
    }

    #[test]
    fn an_empty_store_is_checked_once_per_interval() {
        let interval = Duration::from_secs(60);
        let mut replicate = Replicate::new(interval, NOW);
        for _ in 0..3 {
            let at = replicate.next_at();
            assert!(replicate.due(at, 0).is_some());
            assert_eq!(replicate.next_at(), at.saturating_add(interval));
        }
    }
}
