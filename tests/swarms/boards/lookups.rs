//! How many lookups a large board takes: the stores of the 20 peers that are the closest to its key, among ten
//! thousand, asked as Kademlia asks them.

use super::*;
use std::collections::BTreeSet;

use libp2p_kad::store::RecordStore;
use libp2p_smart_record::store::MemoryStorage;
use prost::{Message, bytes::Bytes};

/// How many peers there are, and how many of them hold the board.
const PEERS: u64 = 10_000;
const REPLICAS: usize = 20;

/// Of an answer, whose spaces are in it; what is in them is not looked at.
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

/// A peer that nobody has the key of.
fn peer(number: u64) -> PeerId {
    let id = RecordKey::new(number.to_be_bytes()).digest();
    PeerId::from_bytes(&[&[0x12, 0x20], &id[..]].concat()).unwrap()
}

/// The stores of the replicas of a board of spaces of 1.2 KB.
fn replicas(key: &RecordKey, writers: u64) -> (Vec<SmartRecordStore>, SmartRecord) {
    let mut peers: Vec<_> = (0..PEERS).map(peer).collect();
    by_distance(&mut peers, key, |peer| *peer);
    peers.truncate(REPLICAS);
    // The same in every run.
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

/// Lets so many readers look up the board at the same time, from all these stores, until each has all of it;
/// returns the most lookups that one needed, and how many there were on average.
fn read(stores: &[SmartRecordStore], key: &RecordKey, all: usize, readers: usize) -> (usize, f64) {
    let mut read = vec![(BTreeSet::new(), 0); readers];
    let mut lookup = 0;
    while read.iter().any(|(read, _)| read.len() < all) {
        lookup += 1;
        for (has, lookups) in &mut read {
            let missing = has.len() < all;
            // Those who are done go on: other readers come in their place.
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
fn the_lookups_of_a_large_board_are_bounded_however_many_readers_there_are() {
    for board in 0..2 {
        let key = RecordKey::new(format!("/sr/boards/{board}"));
        let (stores, board) = replicas(&key, 250);
        // A space that does not fit leaves some of each slice empty.
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
        // Whatever the others do, a single replica hands out all that it has.
        for store in &stores[..3] {
            let (lookups, _) = read(std::slice::from_ref(store), &key, board.spaces().len(), 1);
            assert!(lookups <= slices + 3, "{lookups} lookups of {slices} slices");
        }
    }
}

/// The replicas of a key are the closest to it, so what they know of it, its distance, is nearly the same.
#[test]
fn the_closest_of_ten_thousand_begin_at_places_of_their_own() {
    let key = RecordKey::new("/sr/boards/beginnings");
    let (stores, _) = replicas(&key, 100);
    let beginnings: BTreeSet<_> = stores.iter().map(|store| ask(store, &key).remove(0)).collect();
    assert!(beginnings.len() >= REPLICAS - 3, "{} places", beginnings.len());
}
