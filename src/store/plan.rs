//! Plans of writes: the changes, before any of them is made.
//!
//! **Invariants.** A plan changes nothing by itself. Its ledger holds the effect of its changes on
//! tallies.
//!
//! **Spec.** `docs/design.md`, sections "Store" and "Quotas".

use super::{
    StorageError,
    eviction_memory::Departed,
    quota::{ChargedTallies, Ledger},
    rows,
    source::Arrival,
    storage::{Change, Part, PartId, Storage},
};

/// Changes that are applied together, and their effect on the size of the store.
#[derive(Debug, Default)]
pub(super) struct WritePlan {
    changes: Vec<Change>,
    pub(super) ledger: Ledger,
    pub(super) added: usize,
    pub(super) removed: usize,
    pub(super) is_new_record: bool,
    /// When the record that it writes was first stored, and its source.
    pub(super) arrival: Arrival,
    pub(super) evicted_spaces: usize,
    /// How many of them were withdrawn.
    pub(super) evicted_withdrawals: usize,
    /// The evicted parts.
    pub(super) evicted: Vec<Departed>,
    /// A part that was evicted and has come back.
    pub(super) returned: Option<PartId>,
}

impl WritePlan {
    /// Writes a row. `old` is the size of the row that it replaces and who is charged for that.
    pub(super) fn set(
        &mut self,
        id: PartId,
        part: Part<'static>,
        old: Option<(usize, ChargedTallies)>,
        charged: ChargedTallies,
    ) {
        self.added = self.added.saturating_add(rows::cost(part.bytes.len()));
        self.ledger.charge(id, part.bytes.len(), charged);
        if let Some((old, charged)) = old {
            self.removed = self.removed.saturating_add(rows::cost(old));
            self.ledger.refund(id, old, charged);
        }
        self.changes.push(Change::Set(id, part));
    }

    /// Removes a row of `old` bytes.
    pub(super) fn remove(&mut self, id: PartId, old: usize, charged: ChargedTallies) {
        self.removed = self.removed.saturating_add(rows::cost(old));
        self.ledger.refund(id, old, charged);
        self.changes.push(Change::Remove(id));
    }

    /// Evicts the row of a space.
    pub(super) fn evict(&mut self, id: PartId, part: &Part<'_>, charged: ChargedTallies) {
        self.evicted.extend(Departed::of(id, part));
        self.evicted_spaces = self.evicted_spaces.saturating_add(1);
        self.remove(id, part.bytes.len(), charged);
    }

    /// Evicts a part of a space. The rest stays.
    pub(super) fn reduce(
        &mut self,
        id: PartId,
        part: &Part<'_>,
        rest: Part<'static>,
        charged: ChargedTallies,
    ) {
        self.evicted.extend(Departed::of(id, part));
        self.evicted_spaces = self.evicted_spaces.saturating_add(1);
        self.set(id, rest, Some((part.bytes.len(), charged)), charged);
    }

    /// Removes the row of a space, if there is one, instead of writing this state of it, which is
    /// to be remembered.
    pub(super) fn dismiss(
        &mut self,
        id: PartId,
        part: &Part<'_>,
        old: Option<(usize, ChargedTallies)>,
    ) {
        self.evicted.extend(Departed::of(id, part));
        if let Some((old, charged)) = old {
            self.evicted_spaces = self.evicted_spaces.saturating_add(1);
            self.remove(id, old, charged);
        }
    }

    pub(super) fn grows(&self) -> bool {
        self.is_new_record || self.added > self.removed
    }

    pub(super) fn growth(&self) -> usize {
        self.added.saturating_sub(self.removed)
    }

    /// The rows that it writes.
    pub(super) fn written(&self) -> impl Iterator<Item = (PartId, &Part<'static>)> {
        self.changes.iter().filter_map(|change| match change {
            Change::Set(id, part) => Some((*id, part)),
            _ => None,
        })
    }

    /// Its changes, with those of the tallies.
    pub(super) fn into_changes(self, storage: &dyn Storage) -> Result<Vec<Change>, StorageError> {
        let mut changes = self.changes;
        changes.extend(self.ledger.changes(storage)?);
        Ok(changes)
    }
}
