//! Writes to a node whose disk is slow.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Instant,
};

use libp2p_kad::{self as kad, Record, store::RecordStore};
use libp2p_smart_record::{
    Registry,
    store::{SmartRecordStore, StoreConfig, StoreEvent},
};
use smart_record_testing::{
    ManualClock, at,
    forge::{NOW, Update, alice, encode, key},
    keys::keypair,
};

use crate::slow::Slow;

#[test]
fn a_slow_disk_does_not_hold_the_task_of_who_writes() {
    let storage = Slow::default();
    let (is_behind, applied) = (Arc::clone(&storage.is_behind), Arc::clone(&storage.applied));
    let (local, clock) = (keypair(9).public().to_peer_id(), ManualClock::at(at(NOW)));
    let (registry, config) = (Registry::default(), StoreConfig::default());
    let mut store =
        SmartRecordStore::with_storage(local, registry, config, storage, clock).unwrap();
    let mut events = store.subscribe();
    let value = encode([alice().says(&Update::saying(1))]);
    let put = |store: &mut SmartRecordStore| {
        store.put(Record::new(kad::RecordKey::new(&key()), value.clone()))
    };
    let begun = Instant::now();
    for _ in 0..1_000 {
        assert!(put(&mut store).is_ok(), "an error would block the connection");
    }
    println!("writes while the disk is behind: {:?} each", begun.elapsed() / 1_000);
    let counters = store.counters();
    assert_eq!((applied.load(SeqCst), counters.behind), (0, 1_000));
    assert_eq!((counters.signatures_verified, counters.storage_failures), (0, 0));
    assert_eq!(events.try_next(), Some(StoreEvent::Behind { key: key() }));

    // The node's own writes are not refused.
    assert_eq!(store.write(&key(), &value).unwrap().stored, 1);
    is_behind.store(false, SeqCst);
    put(&mut store).unwrap();
    assert_eq!(store.counters().known, 1);
}
