//! Flushing one record from a store: the farthest record goes first, and distances are free to
//! choose. Nothing stands against it yet; this says what it takes.

use std::time::{Duration, Instant};

use libp2p_kad::{self as kad, Record, store::RecordStore};
use libp2p_smart_record::{
    Clock, Dict, Limits, RecordKey, Registry, SmartRecord, SpaceSigner,
    store::{MemoryStorage, SmartRecordStore, StoreConfig, storage::RecordId},
};
use smart_record_testing::{ManualClock, NOW, at, keys::keypair};

const HOUR: Duration = Duration::from_secs(3_600);
/// Bounds a sixteenth of the default ones, so that the test is short.
const SHARE: usize = 16;

fn record(key: &RecordKey, clock: &ManualClock) -> Vec<u8> {
    let now = clock.now();
    let mut signer = SpaceSigner::new(key.clone(), keypair(1), Limits::default());
    signer.resume(&SmartRecord::new(key.clone()));
    signer.merge(Dict::new(), now, HOUR).unwrap();
    signer.record(now).encode()
}

#[test]
fn a_record_is_flushed_by_as_many_closer_ones_as_a_store_holds_and_by_no_fewer() {
    let (clock, local) = (ManualClock::at(at(NOW)), keypair(1_000_000).public().to_peer_id());
    let max = StoreConfig::default().max_records() / SHARE;
    let config = StoreConfig::default().with_max_records(max);
    let (registry, storage) = (Registry::default(), MemoryStorage::default());
    let store = SmartRecordStore::with_storage(local, registry, config, storage, clock.clone());
    let mut store = store.unwrap();
    let mut put = |key: &RecordKey, value: Vec<u8>| {
        store.put(Record::new(kad::RecordKey::new(key), value)).unwrap();
        store.usage().records
    };
    let victim = RecordKey::new("/sr/victim");
    put(&victim, record(&victim, &clock));
    let distance = RecordId::new(&local, &victim);
    let begun = Instant::now();
    let keys = (0..).map(|n| RecordKey::new(format!("/sr/flood/{n}")));
    let closer: Vec<_> =
        keys.filter(|key| RecordId::new(&local, key) < distance).take(max).collect();
    let flood: Vec<_> = closer.iter().map(|key| (key, record(key, &clock))).collect();
    let made = begun.elapsed();
    let bytes: usize = flood.iter().map(|(key, value)| key.as_bytes().len() + value.len()).sum();
    let (last, all_but_one) = flood.split_last().unwrap();
    for (key, value) in all_but_one {
        assert!(put(key, value.clone()) <= max);
    }
    assert_eq!(put(&victim, record(&victim, &clock)), max, "it is there");
    put(last.0, last.1.clone());
    assert!(store.record(&victim).unwrap().is_none(), "it is the farthest");
    println!(
        "flushing a record from one replica: {} records, {:.1} MB of PUT, {:.1?} of one core; 20 \
         times that from 20 replicas",
        max * SHARE,
        (bytes * SHARE) as f64 / 1e6,
        made * u32::try_from(SHARE).unwrap(),
    );
}
