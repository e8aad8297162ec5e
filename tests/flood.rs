//! A flood of updates from new keys, under one key and under as many keys as there are updates. The
//! store stays within its bounds, protected data is unchanged, and writes of known writers stay
//! fast.
//!
//! The default number of updates is small. All of it, with figures: `FLOOD=1000000 cargo test
//! --release --test flood -- --nocapture`.

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

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use libp2p_identity::PeerId;
use libp2p_kad::{self as kad, Record, store::RecordStore};
use libp2p_smart_record::{
    AcceptAny, Clock, Dict, Limits, RecordKey, Registry, SmartRecord, SpaceSigner, Timestamp,
    store::{MemoryStorage, SmartRecordStore, StoreConfig, storage::Storage},
};
use smart_record_testing::{ManualClock, keys::keypair};
use support::allocated::allocated;

const T0: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const HOUR: Duration = Duration::from_secs(3_600);
/// The protected writers: the local peer, and those on the list.
const KNOWN: u64 = 8;
/// The memory of each store besides its rows or its cache: cached replies and cursors; and the
/// queue of the flood.
const SLACK: usize = 1_536 * 1_024;
/// What a store on disk may keep in memory.
#[cfg(feature = "redb")]
const CACHE: usize = 1_024 * 1_024;
/// The size of a file with nothing in it: redb's regions and its log of free pages.
#[cfg(feature = "redb")]
const LEAST_FILE: usize = 4 * 1_024 * 1_024;
/// The default number of updates of each flood, enough to fill a smaller store many times.
const SCALED: u64 = 12_000;

fn text(bytes: usize) -> Dict {
    [("text", "x".repeat(bytes))].into_iter().collect()
}

fn signer(key: &RecordKey, seed: u64) -> SpaceSigner {
    let mut signer = SpaceSigner::new(key.clone(), keypair(seed), Limits::default());
    // It has never written there.
    signer.resume(&SmartRecord::new(key.clone()));
    signer
}

fn local() -> PeerId {
    keypair(0).public().to_peer_id()
}

fn open(storage: impl Storage, config: &StoreConfig, clock: &ManualClock) -> SmartRecordStore {
    let registry = Registry::default().with_fallback(AcceptAny::default());
    SmartRecordStore::with_storage(local(), registry, config.clone(), storage, clock.clone())
        .unwrap()
}

fn put(store: &mut SmartRecordStore, key: &RecordKey, value: Vec<u8>) {
    store.put(Record::new(kad::RecordKey::new(key), value)).unwrap();
}

/// Spaces of unknown writers, signed in a separate thread.
fn flood(
    updates: u64,
    key: impl Fn(u64) -> RecordKey + Send + 'static,
) -> impl Iterator<Item = (RecordKey, Vec<u8>)> {
    let (sender, receiver) = mpsc::sync_channel(16);
    thread::spawn(move || {
        for begin in (0..updates).step_by(64) {
            let batch = (begin..updates.min(begin + 64)).map(|n| {
                let key = key(n);
                let mut signer = signer(&key, 1_000_000 + n);
                signer.merge(text(100), T0, HOUR).unwrap();
                let value = signer.record(T0).encode();
                (key, value)
            });
            if sender.send(batch.collect::<Vec<_>>()).is_err() {
                return;
            }
        }
    });
    receiver.into_iter().flatten()
}

/// The updates of known writers, without end.
struct Known(Vec<(RecordKey, SpaceSigner)>);

impl Known {
    fn next(&mut self, n: usize, now: Timestamp) -> (RecordKey, Vec<u8>) {
        let len = self.0.len();
        let (key, signer) = &mut self.0[n % len];
        signer.replace(text(100 + n % 2), now, HOUR).unwrap();
        (key.clone(), signer.record(now).encode())
    }
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// The effects of a flood on a store.
struct Outcome {
    max_bytes: usize,
    /// The largest growth of the process's memory, for this store and the one that is not flooded.
    grown: usize,
}

/// Floods a store, and returns the effects.
fn withstands<S: Storage>(
    shape: &str,
    storage: impl Fn() -> S,
    updates: u64,
    key: impl Fn(u64) -> RecordKey + Send + 'static,
) -> Outcome {
    let before = allocated();
    let listed: Vec<PeerId> = (1..KNOWN).map(|n| keypair(n).public().to_peer_id()).collect();
    let mut config = StoreConfig::default().with_protected(listed);
    config = match updates < 1_000_000 {
        true => config
            .with_max_records(8 * 1_024)
            .with_max_bytes(4 * 1_024 * 1_024)
            .with_max_record_bytes(1_024 * 1_024),
        // So many that bytes are the first bound to be reached.
        false => config.with_max_records(updates as usize),
    };
    let clock = ManualClock::at(T0);
    let mut store = open(storage(), &config, &clock);
    let mut calm = open(storage(), &config, &clock);

    // Data that has to stay unchanged: spaces near the flood and at the farthest keys, and a value.
    let mut places = vec![key(0)];
    places.extend((0..16).map(|n| RecordKey::new(format!("/sr/protected/{n}"))));
    let mut kept = Vec::new();
    for place in &places {
        for writer in 0..KNOWN {
            let mut signer = signer(place, writer);
            signer.merge(text(50), T0, HOUR).unwrap();
            let record = signer.record(T0);
            let space = record.space(&signer.writer()).unwrap().encode(&signer.writer());
            put(&mut store, place, record.encode());
            kept.push((place.clone(), signer.writer(), space));
        }
    }
    let own = RecordKey::new("/any/own");
    store.write(&own, b"own").unwrap();

    // Known writers go on writing, to this store and to one that is not flooded.
    let mut known = Known(
        (0..KNOWN)
            .map(|n| {
                let key = match n % 2 {
                    0 => RecordKey::new(format!("{}/known", key(0))),
                    _ => RecordKey::new(format!("/sr/known/{n}")),
                };
                let signer = signer(&key, n);
                (key, signer)
            })
            .collect(),
    );
    let (mut without, mut during, mut turn) = (Vec::new(), Vec::new(), 0_usize);
    let every = (updates / 2_000).max(1);
    let mut most = before;
    let start = Instant::now();
    let mut in_store = Duration::ZERO;
    for (n, (key, value)) in flood(updates, key).enumerate() {
        let begun = Instant::now();
        put(&mut store, &key, value);
        in_store += begun.elapsed();
        if (n as u64).is_multiple_of(every) {
            clock.advance(Duration::from_millis(1));
            let (key, value) = known.next(during.len(), clock.now());
            // In alternating order, because the second one finds the processor's caches warm.
            let mut both = [(&mut calm, &mut without), (&mut store, &mut during)];
            if turn % 2 == 1 {
                both.reverse();
            }
            turn += 1;
            for (store, times) in both {
                let value = value.clone();
                let begun = Instant::now();
                put(store, &key, value);
                times.push(begun.elapsed());
            }
            let usage = store.usage();
            assert!(usage.records <= config.max_records(), "{usage:?}");
            assert!(usage.bytes <= config.max_bytes(), "{usage:?}");
            most = most.max(allocated());
        }
    }
    let elapsed = start.elapsed();
    let counters = store.counters();
    assert_eq!(counters.admitted + counters.refused_total(), {
        updates + kept.len() as u64 + during.len() as u64
    });
    // Nearly all of the flood was refused or has been removed.
    assert!(
        counters.refused_total() + counters.spaces_evicted + counters.records_evicted > updates / 2
    );

    for (place, writer, space) in &kept {
        let record =
            store.record_of(place, [&writer.peer_id()]).unwrap().expect("a protected space");
        let stored = record.space(writer).map(|space| space.encode(writer));
        assert_eq!(stored.as_ref(), Some(space), "{writer} at {place}");
    }
    assert_eq!(store.get(&kad::RecordKey::new(&own)).unwrap().value, b"own");
    for (key, signer) in &known.0 {
        let now = clock.now();
        let writer = signer.writer().peer_id();
        let record = store.record_of(key, [&writer]).unwrap().expect("a known writer's space");
        let space = record.space(&signer.writer()).map(|space| space.encode(&signer.writer()));
        let said = signer.record(now);
        let said = said.space(&signer.writer()).map(|space| space.encode(&signer.writer()));
        assert_eq!(space, said);
    }

    let ratio = median(&mut without).as_secs_f64() / median(&mut during).as_secs_f64();
    // Without the longest of a hundred, which are due to the machine. The times are sorted here.
    let throughput = |times: &[Duration]| {
        let times = &times[..times.len() - times.len() / 100];
        times.len() as f64 / times.iter().sum::<Duration>().as_secs_f64()
    };
    let mean = throughput(&during) / throughput(&without);
    let usage = store.usage();
    let grown = most.saturating_sub(before);
    println!(
        "{shape}: {updates} updates in {elapsed:.1?}, {:.1?} each in the store; {} admitted, {} refused, {} spaces \
         and {} records evicted",
        in_store / u32::try_from(updates).unwrap(),
        counters.admitted,
        counters.refused_total(),
        counters.spaces_evicted,
        counters.records_evicted,
    );
    println!(
        "{shape}: {} of {} records, {} of {} bytes; {:.1} MiB more memory, {:.2} of the bound",
        usage.records,
        config.max_records(),
        usage.bytes,
        config.max_bytes(),
        grown as f64 / 1_048_576.0,
        grown as f64 / config.max_bytes() as f64,
    );
    println!(
        "{shape}: puts of known writers per second of the store's time, with / without the flood: {ratio:.2} (median), \
         {mean:.2} (mean of all but the longest)"
    );
    assert!(
        ratio >= 0.5 && mean >= 0.5,
        "known writers have {ratio:.2} or {mean:.2} of their throughput"
    );
    Outcome { max_bytes: config.max_bytes(), grown }
}

fn updates() -> u64 {
    match std::env::var("FLOOD") {
        Ok(updates) => updates.parse().expect("FLOOD is a number of updates"),
        Err(_) => SCALED,
    }
}

/// Under one key, and under as many keys as there are updates.
fn floods<S: Storage>(name: &str, storage: impl Fn() -> S, check: impl Fn(Outcome)) {
    let one_key = |_| RecordKey::new("/sr/flooded");
    check(withstands(&format!("{name}, one key"), &storage, updates(), one_key));
    let many_keys = |n| RecordKey::new(format!("/sr/flooded/{n}"));
    check(withstands(&format!("{name}, as many keys"), &storage, updates(), many_keys));
}

/// A single test, so that nothing else allocates memory in the meantime.
#[test]
fn a_flood_stays_within_bounds_and_touches_nothing_protected() {
    floods("memory", MemoryStorage::default, |Outcome { max_bytes, grown }| {
        assert!(grown <= max_bytes + 2 * SLACK, "{grown} bytes of memory");
    });
    #[cfg(feature = "redb")]
    on_disk();
}

#[cfg(feature = "redb")]
fn on_disk() {
    use std::{cell::RefCell, fs};

    use libp2p_smart_record::store::{RedbConfig, RedbStorage};

    let folder = tempfile::tempdir().unwrap();
    let files: RefCell<Vec<std::path::PathBuf>> = RefCell::default();
    let storage = || {
        let mut files = files.borrow_mut();
        let path = folder.path().join(files.len().to_string());
        files.push(path.clone());
        let config = RedbConfig::default().with_cache_bytes(CACHE);
        RedbStorage::open(path, local(), &config).unwrap()
    };
    floods("disk", storage, |Outcome { max_bytes, grown }| {
        let largest = files.borrow().iter().map(|file| fs::metadata(file).unwrap().len()).max();
        let largest = largest.unwrap() as usize;
        println!("disk: the file has {:.2} of the bound", largest as f64 / max_bytes as f64);
        assert!(largest <= max_bytes + LEAST_FILE, "{largest} bytes of disk");
        // That of the flooded store, and of the one that is not flooded.
        assert!(grown <= 2 * (CACHE + SLACK), "{grown} bytes of memory");
    });
}
