//! Checks rows of earlier sessions before they are returned for the first time.
//!
//! **Invariants.** A row that an earlier process wrote is returned only if it is valid by the
//! current rules. The number of rows remembered as checked is bounded; forgotten ones are checked
//! again.

use std::{
    collections::{BTreeMap, HashSet},
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex},
};

use crate::store::{
    lock,
    storage::{InvalidRow, Part, PartId, RowCheck, RowFault, RowVerdict, StorageError},
};

/// How many invalid rows are reported at once. Others are hidden, and found again later.
const MAX_REJECTED: usize = 4_096;

pub(super) struct Recheck {
    check: Option<Arc<dyn RowCheck>>,
    max_good: usize,
    hasher: RandomState,
    seen: Mutex<CheckedRows>,
}

#[derive(Default)]
struct CheckedRows {
    /// Hashes of the ids of valid rows. The hash function has a secret seed.
    good: HashSet<u64>,
    rejected: BTreeMap<PartId, InvalidRow>,
}

impl Recheck {
    pub(super) fn new(max_good: usize) -> Self {
        Self { check: None, max_good, hasher: RandomState::new(), seen: Mutex::default() }
    }

    pub(super) fn set(&mut self, check: Arc<dyn RowCheck>) {
        self.check = Some(check);
        *lock(&self.seen) = CheckedRows::default();
    }

    /// The row, or its valid part. `head` returns the head of its record.
    ///
    /// # Errors
    /// That of `head`: without having read it, nothing is known of the row.
    pub(super) fn pass(
        &self,
        id: &PartId,
        part: Part<'static>,
        head: impl FnOnce() -> Result<Option<Part<'static>>, StorageError>,
    ) -> Result<Option<Part<'static>>, StorageError> {
        let Some(check) = &self.check else {
            return Ok(Some(part));
        };
        let hash = self.hasher.hash_one(id);
        {
            let seen = lock(&self.seen);
            if seen.good.contains(&hash) {
                return Ok(Some(part));
            }
            if let Some(rejected) = seen.rejected.get(id) {
                return Ok(rejected.rest.clone());
            }
        }
        let head = head()?;
        Ok(match check.check(id, &part, head.as_ref()) {
            RowVerdict::Good => {
                let mut seen = lock(&self.seen);
                if seen.good.len() >= self.max_good {
                    seen.good.clear();
                }
                seen.good.insert(hash);
                Some(part)
            }
            RowVerdict::Expired => Some(part),
            RowVerdict::Headless => None,
            RowVerdict::Partly(rest, fault) => {
                let (id, bytes, rest) = (*id, part.bytes.len(), Some(rest));
                self.reject(InvalidRow { id, part: Some(part), bytes, fault, rest: rest.clone() });
                rest
            }
            RowVerdict::Bad(fault) => {
                let (id, bytes) = (*id, part.bytes.len());
                self.reject(InvalidRow { id, part: Some(part), bytes, fault, rest: None });
                None
            }
        })
    }

    /// Reports a damaged row of about `bytes`.
    pub(super) fn damaged(&self, id: PartId, bytes: usize) {
        self.reject(InvalidRow { id, part: None, bytes, fault: RowFault::Damaged, rest: None });
    }

    fn reject(&self, rejected: InvalidRow) {
        let mut seen = lock(&self.seen);
        if seen.rejected.len() < MAX_REJECTED {
            seen.rejected.insert(rejected.id, rejected);
        }
    }

    /// Forgets a row that has been written or removed.
    pub(super) fn forget(&mut self, id: &PartId) {
        let seen = self.seen.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !seen.rejected.is_empty() {
            seen.rejected.remove(id);
        }
    }

    pub(super) fn take_rejected(&mut self) -> Vec<InvalidRow> {
        let seen = self.seen.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        std::mem::take(&mut seen.rejected).into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use libp2p_identity::Keypair;
    use libp2p_kad::{Record, RecordKey as KadKey, store::RecordStore};
    use smart_record_core::{Clock, Dict, Limits, RecordKey, Registry, SpaceSigner};

    use crate::{
        clock::SystemClock,
        store::{Origin, RedbConfig, RedbStorage, SmartRecordStore, StoreConfig, ValidatedRecord},
    };

    #[test]
    fn who_reads_what_was_stored_before_a_restart_is_charged_for_verifying_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("store");
        let (key, keypair) = (RecordKey::new("/sr/board"), Keypair::generate_ed25519());
        let local = keypair.public().to_peer_id();
        let mut signer = SpaceSigner::new(key.clone(), keypair, Limits::default());
        let document: Dict = [("text", "hello")].into_iter().collect();
        signer.merge(document, SystemClock.now(), Duration::from_secs(3_600)).unwrap();
        let mut store = SmartRecordStore::open(&file, local).unwrap();
        store.write(&key, &signer.record(SystemClock.now()).encode()).unwrap();
        drop(store);
        let store = SmartRecordStore::open(&file, local).unwrap();
        let read = || {
            assert!(store.get(&KadKey::new(&key)).is_some());
            store.take_served()
        };
        let (first, second) = (read(), read());
        assert!(first >= second + Duration::from_micros(50), "{first:?}, {second:?}");
        drop(store);
        // So is who writes, whether its value is validated by the store or was before.
        let document: Dict = [("more", "hello")].into_iter().collect();
        signer.merge(document, SystemClock.now(), Duration::from_secs(3_600)).unwrap();
        let value = signer.record(SystemClock.now()).encode();
        for is_checked in [false, true] {
            let mut store = SmartRecordStore::open(&file, local).unwrap();
            let mut write = || {
                if is_checked {
                    let (rules, key) = (store.registry(), key.clone());
                    let checked = ValidatedRecord::new(rules, key, &value, SystemClock.now());
                    store.insert(checked, Origin::Remote).unwrap();
                } else {
                    store.put(Record::new(KadKey::new(&key), value.clone())).unwrap();
                }
                store.take_served()
            };
            let (first, second) = (write(), write());
            assert!(first >= second + Duration::from_micros(50), "{first:?}, {second:?}");
        }
    }

    #[test]
    fn rows_that_are_checked_again_because_too_many_were_read_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("store");
        let key = RecordKey::new("/sr/board");
        let local = Keypair::generate_ed25519().public().to_peer_id();
        let mut store = SmartRecordStore::open(&file, local).unwrap();
        for n in 0..3 {
            let keypair = Keypair::generate_ed25519();
            let mut signer = SpaceSigner::new(key.clone(), keypair, Limits::default());
            let document: Dict = [("n", n)].into_iter().collect();
            signer.merge(document, SystemClock.now(), Duration::from_secs(3_600)).unwrap();
            store.write(&key, &signer.record(SystemClock.now()).encode()).unwrap();
        }
        assert_eq!(store.counters().rows_checked, 0, "they are of this session");
        drop(store);
        // The head and three spaces.
        for (max, more) in [(4, 0), (3, 1)] {
            let (registry, config) = (Registry::default(), StoreConfig::default());
            let file_config = RedbConfig::default().with_max_rechecked(max);
            let storage = RedbStorage::open(&file, local, &file_config).unwrap();
            let store =
                SmartRecordStore::with_storage(local, registry, config, storage, SystemClock);
            let store = store.unwrap();
            let checked = || {
                assert_eq!(store.record(&key).unwrap().unwrap().spaces().len(), 3);
                store.counters().rows_checked
            };
            let (first, again) = (checked(), checked());
            assert_eq!(first, 4);
            assert!(again >= first + more && (more > 0 || again == first), "{again}");
        }
    }
}
