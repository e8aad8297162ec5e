//! A storage on a disk that is closed and opened again.

use std::ops::RangeInclusive;

use libp2p_smart_record::store::{
    OtherPeer,
    storage::{InvalidRow, RowCheck},
};

use super::*;

/// When it is closed and opened again, besides on command.
#[derive(Clone, Copy, PartialEq)]
pub enum Reopens {
    WhenTold,
    AtCommits,
    /// Each change is committed at once.
    AtChanges,
}

pub struct Reopened {
    inner: Option<RedbStorage>,
    device: Device,
    config: RedbConfig,
    reopens: Reopens,
}

impl Reopened {
    pub fn new(config: RedbConfig, reopens: Reopens) -> Self {
        let mut storage = Self { inner: None, device: Device::default(), config, reopens };
        storage.reopen();
        storage
    }

    /// Closes it, and opens what is on the disk.
    pub fn reopen(&mut self) {
        self.inner = None;
        let device = self.device.clone();
        let opened =
            RedbStorage::open_backend(move || Ok(device.clone()), local(), &self.config).unwrap();
        self.inner = Some(opened);
    }

    fn inner(&self) -> &RedbStorage {
        self.inner.as_ref().unwrap()
    }

    fn inner_mut(&mut self) -> &mut RedbStorage {
        self.inner.as_mut().unwrap()
    }
}

impl Storage for Reopened {
    fn get(&self, id: &PartId) -> Result<Option<Part<'_>>, StorageError> {
        self.inner().get(id)
    }

    fn scan(&self, range: RangeInclusive<PartId>) -> Parts<'_> {
        self.inner().scan(range)
    }

    fn scan_unchecked(&self, range: RangeInclusive<PartId>) -> Parts<'_> {
        self.inner().scan_unchecked(range)
    }

    fn last(&self, up_to: &PartId) -> Result<Option<PartId>, StorageError> {
        self.inner().last(up_to)
    }

    fn due(&self, now: Timestamp, max: usize) -> Result<Vec<PartId>, StorageError> {
        self.inner().due(now, max)
    }

    fn tally(&self, id: &TallyId) -> Result<Tally, StorageError> {
        self.inner().tally(id)
    }

    fn notes(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StorageError> {
        self.inner().notes()
    }

    fn apply(&mut self, changes: Vec<Change>) -> Result<(), StorageError> {
        self.inner_mut().apply(changes)?;
        if self.reopens == Reopens::AtChanges { self.commit() } else { Ok(()) }
    }

    fn commit(&mut self) -> Result<(), StorageError> {
        self.inner_mut().commit()?;
        if self.reopens != Reopens::WhenTold {
            self.reopen();
        }
        Ok(())
    }

    fn usage(&self) -> Usage {
        self.inner().usage()
    }

    fn attach(&mut self, local: PeerId, check: Arc<dyn RowCheck>) -> Result<(), OtherPeer> {
        self.inner_mut().attach(local, check)
    }

    fn take_rejected(&mut self) -> Vec<InvalidRow> {
        self.inner_mut().take_rejected()
    }

    fn is_durable(&self) -> bool {
        self.inner().is_durable()
    }

    fn is_behind(&self) -> bool {
        self.inner().is_behind()
    }
}
