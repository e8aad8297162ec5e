//! The store: libp2p's contract for value records, every storage against a model, bounds, collection, slices,
//! replication, refusals and failures of the storage.

#[path = "store/ages.rs"]
mod ages;
#[path = "store/bounds.rs"]
mod bounds;
#[path = "store/checked.rs"]
mod checked;
#[path = "store/collection.rs"]
mod collection;
#[path = "store/conformance.rs"]
mod conformance;
#[path = "store/contract.rs"]
mod contract;
#[path = "store/cost.rs"]
mod cost;
#[path = "store/events.rs"]
mod events;
#[path = "store/failures.rs"]
mod failures;
#[path = "store/probe.rs"]
mod probe;
#[path = "store/quotas.rs"]
mod quotas;
#[cfg(feature = "redb")]
#[path = "store/redb.rs"]
mod redb;
#[path = "store/refusals.rs"]
mod refusals;
#[path = "store/removal.rs"]
mod removal;
#[path = "store/slices.rs"]
mod slices;
#[path = "store/tallies.rs"]
mod tallies;

#[path = "support/clock.rs"]
mod clock;

use clock::ManualClock;
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use libp2p_identity::{Keypair, PeerId};
use libp2p_kad::{
    self as kad, ProviderRecord, Record,
    store::{MemoryStore, RecordStore},
};
use libp2p_smart_record::{
    AcceptAny, Clock, Dict, Fault, Limits, Malformed, RecordKey, Registry, SmartRecord,
    SmartRecordStore, SmartRecordValidator, SpaceSigner, StoreConfig, StoreEvent, Timestamp,
    ValidationError, Validator, Validity, WriteError, Writer, best_index,
    record::{Limit, LimitExceeded, Open},
    store::{
        Events, MemoryStorage, Origin, Quota, StorageError, Usage,
        storage::{Change, Part, PartId, Parts, RecordId, SpaceId, Storage, Tally, TallyId},
    },
};
use proptest::{
    collection::vec,
    option,
    prelude::*,
    test_runner::{FileFailurePersistence, TestRunner},
};

/// The time at which every test begins.
const T0: u64 = 1_700_000_000_000;

const HOUR: Duration = Duration::from_secs(3_600);

use contract::with_fallback_only;
use probe::{Probe, Shared, probed};
use refusals::Number;
use slices::large_board;

fn keypair(seed: u64) -> Keypair {
    let mut secret = [7; 32];
    secret[..8].copy_from_slice(&seed.to_le_bytes());
    Keypair::ed25519_from_bytes(secret).unwrap()
}

fn peer(seed: u64) -> PeerId {
    keypair(seed).public().to_peer_id()
}

/// The peer whose store it is.
fn local() -> PeerId {
    peer(u64::MAX)
}

fn kad_key(key: impl AsRef<[u8]>) -> kad::RecordKey {
    kad::RecordKey::new(&key)
}

/// Smart records under `/sr/`, numbers under `/number/`, anything else under any other key.
fn registry() -> Registry {
    Registry::default().with("number", Number).unwrap().with_fallback(AcceptAny::default())
}

fn open_store(config: StoreConfig) -> (SmartRecordStore, ManualClock) {
    let clock = ManualClock::at(Timestamp::from_millis(T0));
    let storage = MemoryStorage::default();
    let store = SmartRecordStore::with_storage(local(), registry(), config, storage, clock.clone());
    (store, clock)
}

fn events(events: &mut Events) -> Vec<StoreEvent> {
    std::iter::from_fn(|| events.try_next()).collect()
}

fn text(bytes: usize) -> Dict {
    [("text", "x".repeat(bytes))].into_iter().collect()
}

/// The signer of a writer that has never written under the key.
fn signer(key: &RecordKey, writer: u64, limits: Limits) -> SpaceSigner {
    let mut signer = SpaceSigner::new(key.clone(), keypair(writer), limits);
    signer.resume(&SmartRecord::new(key.clone()));
    signer
}

/// The encoding of one space with one update, which merges `bytes` bytes of text.
fn one_space(key: &RecordKey, writer: u64, bytes: usize, ttl: Duration) -> Vec<u8> {
    let mut signer = signer(key, writer, Limits::default());
    let update = signer.merge(text(bytes), Timestamp::from_millis(T0), ttl).unwrap();
    let mut record = SmartRecord::new(key.clone());
    record.insert(signer.writer(), update).unwrap();
    record.encode()
}

/// Writes as Kademlia does what a stranger sent.
fn put<S: Storage>(store: &mut SmartRecordStore<S>, key: &RecordKey, value: Vec<u8>) {
    store.put(Record::new(kad::RecordKey::from(key), value)).unwrap();
}

fn decode(key: &RecordKey, value: &[u8]) -> SmartRecord {
    SmartRecord::decode(key, value.to_vec(), &Limits::default()).unwrap()
}

/// Keys of value records in ascending order of distance from the local peer.
fn by_distance(n: usize) -> Vec<RecordKey> {
    let mut keys: Vec<_> = (0..n).map(|i| RecordKey::new(format!("/any/{i}"))).collect();
    keys.sort_by_key(|key| RecordId::new(&local(), key));
    keys
}
