//! Shared by the tests of the store, with storage in memory (`tests/store/main.rs`) and on disk
//! (`tests/store_on_disk.rs`). These define `new_storage`.

#![allow(unused_imports, dead_code, reason = "each file of tests uses a part of it")]

pub use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

pub use libp2p_identity::{Keypair, PeerId};
pub use libp2p_kad::{
    self as kad, ProviderRecord, Record,
    store::{MemoryStore, RecordStore},
};
pub use libp2p_smart_record::{
    AcceptAny, Arcs, Clock, Coverage, Dict, Fault, Limit, LimitExceeded, Limits, Malformed, Open,
    RecordKey, Registry, RingArc, SmartRecord, SpaceRules, SpaceSigner, SystemClock, Timestamp,
    ValidationError, Validator, Validity, Writer, best_index,
    store::{
        Asker, Events, MemoryStorage, Origin, Quota, SmartRecordStore, StorageError, StoreConfig,
        StoreEvent, Usage, ValidatedRecord, WriteError,
        storage::{Change, Part, PartId, Parts, RecordId, SpaceId, Storage, Tally, TallyId},
    },
};
pub use proptest::{
    collection::vec,
    option,
    prelude::*,
    test_runner::{FileFailurePersistence, TestRunner},
};

use super::new_storage;
pub use super::{
    contract::with_fallback_only,
    probe::{Probe, Shared, probed},
    refusals::Number,
    slices::large_board,
};

pub use smart_record_testing::{ManualClock, keys::keypair, without_coverage};

/// The time at which each test begins.
pub const T0: u64 = 1_700_000_000_000;

pub const HOUR: Duration = Duration::from_secs(3_600);

pub fn peer(seed: u64) -> PeerId {
    keypair(seed).public().to_peer_id()
}

/// The owner of the store.
pub fn local() -> PeerId {
    peer(u64::MAX)
}

pub fn kad_key(key: impl AsRef<[u8]>) -> kad::RecordKey {
    kad::RecordKey::new(&key)
}

/// Smart records under `/sr/`, numbers under `/number/`, anything else under any other key.
pub fn registry() -> Registry {
    Registry::default().with("number", Number).unwrap().with_fallback(AcceptAny::default())
}

pub fn open_store(config: StoreConfig) -> (SmartRecordStore, ManualClock) {
    let clock = ManualClock::at(Timestamp::from_millis(T0));
    let storage = new_storage();
    let store = SmartRecordStore::with_storage(local(), registry(), config, storage, clock.clone())
        .unwrap();
    (store, clock)
}

pub fn events(events: &mut Events) -> Vec<StoreEvent> {
    std::iter::from_fn(|| events.try_next()).collect()
}

pub fn text(bytes: usize) -> Dict {
    [("text", "x".repeat(bytes))].into_iter().collect()
}

/// The signer of a writer that has not written under the key before.
pub fn signer(key: &RecordKey, writer: u64, limits: Limits) -> SpaceSigner {
    let mut signer = SpaceSigner::new(key.clone(), keypair(writer), limits);
    signer.resume(&SmartRecord::new(key.clone()));
    signer
}

/// The encoding of one space with one update, which merges `bytes` bytes of text.
pub fn one_space(key: &RecordKey, writer: u64, bytes: usize, ttl: Duration) -> Vec<u8> {
    let mut signer = signer(key, writer, Limits::default());
    let update = signer.merge(text(bytes), Timestamp::from_millis(T0), ttl).unwrap();
    let mut record = SmartRecord::new(key.clone());
    record.insert(signer.writer(), update).unwrap();
    record.encode()
}

/// From now on, a peer without a space asks.
pub fn asked(store: &mut SmartRecordStore) {
    store.asked_by(Some(Asker::new(peer(1 << 40), None)));
}

/// Puts a remote value, as Kademlia does.
pub fn put(store: &mut SmartRecordStore, key: &RecordKey, value: Vec<u8>) {
    store.put(Record::new(kad::RecordKey::new(key), value)).unwrap();
}

pub fn decode(key: &RecordKey, value: &[u8]) -> SmartRecord {
    SmartRecord::decode(key, value.to_vec(), &Limits::default()).unwrap()
}

/// Keys of value records in ascending order of distance from the local peer.
pub fn by_distance(n: usize) -> Vec<RecordKey> {
    let mut keys: Vec<_> = (0..n).map(|i| RecordKey::new(format!("/any/{i}"))).collect();
    keys.sort_by_key(|key| RecordId::new(&local(), key));
    keys
}
