//! Writing: validate, join, make room, collect.
//!
//! **Invariants.** A refused part takes no good one with it. Room is made before anything is changed, so a
//! record that does not fit is refused, not half-written. No scan of all: expiry goes by the index, eviction
//! by the order of the rows.

use std::borrow::Cow;

use libp2p_identity::PeerId;
use prost::{Message, bytes::Bytes};

use super::{
    SmartRecordStore, StorageError,
    event::{Origin, StoreEvent, count},
    lock,
    storage::{Change, Part, PartId, RecordId, SpaceId, Storage, Usage},
};
use crate::{
    key::RecordKey,
    proto::{
        smart_record as wire,
        storage::{Board, Head, Opaque, head::Body},
    },
    record::{Joined, Limit, LimitExceeded, Space, Writer},
    time::Timestamp,
    validator::{ReadSpace, Refused, SmartRecordValidator, ValidationError},
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

pub(super) fn decode_head(part: &Part<'_>) -> Result<Head, StorageError> {
    Head::decode(&part.bytes[..]).map_err(|e| StorageError(format!("a damaged head: {e}")))
}

pub(super) fn decode_space(part: &Part<'_>) -> Result<wire::Space, StorageError> {
    let bytes = Bytes::copy_from_slice(&part.bytes);
    wire::Space::decode(bytes).map_err(|e| StorageError(format!("a damaged space: {e}")))
}

pub(super) fn space_of(wire: wire::Space) -> Result<Space, StorageError> {
    Space::from_stored(wire).map_err(|e| StorageError(format!("a damaged space: {e}")))
}

fn space_part(space: &Space, writer: &Writer) -> Part<'static> {
    Part {
        bytes: Cow::Owned(space.encode(writer)),
        due_at: space.first_garbage_at(),
        expires_at: space.retain_until(),
    }
}

fn board_part(key: Bytes, board: Board) -> Part<'static> {
    let head = Head {
        key,
        body: Some(Body::Board(board)),
    };
    Part {
        bytes: Cow::Owned(head.encode_to_vec()),
        due_at: None,
        expires_at: None,
    }
}

/// A board with a space more, less or changed.
fn board_with(board: Board, spaces: (usize, usize), bytes: (usize, usize)) -> Board {
    let add_sub = |n: u64, (plus, minus): (usize, usize)| {
        let as_u64 = |n| u64::try_from(n).unwrap_or(u64::MAX);
        n.saturating_add(as_u64(plus)).saturating_sub(as_u64(minus))
    };
    Board {
        spaces: u32::try_from(add_sub(board.spaces.into(), spaces)).unwrap_or(u32::MAX),
        bytes: add_sub(board.bytes, bytes),
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
        let meta = Meta {
            origin: Origin::Local,
            publisher: Some(self.local),
            expires_at: None,
        };
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
            let batch = self.collect_due(now, 256)?;
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
                        self.refuse(key, meta.origin, None, reason.clone());
                    }
                }
                WriteError::Storage(error) => self.emit(&StoreEvent::StorageFailed {
                    error: error.clone(),
                }),
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
        let now = self.clock.now();
        self.collect_due(now, COLLECT_PER_WRITE)?;
        let validator = self.validator.clone();
        match validator.smart_record(key) {
            Some(rules) => self.write_smart_record(rules, key, value, meta, now),
            None => self.write_opaque(key, value, meta, now),
        }
    }

    fn refuse(
        &mut self,
        key: &RecordKey,
        origin: Origin,
        writer: Option<PeerId>,
        reason: ValidationError,
    ) {
        self.emit(&StoreEvent::Refused {
            key: key.clone(),
            writer,
            origin,
            reason,
        });
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
            .inspect_err(|reason| self.refuse(key, meta.origin, None, reason.clone()))?;
        let mut report = WriteReport::default();
        let mut writers = Vec::new();
        for space in spaces {
            let refused = match rules.admit_writer(key, space.public_key) {
                Ok(writer) => {
                    let (stored, read) =
                        self.write_space(rules, key, &writer, space.updates, now)?;
                    if stored > 0 {
                        writers.push(writer.peer_id());
                    }
                    report.stored = report.stored.saturating_add(stored);
                    report.known = report.known.saturating_add(read.known);
                    read.refused
                }
                Err(refused) => vec![*refused],
            };
            for Refused { writer, reason } in refused {
                self.refuse(key, meta.origin, writer, reason.clone());
                report.refused.push((writer, reason));
            }
        }
        count(&mut self.counters.admitted, report.stored);
        count(&mut self.counters.known, report.known);
        if report.stored > 0 {
            writers.sort_unstable();
            writers.dedup();
            self.emit(&StoreEvent::Stored {
                key: key.clone(),
                writers,
                origin: meta.origin,
            });
        }
        match report.refused.first() {
            Some((_, reason)) if report.stored == 0 && report.known == 0 => {
                Err(reason.clone().into())
            }
            _ => Ok(report),
        }
    }

    /// Joins the good ones of these updates into a space. Returns how many were new, and what was read.
    fn write_space(
        &mut self,
        rules: &SmartRecordValidator,
        key: &RecordKey,
        writer: &Writer,
        updates: Vec<wire::SignedUpdate>,
        now: Timestamp,
    ) -> Result<(usize, ReadSpace), StorageError> {
        let record = self.record_id(key);
        let id = record.part(SpaceId(writer.rank(key)));
        let stored = match self.storage.get(&id)? {
            Some(part) => decode_space(&part)?,
            None => {
                if let Err(reason) = self.check_rank(rules, id, now)? {
                    let refused = Refused {
                        writer: Some(writer.peer_id()),
                        reason: reason.into(),
                    };
                    let read = ReadSpace {
                        refused: vec![refused],
                        ..ReadSpace::default()
                    };
                    return Ok((0, read));
                }
                wire::Space::default()
            }
        };
        let mut read = rules.read_space(key, writer, updates, &stored, now);
        if read.admitted.is_empty() {
            return Ok((0, read));
        }
        let growth = read
            .admitted
            .encode(writer)
            .len()
            .saturating_add(key.as_bytes().len())
            .saturating_add(Usage::ROW.saturating_mul(2));
        if let Err(limit) = self.make_room(record, growth, now)? {
            read.refused.push(Refused {
                writer: Some(writer.peer_id()),
                reason: limit.into(),
            });
            return Ok((0, read));
        }
        // Making room may have collected what was loaded before.
        let row = self.storage.get(&id)?;
        let old_len = row.as_ref().map(|part| part.bytes.len());
        let mut space = match &row {
            Some(part) => space_of(decode_space(part)?)?,
            None => Space::new(),
        };
        drop(row);
        count(&mut self.counters.collected, space.collect(now));
        let before = space.updates().len();
        let mut stored = 0_usize;
        for update in read.admitted.updates() {
            if matches!(space.insert(update.clone()), Joined::New | Joined::Resigned) {
                stored = stored.saturating_add(1);
            }
        }
        space.truncate(rules.limits());
        let superseded = before
            .saturating_add(stored)
            .saturating_sub(space.updates().len());
        count(&mut self.counters.superseded, superseded);

        let part = space_part(&space, writer);
        let board = self.board(record)?;
        let board = board_with(
            board,
            (usize::from(old_len.is_none()), 0),
            (part.bytes.len(), old_len.unwrap_or(0)),
        );
        let mut changes = vec![
            Change::Set(id, part),
            Change::Set(
                record.head(),
                board_part(Bytes::copy_from_slice(key.as_bytes()), board),
            ),
        ];
        if old_len.is_none() {
            changes.extend(self.evict_space(rules, record, board, id)?);
        }
        self.storage.apply(changes)?;
        Ok((stored, read))
    }

    fn board(&self, record: RecordId) -> Result<Board, StorageError> {
        let head = self.storage.get(&record.head())?;
        Ok(match head.as_ref().map(decode_head).transpose()? {
            Some(Head {
                body: Some(Body::Board(board)),
                ..
            }) => board,
            _ => Board::default(),
        })
    }

    /// Whether a space that is not there yet is among those that its record keeps.
    fn check_rank(
        &mut self,
        rules: &SmartRecordValidator,
        id: PartId,
        now: Timestamp,
    ) -> Result<Result<(), LimitExceeded>, StorageError> {
        let max = rules.limits().spaces_per_record();
        let is_full = |board: Board| usize::try_from(board.spaces).is_ok_and(|n| n >= max);
        if is_full(self.board(id.record)?) {
            // What has expired does not take anyone's place.
            while self.collect_due(now, 256)? > 0 {}
        }
        let last = self.storage.last(&id.record.part(SpaceId::MAX))?;
        if is_full(self.board(id.record)?) && last.is_some_and(|last| last < id) {
            return Ok(Err(LimitExceeded::new(
                Limit::SpacesPerRecord,
                max.saturating_add(1),
                max,
            )));
        }
        Ok(Ok(()))
    }

    /// The changes that remove the space of the highest rank if, with a new one, the record has too many.
    fn evict_space(
        &mut self,
        rules: &SmartRecordValidator,
        record: RecordId,
        board: Board,
        new: PartId,
    ) -> Result<Vec<Change>, StorageError> {
        let max = rules.limits().spaces_per_record();
        if usize::try_from(board.spaces).is_ok_and(|n| n <= max) {
            return Ok(Vec::new());
        }
        let Some(last) = self.storage.last(&record.part(SpaceId::MAX))? else {
            return Ok(Vec::new());
        };
        let Some(part) = self.storage.get(&last)?.filter(|_| last != new) else {
            return Ok(Vec::new());
        };
        let board = board_with(board, (0, 1), (0, part.bytes.len()));
        drop(part);
        let head = self.storage.get(&record.head())?;
        let key = head.as_ref().map(decode_head).transpose()?;
        drop(head);
        count(&mut self.counters.spaces_evicted, 1);
        let mut changes = vec![Change::Remove(last)];
        if let Some(head) = key {
            changes.push(Change::Set(record.head(), board_part(head.key, board)));
        }
        Ok(changes)
    }

    fn write_opaque(
        &mut self,
        key: &RecordKey,
        value: &[u8],
        meta: Meta,
        now: Timestamp,
    ) -> Result<WriteReport, WriteError> {
        let validator = self.validator.clone();
        let validity = validator.validate(key, value, now)?;
        let record = self.record_id(key);
        let old = self
            .live_opaque(record, now)?
            .map(|(_, opaque, expires_at)| (opaque, expires_at));
        let (value, validity) = match &old {
            None => (value.to_vec(), validity),
            Some((old, _)) => {
                // The new value first: of equals, the newcomer wins, with the lifetime it came with.
                let best = validator.consolidate(key, &[value, &old.value])?;
                if best == value {
                    (best, validity)
                } else if best == old.value {
                    return Err(ValidationError::Stale.into());
                } else {
                    let validity = validator.validate(key, &best, now)?;
                    (best, validity)
                }
            }
        };
        let expires_at = validity.expires_at.or(meta.expires_at);
        if let Some(expired_at) = expires_at.filter(|at| *at <= now) {
            return Err(ValidationError::Expired { expired_at }.into());
        }
        let opaque = Opaque {
            value: value.into(),
            publisher: match meta.publisher.filter(|_| validity.keeps_publisher) {
                Some(publisher) => publisher.to_bytes().into(),
                None => Bytes::new(),
            },
            expiry_is_signed: validity.expires_at.is_some(),
        };
        let mut report = WriteReport::default();
        if old.is_some_and(|old| old == (opaque.clone(), expires_at)) {
            report.known = 1;
            count(&mut self.counters.known, 1);
            return Ok(report);
        }
        let head = Head {
            key: Bytes::copy_from_slice(key.as_bytes()),
            body: Some(Body::Opaque(opaque)),
        };
        let part = Part {
            bytes: Cow::Owned(head.encode_to_vec()),
            due_at: expires_at,
            expires_at,
        };
        let growth = part.bytes.len().saturating_add(Usage::ROW);
        self.make_room(record, growth, now)?
            .map_err(ValidationError::from)?;
        self.storage.apply(vec![Change::Set(record.head(), part)])?;
        report.stored = 1;
        count(&mut self.counters.values, 1);
        self.emit(&StoreEvent::Stored {
            key: key.clone(),
            writers: Vec::new(),
            origin: meta.origin,
        });
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
        Ok(match decode_head(&part)? {
            Head {
                key,
                body: Some(Body::Opaque(opaque)),
            } => Some((key, opaque, expires_at)),
            _ => None,
        })
    }

    /// Makes room for `growth` bytes more of a record: first what has expired goes, then the records farther
    /// away than this one, the farthest first.
    fn make_room(
        &mut self,
        record: RecordId,
        growth: usize,
        now: Timestamp,
    ) -> Result<Result<(), LimitExceeded>, StorageError> {
        loop {
            let usage = self.storage.usage();
            let is_new = self.storage.get(&record.head())?.is_none();
            let records = usage.records.saturating_add(usize::from(is_new));
            let bytes = usage.bytes.saturating_add(growth);
            let (limit, got, max) = if records > self.config.max_records() {
                (Limit::StoreRecords, records, self.config.max_records())
            } else if bytes > self.config.max_bytes() {
                (Limit::StoreBytes, bytes, self.config.max_bytes())
            } else {
                return Ok(Ok(()));
            };
            if self.collect_due(now, 256)? > 0 {
                continue;
            }
            match self.storage.last(&PartId::MAX)? {
                Some(last) if last.record > record => self.evict(last.record)?,
                _ => return Ok(Err(LimitExceeded::new(limit, got, max))),
            }
        }
    }

    fn evict(&mut self, record: RecordId) -> Result<(), StorageError> {
        let head = self.storage.get(&record.head())?;
        let key = head.as_ref().map(decode_head).transpose()?;
        drop(head);
        self.drop_record(record)?;
        if let Some(head) = key {
            self.emit(&StoreEvent::Evicted {
                key: RecordKey::new(head.key),
            });
        }
        Ok(())
    }

    pub(super) fn drop_record(&mut self, record: RecordId) -> Result<(), StorageError> {
        let mut changes = Vec::new();
        for part in self.storage.scan(&record.head()) {
            let (id, _) = part?;
            if id.record != record {
                break;
            }
            changes.push(Change::Remove(id));
        }
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
        let old_len = part.bytes.len();
        let wire = decode_space(&part)?;
        drop(part);
        let head = self.storage.get(&id.record.head())?;
        let key = head.as_ref().map(decode_head).transpose()?.map(|h| h.key);
        drop(head);
        let writer = Writer::decode(wire.public_key.clone())
            .map_err(|e| StorageError(format!("a damaged space: {e}")))?;
        let mut space = space_of(wire)?;
        let collected = space.collect(now);
        let board = self.board(id.record)?;
        let mut changes = Vec::with_capacity(2);
        let board = if space.is_empty() {
            changes.push(Change::Remove(id));
            board_with(board, (0, 1), (0, old_len))
        } else {
            let part = space_part(&space, &writer);
            let len = part.bytes.len();
            changes.push(Change::Set(id, part));
            board_with(board, (0, 0), (len, old_len))
        };
        match key {
            Some(key) if board.spaces > 0 => {
                changes.push(Change::Set(id.record.head(), board_part(key, board)));
            }
            _ => {
                lock(&self.cursors).remove(&id.record);
                changes.push(Change::Remove(id.record.head()));
            }
        }
        self.storage.apply(changes)?;
        Ok(collected)
    }
}
