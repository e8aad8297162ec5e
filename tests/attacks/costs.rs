//! Attacks on the processor: work that costs its sender little and a node much.

mod disk;
mod signatures;

use std::time::{Duration, Instant};

use libp2p_kad::{self as kad, Record, store::RecordStore};
use libp2p_smart_record::{
    RecordKey, Registry,
    store::{Counters, MemoryStorage, SmartRecordStore, StoreConfig},
};
use smart_record_testing::{ManualClock, NOW, at, keys::keypair};

/// A replica at [`NOW`].
fn replica(registry: Registry) -> SmartRecordStore {
    replica_of(registry, StoreConfig::default())
}

fn replica_of(registry: Registry, config: StoreConfig) -> SmartRecordStore {
    let local = keypair(1_000_000).public().to_peer_id();
    let (storage, clock) = (MemoryStorage::default(), ManualClock::at(at(NOW)));
    SmartRecordStore::with_storage(local, registry, config, storage, clock).unwrap()
}

/// A PUT of another peer. Returns how many signatures were verified for it, and how long it took.
fn put(store: &mut SmartRecordStore, key: &RecordKey, value: &[u8]) -> (u64, Duration) {
    let verified = |store: &SmartRecordStore| store.counters().signatures_verified;
    let (before, begun) = (verified(store), Instant::now());
    store.put(Record::new(kad::RecordKey::new(key), value.to_vec())).unwrap();
    (verified(store) - before, begun.elapsed())
}

fn print(what: &str, bytes: usize, (verified, took): (u64, Duration), counters: &Counters) {
    println!("{what}: {bytes} B, {verified} signatures verified, {took:?}; {counters:?}");
}
