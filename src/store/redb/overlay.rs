//! The changes that have been applied and may not be in the file yet.
//!
//! **Invariants.** A row in the overlay, or its removal, is newer than what the file has, and
//! replaces it. An entry is dropped once the commit with its number is in the file, unless a later
//! commit has changed it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::RangeBounds,
};

use super::format::Row;
use crate::store::storage::{PartId, Tally, TallyId};
use smart_record_core::Timestamp;

/// The new state of a row, tally or note, and the commit that it belongs to.
#[derive(Clone, Debug)]
struct OverlayEntry<T> {
    value: T,
    commit: u64,
}

/// The latest state of each changed row, tally and note.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    rows: BTreeMap<PartId, OverlayEntry<Option<Row>>>,
    due: BTreeSet<(Timestamp, PartId)>,
    tallies: HashMap<TallyId, OverlayEntry<Tally>>,
    notes: BTreeMap<Vec<u8>, OverlayEntry<Option<Vec<u8>>>>,
}

/// Changes for the file; of several changes of the same thing only the last.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    pub(super) rows: BTreeMap<PartId, Option<Row>>,
    pub(super) tallies: BTreeMap<TallyId, Tally>,
    pub(super) notes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Changes {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.tallies.is_empty() && self.notes.is_empty()
    }

    /// Adds later changes, which replace earlier ones of the same things.
    pub(super) fn extend(&mut self, later: Self) {
        if self.is_empty() {
            *self = later;
            return;
        }
        self.rows.extend(later.rows);
        self.tallies.extend(later.tallies);
        self.notes.extend(later.notes);
    }
}

impl Overlay {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.tallies.is_empty() && self.notes.is_empty()
    }

    /// The row; `Some(None)` if it was removed, `None` if the overlay does not have it.
    pub(super) fn row(&self, id: &PartId) -> Option<Option<&Row>> {
        self.rows.get(id).map(|entry| entry.value.as_ref())
    }

    pub(super) fn rows(
        &self,
        range: impl RangeBounds<PartId>,
    ) -> impl DoubleEndedIterator<Item = (PartId, Option<&Row>)> {
        self.rows.range(range).map(|(id, entry)| (*id, entry.value.as_ref()))
    }

    pub(super) fn due(&self, now: Timestamp) -> impl Iterator<Item = (Timestamp, PartId)> {
        self.due.range(..=(now, PartId::MAX)).copied()
    }

    pub(super) fn tally(&self, id: &TallyId) -> Option<Tally> {
        self.tallies.get(id).map(|entry| entry.value)
    }

    pub(super) fn notes(&self) -> impl Iterator<Item = (&Vec<u8>, Option<&Vec<u8>>)> {
        self.notes.iter().map(|(name, entry)| (name, entry.value.as_ref()))
    }

    pub(super) fn set_row(&mut self, id: PartId, row: Option<Row>, commit: u64) {
        if let Some(due_at) = row.as_ref().and_then(Row::due_at) {
            self.due.insert((due_at, id));
        }
        let due_at = row.as_ref().and_then(Row::due_at);
        let old = self.rows.insert(id, OverlayEntry { value: row, commit });
        self.forget_due(id, old.and_then(|old| old.value), due_at);
    }

    fn forget_due(&mut self, id: PartId, old: Option<Row>, new: Option<Timestamp>) {
        if let Some(old) = old.as_ref().and_then(Row::due_at)
            && Some(old) != new
        {
            self.due.remove(&(old, id));
        }
    }

    pub(super) fn set_tally(&mut self, id: TallyId, tally: Tally, commit: u64) {
        self.tallies.insert(id, OverlayEntry { value: tally, commit });
    }

    pub(super) fn set_note(&mut self, name: Vec<u8>, note: Option<Vec<u8>>, commit: u64) {
        self.notes.insert(name, OverlayEntry { value: note, commit });
    }

    /// Drops these changes, which are in the file now, except where a commit after `commit` has
    /// changed them.
    pub(super) fn retire(&mut self, written: &Changes, commit: u64) {
        for id in written.rows.keys() {
            if self.rows.get(id).is_some_and(|entry| entry.commit <= commit)
                && let Some(entry) = self.rows.remove(id)
            {
                self.forget_due(*id, entry.value, None);
            }
        }
        for id in written.tallies.keys() {
            if self.tallies.get(id).is_some_and(|entry| entry.commit <= commit) {
                self.tallies.remove(id);
            }
        }
        for name in written.notes.keys() {
            if self.notes.get(name).is_some_and(|entry| entry.commit <= commit) {
                self.notes.remove(name);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
