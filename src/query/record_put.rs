//! The content of a write in chunks.
//!
//! **Invariants.** Pure, except that `begin` writes to the store. Copies of what is sent together
//! with the write live as long as all of it.
//!
//! **Spec.** `docs/design.md`, section "Behaviour and client", "Writes".

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use smart_record_core::{Fault, LimitExceeded, RecordKey, SmartRecord, Timestamp, ValidationError};

use super::joined::{JoinedAnswers, chunks};
use crate::store::{
    Origin, SmartRecordStore, StoreConfig, ValidatedRecord, WriteError, WriteReport,
};

/// Minimum lifetime sent: less than a second would be encoded as zero, which means no expiry.
const SHORTEST: Duration = Duration::from_secs(1);

/// A record to be sent to peers.
#[derive(Debug)]
pub(crate) struct RecordPut {
    pub(crate) key: RecordKey,
    /// The record in packets.
    pub(crate) chunks: Arc<[Bytes]>,
    /// Expiry of the copies, if the value does not state its own.
    pub(crate) expires_at: Option<Timestamp>,
    /// The record, if it is a smart record.
    record: Option<SmartRecord>,
}

impl RecordPut {
    pub(crate) fn new(key: RecordKey, chunks: Vec<Bytes>, expires_at: Option<Timestamp>) -> Self {
        Self { key, chunks: chunks.into(), expires_at, record: None }
    }

    /// Returns a smart record in chunks.
    pub(crate) fn of(record: &SmartRecord, chunk_bytes: usize) -> Self {
        let chunks = chunks(record, chunk_bytes);
        let record_put = Self::new(record.key().clone(), chunks, record.retain_until());
        Self { record: Some(record.clone()), ..record_put }
    }

    /// Remaining lifetime of the copies at `now`, if the value does not carry one itself.
    pub(crate) fn lifetime(&self, now: Timestamp) -> Option<Duration> {
        self.expires_at.map(|at| at.saturating_since(now).max(SHORTEST))
    }

    /// The record, if it is a smart record.
    pub(crate) const fn record(&self) -> Option<&SmartRecord> {
        self.record.as_ref()
    }

    /// The record joined with what else is known, in one packet. `None` if it is no smart record,
    /// or does not fit.
    pub(crate) fn together<'a>(
        &mut self,
        store: &SmartRecordStore,
        known: impl IntoIterator<Item = &'a SmartRecord>,
    ) -> Option<Bytes> {
        let mut all = JoinedAnswers::new(store.registry(), &self.key).ok()?;
        all.join(self.record.as_ref()?);
        known.into_iter().for_each(|known| drop(all.join(known)));
        all.collect(store.clock().now());
        let is_small = !all.exceeds(store.config().chunk_bytes());
        let record = all.record().filter(|_| is_small)?;
        self.expires_at = later(self.expires_at, record.retain_until());
        Some(record.encode().into())
    }

    /// Replaces a value by its combination with the best one that was found.
    ///
    /// # Errors
    /// [`ValidationError::Stale`] if something better was found, which does not include it.
    pub(crate) fn combine(
        &mut self,
        found: &JoinedAnswers,
        now: Timestamp,
    ) -> Result<(), ValidationError> {
        if let (JoinedAnswers::Value(validator, Some(best)), [written]) = (found, &self.chunks[..])
            && best != written
        {
            let Ok(validity) = validator.validate(&self.key, best, now) else {
                // It has expired since it was found.
                return Ok(());
            };
            if !validator.contains(&self.key, best, written) {
                return Err(ValidationError::Stale);
            }
            self.expires_at = later(self.expires_at, validity.expires_at);
            self.chunks = [best.clone()].into();
        }
        Ok(())
    }

    /// Stores the valid part as a local write, and prepares it to be sent.
    ///
    /// # Errors
    /// [`WriteError`] if no part is valid, if the newest update of a single space is refused, or if
    /// no packet can carry it.
    pub(crate) fn begin(
        store: &mut SmartRecordStore,
        checked: ValidatedRecord,
    ) -> Result<Self, WriteError> {
        let max = store.config().chunk_bytes();
        let key = checked.key().clone();
        let (record, value) = (checked.record().cloned(), checked.value().cloned());
        if let Some(len) = value.as_ref().map(Bytes::len).filter(|len| *len > max) {
            let limit = LimitExceeded::new(StoreConfig::CHUNK_BYTES, len, max);
            return Err(ValidationError::from(limit).into());
        }
        let is_one_space = record.as_ref().is_some_and(|record| record.spaces().len() == 1);
        let WriteReport { stored, refused, .. } = store.insert(checked, Origin::Local)?;
        if stored == 0 && is_one_space {
            // The newest update was refused, so the write fails although earlier updates are known.
            // A board of many writers is sent for its valid parts.
            let mut reasons = refused.into_iter().map(|(_, reason)| reason);
            if let Some(reason) = reasons.find(|reason| reason.fault() != Fault::Expired) {
                return Err(reason.into());
            }
        }
        Ok(match record {
            Some(record) => Self::of(&record, max),
            None => {
                let expires_at = store.value(&key)?.and_then(|stored| stored.expires_at);
                Self::new(key, value.into_iter().collect(), expires_at)
            }
        })
    }
}

/// The later of two ends. `None` is never.
fn later(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    a.zip(b).map(|(a, b)| a.max(b))
}

#[cfg(test)]
mod tests {
    use smart_record_core::{Validator, Validity};

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    /// A value is a number, the greatest is best, and includes those with the same first digit. Its
    /// number is how many seconds it lives; of none it lives for ever.
    struct Numbers;

    fn number(value: &[u8]) -> u64 {
        std::str::from_utf8(value).unwrap().parse().unwrap()
    }

    impl Validator for Numbers {
        fn validate(
            &self,
            _: &RecordKey,
            value: &[u8],
            now: Timestamp,
        ) -> Result<Validity, ValidationError> {
            let expired_at = NOW.saturating_add(Duration::from_secs(number(value)));
            match number(value) {
                90 => Ok(Validity::forever()),
                _ if expired_at <= now => Err(ValidationError::Expired { expired_at }),
                _ => Ok(Validity::until(expired_at)),
            }
        }

        fn select(&self, _: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
            smart_record_core::best_index(values.iter().map(|value| number(value)))
        }

        fn contains(&self, _: &RecordKey, whole: &[u8], part: &[u8]) -> bool {
            whole.first() == part.first()
        }

        fn wrapped(&self) -> Option<&dyn Validator> {
            None
        }
    }

    #[test]
    fn what_was_found_is_sent_unless_it_has_expired_and_ends_no_earlier_than_what_was_written() {
        let at = |seconds| NOW.saturating_add(Duration::from_secs(seconds));
        let combined = |written: &'static str, best: &'static str, ends: Option<u64>, now| {
            let mut put = RecordPut::new("/n/a".into(), vec![written.into()], ends.map(at));
            let found = JoinedAnswers::Value(Arc::new(Numbers), Some(best.into()));
            put.combine(&found, at(now)).map(|()| (put.chunks[0].clone(), put.expires_at))
        };
        assert_eq!(combined("41", "47", Some(41), 0), Ok(("47".into(), Some(at(47)))));
        assert_eq!(combined("41", "47", Some(60), 0), Ok(("47".into(), Some(at(60)))));
        assert_eq!(combined("41", "57", Some(41), 0), Err(ValidationError::Stale));
        // It has expired since it was found: a fault of nobody, and nothing better is there.
        for best in ["47", "57"] {
            assert_eq!(combined("90", best, None, 60), Ok(("90".into(), None)));
        }
        // Never is later than any other end.
        assert_eq!(combined("41", "47", None, 0), Ok(("47".into(), None)));
        assert_eq!(combined("91", "90", Some(91), 0), Ok(("90".into(), None)));
    }
}
