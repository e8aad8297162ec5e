//! Spaces of a record that can be evicted for others.
//!
//! **Invariants.** Nothing protected is a candidate. The cost of a search does not grow with the
//! number of protected rows ([`EvictionIndex`]).
//!
//! **Spec.** `docs/design.md`, section "Quotas".

use std::collections::{BTreeSet, HashMap};

use super::{
    StorageError,
    eviction_index::EvictionIndex,
    rows::{self, Place},
    stamped::{StampedSpaces, make_room},
    storage::{PartId, RecordId, SpaceId},
    table::Table,
};
use crate::proto::storage::Board;
use smart_record_core::{EvictionOrder, Timestamp};

/// How many of the withdrawn spaces of a record are kept in order, those that go first. One scan of
/// a full record serves as many evictions.
const WITHDRAWN: usize = 64;

/// Indexes of the evictable spaces.
#[derive(Debug, Default)]
pub(super) struct EvictionCandidates {
    /// Open spaces without work.
    spaces: HashMap<RecordId, EvictionIndex>,
    /// The withdrawn spaces of a record that were first stored last, the last one at the end. Those
    /// that are not among them were stored before.
    withdrawn: HashMap<RecordId, Vec<(Timestamp, SpaceId)>>,
    stamped: StampedSpaces,
    /// The first result of [`next_open_space`](Self::next_open_space) since a row has changed, so
    /// that one write looks for it once.
    first: Option<(RecordId, EvictionOrder)>,
}

impl EvictionCandidates {
    /// Adds a space that was written and is not protected.
    pub(super) fn notice(&mut self, id: PartId) {
        if let Some(eviction_index) = self.spaces.get_mut(&id.record) {
            eviction_index.notice(id.space);
        }
    }

    /// Handles the change of a row, or the beginning of a write.
    pub(super) fn on_change(&mut self) {
        self.first = None;
    }

    /// Adds an open space that was written, with its place in the order of eviction.
    pub(super) fn notice_open(&mut self, record: RecordId, order: EvictionOrder) {
        self.stamped.notice(record, order);
        if let Some(eviction_index) = self.spaces.get_mut(&record).filter(|_| order.work() == 0) {
            eviction_index.notice(SpaceId(*order.rank()));
        }
    }

    /// Adds withdrawn spaces that were written.
    pub(super) fn notice_withdrawn(&mut self, written: Vec<(PartId, Timestamp)>) {
        for (id, stored_at) in written {
            let Some(known) = self.withdrawn.get_mut(&id.record) else { continue };
            let entry = (stored_at, id.space);
            match known.binary_search(&entry) {
                // It may belong to those that are not kept.
                Ok(_) | Err(0) => {}
                Err(at) => known.insert(at, entry),
            }
            if known.len() > 2 * WITHDRAWN {
                known.drain(..WITHDRAWN);
            }
        }
    }

    pub(super) fn forget(&mut self, record: RecordId) {
        self.spaces.remove(&record);
        self.withdrawn.remove(&record);
        self.stamped.forget(record);
    }

    /// The withdrawn space that was first stored last and is not in `except`, and since when it is
    /// stored. A space of a protected writer is not one of them.
    pub(super) fn last_withdrawn(
        &mut self,
        table: &Table,
        record: RecordId,
        except: &BTreeSet<SpaceId>,
    ) -> Result<Option<(Timestamp, SpaceId)>, StorageError> {
        make_room(&mut self.withdrawn, record);
        for is_fresh in [false, true] {
            if is_fresh || !self.withdrawn.contains_key(&record) {
                let max = WITHDRAWN.saturating_add(except.len());
                self.withdrawn.insert(record, table.last_withdrawn(record, max)?);
            }
            let known = self.withdrawn.entry(record).or_default();
            while let Some(at) = known.iter().rposition(|(_, space)| !except.contains(space)) {
                let (stored_at, space) = known.remove(at);
                // It may have been written or removed since.
                if table.storage.get(&record.part(space))?.is_some_and(|part| {
                    part.stored_at == stored_at && table.place_of(&part) == Place::Withdrawn
                }) {
                    known.insert(at, (stored_at, space));
                    return Ok(Some((stored_at, space)));
                }
            }
        }
        Ok(None)
    }

    /// The unprotected space that is not withdrawn and is evicted first, of those that go after
    /// `below`: of the least work, and of equal work of the highest rank. Stamps of less than
    /// `min_bits` do not count.
    pub(super) fn next_open_space(
        &mut self,
        table: &Table,
        record: RecordId,
        board: &Board,
        below: Option<EvictionOrder>,
        min_bits: u8,
    ) -> Result<Option<EvictionOrder>, StorageError> {
        if below.is_none()
            && let Some((_, first)) = self.first.filter(|(of, _)| *of == record)
        {
            return Ok(Some(first));
        }
        let found = self.find_open_space(table, record, board, below, min_bits)?;
        if below.is_none() {
            self.first = found.map(|found| (record, found));
        }
        Ok(found)
    }

    fn find_open_space(
        &mut self,
        table: &Table,
        record: RecordId,
        board: &Board,
        below: Option<EvictionOrder>,
        min_bits: u8,
    ) -> Result<Option<EvictionOrder>, StorageError> {
        // Those without work go first.
        if below.is_none_or(|below| below.work() == 0) {
            let below = below.map(|below| SpaceId(*below.rank()));
            if let Some(space) = self.next_without_work(table, record, board, below, min_bits)? {
                return Ok(Some(EvictionOrder::new(0, space.0)));
            }
        }
        self.stamped.next(table, record, below, min_bits)
    }

    /// The open space without work of the highest rank, below `below`.
    fn next_without_work(
        &mut self,
        table: &Table,
        record: RecordId,
        board: &Board,
        below: Option<SpaceId>,
        min_bits: u8,
    ) -> Result<Option<SpaceId>, StorageError> {
        let last = |up_to| table.last_space(record, up_to);
        let is_without_work = |space: SpaceId| -> Result<bool, StorageError> {
            let part = table.storage.get(&record.part(space))?;
            Ok(part.is_some_and(|part| {
                let has_work = rows::order(space, &part, min_bits).work() > 0;
                table.place_of(&part) == Place::Open && !has_work
            }))
        };
        if board.protected_spaces == 0 && board.withdrawn_spaces == 0 {
            let found = match below {
                Some(below) => below.before().map_or(Ok(None), last)?,
                None => last(SpaceId::MAX)?,
            };
            match found {
                Some(found) if is_without_work(found)? => return Ok(Some(found)),
                Some(_) => {}
                None => return Ok(None),
            }
        }
        // Only records that are full and have protected or withdrawn spaces, or some with work.
        make_room(&mut self.spaces, record);
        let eviction_index = self.spaces.entry(record).or_default();
        let probe = |space| Ok(is_without_work(space)?.then_some(()));
        Ok(eviction_index.next(below, last, probe)?.map(|(space, ())| space))
    }
}
