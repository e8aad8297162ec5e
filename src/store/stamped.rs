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

/// For how many records something is kept, here and for other kinds of spaces: as many as a store
/// of the default size has that are full.
pub(super) const MAX_BOARDS: usize = 256;
/// How many of a record are read at once.
const AT_ONCE: usize = 64;

/// Makes room for what is kept of one more record. The others stay, so that many boards do not make
/// each write read one again.
pub(super) fn make_room<T>(boards: &mut HashMap<RecordId, T>, record: RecordId) {
    if boards.len() >= MAX_BOARDS && !boards.contains_key(&record) {
        let other = boards.keys().next().copied();
        other.and_then(|other| boards.remove(&other));
    }
}

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
        make_room(&mut self.boards, record);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_board_gives_way_to_another() {
        let record = |n: u16| {
            let mut id = [0; 32];
            id[..2].copy_from_slice(&n.to_be_bytes());
            RecordId(id)
        };
        let mut boards = HashMap::new();
        for n in 0..600 {
            for known in [n, n] {
                make_room(&mut boards, record(known));
                boards.insert(record(known), ());
            }
            assert_eq!(boards.len(), MAX_BOARDS.min(usize::from(n) + 1));
        }
    }
}
