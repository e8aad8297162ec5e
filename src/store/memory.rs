//! Rows in memory.
//!
//! Rows are grouped by record and then ordered by space, so rows that are looked up together are
//! close together, and the heads of a few large boards stay in the processor's cache.
//!
//! **Invariants.** The expiry index holds exactly the entries of rows that have a `due_at`. The
//! usage is that of the rows. Each record has at least one row.

mod rows;

use std::{
    collections::{BTreeMap, BTreeSet},
    iter,
    ops::{Bound, RangeInclusive},
    sync::Arc,
};

use libp2p_identity::PeerId;

use self::rows::Rows;
use super::storage::{
    Change, InvalidRow, OtherPeer, Part, PartId, Parts, RecordId, RowCheck, SpaceId, Storage,
    StorageError, Tally, TallyId, Usage,
};
use smart_record_core::Timestamp;

/// Storage in memory. Its content is lost when the process ends.
#[derive(Default)]
pub struct MemoryStorage {
    records: BTreeMap<RecordId, Rows>,
    due: BTreeSet<Due>,
    usage: Usage,
    tallies: BTreeMap<TallyId, Tally>,
    notes: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl MemoryStorage {
    fn set(&mut self, id: PartId, part: &Part<'_>) {
        let is_head = id.space == SpaceId::HEAD;
        let rows = self.records.entry(id.record).or_default();
        let old = rows.get(&id.space).map(|old| (old.bytes.len(), old.due_at));
        rows.set(id.space, part);
        self.usage.add(is_head, part.bytes.len());
        if let Some((bytes, _)) = old {
            self.usage.subtract(is_head, bytes);
        }
        let was_due_at = old.and_then(|(_, due_at)| due_at);
        if was_due_at != part.due_at {
            self.forget_due(id, was_due_at);
            self.due.extend(part.due_at.map(|due_at| Due::new(due_at, id)));
        }
    }

    fn remove(&mut self, id: PartId) {
        let Some(rows) = self.records.get_mut(&id.record) else {
            return;
        };
        let Some((bytes, due_at)) = rows.get(&id.space).map(|old| (old.bytes.len(), old.due_at))
        else {
            return;
        };
        rows.remove(&id.space);
        if rows.is_empty() {
            self.records.remove(&id.record);
        }
        self.forget_due(id, due_at);
        self.usage.subtract(id.space == SpaceId::HEAD, bytes);
    }

    /// Handles that a row is not due any more at this instant.
    fn forget_due(&mut self, id: PartId, due_at: Option<Timestamp>) {
        let entry = due_at.map(|due_at| Due::new(due_at, id));
        if let Some(entry) = entry.filter(|entry| self.due_rows(*entry).next().is_none()) {
            self.due.remove(&entry);
        }
    }

    /// The rows of an entry of the expiry index: one, unless the ids of several begin alike.
    fn due_rows(&self, entry: Due) -> impl Iterator<Item = PartId> {
        let records = self.records.range(RecordId(SpaceId::at(entry.record).0)..);
        let records = records.take_while(move |(id, _)| place(**id) == entry.record);
        records.flat_map(move |(id, rows)| {
            let rows = rows.range(SpaceId::at(entry.space));
            let rows = rows.take_while(move |(space, _)| space.place() == entry.space);
            let due = rows.filter(move |(_, part)| part.due_at == Some(entry.at));
            due.map(|(space, _)| id.part(space))
        })
    }
}

/// An entry of the expiry index: when, and how the ids of the record and of the space begin. Rows
/// of which all that is the same share an entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at: Timestamp,
    record: u64,
    space: u64,
}

impl Due {
    fn new(at: Timestamp, id: PartId) -> Self {
        Self { at, record: place(id.record), space: id.space.place() }
    }
}

/// How the id of a record begins.
fn place(record: RecordId) -> u64 {
    SpaceId(record.0).place()
}

impl Storage for MemoryStorage {
    fn get(&self, id: &PartId) -> Result<Option<Part<'_>>, StorageError> {
        Ok(self.records.get(&id.record).and_then(|rows| rows.get(&id.space)))
    }

    fn scan(&self, range: RangeInclusive<PartId>) -> Parts<'_> {
        let (PartId { mut record, space }, last) = (*range.start(), *range.end());
        let mut rows = self.records.get(&record).map(|rows| rows.range(space));
        let mut rest = None;
        Box::new(iter::from_fn(move || {
            loop {
                if let Some((space, part)) = rows.as_mut().and_then(Iterator::next) {
                    if record < last.record || record == last.record && space <= last.space {
                        return Some(Ok((record.part(space), part)));
                    }
                    (record, rows) = (last.record, None);
                }
                if record >= last.record {
                    return None;
                }
                let after = (Bound::Excluded(record), Bound::Unbounded);
                let (id, next) = rest.get_or_insert_with(|| self.records.range(after)).next()?;
                (record, rows) = (*id, Some(next.range(SpaceId::HEAD)));
            }
        }))
    }

    fn last(&self, up_to: &PartId) -> Result<Option<PartId>, StorageError> {
        let mut records = self.records.range(..=up_to.record).rev();
        let last = records.find_map(|(id, rows)| {
            let up_to = if *id == up_to.record { &up_to.space } else { &SpaceId::MAX };
            rows.last(up_to).map(|space| id.part(space))
        });
        Ok(last)
    }

    fn due(&self, now: Timestamp, max: usize) -> Result<Vec<PartId>, StorageError> {
        let due = self.due.range(..=Due::new(now, PartId::MAX));
        Ok(due.flat_map(|entry| self.due_rows(*entry)).take(max).collect())
    }

    fn tally(&self, id: &TallyId) -> Result<Tally, StorageError> {
        Ok(self.tallies.get(id).copied().unwrap_or_default())
    }

    fn is_durable(&self) -> bool {
        false
    }

    fn notes(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StorageError> {
        Ok(self.notes.iter().map(|(name, note)| (name.clone(), note.clone())).collect())
    }

    fn apply(&mut self, changes: Vec<Change>) -> Result<(), StorageError> {
        for change in changes {
            match change {
                Change::Set(id, part) => self.set(id, &part),
                Change::Remove(id) => self.remove(id),
                Change::Tally(id, tally) if tally == Tally::default() => {
                    self.tallies.remove(&id);
                }
                Change::Tally(id, tally) => {
                    self.tallies.insert(id, tally);
                }
                Change::Note(name, Some(note)) => {
                    self.notes.insert(name, note);
                }
                Change::Note(name, None) => {
                    self.notes.remove(&name);
                }
            }
        }
        Ok(())
    }

    /// Does nothing, because nothing is durable.
    fn commit(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    fn usage(&self) -> Usage {
        self.usage
    }

    /// Accepts any peer and checks nothing, because nothing survives it.
    fn attach(&mut self, _: PeerId, _: Arc<dyn RowCheck>) -> Result<(), OtherPeer> {
        Ok(())
    }

    fn is_behind(&self) -> bool {
        false
    }

    fn take_rejected(&mut self) -> Vec<InvalidRow> {
        Vec::new()
    }
}

smart_record_core::impl_debug! { MemoryStorage: |storage| usage: storage.usage }
