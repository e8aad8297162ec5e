//! Memory of the sequences and records that a manager has seen, which prevents reuse of a sequence
//! and rollback.
//!
//! **Invariants.** The remembered sequence of a key only rises, and so does its best record until
//! it expires. At most [`CAPACITY`] keys are remembered; the least recently used ones are forgotten
//! first. Sequences that replicas refuse as too far in the future, signed before a fast clock was
//! corrected, are forgotten.

use hashlink::LruCache;

use smart_record_core::{RecordKey, Seq, Timestamp};
use smart_record_formats::signed::{SignedRecord, SignedRecordLimits};

/// Maximum number of remembered keys: about 1 MB with keys of common length. A guess.
const CAPACITY: usize = 4_096;

/// Highest known sequences and best known records, by key.
#[derive(Debug)]
pub(super) struct HighestSequences(LruCache<RecordKey, KnownKey>);

impl Default for HighestSequences {
    fn default() -> Self {
        Self(LruCache::new(CAPACITY))
    }
}

#[derive(Debug, Default)]
struct KnownKey {
    /// Highest sequence that was reserved, whether used or not, or seen in a record that has since
    /// expired.
    last: Option<u64>,
    met: Option<Met>,
}

/// Best record seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Met {
    /// Its sequence and its hash.
    pub(super) content: (u64, [u8; 32]),
    /// When it was first seen.
    pub(super) first: Timestamp,
    expires_at: Option<Timestamp>,
}

impl Met {
    pub(super) fn has_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

impl HighestSequences {
    /// Reserves the next sequence for a record under `key`: above every known one and `found`, and
    /// not below the clock. `None` if none is left.
    pub(super) fn reserve(
        &mut self,
        key: &RecordKey,
        found: Option<u64>,
        now: Timestamp,
        limits: &SignedRecordLimits,
    ) -> Option<u64> {
        let entry = self.entry(key);
        entry.forget_future(now, limits);
        let met = entry.met.as_ref().map(|met| met.content.0);
        let last = found.max(met).max(entry.last);
        if last == Some(u64::MAX) {
            return None;
        }
        let next = Seq::next(last.map(Seq::from_micros), now).as_micros();
        entry.last = Some(next);
        Some(next)
    }

    /// Remembers a record and its expiry. Returns when it was first seen.
    ///
    /// # Errors
    /// The sequence of a better, unexpired record.
    pub(super) fn meet(
        &mut self,
        record: &SignedRecord,
        expires_at: Option<Timestamp>,
        now: Timestamp,
        limits: &SignedRecordLimits,
    ) -> Result<Timestamp, u64> {
        let entry = self.entry(record.key());
        entry.forget_future(now, limits);
        entry.drop_expired(now);
        let content = record.rank().of_content();
        match &entry.met {
            Some(met) if met.content > content => Err(met.content.0),
            Some(met) if met.content == content => Ok(met.first),
            _ => {
                entry.met = Some(Met { content, first: now, expires_at });
                Ok(now)
            }
        }
    }

    /// Returns the best known, unexpired record of a key.
    pub(super) fn living(
        &mut self,
        key: &RecordKey,
        now: Timestamp,
        limits: &SignedRecordLimits,
    ) -> Option<Met> {
        // A read of an unknown key must not evict other keys.
        let entry = self.0.peek_mut(key)?;
        entry.forget_future(now, limits);
        entry.drop_expired(now);
        entry.met
    }

    fn entry(&mut self, key: &RecordKey) -> &mut KnownKey {
        // `entry` alone does not evict, but it is what counts as a use.
        if !self.0.contains_key(key) {
            self.0.insert(key.clone(), KnownKey::default());
        }
        self.0.entry(key.clone()).or_insert_with(KnownKey::default)
    }
}

impl KnownKey {
    fn forget_future(&mut self, now: Timestamp, limits: &SignedRecordLimits) {
        let is_ahead = |sequence| limits.check_lead(sequence, now).is_err();
        self.last.take_if(|last| is_ahead(*last));
        self.met.take_if(|met| is_ahead(met.content.0));
    }

    /// Keeps only the sequence of an expired record.
    fn drop_expired(&mut self, now: Timestamp) {
        if let Some(met) = self.met.take_if(|met| met.has_expired(now)) {
            self.last = self.last.max(Some(met.content.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use libp2p_identity::Keypair;

    use super::*;
    use smart_record_formats::signed::UnsignedRecord;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
    const NOW_MICROS: u64 = NOW.as_millis() * 1_000;

    fn record(key: &RecordKey, sequence: u64) -> SignedRecord {
        UnsignedRecord::new(key.clone(), "x", sequence)
            .sign(&Keypair::generate_ed25519(), &SignedRecordLimits::default())
            .unwrap()
    }

    /// Limits that accept any sequence.
    fn limits() -> SignedRecordLimits {
        SignedRecordLimits::default().with_max_clock_skew(Duration::MAX)
    }

    fn living(
        known: &mut HighestSequences,
        key: &RecordKey,
        now: Timestamp,
        limits: &SignedRecordLimits,
    ) -> Option<u64> {
        known.living(key, now, limits).map(|met| met.content.0)
    }

    #[test]
    fn what_replicas_take_for_the_future_is_forgotten() {
        let (mut known, key) = (HighestSequences::default(), RecordKey::new("/a/b"));
        let (limits, skew) = (SignedRecordLimits::default(), 5 * 60 * 1_000_000);
        let (right, ahead) = (record(&key, NOW_MICROS), record(&key, NOW_MICROS + skew + 1_000));
        let later = NOW.saturating_add(Duration::from_secs(3_600));
        known.meet(&ahead, None, later, &limits).unwrap();
        assert_eq!(living(&mut known, &key, later, &limits), Some(ahead.sequence()));
        assert_eq!(living(&mut known, &key, NOW, &limits), None);
        assert_eq!(known.meet(&right, None, NOW, &limits), Ok(NOW));
        assert_eq!(
            known.reserve(&key, Some(NOW_MICROS), later, &limits),
            Some(NOW_MICROS + 12 * skew)
        );
        assert_eq!(known.reserve(&key, Some(NOW_MICROS), NOW, &limits), Some(NOW_MICROS + 1));
        // A sequence ahead by the allowed skew is not forgotten.
        let latest = NOW_MICROS + skew;
        assert_eq!(known.reserve(&key, Some(latest), NOW, &limits), Some(latest + 1));
        assert_eq!(known.reserve(&key, None, NOW, &limits), Some(latest + 2));
    }

    #[test]
    fn a_sequence_is_above_all_others_and_never_given_twice() {
        let (mut known, key) = (HighestSequences::default(), RecordKey::new("/a/b"));
        assert_eq!(known.reserve(&key, None, NOW, &limits()), Some(NOW_MICROS));
        assert_eq!(known.reserve(&key, None, NOW, &limits()), Some(NOW_MICROS + 1));
        assert_eq!(known.reserve(&key, Some(NOW_MICROS + 8), NOW, &limits()), Some(NOW_MICROS + 9));
        assert_eq!(
            known.reserve(&key, Some(3), Timestamp::EPOCH, &limits()),
            Some(NOW_MICROS + 10)
        );
        known.meet(&record(&key, NOW_MICROS + 20), None, NOW, &limits()).unwrap();
        assert_eq!(known.reserve(&key, None, NOW, &limits()), Some(NOW_MICROS + 21));
        assert_eq!(known.reserve(&key, Some(u64::MAX - 1), NOW, &limits()), Some(u64::MAX));
        assert_eq!(known.reserve(&key, None, NOW, &limits()), None);
    }

    #[test]
    fn what_is_known_only_rises() {
        let (mut known, key) = (HighestSequences::default(), RecordKey::new("/a/b"));
        let (old, new) = (record(&key, 1), record(&key, 2));
        assert_eq!(living(&mut known, &key, NOW, &limits()), None);
        assert_eq!(known.meet(&new, None, NOW, &limits()), Ok(NOW));
        assert_eq!(known.meet(&old, None, NOW, &limits()), Err(2));
        let later = Timestamp::from_millis(NOW.as_millis() + 1);
        assert_eq!(known.meet(&new, None, later, &limits()), Ok(NOW), "when it was met first");
        assert_eq!(living(&mut known, &key, Timestamp::MAX, &limits()), Some(2));
    }

    #[test]
    fn of_what_has_expired_only_the_sequence_is_known() {
        let (mut known, key) = (HighestSequences::default(), RecordKey::new("/a/b"));
        let (old, new) = (record(&key, NOW_MICROS), record(&key, NOW_MICROS + 7));
        let end = Timestamp::from_millis(NOW.as_millis() + 1);
        known.meet(&new, Some(end), NOW, &limits()).unwrap();
        assert_eq!(known.meet(&old, None, NOW, &limits()), Err(NOW_MICROS + 7));
        assert_eq!(living(&mut known, &key, NOW, &limits()), Some(NOW_MICROS + 7));
        assert_eq!(living(&mut known, &key, end, &limits()), None);
        assert_eq!(known.meet(&old, None, end, &limits()), Ok(end));
        assert_eq!(living(&mut known, &key, end, &limits()), Some(NOW_MICROS));
        assert_eq!(known.reserve(&key, None, NOW, &limits()), Some(NOW_MICROS + 8));
    }

    #[test]
    fn the_keys_used_longest_ago_are_forgotten() {
        let mut known = HighestSequences::default();
        let key = |n: usize| RecordKey::new(format!("/a/{n}"));
        for n in 0..CAPACITY {
            known.reserve(&key(n), Some(100), Timestamp::EPOCH, &limits());
        }
        known.reserve(&key(0), None, Timestamp::EPOCH, &limits());
        known.reserve(&key(CAPACITY), None, Timestamp::EPOCH, &limits());
        assert_eq!(known.0.len(), CAPACITY);
        assert!(known.0.contains_key(&key(0)));
        assert!(!known.0.contains_key(&key(1)));
    }
}
