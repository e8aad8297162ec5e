//! Room: carrying out a planned write if it fits, or once something else has gone.
//!
//! **Invariants.** Nothing is changed before there is room for all of the plan; what is evicted for it goes in
//! the same step. What has expired goes first, then the records farther from the local peer than the written
//! one, the farthest first. A write that does not grow always fits.
//!
//! **Spec.** `docs/design.md`, section "Store".

use super::{
    SmartRecordStore, StorageError,
    event::{StoreEvent, count},
    lock, rows,
    storage::{Change, Part, PartId, RecordId, SpaceId, Storage},
};
use crate::{
    key::RecordKey,
    record::{Limit, LimitExceeded},
    time::Timestamp,
};

/// How many due parts are collected at once when room is needed.
pub(super) const COLLECT_AT_ONCE: usize = 256;

/// Changes that belong together, and what they do to the size of the store.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) changes: Vec<Change>,
    added: usize,
    removed: usize,
    pub(super) is_new_record: bool,
    pub(super) evicted_spaces: usize,
}

impl Plan {
    /// Writes a row in the place of one of `old` bytes, or of none.
    pub(super) fn set(&mut self, id: PartId, part: Part<'static>, old: Option<usize>) {
        self.added = self.added.saturating_add(rows::cost(part.bytes.len()));
        self.removed = self.removed.saturating_add(old.map_or(0, rows::cost));
        self.changes.push(Change::Set(id, part));
    }

    /// Removes a row of `old` bytes.
    pub(super) fn remove(&mut self, id: PartId, old: usize) {
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

impl<S: Storage> SmartRecordStore<S> {
    /// Carries out a plan of `record`'s, made anew whenever what it was made from has changed, or says which
    /// bound forbids it.
    pub(super) fn carry_out(
        &mut self,
        record: RecordId,
        now: Timestamp,
        plan: impl Fn(&Self) -> Result<Plan, StorageError>,
    ) -> Result<Result<(), LimitExceeded>, StorageError> {
        let mut may_collect = true;
        loop {
            let plan = plan(self)?;
            match self.room_for(record, &plan, may_collect, now)? {
                Room::Enough(victims) => return self.apply(plan, victims).map(Ok),
                Room::AfterCollecting => {
                    // Once nothing more goes, that is no way to make room.
                    may_collect = self.collect_due(now, COLLECT_AT_ONCE)? > 0;
                }
                Room::None(limit) => return Ok(Err(limit)),
            }
        }
    }

    /// Whether there is room for a plan of `record`'s: as it is, after what has expired is collected, or
    /// without some records that are farther away, the farthest first. Nothing is changed.
    fn room_for(
        &self,
        record: RecordId,
        plan: &Plan,
        may_collect: bool,
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
        if may_collect && !self.storage.due(now, 1)?.is_empty() {
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

    fn apply(&mut self, plan: Plan, victims: Vec<RecordId>) -> Result<(), StorageError> {
        let mut changes = plan.changes;
        let mut evicted = Vec::with_capacity(victims.len());
        for victim in &victims {
            for part in self.parts_of(*victim) {
                let (id, part) = part?;
                if id.space == SpaceId::HEAD
                    && let Ok(head) = rows::decode_head(&part)
                {
                    evicted.push(RecordKey::new(head.key));
                }
                changes.push(Change::Remove(id));
            }
        }
        self.change(changes)?;
        count(&mut self.counters.spaces_evicted, plan.evicted_spaces);
        for victim in victims {
            lock(&self.cursors).remove(&victim);
        }
        for key in evicted {
            self.emit(&StoreEvent::Evicted { key });
        }
        Ok(())
    }
}
