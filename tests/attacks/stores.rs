//! Flushing one record from a full store: keys are free, so the share of the store that an address
//! prefix gets is what counts.

use std::time::{Duration, Instant};

use libp2p_kad::{self as kad, Record, store::RecordStore};
use libp2p_smart_record::{
    Clock, Dict, Limits, RecordKey, Registry, SmartRecord, SpaceSigner,
    store::{Asker, MemoryStorage, SmartRecordStore, StoreConfig, storage::RecordId},
};
use smart_record_testing::{ManualClock, NOW, at, keys::keypair};

const HOUR: Duration = Duration::from_secs(3_600);
/// Bounds a sixteenth of the default ones, so that the test is short.
const SHARE: usize = 16;
/// The honest networks, and how many records each has brought.
const NETWORKS: u32 = 32;
const EACH: usize = 16;

/// A peer of one of 65,536 networks.
fn network(n: u32) -> Asker {
    let address = format!("/ip4/10.{}.{}.7/tcp/1", n / 256, n % 256);
    Asker::new(keypair(1_000_000).public().to_peer_id(), Some(&address.parse().unwrap()))
}

struct Node {
    store: SmartRecordStore,
    clock: ManualClock,
    max: usize,
}

impl Node {
    /// A node to which honest networks have brought records, each a second after the one before.
    fn new() -> (Self, Vec<RecordKey>) {
        let (clock, local) = (ManualClock::at(at(NOW)), keypair(1_000_001).public().to_peer_id());
        let max = StoreConfig::default().max_records() / SHARE;
        let config = StoreConfig::default().with_max_records(max);
        let (registry, storage) = (Registry::default(), MemoryStorage::default());
        let store = SmartRecordStore::with_storage(local, registry, config, storage, clock.clone());
        let mut node = Self { store: store.unwrap(), clock, max };
        let mut honest = Vec::new();
        for n in 0..EACH {
            for network in 0..NETWORKS {
                let key = RecordKey::new(format!("/sr/honest/{network}/{n}"));
                let value = node.record(&key);
                assert!(node.bring(network, &key, value));
                honest.push(key);
            }
        }
        (node, honest)
    }

    fn record(&self, key: &RecordKey) -> Vec<u8> {
        let now = self.clock.now();
        let mut signer = SpaceSigner::new(key.clone(), keypair(1), Limits::default());
        signer.resume(&SmartRecord::new(key.clone()));
        signer.merge(Dict::new(), now, 40 * HOUR).unwrap();
        signer.record(now).encode()
    }

    /// Puts a record, a second after the one before. Returns whether it is stored.
    fn bring(&mut self, from: u32, key: &RecordKey, value: Vec<u8>) -> bool {
        self.clock.advance(Duration::from_secs(1));
        self.store.asked_by(Some(network(from)));
        self.store.put(Record::new(kad::RecordKey::new(key), value)).unwrap();
        assert!(self.store.usage().records <= self.max);
        self.has(key)
    }

    fn has(&self, key: &RecordKey) -> bool {
        self.store.record(key).unwrap().is_some()
    }

    /// Keys that are closer to the node than all of these.
    fn closer(&self, than: &[RecordKey]) -> impl Iterator<Item = RecordKey> + use<> {
        let local = self.store.local_peer();
        // Closer than the median is enough for the order by distance to prefer them.
        let mut distances: Vec<_> = than.iter().map(|key| RecordId::new(&local, key)).collect();
        distances.sort_unstable();
        let median = distances[distances.len() / 2];
        let keys = (0..).map(|n| RecordKey::new(format!("/sr/flood/{n}")));
        keys.filter(move |key| RecordId::new(&local, key) < median)
    }
}

#[test]
fn a_flood_from_one_network_flushes_no_record_of_another() {
    let (mut node, honest) = Node::new();
    let begun = Instant::now();
    let keys: Vec<_> = node.closer(&honest).take(2 * node.max).collect();
    let flood: Vec<_> = keys.iter().map(|key| (key, node.record(key))).collect();
    let made = begun.elapsed();
    let bytes: usize = flood.iter().map(|(key, value)| key.as_bytes().len() + value.len()).sum();
    let stored = flood.into_iter().filter(|(key, value)| node.bring(1_000, key, value.clone()));
    let stored = stored.count();
    assert_eq!(stored, node.max - honest.len(), "what was free");
    assert!(honest.iter().all(|key| node.has(key)));
    // Whoever comes later finds room all the same: as much as the flooder has left.
    let late = RecordKey::new("/sr/late");
    let value = node.record(&late);
    assert!(node.bring(2_000, &late, value) && honest.iter().all(|key| node.has(key)));
    println!(
        "a flood from one network: {} records, {:.1} MB of PUT, {:.1?} of one core to each replica; \
         before, half as many flushed any record; now none of another network",
        2 * node.max * SHARE,
        (bytes * SHARE) as f64 / 1e6,
        made * u32::try_from(SHARE).unwrap(),
    );
}

#[test]
fn a_flood_from_many_networks_costs_as_many_shares() {
    let (mut node, honest) = Node::new();
    let (first, last) = (&honest[0], &honest[(EACH - 1) * NETWORKS as usize]);
    let mut keys = node.closer(&honest);
    let mut flushed = None;
    let all = u32::try_from(node.max).unwrap();
    for n in 0..all + 200 {
        // As many as it gets.
        for _ in 0..=EACH {
            let key = keys.next().unwrap();
            let value = node.record(&key);
            if !node.bring(1_000 + n, &key, value) {
                break;
            }
        }
        if flushed.is_none() && !node.has(last) {
            flushed = Some(n + 1);
        }
    }
    let flushed = flushed.unwrap();
    println!(
        "flushing the {EACH}th record of a network from a store of {} takes {flushed} networks, so \
         {} of the default size; its first one is there after {all}",
        node.max,
        flushed as usize * SHARE,
    );
    // The free half of the store is shared by the flooders before they reach what others have.
    let free = node.max - honest.len();
    assert!(flushed as usize >= free / EACH, "{flushed}");
    // Each honest network keeps as much as each of those that flood.
    assert!(node.has(first), "nobody loses its only record to one more network");
    let left = |network: u32| {
        (0..EACH).filter(|n| node.has(&RecordKey::new(format!("/sr/honest/{network}/{n}")))).count()
    };
    assert!((0..NETWORKS).all(|network| left(network) >= 1));
}
