//! The suite that every storage passes.

use super::*;

/// Closes the storage and opens it again after each commit, and commits each change if it is told to.
struct Reopened {
    inner: Option<RedbStorage>,
    device: Device,
    durability: Durability,
    commits_all: bool,
}

impl Reopened {
    fn new(durability: Durability, commits_all: bool) -> Self {
        let device = Device::default();
        let inner = Some(open_on(&device, durability).unwrap());
        Self { inner, device, durability, commits_all }
    }

    fn inner(&self) -> &RedbStorage {
        self.inner.as_ref().unwrap()
    }
}

impl Storage for Reopened {
    fn get(&self, id: &PartId) -> Result<Option<Part<'_>>, StorageError> {
        self.inner().get(id)
    }

    fn scan(&self, from: &PartId) -> libp2p_smart_record::store::storage::Parts<'_> {
        self.inner().scan(from)
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
        self.inner.as_mut().unwrap().apply(changes)?;
        if self.commits_all { self.commit() } else { Ok(()) }
    }

    fn commit(&mut self) -> Result<(), StorageError> {
        let mut inner = self.inner.take().unwrap();
        inner.commit()?;
        drop(inner);
        self.inner = Some(open_on(&self.device, self.durability)?);
        Ok(())
    }

    fn usage(&self) -> Usage {
        self.inner().usage()
    }
}

#[test]
fn redb_storage_conforms() {
    for durability in MODES {
        conformance::run(64, || open_on(&Device::default(), durability).unwrap());
    }
}

#[test]
fn redb_storage_conforms_while_groups_are_being_written() {
    // A window of nothing: the thread writes whenever it can.
    let window = Duration::ZERO;
    let durability = Durability::Group { window, max_bytes: 1 << 20 };
    conformance::run(64, || open_on(&Device::default(), durability).unwrap());
}

#[test]
fn redb_storage_conforms_when_it_is_reopened() {
    for durability in MODES {
        for commits_all in [false, true] {
            conformance::run(12, || Reopened::new(durability, commits_all));
        }
    }
}
