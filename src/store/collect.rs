//! Removal of expired parts, found by the expiry index, and of records on request.
//!
//! **Invariants.** Collecting costs as much as there is expired data, not as much as is stored. A
//! row that cannot be read does not keep others from being collected.
//!
//! **Spec.** `docs/design.md`, section "Store".

use bytes::Bytes;
use libp2p_identity::PeerId;

use super::{
    SmartRecordStore, StorageError,
    event::StoreEvent,
    plan::WritePlan,
    quota::ChargedTallies,
    room::PlannedRow,
    rows::{self, Place},
    source::Source,
    storage::{Part, PartId, RecordId, SpaceId},
    table::{HeadCost, Table},
};
use smart_record_core::{RecordKey, Timestamp, Writer};

/// How many due parts are collected in one step.
const COLLECT_AT_ONCE: usize = 256;

/// A stored space: the size of its row, its writer, and the places that it takes.
struct OldSpace {
    bytes: usize,
    writer: Option<PeerId>,
    place: Place,
}

impl OldSpace {
    fn of(table: &Table, part: &Part<'_>) -> Self {
        let (writer, place) = (rows::peer_of(part), table.place_of(part));
        Self { bytes: part.bytes.len(), writer, place }
    }
}

impl SmartRecordStore {
    /// Removes a record from this node, expired or not. Other replicas may send it again; to
    /// withdraw a space everywhere, publish
    /// [`SpaceSigner::withdraw`](smart_record_core::SpaceSigner::withdraw).
    ///
    /// # Errors
    /// [`StorageError`] if it could not be removed.
    pub fn forget(&mut self, key: &RecordKey) -> Result<(), StorageError> {
        self.drop_record(self.table.record_id(key))?;
        self.commit()
    }

    /// Removes the space of `writer` under `key` from this node, as [`forget`](Self::forget)
    /// removes a record.
    ///
    /// # Errors
    /// [`StorageError`] if it could not be removed.
    pub fn forget_space(&mut self, key: &RecordKey, writer: &Writer) -> Result<(), StorageError> {
        let id = self.table.record_id(key).part(SpaceId(writer.rank(key)));
        if let Some(forgotten) = self.memory.forget(id) {
            self.change(vec![forgotten])?;
        }
        self.restore_head(key)?;
        if let Some(part) = self.table.storage.get(&id)? {
            let old = OldSpace::of(&self.table, &part);
            drop(part);
            self.replace_space(id, old, None)?;
        }
        self.commit()
    }

    /// Removes everything that has expired. Returns how many updates and values were removed. Each
    /// write also collects a little; call this from time to time on a node that gets no writes.
    ///
    /// # Errors
    /// [`StorageError`] if something could not be removed.
    pub fn collect(&mut self) -> Result<usize, StorageError> {
        let now = self.clock.now();
        let mut collected = 0_usize;
        self.catch_up_on_notes()?;
        loop {
            let batch = self.collect_due(now, COLLECT_AT_ONCE)?;
            self.commit()?;
            if batch == 0 {
                return Ok(collected);
            }
            collected = collected.saturating_add(batch);
        }
    }

    pub(super) fn drop_record(&mut self, record: RecordId) -> Result<(), StorageError> {
        let mut plan = WritePlan::default();
        self.table.plan_removal(record, false, &mut plan)?;
        self.forget_places(record);
        self.apply(plan)
    }

    /// Collects a bounded part of what has expired, so that the caller is not held up.
    pub(crate) fn collect_some(&mut self) -> Result<usize, StorageError> {
        self.catch_up_on_notes()?;
        let collected = self.collect_due(self.clock.now(), COLLECT_AT_ONCE)?;
        self.commit()?;
        Ok(collected)
    }

    /// Collects at most `max` due parts. Returns how many updates and values were removed.
    pub(super) fn collect_due(
        &mut self,
        now: Timestamp,
        max: usize,
    ) -> Result<usize, StorageError> {
        let mut collected = 0_usize;
        for id in self.table.storage.due(now, max)? {
            let gone = if id.space == SpaceId::HEAD {
                self.collect_head(id)?;
                1
            } else {
                self.collect_space(id, now)?
            };
            collected = collected.saturating_add(gone);
        }
        self.discard_rejected()?;
        self.news.count(|c| &mut c.collected, collected);
        Ok(collected)
    }

    fn collect_space(&mut self, id: PartId, now: Timestamp) -> Result<usize, StorageError> {
        let part = match self.table.storage.get(&id) {
            Ok(Some(part)) => part,
            Ok(None) => return self.collect_headless(id, now),
            Err(error) => {
                // Others can be collected all the same, and written.
                self.news.read_failed(&error);
                return Ok(0);
            }
        };
        let old = OldSpace::of(&self.table, &part);
        let (read, stored_at) = (rows::read_owned_space(&part), part.stored_at);
        drop(part);
        let (collected, rest) = match read {
            Ok((writer, mut space)) => {
                let collected = space.collect(now);
                let rest = || rows::space_part(id.space, &space, &writer, stored_at);
                let rest = (!space.is_empty()).then(rest);
                (collected, rest)
            }
            Err(error) => {
                // The part is due and is removed all the same, so that it does not block the
                // others.
                self.news.emit(&StoreEvent::StorageFailed { error });
                (1, None)
            }
        };
        let is_withdrawn = |part: &Part<'_>| self.table.place_of(part) == Place::Withdrawn;
        match rest {
            Some(part) if old.place == Place::Open && is_withdrawn(&part) => {
                self.keep_withdrawn(id, old, part, now)?;
            }
            rest => self.replace_space(id, old, rest)?,
        }
        Ok(collected)
    }

    /// Removes a space of which a part is due and whose record has no head. The rest of it cannot
    /// be verified, so it cannot be written again. It is remembered as if it had been evicted.
    fn collect_headless(&mut self, id: PartId, now: Timestamp) -> Result<usize, StorageError> {
        self.discard_rejected()?;
        if self.table.storage.get(&id.record.head())?.is_some() {
            // It was invalid.
            return Ok(0);
        }
        let Some(part) = self.table.unchecked(id)? else {
            return Ok(0);
        };
        let (bytes, updates) = (part.bytes.len(), rows::encoded(&part).update_count());
        let charged = ChargedTallies::of_space(None, rows::peer_of(&part).as_ref());
        let mut plan = WritePlan::default();
        match rows::live(id.space, part, now) {
            Ok(Some(rest)) => plan.dismiss(id, &rest, Some((bytes, charged))),
            Ok(None) => plan.remove(id, bytes, charged),
            // It will be discarded.
            Err(_) => return Ok(0),
        }
        self.forget_places(id.record);
        let evicted = plan.evicted_spaces;
        self.apply(plan)?;
        self.news.count(|c| &mut c.spaces_evicted, evicted);
        Ok(updates)
    }

    /// Replaces the row of a space of which only the withdrawal is left. It is dismissed if its
    /// record has no place for it.
    fn keep_withdrawn(
        &mut self,
        id: PartId,
        old: OldSpace,
        part: Part<'static>,
        now: Timestamp,
    ) -> Result<(), StorageError> {
        let head = self.table.storage.get(&id.record.head())?;
        let head = head.and_then(|head| rows::decode_head(&head).ok());
        let Some(key) = head.map(|head| RecordKey::new(head.key)) else {
            return self.replace_space(id, old, Some(part));
        };
        let charge = self.charge(&key, old.writer.as_ref());
        let max = self.max_spaces(&key);
        let order = rows::order(id.space, &part, max.min_bits);
        let wanted = PlannedRow {
            key: &key,
            id,
            part,
            charge: &charge,
            place: Place::Withdrawn,
            order,
            max_spaces: max.open,
            max_withdrawn: max.withdrawn,
            source: Source::UNKNOWN,
            min_bits: max.min_bits,
            adds_to_memory: false,
            returns: false,
        };
        // Nothing more is collected for it.
        let may_collect = std::mem::take(&mut self.may_collect);
        let outcome = self.put_row(&wanted, now);
        self.may_collect = may_collect;
        match outcome? {
            Ok(()) => Ok(()),
            Err(_) => self.replace_space(id, old, None),
        }
    }

    /// Replaces the row of a writer's space by the rest of the space. Removes the row if nothing is
    /// left, and the head with the last space.
    fn replace_space(
        &mut self,
        id: PartId,
        old: OldSpace,
        rest: Option<Part<'static>>,
    ) -> Result<(), StorageError> {
        let OldSpace { bytes: old, writer, place } = old;
        let mut plan = WritePlan::default();
        let old_head = self.table.head_cost(id.record)?;
        let namespace = old_head.as_ref().and_then(|head| head.charged.namespace);
        let charged = ChargedTallies::of_space(namespace, writer.as_ref());
        let mut board = match self.table.known_board(id.record)? {
            Some(mut board) => {
                board.subtract(old, place);
                board
            }
            None => self.table.count_board(id.record, Some(id.space))?,
        };
        // It may have lost its work.
        let mut open = None;
        match rest {
            Some(part) => {
                let place = self.table.place_of(&part);
                let key = old_head.as_ref().and_then(|head| head.key.as_ref());
                let key = key.filter(|_| place == Place::Open);
                open = key.map(|key| rows::order(id.space, &part, self.max_spaces(key).min_bits));
                board.add(part.bytes.len(), place);
                plan.set(id, part, Some((old, charged)), charged);
            }
            None => plan.remove(id, old, charged),
        }
        if board.spaces == 0 && old_head.is_some() && self.table.has_other_spaces(id)? {
            // A head is never removed before its spaces.
            board = self.table.count_board(id.record, Some(id.space))?;
        }
        let head = id.record.head();
        match old_head {
            Some(HeadCost { key: Some(key), bytes, charged, arrival }) if board.spaces > 0 => {
                let key = Bytes::copy_from_slice(key.as_bytes());
                let part = rows::board_part(key, board, arrival);
                plan.set(head, part, Some((bytes, charged)), charged);
            }
            old => {
                self.forget_places(id.record);
                if let Some(HeadCost { bytes, charged, .. }) = old {
                    plan.remove(head, bytes, charged);
                }
            }
        }
        let withdrawn = self.table.withdrawn_in(&plan);
        self.apply(plan)?;
        if let Some(order) = open {
            self.notice_open(id.record, order);
        }
        self.candidates.notice_withdrawn(withdrawn);
        Ok(())
    }

    fn collect_head(&mut self, id: PartId) -> Result<(), StorageError> {
        let mut plan = WritePlan::default();
        if let Some(part) = self.table.storage.get(&id)? {
            let head = self.table.head_cost_of(&part);
            plan.remove(id, head.bytes, head.charged);
        }
        self.apply(plan)
    }
}
