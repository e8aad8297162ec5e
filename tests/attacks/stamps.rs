//! Pushing honest writers out of an open board. Keys are free, so only the work in their stamps
//! makes it dear.

use std::time::{Duration, Instant};

use libp2p_kad::{self as kad, Record, store::RecordStore};
use libp2p_smart_record::{
    Clock, Dict, Limits, Open, RecordKey, Registry, SmartRecord, SpaceRules, SpaceSigner,
    StampSearch, Writer,
    store::{MemoryStorage, SmartRecordStore, StoreConfig},
};
use smart_record_testing::{ManualClock, NOW, at, keys::keypair};

const HOUR: Duration = Duration::from_secs(3_600);
/// The places of the boards: fewer than by default, so that the test is short.
const PLACES: u64 = 64;
/// The bits of the honest writers' stamps.
const BITS: u8 = 8;
/// The least bits that count: fewer than by default, for the same reason.
const MIN_BITS: u8 = BITS - 1;

fn key() -> RecordKey {
    RecordKey::new("/sr/board")
}

fn replica(min_bits: u8, clock: &ManualClock) -> SmartRecordStore {
    let limits = Limits::default().with_spaces_per_record(usize::try_from(PLACES).unwrap());
    let limits = limits.with_min_stamp_bits(min_bits);
    let registry = Registry::empty().with("sr", SpaceRules::new(limits, Open)).unwrap();
    let (local, config) = (keypair(1_000_000).public().to_peer_id(), StoreConfig::default());
    let storage = MemoryStorage::default();
    SmartRecordStore::with_storage(local, registry, config, storage, clock.clone()).unwrap()
}

fn put(store: &mut SmartRecordStore, value: &[u8]) {
    store.put(Record::new(kad::RecordKey::new(&key()), value.to_vec())).unwrap();
}

/// The space of a new writer with a stamp of so many bits, and how many hashes it took.
fn space(number: u64, bits: u8, clock: &ManualClock) -> (SmartRecord, u64) {
    let now = clock.now();
    let mut signer = SpaceSigner::new(key(), keypair(number), Limits::default());
    signer.resume(&SmartRecord::new(key()));
    let mut tried = 0;
    if bits > 0 {
        let mut search = signer.stamp_search(bits, now);
        while !signer.has_stamp(bits, now) {
            signer.set_stamp(search.step(64));
        }
        tried = search.tried();
    }
    let document: Dict = [("n", i64::try_from(number).unwrap())].into_iter().collect();
    signer.merge(document, now, HOUR).unwrap();
    (signer.record(now), tried)
}

/// How many of the honest writers a replica shows.
fn shown(store: &SmartRecordStore) -> usize {
    let view = store.view(&key()).unwrap();
    (0..PLACES).filter(|n| view.get(&keypair(*n).public().to_peer_id()).is_some()).count()
}

/// A board that is full of honest writers, and the hashes that they have spent.
fn honest(bits: u8, clock: &ManualClock) -> (SmartRecordStore, u64) {
    fill(replica(MIN_BITS, clock), bits, clock)
}

/// The same, of a given board.
fn fill(mut store: SmartRecordStore, bits: u8, clock: &ManualClock) -> (SmartRecordStore, u64) {
    let mut spent = 0;
    for n in 0..PLACES {
        let (record, tried) = space(n, bits, clock);
        spent += tried;
        put(&mut store, &record.encode());
    }
    assert_eq!(shown(&store), PLACES as usize);
    (store, spent)
}

#[test]
fn free_keys_push_out_nobody_who_has_spent_work() {
    let clock = ManualClock::at(at(NOW));
    let flood: Vec<_> = (0..20 * PLACES).map(|n| space(1_000 + n, 0, &clock).0.encode()).collect();
    // Without work, whoever has the highest ranks goes: nearly all.
    let (mut store, _) = honest(0, &clock);
    flood.iter().for_each(|value| put(&mut store, value));
    let left_without = shown(&store);
    assert!(left_without < PLACES as usize / 8, "{left_without} are left");
    let (mut store, spent) = honest(BITS, &clock);
    flood.iter().for_each(|value| put(&mut store, value));
    assert_eq!(shown(&store), PLACES as usize);
    println!(
        "an open board of {PLACES} writers, and {} free keys: {left_without} writers are left \
         without stamps, and all with stamps of {BITS} bits ({spent} hashes)",
        flood.len(),
    );
}

#[test]
fn pushing_out_n_writers_costs_n_times_what_each_of_them_has_spent() {
    let clock = ManualClock::at(at(NOW));
    let (store, spent) = honest(BITS, &clock);
    drop(store);
    // With the same work a key of a lower rank takes the place of one writer; with less, of none.
    for (bits, of_each) in [(BITS - 1, 0), (BITS, 1), (BITS + 1, 1)] {
        let (mut store, _) = honest(BITS, &clock);
        let mut attacker = 0;
        let mut keys = 0;
        let highest = (0..PLACES).map(|n| Writer::from(&keypair(n).public()).rank(&key()));
        let middle = {
            let mut all: Vec<_> = highest.collect();
            all.sort_unstable();
            all[PLACES as usize / 2]
        };
        let low = |n: &u64| Writer::from(&keypair(*n).public()).rank(&key()) < middle;
        for n in (10_000..).filter(low).take(PLACES as usize / 4) {
            let (record, tried) = space(n, bits, &clock);
            attacker += tried;
            keys += 1;
            put(&mut store, &record.encode());
        }
        let gone = PLACES as usize - shown(&store);
        assert_eq!(gone, of_each * keys, "{bits} bits");
        println!(
            "stamps of {bits} bits: {keys} keys, {attacker} hashes, push out {gone} writers, each \
             of which had spent {} hashes on average",
            spent / PLACES
        );
    }
}

/// Whoever has the least work pushes out all who have none, with a key of any rank for each place.
/// Without a least number of bits that was next to nothing.
#[test]
fn stamps_of_less_than_the_least_bits_push_out_nobody_more_than_none_do() {
    let clock = ManualClock::at(at(NOW));
    let flood = |min_bits: u8, bits: u8| {
        let (mut store, _) = fill(replica(min_bits, &clock), 0, &clock);
        let mut hashes = 0;
        for n in 50_000..50_000 + PLACES {
            let (record, tried) = space(n, bits, &clock);
            hashes += tried;
            put(&mut store, &record.encode());
        }
        let left = shown(&store);
        println!(
            "{PLACES} writers without stamps, where {min_bits} bits count: as many keys with \
             stamps of {bits} bits, {hashes} hashes, leave {left} of them",
        );
        left
    };
    assert_eq!(flood(0, 1), 0, "before");
    let without = flood(MIN_BITS, 0);
    assert!(without > PLACES as usize / 4, "the ranks decide");
    for bits in [1, MIN_BITS - 1] {
        assert_eq!(flood(MIN_BITS, bits), without);
    }
    assert_eq!(flood(MIN_BITS, MIN_BITS), 0);
}

/// What a hash costs here, for `docs/security.md`. Run it with `--release` for a figure of a core.
#[test]
fn the_price_of_a_stamp() {
    const TRIES: u64 = 300_000;
    let now = at(NOW);
    let signer = SpaceSigner::new(key(), keypair(1), Limits::default());
    let mut search: StampSearch = signer.stamp_search(255, now);
    let begun = Instant::now();
    assert_eq!(search.step(TRIES), None);
    let rate = TRIES as f64 / begun.elapsed().as_secs_f64();
    println!("{:.1} million hashes a second of this core", rate / 1e6);
    let seconds = |bits: u8| (1_u64 << bits) as f64 / rate;
    for bits in [20, 24, 28] {
        println!("a stamp of {bits} bits: {:.2} s", seconds(bits));
    }
    let limits = Limits::default();
    let (slots, bits) = (limits.spaces_per_record(), limits.min_stamp_bits());
    let price = slots as f64 * seconds(bits);
    println!(
        "all {slots} slots of a board of writers without stamps, {bits} bits each: {price:.0} s"
    );
}
