//! Values that are not smart records. A key has one: the best, or the valid ones consolidated.
//!
//! **Invariants.** A stored value was valid when it was written. A value that adds nothing is
//! known. A value that is worse than the stored one is stale. The limit of work holds for the first
//! validation of a value alone, so no part of the stored one is lost to it.
//!
//! **Spec.** `docs/design.md`, section "Store".

use std::time::Duration;

use bytes::Bytes;

use super::{
    SmartRecordStore, StorageError,
    event::Origin,
    lock,
    receipt::{Kept, Received, identity},
    room::PlannedRow,
    rows,
    source::{Arrival, Source},
    storage::RecordId,
    write::{Meta, WriteError, WriteOutcome},
};
use crate::proto::storage::{Head, Value, head::Body};
use smart_record_core::{
    Limit, LimitExceeded, RecordKey, Timestamp, ValidationError, Validator, Validity,
};

impl SmartRecordStore {
    /// Stores a value if it is better than the stored one, or consolidated with it. A value that
    /// was `checked` before is not validated again.
    pub(super) fn write_value(
        &mut self,
        validator: &dyn Validator,
        key: &RecordKey,
        value: &[u8],
        checked: Option<Validity>,
        meta: Meta,
        now: Timestamp,
    ) -> Result<WriteOutcome, WriteError> {
        let record = self.table.record_id(key);
        let kept = self.stored_value(record)?;
        let is_same = kept.as_ref().is_some_and(|kept| kept.is_same(value, meta.origin, now));
        // It is written again if a part of it has expired, to remove that part.
        if is_same && validator.collect(key, value, now).is_none() {
            return Ok(WriteOutcome { known: 1, ..WriteOutcome::default() });
        }
        if kept.is_none() && self.table.storage.get(&record.head())?.is_none() {
            // If there is no room, no signature is checked.
            let stored = Value { is_local: meta.origin == Origin::Local, ..Value::default() };
            let charge = self.value_charge(key, &stored);
            let remembered = self.memory.value(record.head(), now);
            let at = remembered.map_or(now, |(since, _)| since.min(now));
            let arrival = Arrival { at, source: self.source };
            let part = rows::value_part(key, stored, None, None, arrival);
            let wanted = PlannedRow::value(key, record, part, &charge, arrival.source);
            self.make_room(&wanted, now)?.map_err(ValidationError::from)?;
        }
        let validity = match checked {
            Some(validity) => validity,
            None => validator.validate(key, value, now)?,
        };
        // All of the value was verified, and the stored one before. What combines them may have to
        // verify the stored one again, and would leave out what it does not.
        let signatures = self.signatures.clone();
        let write = || self.write_valid(validator, key, value, validity, kept, meta, now);
        signatures.during(Duration::MAX, write).0
    }

    /// Stores a valid value as [`write_value`](Self::write_value) does.
    #[expect(
        clippy::too_many_arguments,
        reason = "the value, its rules and what is stored are all needed"
    )]
    fn write_valid(
        &mut self,
        validator: &dyn Validator,
        key: &RecordKey,
        value: &[u8],
        mut validity: Validity,
        kept: Option<Kept>,
        meta: Meta,
        now: Timestamp,
    ) -> Result<WriteOutcome, WriteError> {
        let record = self.table.record_id(key);
        let new = Arrival { at: now, source: self.source };
        let mut arrival = kept.as_ref().map_or(new, |kept| kept.arrival);
        let mut returns = false;
        if !kept.as_ref().is_some_and(|kept| kept.lives_at(now))
            && let Some((since, least)) = self.memory.value(record.head(), now)
        {
            let order_key = validator.order_key(key, value);
            if order_key.is_none_or(|order_key| order_key.as_bytes() < least) {
                self.news.count(|c| &mut c.remembered_refused, 1);
                return Err(ValidationError::Stale.into());
            }
            (arrival.at, returns) = (since.min(arrival.at), true);
        }
        // From here on, the new and the stored value are without their expired parts.
        let collected = |value| validator.collect(key, value, now);
        let collected_value = collected(value);
        let value = collected_value.as_deref().unwrap_or(value);
        if kept.is_none() {
            // There may be an invalid row.
            self.discard_rejected()?;
        }
        if let Some(kept) = kept.as_ref().filter(|kept| kept.is_remembered_at(now)) {
            kept.admits(validator, key, value, validity, now)?;
        }
        let mut old = kept.as_ref().filter(|kept| kept.lives_at(now));
        let mut best = Bytes::copy_from_slice(value);
        let (mut is_known, mut says_the_same) = (false, false);
        if let Some(Kept { stored: Value { value: before, .. }, .. }) = old {
            let collected_before = collected(before);
            let before = collected_before.as_deref().unwrap_or(before);
            match unite(validator, key, value, validity, before, now) {
                Ok(united) => {
                    (best, validity, is_known) = united;
                    says_the_same = is_known || validator.contains(key, before, value);
                }
                // It was stored while the clock was far ahead.
                Err(_) if is_from_far_ahead(validator, key, before, now) => old = None,
                Err(error) => return Err(error.into()),
            }
        }
        let receipt = validity.ttl_since_receipt.map(|ttl| {
            let identity = identity(validity, &best);
            let seen = kept.as_ref().and_then(|kept| kept.first_seen_at(&identity));
            Received { first_seen_at: seen.unwrap_or(now), identity, ttl }
        });
        let lifetime = Lifetime { validity, meta, receipt: receipt.as_ref(), old, says_the_same };
        let latest = now.saturating_add(self.config.max_age());
        let (expires_at, expiry_is_signed) =
            lifetime.end(Some(latest).filter(|at| *at < Timestamp::MAX));
        if let Some(expired_at) = expires_at.filter(|at| *at <= now) {
            return Err(ValidationError::Expired { expired_at }.into());
        }
        let remember_until = kept.as_ref().and_then(Kept::remember_until).max(
            receipt.as_ref().map(|receipt| receipt.remember_until(self.config.receipt_memory())),
        );
        let forget_at = expires_at.map(|at| remember_until.map_or(at, |until| until.max(at)));
        let stored = Value {
            value: best,
            publisher: match meta.publisher.filter(|_| validity.keeps_publisher) {
                Some(publisher) => publisher.to_bytes().into(),
                None => Bytes::new(),
            },
            expiry_is_signed,
            receipt: receipt.map(Received::into_wire),
            remember_until: remember_until.map(Timestamp::as_millis),
            // What the local node wrote stays its own until a better value replaces it.
            is_local: meta.origin == Origin::Local
                || says_the_same && old.is_some_and(|old| old.stored.is_local),
        };
        if !stored.is_local && kept.as_ref().is_some_and(|kept| kept.stored.is_local) {
            // It is not the local node's any more.
            arrival.source = self.source;
        }
        if old.is_none_or(|old| old.stored != stored || old.expires_at != expires_at) {
            let charge = self.value_charge(key, &stored);
            let part = rows::value_part(key, stored, expires_at, forget_at, arrival);
            let wanted = PlannedRow::value(key, record, part, &charge, arrival.source);
            let wanted = PlannedRow { returns, ..wanted };
            self.put_row(&wanted, now)?.map_err(ValidationError::from)?;
            lock(&self.snapshot).entry(record).and_modify(|seen| seen.superseded = true);
        }
        let (stored, known) = if is_known { (0, 1) } else { (1, 0) };
        Ok(WriteOutcome { stored, known, is_value: true, ..WriteOutcome::default() })
    }

    /// The value of a record that is not a smart record, if it has not expired, with its key and
    /// expiry.
    pub(super) fn live_value(
        &self,
        record: RecordId,
        now: Timestamp,
    ) -> Result<Option<(Bytes, Value, Option<Timestamp>)>, StorageError> {
        let kept = self.stored_value(record)?.filter(|kept| kept.lives_at(now));
        Ok(kept.map(|kept| (kept.key, kept.stored, kept.expires_at)))
    }

    /// The value of a record that is not a smart record, expired or not.
    fn stored_value(&self, record: RecordId) -> Result<Option<Kept>, StorageError> {
        let Some(part) = self.table.storage.get(&record.head())? else {
            return Ok(None);
        };
        let (expires_at, at) = (part.expires_at, part.stored_at);
        Ok(match rows::decode_head(&part)? {
            Head { key, source, body: Some(Body::Value(stored)) } => {
                let arrival = Arrival { at, source: Source::from_wire(source) };
                Some(Kept { key, stored, expires_at, arrival })
            }
            _ => None,
        })
    }
}

/// Consolidates a value with the stored one. Returns the result, its validity, and whether it adds
/// nothing.
fn unite(
    validator: &dyn Validator,
    key: &RecordKey,
    value: &[u8],
    validity: Validity,
    stored: &[u8],
    now: Timestamp,
) -> Result<(Bytes, Validity, bool), ValidationError> {
    // The new value first: it wins against an equal one.
    let united = validator.consolidate(key, &[value, stored])?;
    let is_known = united == stored;
    if united == value {
        return Ok((united.into(), validity, is_known));
    }
    if is_known && !validator.contains(key, stored, value) {
        return Err(ValidationError::Stale);
    }
    let validity = match validator.validate(key, &united, now) {
        // The stored part of it is ahead, because the clock was set back a little. It stays, and
        // the new part is good: it was validated before.
        Err(ValidationError::LimitExceeded(LimitExceeded {
            limit: Limit::CLOCK_SKEW,
            got: Some(got),
            max,
        })) if got <= max.saturating_mul(2) => {
            let over = Duration::from_millis(got.saturating_sub(max));
            validator.validate(key, &united, now.saturating_add(over))?
        }
        validity => validity?,
    };
    Ok((united.into(), validity, is_known))
}

/// Whether a value was stored while the clock was far ahead. When it was stored, the value was
/// ahead of the clock by no more than the allowed skew. If it is ahead of the current clock by more
/// than twice that, the clocks differ by more than the clocks of replicas may. After a smaller
/// setback the clock is soon where it was, so the stored value is kept.
fn is_from_far_ahead(
    validator: &dyn Validator,
    key: &RecordKey,
    value: &[u8],
    now: Timestamp,
) -> bool {
    match validator.validate(key, value, now) {
        Err(ValidationError::LimitExceeded(LimitExceeded {
            limit: Limit::CLOCK_SKEW,
            got,
            max,
        })) => got.is_none_or(|got| got > max.saturating_mul(2)),
        _ => false,
    }
}

/// What the lifetime of a value in this store depends on.
struct Lifetime<'a> {
    validity: Validity,
    meta: Meta,
    receipt: Option<&'a Received>,
    /// The stored value, if it has not expired.
    old: Option<&'a Kept>,
    /// Whether the new value says no more than the stored one, be it in other bytes: not all of a
    /// value is signed, and some signatures can be changed by anybody.
    says_the_same: bool,
}

impl Lifetime<'_> {
    /// When the lifetime ends, at most `latest`, and whether the author of the value has signed
    /// that.
    fn end(&self, latest: Option<Timestamp>) -> (Option<Timestamp>, bool) {
        let Self { validity, meta, receipt, old, says_the_same } = self;
        let is_for_the_value_to_say = validity
            .expires_at
            .is_some_and(|at| validity.is_bounded || latest.is_none_or(|latest| at <= latest));
        let expires_at = match (receipt, old) {
            // Receiving it again neither extends nor shortens its lifetime.
            (Some(receipt), Some(old)) if old.first_seen_at(&receipt.identity).is_some() => {
                old.expires_at
            }
            (Some(receipt), _) => {
                earliest([validity.expires_at, meta.expires_at, Some(receipt.ends_at()), latest])
            }
            (None, _) if validity.keeps_publisher => validity.expires_at.or(meta.expires_at),
            (None, _) if is_for_the_value_to_say => validity.expires_at,
            (None, old) => {
                let lifetime = match old.filter(|_| *says_the_same) {
                    // An unsigned lifetime can be extended by a copy, but not shortened.
                    Some(old) => meta.expires_at.zip(old.expires_at).map(|(new, old)| new.max(old)),
                    None => meta.expires_at,
                };
                earliest([validity.expires_at, lifetime, latest])
            }
        };
        (expires_at, is_for_the_value_to_say && receipt.is_none())
    }
}

fn earliest<const N: usize>(bounds: [Option<Timestamp>; N]) -> Option<Timestamp> {
    bounds.into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use libp2p_identity::{Keypair, PeerId};
    use libp2p_kad::{Record, RecordKey as KadKey, store::RecordStore};

    use super::*;
    use crate::store::StoreConfig;
    use smart_record_core::{Malformed, Registry, Writer, check_signature_work};

    /// A value is a set of signed bytes, each before its signature.
    struct SignedBytes(Writer);

    const ITEM: usize = 65;

    impl SignedBytes {
        fn check(&self, item: &[u8]) -> Result<(), ValidationError> {
            check_signature_work()?;
            let (byte, signature) = item.split_at(1);
            self.0.verify_bytes(byte, signature).map_err(|e| Malformed::other(e).into())
        }
    }

    impl Validator for SignedBytes {
        fn validate(
            &self,
            _: &RecordKey,
            value: &[u8],
            _: Timestamp,
        ) -> Result<Validity, ValidationError> {
            value.chunks(ITEM).try_for_each(|item| self.check(item))?;
            Ok(Validity::forever())
        }

        fn select(&self, _: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
            smart_record_core::best_index(values.iter())
        }

        fn wrapped(&self) -> Option<&dyn Validator> {
            None
        }

        fn consolidate(&self, _: &RecordKey, values: &[&[u8]]) -> Result<Vec<u8>, ValidationError> {
            let items = values.iter().flat_map(|value| value.chunks(ITEM));
            let good = items.filter(|item| self.check(item).is_ok());
            Ok(good
                .collect::<std::collections::BTreeSet<_>>()
                .into_iter()
                .flatten()
                .copied()
                .collect())
        }
    }

    #[test]
    fn no_part_of_the_stored_value_is_lost_to_the_limit_of_work() {
        let keypair = Keypair::generate_ed25519();
        let value = |bytes: std::ops::Range<u8>| -> Vec<u8> {
            let item = |byte| [&[byte][..], &keypair.sign(&[byte]).unwrap()].concat();
            bytes.flat_map(item).collect()
        };
        let validator = SignedBytes(Writer::from(&keypair.public()));
        let registry = Registry::default().with("signed", validator).unwrap();
        // Less than two values take, and next to no memory of what was verified.
        let config = StoreConfig::default().with_value_work(Duration::from_micros(800));
        let config = config.with_signature_memory(1);
        let mut store = SmartRecordStore::with_registry(PeerId::random(), registry, config);
        let key = KadKey::new(b"/signed/a");
        for bytes in [0..10, 10..20, 20..22] {
            store.put(Record::new(key.clone(), value(bytes))).unwrap();
        }
        assert_eq!(store.get(&key).unwrap().value, value(0..22));
        // More than the limit in one value is refused, and what is stored stays.
        store.put(Record::new(key.clone(), value(30..60))).unwrap();
        assert_eq!(store.get(&key).unwrap().value, value(0..22));
    }
}
