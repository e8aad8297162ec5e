//! Snapshots of the file, each as of one transaction.
//!
//! **Invariants.** A view does not change. Once its database has been closed, it returns errors or
//! what it has in memory, never anything else.

use std::{collections::BTreeMap, ops::RangeInclusive};

use ::redb::{Database, Range, ReadOnlyTable, ReadableDatabase, ReadableTable};

use super::{
    fault::{failed, guarded},
    format::{
        DUE, DueKey, Header, NOTES, ROWS, RowKey, TALLIES, due_key, read_due_key, read_note,
        read_tally, same_half,
    },
};
use crate::store::storage::{PartId, RecordId, SpaceId, StorageError, Tally, TallyId};
use smart_record_core::Timestamp;

/// The tables as of one transaction.
pub(super) struct View {
    rows: ReadOnlyTable<&'static [u8], &'static [u8]>,
    due: ReadOnlyTable<&'static DueKey, ()>,
    tallies: ReadOnlyTable<&'static [u8; 16], &'static [u8; 20]>,
    notes: ReadOnlyTable<&'static [u8], &'static [u8]>,
    /// Identifies the view: later views have greater numbers.
    pub(super) number: u64,
}

/// A row as found in the file.
pub(super) type Found = (PartId, Vec<u8>);

impl View {
    pub(super) fn new(db: &Database, number: u64) -> Result<Self, StorageError> {
        let transaction = db.begin_read().map_err(failed)?;
        Ok(Self {
            rows: transaction.open_table(ROWS).map_err(failed)?,
            due: transaction.open_table(DUE).map_err(failed)?,
            tallies: transaction.open_table(TALLIES).map_err(failed)?,
            notes: transaction.open_table(NOTES).map_err(failed)?,
            number,
        })
    }

    /// Applies `read` to the value of a row.
    pub(super) fn row<T>(
        &self,
        id: &PartId,
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>, StorageError> {
        guarded(|| {
            let row = self.rows.get(RowKey::new(id).as_bytes()).map_err(failed)?;
            Ok(row.map(|row| read(row.value())))
        })
    }

    /// The rows in a range.
    pub(super) fn scan(&self, range: RangeInclusive<PartId>) -> Result<Rows, StorageError> {
        guarded(|| {
            let [from, last] = [range.start(), range.end()].map(RowKey::new);
            let range = self.rows.range(from.as_bytes()..=last.as_bytes()).map_err(failed)?;
            Ok(Rows(range))
        })
    }

    /// The last row at or before `up_to` for which `counts` returns true.
    pub(super) fn last(
        &self,
        up_to: &PartId,
        counts: impl Fn(&PartId) -> bool,
    ) -> Result<Option<PartId>, StorageError> {
        guarded(|| {
            let mut range = self.rows.range(..=RowKey::new(up_to).as_bytes()).map_err(failed)?;
            while let Some(row) = range.next_back() {
                let (key, _) = row.map_err(failed)?;
                if let Some(id) = RowKey::decode(key.value()).filter(&counts) {
                    return Ok(Some(id));
                }
            }
            Ok(None)
        })
    }

    /// Calls `take` for each entry of the expiry index between `from` and `now`, with the rows of
    /// the entry, until it returns `false`.
    pub(super) fn due(
        &self,
        from: &DueKey,
        now: Timestamp,
        mut take: impl FnMut(DueKey, Timestamp, &[PartId]) -> bool,
    ) -> Result<(), StorageError> {
        guarded(|| {
            let end = due_key(now, &PartId::MAX);
            if *from > end {
                return Ok(());
            }
            for entry in self.due.range::<&DueKey>(from..=&end).map_err(failed)? {
                let key = *entry.map_err(failed)?.0.value();
                let (due_at, least) = read_due_key(&key);
                if !take(key, due_at, &self.due_rows(due_at, least)?) {
                    break;
                }
            }
            Ok(())
        })
    }

    /// The rows of an entry of the expiry index: one, unless two ids have equal halves.
    fn due_rows(&self, due_at: Timestamp, least: PartId) -> Result<Vec<PartId>, StorageError> {
        let mut found = Vec::new();
        let mut record = Some(least.record);
        while let Some(from) = record {
            let Some(first) = self.scan(from.head()..=PartId::MAX)?.next_key()? else {
                break;
            };
            let of = first.record;
            if !same_half(&of.0, &least.record.0) {
                break;
            }
            let mut rows = self.scan(of.part(least.space)..=of.part(SpaceId::MAX))?;
            while let Some((id, value)) = rows.next_row()? {
                let is_of = same_half(&id.space.0, &least.space.0)
                    && (least.space != SpaceId::HEAD || id.space == SpaceId::HEAD);
                if !is_of {
                    break;
                }
                if Header::decode(&value).is_some_and(|header| header.due_at() == Some(due_at)) {
                    found.push(id);
                }
            }
            record = RecordId::after(of);
        }
        Ok(found)
    }

    /// A tally. A damaged one counts as zero, because it cannot be repaired.
    pub(super) fn tally(&self, id: &TallyId) -> Result<Tally, StorageError> {
        guarded(|| {
            let Some(value) = self.tallies.get(&id.0).map_err(failed)? else {
                return Ok(Tally::default());
            };
            Ok(read_tally(id, value.value()).unwrap_or_else(|| {
                tracing::warn!("a damaged tally");
                Tally::default()
            }))
        })
    }

    /// The notes that are not damaged.
    pub(super) fn notes(&self) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StorageError> {
        guarded(|| {
            let mut notes = BTreeMap::new();
            for entry in self.notes.iter().map_err(failed)? {
                let (name, value) = entry.map_err(failed)?;
                match read_note(name.value(), value.value()) {
                    Some(note) => drop(notes.insert(name.value().to_vec(), note)),
                    None => tracing::warn!("a damaged note"),
                }
            }
            Ok(notes)
        })
    }
}

/// Rows in ascending order.
pub(super) struct Rows(Range<'static, &'static [u8], &'static [u8]>);

impl Rows {
    pub(super) fn next_row(&mut self) -> Result<Option<Found>, StorageError> {
        self.next(|value| value.to_vec())
    }

    fn next_key(&mut self) -> Result<Option<PartId>, StorageError> {
        Ok(self.next(|_| ())?.map(|(id, ())| id))
    }

    fn next<T>(&mut self, read: impl Fn(&[u8]) -> T) -> Result<Option<(PartId, T)>, StorageError> {
        guarded(|| {
            for row in self.0.by_ref() {
                let (key, value) = row.map_err(failed)?;
                // A key that cannot be decoded identifies no row, not even a damaged one.
                if let Some(id) = RowKey::decode(key.value()) {
                    return Ok(Some((id, read(value.value()))));
                }
            }
            Ok(None)
        })
    }
}
