//! Number of lookups for a large board: the stores of the 20 closest of ten thousand peers, asked
//! as Kademlia asks them.

use super::*;
use std::collections::BTreeSet;

use libp2p_kad::store::RecordStore;
use libp2p_smart_record::store::MemoryStorage;
use prost::{Message, bytes::Bytes};

/// Number of peers, and of replicas of the board among them.
const PEERS: u64 = 10_000;
const REPLICAS: usize = 20;

/// An answer of which only the writers are decoded.
#[derive(Message)]
struct Answer {
    #[prost(message, repeated, tag = "1")]
    spaces: Vec<Signed>,
}

#[derive(Message)]
struct Signed {
    #[prost(bytes = "bytes", tag = "1")]
    public_key: Bytes,
}

/// A peer id without a keypair.
fn peer(number: u64) -> PeerId {
    let id = RecordKey::new(number.to_be_bytes()).digest();
    PeerId::from_bytes(&[&[0x12, 0x20], &id[..]].concat()).unwrap()
}

/// The stores of the replicas of a board of spaces of 1.2 KB.
fn replicas(key: &RecordKey, writers: u64) -> (Vec<SmartRecordStore>, SmartRecord) {
    let mut peers: Vec<_> = (0..PEERS).map(peer).collect();
    by_distance(&mut peers, key, |peer| *peer);
    peers.truncate(REPLICAS);
    // Deterministic.
    let now = Timestamp::from_millis(1_700_000_000_000);
    let clock = smart_record_testing::ManualClock::at(now);
    let mut board = SmartRecord::new(key.clone());
    for writer in 0..writers {
        board.join(space(key, writer, 1_060, now)).unwrap();
    }
    let mut stores = Vec::new();
    for peer in peers {
        let (registry, config) = (Registry::default(), StoreConfig::default());
        let storage = MemoryStorage::default();
        let mut store =
            SmartRecordStore::with_storage(peer, registry, config, storage, clock.clone()).unwrap();
        store.write(key, &board.encode()).unwrap();
        stores.push(store);
    }
    (stores, board)
}

/// The writers in the slice with which a store answers.
fn ask(store: &SmartRecordStore, key: &RecordKey) -> Vec<Bytes> {
    let answer = store.get(&kad::RecordKey::new(key)).unwrap();
    assert!(answer.value.len() <= SLICE_BYTES);
    let answer = Answer::decode(&answer.value[..]).unwrap();
    answer.spaces.into_iter().map(|space| space.public_key).collect()
}

/// Lets `readers` read the board from all these stores at the same time. Returns the maximum and
/// the mean number of lookups.
fn read(stores: &[SmartRecordStore], key: &RecordKey, all: usize, readers: usize) -> (usize, f64) {
    let mut read = vec![(BTreeSet::new(), 0); readers];
    let mut lookup = 0;
    while read.iter().any(|(read, _)| read.len() < all) {
        lookup += 1;
        for (has, lookups) in &mut read {
            let missing = has.len() < all;
            // Readers that have finished go on, in place of new readers.
            for store in stores {
                has.extend(ask(store, key));
            }
            *lookups += usize::from(missing);
        }
    }
    let sum: usize = read.iter().map(|(_, lookups)| lookups).sum();
    (lookup, sum as f64 / readers as f64)
}

#[test]
fn the_lookups_for_a_large_board_are_bounded_for_any_number_of_readers() {
    for board in 0..2 {
        let key = RecordKey::new(format!("/sr/boards/{board}"));
        let (stores, board) = replicas(&key, 250);
        // A part of each slice stays empty, because spaces are not split.
        let slices = slices(&board) + 4;
        println!("{key}: {slices} slices, {REPLICAS} replicas");
        for readers in [1, 2, 8, 40, 1] {
            for replicas in [REPLICAS, 12, 1] {
                let stores = &stores[REPLICAS - replicas..];
                let (most, mean) = read(stores, &key, board.spaces().len(), readers);
                let bound = bound(slices, replicas, readers);
                println!(
                    "  {readers} readers, {replicas} replicas: {mean:.1} lookups, at most {most}; bound {bound}"
                );
                assert!(most <= bound, "{most} lookups");
            }
        }
        // A single replica returns everything that it has, whatever the others do.
        for store in &stores[..3] {
            let (lookups, _) = read(std::slice::from_ref(store), &key, board.spaces().len(), 1);
            assert!(lookups <= slices + 3, "{lookups} lookups of {slices} slices");
        }
    }
}

/// The replicas of a key are the closest to it, so their distances from it are nearly equal.
#[test]
fn the_closest_of_ten_thousand_peers_start_their_slices_at_different_places() {
    let key = RecordKey::new("/sr/boards/beginnings");
    let (stores, _) = replicas(&key, 100);
    let beginnings: BTreeSet<_> = stores.iter().map(|store| ask(store, &key).remove(0)).collect();
    assert!(beginnings.len() >= REPLICAS - 3, "{} places", beginnings.len());
}
