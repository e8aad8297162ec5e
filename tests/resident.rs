//! Compares the cost of rows with the memory they take: a store in memory really stays within its
//! bound.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that cannot go on has failed"
)]

mod support {
    pub mod allocated;
}

use std::time::{Duration, Instant};

use libp2p_kad::{Record, store::RecordStore};
use libp2p_smart_record::{
    AcceptAny, Dict, Limits, RecordKey, Registry, SpaceSigner, Timestamp,
    store::{MemoryStorage, SmartRecordStore, StoreConfig},
};
use smart_record_testing::{ManualClock, keys::keypair};
use support::allocated::allocated;

const T0: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const HOUR: Duration = Duration::from_secs(3_600);
/// How many rows: the largest hash table has just grown, so rows take the most memory.
const ROWS: u64 = 3_600;

/// The smallest space that a writer can sign.
fn space(key: &RecordKey, seed: u64) -> Vec<u8> {
    let mut signer = SpaceSigner::new(key.clone(), keypair(seed), Limits::default());
    signer.merge(Dict::default(), T0, HOUR).unwrap();
    signer.record(T0).encode()
}

type Values<'a> = &'a dyn Fn(u64) -> (RecordKey, Vec<u8>);

/// The bytes that a store of these values takes, and those that it counts.
fn filled(values: Values<'_>, expires: Option<Instant>) -> (usize, usize) {
    let local = keypair(u64::MAX).public().to_peer_id();
    let registry = Registry::default().with_fallback(AcceptAny::default());
    let config = StoreConfig::default();
    let storage = MemoryStorage::default();
    let clock = ManualClock::at(T0);
    let mut store =
        SmartRecordStore::with_storage(local, registry, config, storage, clock).unwrap();
    let before = allocated();
    for n in 0..ROWS {
        let (key, value) = values(n);
        store
            .put(Record { expires, ..Record::new(libp2p_kad::RecordKey::new(&key), value) })
            .unwrap();
    }
    (allocated() - before, store.usage().bytes)
}

/// A single test, so that nothing else allocates memory in the meantime.
#[test]
fn rows_take_no_more_memory_than_they_count() {
    let of_its_own = |n| RecordKey::new(format!("/sr/{n}"));
    let shared = |n| RecordKey::new(format!("/sr/{}", n / 1_000));
    let opaque = |n| RecordKey::new(format!("/any/{n}"));
    let strange = |n| RecordKey::new(format!("/{n}/any"));
    let soon = Some(Instant::now() + HOUR);
    // With the most that may be counted, as a multiple of what is taken. `Usage::ROW` cannot change
    // without a new format of files, and of rows with small values it is the greater part.
    let shapes: [(&str, Values<'_>, Option<Instant>, usize); 5] = [
        ("records of one space", &|n| (of_its_own(n), space(&of_its_own(n), n)), None, 3),
        ("boards of 1,000 spaces", &|n| (shared(n), space(&shared(n), n)), None, 3),
        ("values", &|n| (opaque(n), vec![7; 10]), None, 5),
        ("values that expire", &|n| (opaque(n), vec![7; 10]), soon, 5),
        ("each in a namespace of its own", &|n| (strange(n), vec![7; 10]), soon, 3),
    ];
    for (shape, values, expires, times) in shapes {
        let (taken, counted) = filled(values, expires);
        let ratio = taken as f64 / counted as f64;
        println!("{shape}: {taken} bytes taken, {counted} counted: {ratio:.2}");
        assert!(taken <= counted, "{shape}: {taken} bytes taken, {counted} counted");
        assert!(times * taken >= counted, "{shape}: {taken} bytes taken, {counted} counted");
    }
}
