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
    room::{COLLECT_AT_ONCE, Plan},
    rows,
    storage::{PartId, RecordId, SpaceId, Storage},
};
use crate::{
    key::RecordKey,
    proto::{
        smart_record as wire,
        storage::{Board, Head, head::Body},
    },
    record::{Limit, LimitExceeded, Space, Writer},
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
            None => self.write_value(key, value, meta, now),
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
        let record = self.record_id(key);
        let (known, news) = self.without_known(record, key, value)?;
        let mut report = WriteReport { known, ..WriteReport::default() };
        if known > 0 && news.is_empty() {
            self.storage.commit()?;
            count(&mut self.counters.known, known);
            return Ok(report);
        }
        let spaces = rules
            .open(key, news.into())
            .inspect_err(|reason| self.refuse(key, meta.origin, None, reason.clone(), 1))?;
        let mut writers = Vec::new();
        let mut refusals = Refusals::default();
        let mut failure = None;
        // The lowest ranks first, so that of too many none comes in only to go again.
        let spaces = rules.admit_writers(key, spaces, &mut refusals);
        let ranked =
            spaces.into_iter().map(|(writer, updates)| (writer.rank(key), writer, updates));
        let mut spaces: Vec<_> = ranked.collect();
        spaces.sort_unstable_by_key(|(rank, ..)| *rank);
        for (rank, writer, updates) in spaces {
            let id = record.part(SpaceId(rank));
            match self.write_space(rules, key, id, &writer, updates, now, &mut refusals) {
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
        if let Err(error) = self.storage.commit() {
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

    /// What is left of an encoded smart record without the spaces that are stored just as they came, and how many
    /// updates these have. Two boards that meet differ in little, so most of one costs no more than a look.
    fn without_known(
        &self,
        record: RecordId,
        key: &RecordKey,
        value: &[u8],
    ) -> Result<(usize, Vec<u8>), StorageError> {
        let mut known = 0_usize;
        let mut news = Vec::new();
        let mut rest = value;
        while let Some((space, after)) = rows::split_space(rest) {
            let (whole, _) = rest.split_at(rest.len().saturating_sub(after.len()));
            rest = after;
            let writer = rows::public_key(space);
            let id = record.part(SpaceId(Writer::rank_of(writer, key)));
            match self.storage.get(&id)? {
                Some(part) if *part.bytes == *space => {
                    known = known.saturating_add(rows::count_updates(space));
                }
                _ => news.extend_from_slice(whole),
            }
        }
        // Whatever else there is, well formed or not, is judged with what is new.
        news.extend_from_slice(rest);
        Ok((known, news))
    }

    /// Joins the good ones of these updates into their writer's space. Returns how many were new, and how many
    /// known.
    fn write_space(
        &mut self,
        rules: &SmartRecordValidator,
        key: &RecordKey,
        id: PartId,
        writer: &Writer,
        updates: Vec<wire::SignedUpdate>,
        now: Timestamp,
        refusals: &mut Refusals,
    ) -> Result<(usize, usize), StorageError> {
        let stored = match self.storage.get(&id)? {
            // Most of what comes is there already, and costs no more than a look.
            Some(part) if rows::holds(&part, &updates) => return Ok((0, updates.len())),
            Some(part) => rows::decode_space(&part)?,
            None => {
                // It may be there, but no good.
                self.discard_rejected()?;
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
        let plan = |store: &Self| store.plan_space(rules, key, id, writer, &space);
        if let Err(limit) = self.carry_out(id.record, now, plan)? {
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
}
