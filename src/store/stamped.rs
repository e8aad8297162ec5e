//! The spaces of full boards that have work, in the order in which they are evicted.
//!
//! **Invariants.** Only the first of each board are kept, so one scan of a full board serves as
//! many evictions. Whatever is kept is looked at again before it is given out.
//!
//! **Spec.** `docs/design.md`, section "Quotas".

use std::collections::HashMap;

use super::{
    StorageError, rows,
    rows::Place,
    storage::{RecordId, SpaceId},
    table::Table,
};
use smart_record_core::EvictionOrder;

/// For how many records they are kept. When there are more, they are read again.
const MAX_BOARDS: usize = 64;
/// How many of a record are read at once.
const AT_ONCE: usize = 64;

/// Open spaces with work, by record.
#[derive(Debug, Default)]
pub(super) struct StampedSpaces {
    /// Those that go first, the first at the end. All others go after them.
    boards: HashMap<RecordId, Vec<EvictionOrder>>,
}

impl StampedSpaces {
    /// Adds an open space that was written.
    pub(super) fn notice(&mut self, record: RecordId, order: EvictionOrder) {
        if order.work() > 0
            && let Some(known) = self.boards.get_mut(&record)
            && let Err(at) = known.binary_search(&order)
            // It may go after others that are not kept.
            && at > 0
        {
            known.insert(at, order);
            if known.len() > 2 * AT_ONCE {
                known.drain(..AT_ONCE);
            }
        }
    }

    pub(super) fn forget(&mut self, record: RecordId) {
        self.boards.remove(&record);
    }

    /// The open space with work that goes first, of those that go after `below`.
    pub(super) fn next(
        &mut self,
        table: &Table,
        record: RecordId,
        below: Option<EvictionOrder>,
        min_bits: u8,
    ) -> Result<Option<EvictionOrder>, StorageError> {
        if self.boards.len() >= MAX_BOARDS && !self.boards.contains_key(&record) {
            self.boards.clear();
        }
        let known = self.boards.entry(record).or_default();
        for is_read in [false, true] {
            if is_read {
                let mut more = table.first_stamped(record, below, min_bits, AT_ONCE)?;
                // What is kept goes before these.
                more.append(known);
                *known = more;
            }
            loop {
                let after = |order: &EvictionOrder| below.is_none_or(|below| *order < below);
                let at = known.partition_point(after).checked_sub(1);
                let Some((at, order)) = at.and_then(|at| Some((at, *known.get(at)?))) else {
                    break;
                };
                // It may have been written or removed since.
                let space = SpaceId(*order.rank());
                if table.storage.get(&record.part(space))?.is_some_and(|part| {
                    rows::order(space, &part, min_bits) == order
                        && table.place_of(&part) == Place::Open
                }) {
                    return Ok(Some(order));
                }
                known.remove(at);
            }
        }
        Ok(None)
    }
}
