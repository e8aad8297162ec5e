//! Writing: validate, join, make room, collect.
//!
//! **Invariants.** A refused part takes no good one with it. A write is planned before anything is changed: what
//! does not fit is refused, and nothing is evicted for it. No scan of all: expiry goes by the index, eviction
//! by the order of the rows.

use libp2p_identity::PeerId;
use prost::bytes::Bytes;

use super::{
    SmartRecordStore, StorageError,
    event::{Origin, StoreEvent, count},
    lock, rows,
    storage::{Change, Part, PartId, RecordId, SpaceId, Storage},
};
use crate::{
    key::RecordKey,
    proto::{
        smart_record as wire,
        storage::{Board, Head, Opaque, head::Body},
    },
    record::{Limit, LimitExceeded, Space, Writer},
    time::Timestamp,
    validator::{Malformed, Refusals, Refused, SmartRecordValidator, ValidationError},
};

/// How many due parts a write collects on its way, so that collection keeps up without a timer.
const COLLECT_PER_WRITE: usize = 32;
/// How many due parts are collected at once when room is needed.
const COLLECT_AT_ONCE: usize = 256;

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

    /// Removes a record, whatever it is and however long it would live, from this node. Other replicas may
    /// bring it back; to withdraw a space everywhere, publish
    /// [`SpaceSigner::withdraw`](crate::SpaceSigner::withdraw).
    ///
    /// # Errors
    /// [`StorageError`] if it could not be removed.
    pub fn forget(&mut self, key: &RecordKey) -> Result<(), StorageError> {
        self.drop_record(self.record_id(key))
    }

    /// Removes everything that has expired; says how many updates and values. Writes do so on their way;
    /// call this from time to time on a node that hears of no writes.
    ///
    /// # Errors
    /// [`StorageError`] if something could not be removed.
    pub fn collect(&mut self) -> Result<usize, StorageError> {
        let now = self.clock.now();
        let mut collected = 0_usize;
        loop {
            let batch = self.collect_due(now, COLLECT_AT_ONCE)?;
            if batch == 0 {
                return Ok(collected);
            }
            collected = collected.saturating_add(batch);
        }
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
        loop {
            let plan = self.plan_space(rules, key, id, writer, &space)?;
            match self.room_for(record, &plan, now)? {
                Room::Enough(victims) => {
                    self.carry_out(plan, victims)?;
                    break;
                }
                Room::AfterCollecting => {
                    self.collect_due(now, COLLECT_AT_ONCE)?;
                }
                Room::None(limit) => {
                    refusals.push(Some(writer.peer_id()), limit.into(), merged.admitted);
                    return Ok((0, merged.known));
                }
            }
        }
        count(&mut self.counters.collected, collected);
        count(&mut self.counters.superseded, superseded);
        Ok((merged.admitted, merged.known))
    }

    fn board(&self, record: RecordId) -> Result<Board, StorageError> {
        let head = self.storage.get(&record.head())?;
        Ok(match head.as_ref().map(rows::decode_head).transpose()? {
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
        if !is_full(self.board(id.record)?) {
            return Ok(None);
        }
        // What has expired should not take anyone's place.
        self.collect_due(now, COLLECT_AT_ONCE)?;
        let last = self.storage.last(&id.record.part(SpaceId::MAX))?;
        let last = last.filter(|last| last.record == id.record);
        let outranked = last.is_none_or(|last| last < id);
        let refused = outranked && is_full(self.board(id.record)?);
        Ok(refused.then(|| LimitExceeded::new(Limit::SpacesPerRecord, max.saturating_add(1), max)))
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
        meta: Meta,
        now: Timestamp,
    ) -> Result<WriteReport, WriteError> {
        let validator = self.validator.clone();
        let mut validity = validator.validate(key, value, now)?;
        let record = self.record_id(key);
        let old =
            self.live_opaque(record, now)?.map(|(_, opaque, expires_at)| (opaque, expires_at));
        let mut best = Bytes::copy_from_slice(value);
        let mut expires_at = validity.expires_at.or(meta.expires_at);
        let mut is_known = false;
        if let Some((old, old_expires_at)) = &old {
            // The new value first: of equals, the newcomer wins.
            let consolidated = validator.consolidate(key, &[value, &old.value])?;
            is_known = consolidated == old.value;
            if is_known && consolidated != value && !validator.contains(key, &old.value, value) {
                return Err(ValidationError::Stale.into());
            }
            if consolidated != value {
                validity = validator.validate(key, &consolidated, now)?;
                expires_at = validity.expires_at.or(meta.expires_at);
                best = consolidated.into();
            }
            if is_known && validity.expires_at.is_none() && !validity.keeps_publisher {
                // A lifetime that nobody has signed can be prolonged, but not cut short by a copy.
                expires_at = match (expires_at, *old_expires_at) {
                    (Some(new), Some(old)) => Some(new.max(old)),
                    _ => None,
                };
            }
        }
        if let Some(expired_at) = expires_at.filter(|at| *at <= now) {
            return Err(ValidationError::Expired { expired_at }.into());
        }
        let opaque = Opaque {
            value: best,
            publisher: match meta.publisher.filter(|_| validity.keeps_publisher) {
                Some(publisher) => publisher.to_bytes().into(),
                None => Bytes::new(),
            },
            expiry_is_signed: validity.expires_at.is_some(),
        };
        let mut report = WriteReport::default();
        if old.as_ref() != Some(&(opaque.clone(), expires_at)) {
            let part = rows::opaque_part(key, opaque, expires_at);
            loop {
                let mut plan = Plan::default();
                let head = self.storage.get(&record.head())?;
                plan.is_new_record = head.is_none();
                plan.set(record.head(), part.clone(), head.map(|part| part.bytes.len()));
                match self.room_for(record, &plan, now)? {
                    Room::Enough(victims) => {
                        self.carry_out(plan, victims)?;
                        break;
                    }
                    Room::AfterCollecting => {
                        self.collect_due(now, COLLECT_AT_ONCE)?;
                    }
                    Room::None(limit) => return Err(ValidationError::from(limit).into()),
                }
            }
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
        let Some(part) = self.storage.get(&record.head())? else {
            return Ok(None);
        };
        if part.expires_at.is_some_and(|at| at <= now) {
            return Ok(None);
        }
        let expires_at = part.expires_at;
        Ok(match rows::decode_head(&part)? {
            Head { key, body: Some(Body::Opaque(opaque)) } => Some((key, opaque, expires_at)),
            _ => None,
        })
    }

    /// Whether there is room for a plan of `record`'s: as it is, after what has expired is collected, or
    /// without some records that are farther away, the farthest first. Nothing is changed.
    fn room_for(
        &self,
        record: RecordId,
        plan: &Plan,
        now: Timestamp,
    ) -> Result<Room, StorageError> {
        let usage = self.storage.usage();
        let mut records = usage.records.saturating_add(usize::from(plan.is_new_record));
        let mut bytes = usage.bytes.saturating_add(plan.added).saturating_sub(plan.removed);
        let shrinks = plan.added <= plan.removed && !plan.is_new_record;
        let (max_records, max_bytes) = (self.config.max_records(), self.config.max_bytes());
        let fits = |records, bytes| records <= max_records && bytes <= max_bytes;
        if shrinks || fits(records, bytes) {
            return Ok(Room::Enough(Vec::new()));
        }
        if !self.storage.due(now, 1)?.is_empty() {
            return Ok(Room::AfterCollecting);
        }
        let limit = if records > max_records {
            LimitExceeded::new(Limit::StoreRecords, records, max_records)
        } else {
            LimitExceeded::new(Limit::StoreBytes, bytes, max_bytes)
        };
        let mut victims = Vec::new();
        let mut up_to = Some(PartId::MAX);
        while let Some(bound) = up_to {
            let Some(victim) = self.storage.last(&bound)?.map(|last| last.record) else {
                break;
            };
            if victim <= record {
                break;
            }
            for part in self.parts_of(victim) {
                bytes = bytes.saturating_sub(rows::cost(part?.1.bytes.len()));
            }
            records = records.saturating_sub(1);
            victims.push(victim);
            if fits(records, bytes) {
                return Ok(Room::Enough(victims));
            }
            up_to = victim.before().map(|record| record.part(SpaceId::MAX));
        }
        Ok(Room::None(limit))
    }

    fn carry_out(&mut self, plan: Plan, victims: Vec<RecordId>) -> Result<(), StorageError> {
        let mut changes = plan.changes;
        let mut evicted = Vec::with_capacity(victims.len());
        for victim in &victims {
            for part in self.parts_of(*victim) {
                let (id, part) = part?;
                if id.space == SpaceId::HEAD {
                    evicted.push(RecordKey::new(rows::decode_head(&part)?.key));
                }
                changes.push(Change::Remove(id));
            }
        }
        self.storage.apply(changes)?;
        count(&mut self.counters.spaces_evicted, plan.evicted_spaces);
        for victim in victims {
            lock(&self.cursors).remove(&victim);
        }
        for key in evicted {
            self.emit(&StoreEvent::Evicted { key });
        }
        Ok(())
    }

    /// All parts of a record, its head first.
    fn parts_of(
        &self,
        record: RecordId,
    ) -> impl Iterator<Item = Result<(PartId, Part<'_>), StorageError>> {
        self.storage
            .scan(&record.head())
            .take_while(move |part| part.as_ref().map_or(true, |(id, _)| id.record == record))
    }

    pub(super) fn drop_record(&mut self, record: RecordId) -> Result<(), StorageError> {
        let changes = self
            .parts_of(record)
            .map(|part| Ok(Change::Remove(part?.0)))
            .collect::<Result<_, StorageError>>()?;
        lock(&self.cursors).remove(&record);
        self.storage.apply(changes)
    }

    /// Collects from at most `max` due parts; says how many updates and values went.
    pub(super) fn collect_due(
        &mut self,
        now: Timestamp,
        max: usize,
    ) -> Result<usize, StorageError> {
        let mut collected = 0_usize;
        for id in self.storage.due(now, max)? {
            let gone = if id.space == SpaceId::HEAD {
                self.storage.apply(vec![Change::Remove(id)])?;
                1
            } else {
                self.collect_space(id, now)?
            };
            collected = collected.saturating_add(gone);
        }
        count(&mut self.counters.collected, collected);
        Ok(collected)
    }

    fn collect_space(&mut self, id: PartId, now: Timestamp) -> Result<usize, StorageError> {
        let Some(part) = self.storage.get(&id)? else {
            return Ok(0);
        };
        let old = part.bytes.len();
        let read = rows::read_space(&part);
        drop(part);
        let (collected, rest) = match read {
            Ok((writer, mut space)) => {
                let collected = space.collect(now);
                let rest = (!space.is_empty()).then(|| rows::space_part(&space, &writer));
                (collected, rest)
            }
            Err(error) => {
                // Whatever it was, it is due; it must not stand in the way of all others.
                self.emit(&StoreEvent::StorageFailed { error });
                (1, None)
            }
        };
        let board = self.board(id.record)?;
        let mut plan = Plan::default();
        let board = match rest {
            Some(part) => {
                let board = rows::board_with(board, (0, 0), (part.bytes.len(), old));
                plan.set(id, part, Some(old));
                board
            }
            None => {
                plan.remove(id, old);
                rows::board_with(board, (0, 1), (0, old))
            }
        };
        let head = self.storage.get(&id.record.head())?;
        let key = head.as_ref().map(rows::decode_head).transpose()?;
        let old = head.map_or(0, |part| part.bytes.len());
        match key {
            Some(head) if board.spaces > 0 => {
                plan.set(id.record.head(), rows::board_part(head.key, board), Some(old));
            }
            _ => {
                lock(&self.cursors).remove(&id.record);
                plan.remove(id.record.head(), old);
            }
        }
        self.storage.apply(plan.changes)?;
        Ok(collected)
    }
}

/// Changes that belong together, and what they do to the size of the store.
#[derive(Debug, Default)]
struct Plan {
    changes: Vec<Change>,
    added: usize,
    removed: usize,
    is_new_record: bool,
    evicted_spaces: usize,
}

impl Plan {
    /// Writes a row in the place of one of `old` bytes, or of none.
    fn set(&mut self, id: PartId, part: Part<'static>, old: Option<usize>) {
        self.added = self.added.saturating_add(rows::cost(part.bytes.len()));
        self.removed = self.removed.saturating_add(old.map_or(0, rows::cost));
        self.changes.push(Change::Set(id, part));
    }

    /// Removes a row of `old` bytes.
    fn remove(&mut self, id: PartId, old: usize) {
        self.removed = self.removed.saturating_add(rows::cost(old));
        self.changes.push(Change::Remove(id));
    }
}

/// Whether there is room.
enum Room {
    /// There is, once these records are removed.
    Enough(Vec<RecordId>),
    /// There may be after what has expired is collected.
    AfterCollecting,
    /// There is none.
    None(LimitExceeded),
}
