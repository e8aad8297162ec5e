//! Storage that does not keep up with what is written to it.

use std::{
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

use libp2p_identity::PeerId;
use libp2p_smart_record::{
    Timestamp,
    store::{
        MemoryStorage, OtherPeer, StorageError, Usage,
        storage::{
            Change, InvalidRow, Notes, Part, PartId, Parts, RowCheck, Storage, Tally, TallyId,
        },
    },
};

/// Storage that may be behind. It counts what is applied.
pub struct Slow {
    rows: MemoryStorage,
    pub is_behind: Arc<AtomicBool>,
    pub applied: Arc<AtomicUsize>,
}

impl Default for Slow {
    /// It is behind.
    fn default() -> Self {
        let is_behind = Arc::new(AtomicBool::new(true));
        Self { rows: MemoryStorage::default(), is_behind, applied: Arc::default() }
    }
}

impl Storage for Slow {
    fn get(&self, id: &PartId) -> Result<Option<Part<'_>>, StorageError> {
        self.rows.get(id)
    }

    fn scan(&self, range: RangeInclusive<PartId>) -> Parts<'_> {
        self.rows.scan(range)
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

    fn notes(&self) -> Result<Notes, StorageError> {
        self.rows.notes()
    }

    fn apply(&mut self, changes: Vec<Change>) -> Result<(), StorageError> {
        self.applied.fetch_add(1, SeqCst);
        self.rows.apply(changes)
    }

    fn commit(&mut self) -> Result<(), StorageError> {
        self.rows.commit()
    }

    fn usage(&self) -> Usage {
        self.rows.usage()
    }

    fn is_behind(&self) -> bool {
        self.is_behind.load(SeqCst)
    }

    fn is_durable(&self) -> bool {
        true
    }

    fn attach(&mut self, local: PeerId, check: Arc<dyn RowCheck>) -> Result<(), OtherPeer> {
        self.rows.attach(local, check)
    }

    fn take_rejected(&mut self) -> Vec<InvalidRow> {
        self.rows.take_rejected()
    }
}
