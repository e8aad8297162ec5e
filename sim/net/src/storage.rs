//! Storage of a node: rows that survive the end of its process, and faults planted in them.

use std::{
    collections::BTreeMap,
    ops::RangeInclusive,
    sync::{Arc, Mutex, PoisonError},
};

use libp2p_identity::PeerId;
use libp2p_smart_record::{
    Timestamp,
    store::{
        MemoryStorage, OtherPeer, StorageError, Usage,
        storage::{
            Change, InvalidRow, Notes, Part, PartId, Parts, RowCheck, SpaceId, Storage, Tally,
            TallyId,
        },
    },
};

/// A fault that is planted in every storage of a network, to see whether the checks find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StorageFault {
    /// Storing a space removes all others of its record: a join that forgets.
    ForgetsSpaces,
    /// Each change of a space is undone with the next write: a repair that rolls back.
    RollsBack,
}

/// Where the rows are while no process has them.
pub(crate) type Disk = Arc<Mutex<Option<MemoryStorage>>>;

/// Rows in memory that go back to their disk when the process ends. All that is applied survives.
pub(crate) struct DiskStorage {
    rows: MemoryStorage,
    disk: Disk,
    fault: Option<StorageFault>,
    /// What is to be written again, by the fault.
    older: BTreeMap<PartId, Part<'static>>,
}

impl DiskStorage {
    /// The rows of this disk.
    pub(crate) fn open(disk: &Disk, fault: Option<StorageFault>) -> Self {
        let rows = disk.lock().unwrap_or_else(PoisonError::into_inner).take();
        Self {
            rows: rows.unwrap_or_default(),
            disk: Arc::clone(disk),
            fault,
            older: BTreeMap::new(),
        }
    }

    /// Adds what the fault makes of these changes.
    fn spoil(&mut self, changes: &mut Vec<Change>) -> Result<(), StorageError> {
        let set: Vec<PartId> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Set(id, _) if id.space != SpaceId::HEAD => Some(*id),
                _ => None,
            })
            .collect();
        match self.fault {
            None => {}
            Some(StorageFault::ForgetsSpaces) => {
                for id in &set {
                    let others = self
                        .rows
                        .scan(id.record.parts())
                        .filter_map(Result::ok)
                        .map(|(other, _)| other)
                        .filter(|other| other.space != SpaceId::HEAD && !set.contains(other));
                    changes.extend(others.map(Change::Remove));
                }
            }
            Some(StorageFault::RollsBack) => {
                let older = std::mem::take(&mut self.older);
                changes.extend(older.into_iter().map(|(id, part)| Change::Set(id, part)));
                for id in set {
                    if let Some(part) = self.rows.get(&id)? {
                        let bytes = part.bytes.into_owned().into();
                        self.older.insert(id, Part { bytes, ..part });
                    }
                }
            }
        }
        Ok(())
    }
}

impl Drop for DiskStorage {
    fn drop(&mut self) {
        let rows = std::mem::take(&mut self.rows);
        *self.disk.lock().unwrap_or_else(PoisonError::into_inner) = Some(rows);
    }
}

impl Storage for DiskStorage {
    fn get(&self, id: &PartId) -> Result<Option<Part<'_>>, StorageError> {
        self.rows.get(id)
    }

    fn scan(&self, range: RangeInclusive<PartId>) -> Parts<'_> {
        self.rows.scan(range)
    }

    fn scan_unchecked(&self, range: RangeInclusive<PartId>) -> Parts<'_> {
        self.rows.scan_unchecked(range)
    }

    fn last(&self, up_to: &PartId) -> Result<Option<PartId>, StorageError> {
        self.rows.last(up_to)
    }

    fn due(&self, now: Timestamp, max: usize) -> Result<Vec<PartId>, StorageError> {
        self.rows.due(now, max)
    }

    fn tally(&self, id: &TallyId) -> Result<Tally, StorageError> {
        self.rows.tally(id)
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn notes(&self) -> Result<Notes, StorageError> {
        self.rows.notes()
    }

    fn apply(&mut self, mut changes: Vec<Change>) -> Result<(), StorageError> {
        self.spoil(&mut changes)?;
        self.rows.apply(changes)
    }

    fn commit(&mut self) -> Result<(), StorageError> {
        self.rows.commit()
    }

    fn usage(&self) -> Usage {
        self.rows.usage()
    }

    fn attach(&mut self, local: PeerId, check: Arc<dyn RowCheck>) -> Result<(), OtherPeer> {
        self.rows.attach(local, check)
    }

    fn is_behind(&self) -> bool {
        self.rows.is_behind()
    }

    fn take_rejected(&mut self) -> Vec<InvalidRow> {
        self.rows.take_rejected()
    }
}
