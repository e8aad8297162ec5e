//! Rows in memory.
//!
//! **Invariants.** The expiry index holds exactly the rows that have a `due_at`; the usage is that of the rows.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
};

use super::storage::{
    Change, Part, PartId, Parts, SpaceId, Storage, StorageError, Tally, TallyId, Usage,
};
use crate::time::Timestamp;

/// Keeps a store's rows in memory; they are gone with the process.
#[derive(Default)]
pub struct MemoryStorage {
    rows: BTreeMap<PartId, Row>,
    due: BTreeSet<(Timestamp, PartId)>,
    usage: Usage,
    tallies: HashMap<TallyId, Tally>,
    notes: BTreeMap<Vec<u8>, Vec<u8>>,
}

struct Row {
    bytes: Box<[u8]>,
    due_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
}

impl Row {
    fn part(&self) -> Part<'_> {
        Part { bytes: Cow::Borrowed(&self.bytes), due_at: self.due_at, expires_at: self.expires_at }
    }
}

impl MemoryStorage {
    fn set(&mut self, id: PartId, part: Part<'static>) {
        self.remove(&id);
        if let Some(due_at) = part.due_at {
            self.due.insert((due_at, id));
        }
        self.usage.add(id.space == SpaceId::HEAD, part.bytes.len());
        let row = Row {
            bytes: part.bytes.into_owned().into_boxed_slice(),
            due_at: part.due_at,
            expires_at: part.expires_at,
        };
        self.rows.insert(id, row);
    }

    fn remove(&mut self, id: &PartId) {
        let Some(row) = self.rows.remove(id) else {
            return;
        };
        if let Some(due_at) = row.due_at {
            self.due.remove(&(due_at, *id));
        }
        self.usage.subtract(id.space == SpaceId::HEAD, row.bytes.len());
    }
}

impl Storage for MemoryStorage {
    fn get(&self, id: &PartId) -> Result<Option<Part<'_>>, StorageError> {
        Ok(self.rows.get(id).map(Row::part))
    }

    fn scan(&self, from: &PartId) -> Parts<'_> {
        Box::new(self.rows.range(from..).map(|(id, row)| Ok((*id, row.part()))))
    }

    fn last(&self, up_to: &PartId) -> Result<Option<PartId>, StorageError> {
        Ok(self.rows.range(..=up_to).next_back().map(|(id, _)| *id))
    }

    fn due(&self, now: Timestamp, max: usize) -> Result<Vec<PartId>, StorageError> {
        Ok(self.due.range(..=(now, PartId::MAX)).take(max).map(|(_, id)| *id).collect())
    }

    fn tally(&self, id: &TallyId) -> Result<Tally, StorageError> {
        Ok(self.tallies.get(id).copied().unwrap_or_default())
    }

    fn notes(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StorageError> {
        Ok(self.notes.iter().map(|(name, note)| (name.clone(), note.clone())).collect())
    }

    fn apply(&mut self, changes: Vec<Change>) -> Result<(), StorageError> {
        for change in changes {
            match change {
                Change::Set(id, part) => self.set(id, part),
                Change::Remove(id) => self.remove(&id),
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

    /// Nothing lasts longer than the process.
    fn commit(&mut self) -> Result<(), StorageError> {
        Ok(())
    }

    fn usage(&self) -> Usage {
        self.usage
    }
}

impl fmt::Debug for MemoryStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStorage").field("usage", &self.usage).finish_non_exhaustive()
    }
}
