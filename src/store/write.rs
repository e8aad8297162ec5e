//! Writing: validate, join or choose, and plan what changes.
//!
//! **Invariants.** A refused part takes no good one with it, except that after 16 bad signatures the rest of a
//! value is refused unread. A write is planned before anything is changed, so
//! what does not fit is refused and nothing has gone.
//!
//! **Spec.** `docs/design.md`, section "Store".

use libp2p_identity::PeerId;
use prost::{Message, bytes::Bytes};

use super::{
    SmartRecordStore, StorageError,
    event::{Origin, StoreEvent, count},
    lock,
    plan::Place,
    receipt::{Kept, Received, identity},
    rows,
    storage::{RecordId, SpaceId, Storage},
};
use crate::{
    key::RecordKey,
    proto::{
        smart_record as wire,
        storage::{Head, Opaque, head::Body},
    },
    record::Writer,
    time::Timestamp,
    validator::{Malformed, Refusals, Refused, SmartRecordValidator, ValidationError},
};

/// How many due parts a write collects on its way, so that collection keeps up without a timer.
const COLLECT_PER_WRITE: usize = 32;

/// What became of a write of which at least a part was good.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct WriteReport {
    /// How many updates, or values, were new.
    pub stored: usize,
    /// How many were there already.
    pub known: usize,
    /// What was refused, with the writer in whose space it stood where that can be told.
    pub refused: Vec<(Option<PeerId>, ValidationError)>,
}

/// Why nothing of a write was stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// All of it was refused; this is the first reason.
    #[error(transparent)]
    Refused(#[from] ValidationError),
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What comes with a value, and who brings it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meta {
    pub(super) origin: Origin,
    pub(super) publisher: Option<PeerId>,
    pub(super) expires_at: Option<Timestamp>,
}

impl<S: Storage> SmartRecordStore<S> {
    /// Validates a value and stores what is good of it: for a smart record its updates, joined into what is
    /// there; for others the value, if it is better than what is there.
    ///
    /// The same happens to what Kademlia stores; this way tells more about the outcome.
    ///
    /// # Errors
    /// [`WriteError`] if nothing of it was good, or the storage failed.
    pub fn write(&mut self, key: &RecordKey, value: &[u8]) -> Result<WriteReport, WriteError> {
        let meta = Meta { origin: Origin::Local, publisher: Some(self.local), expires_at: None };
        self.write_with(key, value, meta)
    }

    pub(super) fn write_with(
        &mut self,
        key: &RecordKey,
        value: &[u8],
        meta: Meta,
    ) -> Result<WriteReport, WriteError> {
        let result = self.try_write(key, value, meta);
        if let Err(error) = &result {
            match error {
                WriteError::Refused(reason) => {
                    // Refusals of parts have been told one by one.
                    if self.validator.smart_record(key).is_none() {
                        self.refuse(key, meta.origin, None, reason.clone(), 1);
                    }
                }
                WriteError::Storage(error) => {
                    self.emit(&StoreEvent::StorageFailed { error: error.clone() })
                }
            }
        }
        result
    }

    fn try_write(
        &mut self,
        key: &RecordKey,
        value: &[u8],
        meta: Meta,
    ) -> Result<WriteReport, WriteError> {
        if key.as_bytes().is_empty() {
            // This is how Kademlia hands on a request without a record.
            return Err(ValidationError::from(Malformed::other("an empty key")).into());
        }
        let now = self.clock.now();
        self.collect_due(now, COLLECT_PER_WRITE)?;
        let validator = self.validator.clone();
        match validator.smart_record(key) {
            Some(rules) => self.write_smart_record(rules, key, value, meta, now),
            None => self.write_opaque(key, value, meta, now),
        }
    }

    pub(super) fn refuse(
        &mut self,
        key: &RecordKey,
        origin: Origin,
        writer: Option<PeerId>,
        reason: ValidationError,
        count: usize,
    ) {
        self.emit(&StoreEvent::Refused { key: key.clone(), writer, origin, reason, count });
    }

    fn write_smart_record(
        &mut self,
        rules: &SmartRecordValidator,
        key: &RecordKey,
        value: &[u8],
        meta: Meta,
        now: Timestamp,
    ) -> Result<WriteReport, WriteError> {
        let spaces = rules
            .open(key, Bytes::copy_from_slice(value))
            .inspect_err(|reason| self.refuse(key, meta.origin, None, reason.clone(), 1))?;
        let mut report = WriteReport::default();
        let mut writers = Vec::new();
        let mut refusals = Refusals::default();
        let mut failure = None;
        // The lowest ranks first, so that of too many none comes in only to go again.
        let mut spaces = rules.admit_writers(key, spaces, &mut refusals);
        spaces.sort_by_cached_key(|(writer, _)| writer.rank(key));
        for (writer, updates) in spaces {
            match self.write_space(rules, key, &writer, updates, now, &mut refusals) {
                Ok((stored, known)) => {
                    if stored > 0 {
                        writers.push(writer.peer_id());
                    }
                    report.stored = report.stored.saturating_add(stored);
                    report.known = report.known.saturating_add(known);
                }
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        // What came in before a failure stays.
        if let Err(error) = self.commit() {
            failure.get_or_insert(error);
            report.stored = 0;
            writers.clear();
        }
        count(&mut self.counters.admitted, report.stored);
        count(&mut self.counters.known, report.known);
        let first = refusals.first().cloned();
        for refused in refusals.into_entries() {
            let Refused { writer, reason, count } = refused;
            self.refuse(key, meta.origin, writer, reason.clone(), count);
            report.refused.push((writer, reason));
        }
        if report.stored > 0 {
            writers.sort_unstable();
            self.emit(&StoreEvent::Stored { key: key.clone(), writers, origin: meta.origin });
        }
        match (failure, first) {
            (Some(error), _) => Err(error.into()),
            (None, Some(reason)) if report.stored == 0 && report.known == 0 => Err(reason.into()),
            _ => Ok(report),
        }
    }

    /// Joins the good ones of these updates into their writer's space. Returns how many were new, and how many
    /// known.
    fn write_space(
        &mut self,
        rules: &SmartRecordValidator,
        key: &RecordKey,
        writer: &Writer,
        updates: Vec<wire::SignedUpdate>,
        now: Timestamp,
        refusals: &mut Refusals,
    ) -> Result<(usize, usize), StorageError> {
        let id = self.record_id(key).part(SpaceId(writer.rank(key)));
        let max_spaces = rules.limits().spaces_per_record();
        let stored = self.storage.get(&id)?.map(|part| rows::decode_space(&part)).transpose()?;
        if stored.is_none() {
            // There is no telling how much a writer that has a space here would add to it. Others need room at
            // least for the smallest update; where there is none, no signature is checked.
            let claim = self.claim(key, Some(&writer.peer_id()));
            let place = Place { key, id, claim: &claim, max_spaces };
            let least = updates.iter().map(wire::SignedUpdate::encoded_len).min().unwrap_or(0);
            let least = least.saturating_add(writer.as_bytes().len());
            if let Some(limit) = self.newcomer_refusal(&place, least, now)? {
                refusals.push(Some(writer.peer_id()), limit.into(), updates.len());
                return Ok((0, 0));
            }
        }
        let stored = stored.unwrap_or_default();
        let before = stored.updates.len();
        let merged = rules
            .merge_space(key, writer, updates, &stored, Some(now), refusals)
            .map_err(|error| rows::damaged(&error))?;
        let Some(mut space) = merged.space else {
            return Ok((0, merged.known));
        };
        let collected = space.collect(now);
        let superseded = before
            .saturating_add(merged.admitted)
            .saturating_sub(collected)
            .saturating_sub(space.updates().len());
        let claim = self.claim(key, Some(&writer.peer_id()));
        let place = Place { key, id, claim: &claim, max_spaces };
        let part = rows::space_part(&space, writer);
        let plan = |store: &Self, clears| store.plan_space(&place, part.clone(), clears);
        if let Err(limit) = self.carry_out(&claim, now, plan)? {
            refusals.push(Some(writer.peer_id()), limit.into(), merged.admitted);
            return Ok((0, merged.known));
        }
        count(&mut self.counters.collected, collected);
        count(&mut self.counters.superseded, superseded);
        Ok((merged.admitted, merged.known))
    }

    fn write_opaque(
        &mut self,
        key: &RecordKey,
        value: &[u8],
        meta: Meta,
        now: Timestamp,
    ) -> Result<WriteReport, WriteError> {
        let validator = self.validator.clone();
        let record = self.record_id(key);
        if self.storage.get(&record.head())?.is_none() {
            // Where there is no room, no signature is checked.
            let opaque = Opaque {
                value: Bytes::copy_from_slice(value),
                is_local: meta.origin == Origin::Local,
                ..Opaque::default()
            };
            let claim = self.opaque_claim(key, &opaque);
            let part = rows::opaque_part(key, opaque, None, None);
            let plan = |store: &Self, _| store.plan_opaque(&claim, part.clone());
            self.make_room(&claim, now, plan)?.map_err(ValidationError::from)?;
        }
        let mut validity = validator.validate(key, value, now)?;
        let kept = self.stored_opaque(record)?;
        if let Some(kept) = kept.as_ref().filter(|kept| kept.is_remembered_at(now)) {
            kept.admits(&*validator, key, value, validity, now)?;
        }
        let old = kept.as_ref().filter(|kept| kept.lives_at(now));
        let mut best = Bytes::copy_from_slice(value);
        let mut is_known = false;
        if let Some(old) = old {
            // The new value first: of equals, the newcomer wins.
            let consolidated = validator.consolidate(key, &[value, &old.opaque.value])?;
            is_known = consolidated == old.opaque.value;
            if is_known
                && consolidated != value
                && !validator.contains(key, &old.opaque.value, value)
            {
                return Err(ValidationError::Stale.into());
            }
            if consolidated != value {
                validity = validator.validate(key, &consolidated, now)?;
                best = consolidated.into();
            }
        }
        let receipt = validity.ttl_since_receipt.map(|ttl| {
            let identity = identity(validity, &best);
            let seen = kept.as_ref().and_then(|kept| kept.first_seen_at(&identity));
            Received { first_seen_at: seen.unwrap_or(now), identity, ttl }
        });
        let expires_at = match (&receipt, old) {
            // Being sent again neither prolongs what is left nor cuts it short.
            (Some(receipt), Some(old)) if old.first_seen_at(&receipt.identity).is_some() => {
                old.expires_at
            }
            (Some(receipt), _) => {
                let bounds = [validity.expires_at, meta.expires_at, Some(receipt.ends_at())];
                bounds.into_iter().flatten().min()
            }
            (None, Some(old))
                if is_known && validity.expires_at.is_none() && !validity.keeps_publisher =>
            {
                // A lifetime that nobody has signed can be prolonged, but not cut short by a copy.
                meta.expires_at.zip(old.expires_at).map(|(new, old)| new.max(old))
            }
            (None, _) => validity.expires_at.or(meta.expires_at),
        };
        if let Some(expired_at) = expires_at.filter(|at| *at <= now) {
            return Err(ValidationError::Expired { expired_at }.into());
        }
        let forget_at = match &receipt {
            Some(receipt) => {
                let memory = self.config.receipt_memory();
                expires_at.max(Some(receipt.first_seen_at.saturating_add(memory)))
            }
            None => expires_at,
        };
        let opaque = Opaque {
            value: best,
            publisher: match meta.publisher.filter(|_| validity.keeps_publisher) {
                Some(publisher) => publisher.to_bytes().into(),
                None => Bytes::new(),
            },
            expiry_is_signed: validity.expires_at.is_some() && receipt.is_none(),
            receipt: receipt.map(Received::into_wire),
            // What the local node wrote stays its own until something better takes its place.
            is_local: meta.origin == Origin::Local
                || is_known && old.is_some_and(|old| old.opaque.is_local),
        };
        let mut report = WriteReport::default();
        if old.is_none_or(|old| old.opaque != opaque || old.expires_at != expires_at) {
            let claim = self.opaque_claim(key, &opaque);
            let part = rows::opaque_part(key, opaque, expires_at, forget_at);
            let plan = |store: &Self, _| store.plan_opaque(&claim, part.clone());
            self.carry_out(&claim, now, plan)?.map_err(ValidationError::from)?;
            self.commit()?;
            lock(&self.snapshot).entry(record).and_modify(|seen| seen.superseded = true);
        }
        if is_known {
            report.known = 1;
            count(&mut self.counters.known, 1);
        } else {
            report.stored = 1;
            count(&mut self.counters.values, 1);
            self.emit(&StoreEvent::Stored {
                key: key.clone(),
                writers: Vec::new(),
                origin: meta.origin,
            });
        }
        Ok(report)
    }

    /// The value under a record that is not a smart record, if it lives; with its key and expiry.
    pub(super) fn live_opaque(
        &self,
        record: RecordId,
        now: Timestamp,
    ) -> Result<Option<(Bytes, Opaque, Option<Timestamp>)>, StorageError> {
        let kept = self.stored_opaque(record)?.filter(|kept| kept.lives_at(now));
        Ok(kept.map(|kept| (kept.key, kept.opaque, kept.expires_at)))
    }

    /// The value under a record that is not a smart record, whether it lives or not.
    fn stored_opaque(&self, record: RecordId) -> Result<Option<Kept>, StorageError> {
        let Some(part) = self.storage.get(&record.head())? else {
            return Ok(None);
        };
        let (expires_at, forget_at) = (part.expires_at, part.due_at);
        Ok(match rows::decode_head(&part)? {
            Head { key, body: Some(Body::Opaque(opaque)) } => {
                Some(Kept { key, opaque, expires_at, forget_at })
            }
            _ => None,
        })
    }
}
