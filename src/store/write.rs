//! Writing: validate, join or choose, and plan what changes.
//!
//! **Invariants.** A refused part takes no good one with it, except that after 16 bad signatures the rest of a
//! value is refused unread. A write is planned before anything is changed, so
//! what does not fit is refused and nothing has gone.
//!
//! **Spec.** `docs/design.md`, section "Store".

use libp2p_identity::PeerId;
use prost::bytes::Bytes;

use super::{
    SmartRecordStore, StorageError,
    event::{Origin, StoreEvent, count},
    lock,
    receipt::{Kept, Received, identity},
    room::{COLLECT_AT_ONCE, Plan},
    rows,
    storage::{PartId, RecordId, SpaceId, Storage},
};
use crate::{
    key::RecordKey,
    proto::{
        smart_record as wire,
        storage::{Board, Head, Opaque, head::Body},
    },
    record::{Limit, LimitExceeded, Space, Writer},
    time::Timestamp,
    validator::{
        Checked, CheckedBody, Malformed, Refusals, Refused, SmartRecordValidator, ValidationError,
        Validity,
    },
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

/// The updates that came for a space.
enum Incoming {
    Unverified(Vec<wire::SignedUpdate>),
    Verified(Space),
}

impl Incoming {
    fn len(&self) -> usize {
        match self {
            Self::Unverified(updates) => updates.len(),
            Self::Verified(space) => space.updates().len(),
        }
    }
}

impl From<Vec<wire::SignedUpdate>> for Incoming {
    fn from(updates: Vec<wire::SignedUpdate>) -> Self {
        Self::Unverified(updates)
    }
}

impl From<Space> for Incoming {
    fn from(space: Space) -> Self {
        Self::Verified(space)
    }
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
        self.report_failure(key, meta.origin, &result);
        result
    }

    fn report_failure(
        &mut self,
        key: &RecordKey,
        origin: Origin,
        result: &Result<WriteReport, WriteError>,
    ) {
        match result {
            // Refusals of parts have been told one by one.
            Err(WriteError::Refused(reason)) if self.validator.smart_record(key).is_none() => {
                self.refuse(key, origin, None, reason.clone(), 1);
            }
            Err(WriteError::Storage(error)) => {
                self.emit(&StoreEvent::StorageFailed { error: error.clone() });
            }
            _ => {}
        }
    }

    /// As [`write`](Self::write), of what has been [`Checked`] elsewhere: nothing is verified again, except that
    /// values that have to be consolidated with one that is stored are read once more for that.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn insert(&mut self, checked: Checked, origin: Origin) -> Result<WriteReport, WriteError> {
        let Checked { key, publisher, expires_at, body } = checked;
        let publisher = publisher.or((origin == Origin::Local).then_some(self.local));
        let meta = Meta { origin, publisher, expires_at };
        let result = self.try_insert(&key, body, meta);
        self.report_failure(&key, meta.origin, &result);
        result
    }

    fn try_insert(
        &mut self,
        key: &RecordKey,
        body: CheckedBody,
        meta: Meta,
    ) -> Result<WriteReport, WriteError> {
        let now = self.begin_write(key)?;
        let validator = self.validator.clone();
        match (body, validator.smart_record(key)) {
            (CheckedBody::Record(record, refusals), Some(rules)) => {
                let spaces = record.into_spaces().map(|(writer, space)| (writer, space.into()));
                self.write_spaces(rules, key, spaces.collect(), refusals, meta, now)
            }
            (CheckedBody::Value(value, validity), None) => {
                self.write_opaque(key, &value, Some(validity), meta, now)
            }
            (CheckedBody::Refused(reason), rules) => {
                if rules.is_some() {
                    self.refuse(key, meta.origin, None, reason.clone(), 1);
                }
                Err(reason.into())
            }
            // Checked by the rules of another store.
            _ => Err(ValidationError::from(Malformed::other("checked by other rules")).into()),
        }
    }

    fn try_write(
        &mut self,
        key: &RecordKey,
        value: &[u8],
        meta: Meta,
    ) -> Result<WriteReport, WriteError> {
        let now = self.begin_write(key)?;
        let validator = self.validator.clone();
        match validator.smart_record(key) {
            Some(rules) => self.write_smart_record(rules, key, value, meta, now),
            None => self.write_opaque(key, value, None, meta, now),
        }
    }

    /// What every write begins with. Returns the time.
    fn begin_write(&mut self, key: &RecordKey) -> Result<Timestamp, WriteError> {
        if key.as_bytes().is_empty() {
            // This is how Kademlia hands on a request without a record.
            return Err(ValidationError::from(Malformed::other("an empty key")).into());
        }
        let now = self.clock.now();
        self.collect_due(now, COLLECT_PER_WRITE)?;
        Ok(now)
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
        let mut refusals = Refusals::default();
        let spaces = rules.admit_writers(key, spaces, &mut refusals);
        let spaces = spaces.into_iter().map(|(writer, updates)| (writer, updates.into()));
        self.write_spaces(rules, key, spaces.collect(), refusals, meta, now)
    }

    /// Joins spaces into a record, and tells what came of it and of what was refused before.
    fn write_spaces(
        &mut self,
        rules: &SmartRecordValidator,
        key: &RecordKey,
        mut spaces: Vec<(Writer, Incoming)>,
        mut refusals: Refusals,
        meta: Meta,
        now: Timestamp,
    ) -> Result<WriteReport, WriteError> {
        let mut report = WriteReport::default();
        let mut writers = Vec::new();
        let mut failure = None;
        // The lowest ranks first, so that of too many none comes in only to go again.
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
        updates: Incoming,
        now: Timestamp,
        refusals: &mut Refusals,
    ) -> Result<(usize, usize), StorageError> {
        let record = self.record_id(key);
        let id = record.part(SpaceId(writer.rank(key)));
        let stored = match self.storage.get(&id)? {
            Some(part) => rows::decode_space(&part)?,
            None => {
                if let Some(limit) = self.rank_refusal(rules, id, now)? {
                    refusals.push(Some(writer.peer_id()), limit.into(), updates.len());
                    return Ok((0, 0));
                }
                wire::Space::default()
            }
        };
        let before = stored.updates.len();
        let merged = match updates {
            Incoming::Unverified(updates) => {
                rules.merge_space(key, writer, updates, &stored, Some(now), refusals)
            }
            Incoming::Verified(space) => rules.merge_verified(writer, space, stored, now, refusals),
        };
        let merged = merged.map_err(|error| rows::damaged(&error))?;
        let Some(mut space) = merged.space else {
            return Ok((0, merged.known));
        };
        let collected = space.collect(now);
        let superseded = before
            .saturating_add(merged.admitted)
            .saturating_sub(collected)
            .saturating_sub(space.updates().len());
        let plan = |store: &Self| store.plan_space(rules, key, id, writer, &space);
        if let Err(limit) = self.carry_out(record, now, plan)? {
            refusals.push(Some(writer.peer_id()), limit.into(), merged.admitted);
            return Ok((0, merged.known));
        }
        count(&mut self.counters.collected, collected);
        count(&mut self.counters.superseded, superseded);
        Ok((merged.admitted, merged.known))
    }

    pub(super) fn board(&self, record: RecordId) -> Result<Board, StorageError> {
        let head = self.storage.get(&record.head())?;
        // A head that cannot be read says nothing; the next write makes it anew.
        Ok(match head.and_then(|head| rows::decode_head(&head).ok()) {
            Some(Head { body: Some(Body::Board(board)), .. }) => board,
            _ => Board::default(),
        })
    }

    /// Why a space that is not there yet cannot come in: its record is full, and of spaces of a lower rank.
    fn rank_refusal(
        &mut self,
        rules: &SmartRecordValidator,
        id: PartId,
        now: Timestamp,
    ) -> Result<Option<LimitExceeded>, StorageError> {
        let max = rules.limits().spaces_per_record();
        let is_full = |board: Board| usize::try_from(board.spaces).is_ok_and(|n| n >= max);
        // What has expired should not take anyone's place.
        while is_full(self.board(id.record)?) && self.collect_due(now, COLLECT_AT_ONCE)? > 0 {}
        if !is_full(self.board(id.record)?) {
            return Ok(None);
        }
        let last = self.storage.last(&id.record.part(SpaceId::MAX))?;
        let last = last.filter(|last| last.record == id.record);
        let outranked = last.is_none_or(|last| last < id);
        Ok(outranked
            .then(|| LimitExceeded::new(Limit::SpacesPerRecord, max.saturating_add(1), max)))
    }

    /// The changes that write a space: its row, the head, and the removal of spaces of the highest rank if
    /// the record has too many.
    fn plan_space(
        &self,
        rules: &SmartRecordValidator,
        key: &RecordKey,
        id: PartId,
        writer: &Writer,
        space: &Space,
    ) -> Result<Plan, StorageError> {
        let mut plan = Plan::default();
        let mut board = self.board(id.record)?;
        let part = rows::space_part(space, writer);
        let old = self.storage.get(&id)?.map(|part| part.bytes.len());
        board = rows::board_with(
            board,
            (usize::from(old.is_none()), 0),
            (part.bytes.len(), old.unwrap_or(0)),
        );
        plan.set(id, part, old);

        let max = rules.limits().spaces_per_record();
        let mut up_to = Some(SpaceId::MAX);
        while let Some(bound) = up_to
            && usize::try_from(board.spaces).is_ok_and(|n| n > max)
        {
            let last = self.storage.last(&id.record.part(bound))?;
            let Some(last) = last.filter(|l| l.record == id.record && l.space != SpaceId::HEAD)
            else {
                break;
            };
            if last != id
                && let Some(part) = self.storage.get(&last)?
            {
                board = rows::board_with(board, (0, 1), (0, part.bytes.len()));
                plan.remove(last, part.bytes.len());
                plan.evicted_spaces = plan.evicted_spaces.saturating_add(1);
            }
            up_to = last.space.before();
        }

        let head = self.storage.get(&id.record.head())?;
        plan.is_new_record = head.is_none();
        let old = head.map(|part| part.bytes.len());
        let key = Bytes::copy_from_slice(key.as_bytes());
        plan.set(id.record.head(), rows::board_part(key, board), old);
        Ok(plan)
    }

    fn write_opaque(
        &mut self,
        key: &RecordKey,
        value: &[u8],
        checked: Option<Validity>,
        meta: Meta,
        now: Timestamp,
    ) -> Result<WriteReport, WriteError> {
        let validator = self.validator.clone();
        let mut validity = match checked {
            Some(validity) => validity,
            None => validator.validate(key, value, now)?,
        };
        let record = self.record_id(key);
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
        };
        let mut report = WriteReport::default();
        if old.is_none_or(|old| old.opaque != opaque || old.expires_at != expires_at) {
            let part = rows::opaque_part(key, opaque, expires_at, forget_at);
            let plan = |store: &Self| {
                let mut plan = Plan::default();
                let head = store.storage.get(&record.head())?;
                plan.is_new_record = head.is_none();
                plan.set(record.head(), part.clone(), head.map(|part| part.bytes.len()));
                Ok(plan)
            };
            self.carry_out(record, now, plan)?.map_err(ValidationError::from)?;
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
