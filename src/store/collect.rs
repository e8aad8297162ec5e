//! What goes: expired parts, found by the expiry index, and records that someone wants to be gone.
//!
//! **Invariants.** Collecting costs what has expired, not what is stored. A row that cannot be read does not
//! stand in the way of others.
//!
//! **Spec.** `docs/design.md`, section "Store".

use super::{
    SmartRecordStore, StorageError,
    event::{StoreEvent, count},
    lock,
    room::{COLLECT_AT_ONCE, Plan},
    rows,
    storage::{Change, Part, PartId, RecordId, SpaceId, Storage},
};
use crate::{key::RecordKey, time::Timestamp};

impl<S: Storage> SmartRecordStore<S> {
    /// Removes a record, whatever it is and however long it would live, from this node. Other replicas may
    /// bring it back; to withdraw a space everywhere, publish
    /// [`SpaceSigner::withdraw`](crate::SpaceSigner::withdraw).
    ///
    /// # Errors
    /// [`StorageError`] if it could not be removed.
    pub fn forget(&mut self, key: &RecordKey) -> Result<(), StorageError> {
        self.drop_record(self.record_id(key))?;
        self.storage.commit()
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
            self.storage.commit()?;
            if batch == 0 {
                return Ok(collected);
            }
            collected = collected.saturating_add(batch);
        }
    }

    pub(super) fn drop_record(&mut self, record: RecordId) -> Result<(), StorageError> {
        let changes = self
            .parts_of(record)
            .map(|part| Ok(Change::Remove(part?.0)))
            .collect::<Result<_, StorageError>>()?;
        lock(&self.cursors).remove(&record);
        self.change(changes)
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
                self.change(vec![Change::Remove(id)])?;
                1
            } else {
                self.collect_space(id, now)?
            };
            collected = collected.saturating_add(gone);
        }
        self.discard_rejected()?;
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
        self.replace_space(id, old, rest)?;
        Ok(collected)
    }

    /// Puts the rest of a space in the place of its row of `old` bytes, or removes it; with its head if it was
    /// the last.
    pub(super) fn replace_space(
        &mut self,
        id: PartId,
        old: usize,
        rest: Option<Part<'static>>,
    ) -> Result<(), StorageError> {
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
        let key = head.as_ref().and_then(|head| rows::decode_head(head).ok());
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
        self.change(plan.changes)
    }

    /// All parts of a record, its head first.
    pub(super) fn parts_of(
        &self,
        record: RecordId,
    ) -> impl Iterator<Item = Result<(PartId, Part<'_>), StorageError>> {
        self.storage
            .scan(&record.head())
            .take_while(move |part| part.as_ref().map_or(true, |(id, _)| id.record == record))
    }
}
