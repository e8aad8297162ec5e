//! A storage that counts accesses and fails on command.

use std::ops::RangeInclusive;

use libp2p_smart_record::store::{
    OtherPeer,
    storage::{InvalidRow, RowCheck},
};

use super::*;
use super::{TestStorage, new_storage, reopen};

/// A storage that counts accesses and fails on command.
#[derive(Default)]
pub struct Probe {
    inner: Shared,
    state: Arc<ProbeState>,
}

#[derive(Default)]
pub struct ProbeState {
    pub gets: AtomicUsize,
    pub scans: AtomicUsize,
    /// The accessed rows, and the bytes in them.
    pub read: Touched,
    pub written: Touched,
    pub fail_reads: AtomicBool,
    /// The number of the one `get` that fails, from 1; none if zero.
    pub failing_get: AtomicUsize,
    pub tallies: AtomicUsize,
    /// The same of `tally`.
    pub failing_tally: AtomicUsize,
    pub fail_due: AtomicBool,
    /// How many more times `apply` succeeds.
    pub applies_left: AtomicUsize,
    pub fail_applies: AtomicBool,
    pub commits: AtomicUsize,
    pub fail_commits: AtomicBool,
}

/// How many rows were accessed, whether they exist or not, and how many bytes they have.
#[derive(Default)]
pub struct Touched {
    rows: AtomicUsize,
    bytes: AtomicUsize,
}

impl Touched {
    fn add(&self, bytes: usize) {
        self.rows.fetch_add(1, SeqCst);
        self.bytes.fetch_add(bytes, SeqCst);
    }

    /// Rows and bytes since the last call.
    pub fn take(&self) -> (usize, usize) {
        (self.rows.swap(0, SeqCst), self.bytes.swap(0, SeqCst))
    }
}

impl ProbeState {
    pub fn reset(&self) {
        self.gets.store(0, SeqCst);
        self.scans.store(0, SeqCst);
    }

    pub fn fail_applies_after(&self, applies: usize) {
        self.applies_left.store(applies, SeqCst);
        self.fail_applies.store(true, SeqCst);
    }

    pub fn mend(&self) {
        for switch in [&self.fail_reads, &self.fail_due, &self.fail_applies, &self.fail_commits] {
            switch.store(false, SeqCst);
        }
    }

    pub fn check(switch: &AtomicBool) -> Result<(), StorageError> {
        if switch.load(SeqCst) {
            return Err(StorageError::Io(std::io::ErrorKind::Other));
        }
        Ok(())
    }
}

impl Storage for Probe {
    fn get(&self, id: &PartId) -> Result<Option<Part<'_>>, StorageError> {
        let before = self.state.gets.fetch_add(1, SeqCst);
        ProbeState::check(&self.state.fail_reads)?;
        if before + 1 == self.state.failing_get.load(SeqCst) {
            return Err(StorageError::Io(std::io::ErrorKind::Other));
        }
        let part = self.inner.get(id)?;
        self.state.read.add(part.as_ref().map_or(0, |part| part.bytes.len()));
        Ok(part)
    }

    fn scan(&self, range: RangeInclusive<PartId>) -> Parts<'_> {
        self.watched(|| self.inner.scan(range))
    }

    fn scan_unchecked(&self, range: RangeInclusive<PartId>) -> Parts<'_> {
        self.watched(|| self.inner.scan_unchecked(range))
    }

    fn last(&self, up_to: &PartId) -> Result<Option<PartId>, StorageError> {
        ProbeState::check(&self.state.fail_reads)?;
        self.state.read.add(0);
        self.inner.last(up_to)
    }

    fn due(&self, now: Timestamp, max: usize) -> Result<Vec<PartId>, StorageError> {
        ProbeState::check(&self.state.fail_due)?;
        let due = self.inner.due(now, max)?;
        due.iter().for_each(|_| self.state.read.add(0));
        Ok(due)
    }

    fn apply(&mut self, changes: Vec<Change>) -> Result<(), StorageError> {
        if self.state.fail_applies.load(SeqCst) {
            let left = self.state.applies_left.load(SeqCst);
            self.state.applies_left.store(left.saturating_sub(1), SeqCst);
            if left == 0 {
                return Err(StorageError::Io(std::io::ErrorKind::Other));
            }
        }
        for change in &changes {
            self.state.written.add(match change {
                Change::Set(_, part) => part.bytes.len(),
                _ => 0,
            });
        }
        self.inner.apply(changes)
    }

    fn tally(&self, id: &TallyId) -> Result<Tally, StorageError> {
        let before = self.state.tallies.fetch_add(1, SeqCst);
        ProbeState::check(&self.state.fail_reads)?;
        if before + 1 == self.state.failing_tally.load(SeqCst) {
            return Err(StorageError::Io(std::io::ErrorKind::Other));
        }
        self.state.read.add(0);
        self.inner.tally(id)
    }

    fn notes(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StorageError> {
        ProbeState::check(&self.state.fail_reads)?;
        self.inner.notes()
    }

    fn commit(&mut self) -> Result<(), StorageError> {
        ProbeState::check(&self.state.fail_commits)?;
        self.state.commits.fetch_add(1, SeqCst);
        self.inner.commit()
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }

    fn attach(&mut self, local: PeerId, check: Arc<dyn RowCheck>) -> Result<(), OtherPeer> {
        self.inner.attach(local, check)
    }

    fn take_rejected(&mut self) -> Vec<InvalidRow> {
        self.inner.take_rejected()
    }

    /// It outlives its store.
    fn is_durable(&self) -> bool {
        true
    }

    fn is_behind(&self) -> bool {
        false
    }
}

impl Probe {
    fn watched<'a>(&self, scan: impl FnOnce() -> Parts<'a>) -> Parts<'a> {
        self.state.scans.fetch_add(1, SeqCst);
        let state = self.state.clone();
        match ProbeState::check(&self.state.fail_reads) {
            Ok(()) => Box::new(scan().inspect(move |part| {
                state.read.add(part.as_ref().map_or(0, |(_, part)| part.bytes.len()));
            })),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }

    pub fn over(inner: Shared) -> Self {
        Self { inner, state: Arc::default() }
    }

    pub fn state(&self) -> Arc<ProbeState> {
        self.state.clone()
    }
}

/// Storage that outlives its store, and can be inspected while the store is in use.
pub struct Shared(Arc<Mutex<TestStorage>>);

impl Default for Shared {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(new_storage())))
    }
}

impl Shared {
    fn one_by_one(
        &self,
        range: RangeInclusive<PartId>,
        scan: impl for<'a> Fn(&'a TestStorage, RangeInclusive<PartId>) -> Parts<'a> + 'static,
    ) -> Parts<'_> {
        let mut seen: Option<PartId> = None;
        Box::new(std::iter::from_fn(move || {
            let storage = self.0.lock().unwrap();
            let mut rest = scan(&storage, seen.unwrap_or(*range.start())..=*range.end());
            let next = rest.find(|part| part.as_ref().is_ok_and(|(id, _)| Some(*id) != seen));
            let (id, part) = next?.ok()?;
            seen = Some(id);
            Some(Ok((id, owned(part))))
        }))
    }

    pub fn share(&self) -> Self {
        Self(self.0.clone())
    }

    /// Closes the storage and opens it again, if it can be closed.
    pub fn reopen(&self) {
        reopen(&mut self.0.lock().unwrap());
    }
}

fn owned(part: Part<'_>) -> Part<'static> {
    Part { bytes: Cow::Owned(part.bytes.into_owned()), ..part }
}

impl Storage for Shared {
    fn get(&self, id: &PartId) -> Result<Option<Part<'_>>, StorageError> {
        Ok(self.0.lock().unwrap().get(id)?.map(owned))
    }

    fn scan(&self, range: RangeInclusive<PartId>) -> Parts<'_> {
        self.one_by_one(range, |storage, range| storage.scan(range))
    }

    fn scan_unchecked(&self, range: RangeInclusive<PartId>) -> Parts<'_> {
        self.one_by_one(range, |storage, range| storage.scan_unchecked(range))
    }

    fn last(&self, up_to: &PartId) -> Result<Option<PartId>, StorageError> {
        self.0.lock().unwrap().last(up_to)
    }

    fn due(&self, now: Timestamp, max: usize) -> Result<Vec<PartId>, StorageError> {
        self.0.lock().unwrap().due(now, max)
    }

    fn tally(&self, id: &TallyId) -> Result<Tally, StorageError> {
        self.0.lock().unwrap().tally(id)
    }

    fn notes(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StorageError> {
        self.0.lock().unwrap().notes()
    }

    fn apply(&mut self, changes: Vec<Change>) -> Result<(), StorageError> {
        self.0.lock().unwrap().apply(changes)
    }

    fn commit(&mut self) -> Result<(), StorageError> {
        self.0.lock().unwrap().commit()
    }

    fn usage(&self) -> Usage {
        self.0.lock().unwrap().usage()
    }

    fn attach(&mut self, local: PeerId, check: Arc<dyn RowCheck>) -> Result<(), OtherPeer> {
        self.0.lock().unwrap().attach(local, check)
    }

    fn take_rejected(&mut self) -> Vec<InvalidRow> {
        self.0.lock().unwrap().take_rejected()
    }

    /// It outlives its store.
    fn is_durable(&self) -> bool {
        true
    }

    fn is_behind(&self) -> bool {
        false
    }
}

pub fn probed(config: StoreConfig) -> (SmartRecordStore, Arc<ProbeState>, ManualClock) {
    let (probe, clock) = (Probe::default(), ManualClock::at(Timestamp::from_millis(T0)));
    let state = probe.state.clone();
    let store =
        SmartRecordStore::with_storage(local(), registry(), config, probe, clock.clone()).unwrap();
    (store, state, clock)
}
