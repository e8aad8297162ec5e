//! Number of lookups for a large board: the stores of the 20 closest of ten thousand peers, asked
//! as Kademlia asks them.

use super::*;
use std::{collections::BTreeSet, ops::Range};

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

/// The writers in the slice with which a store answers a reader, as a behaviour asks it.
fn ask(store: &mut SmartRecordStore, key: &RecordKey, reader: u64) -> Vec<Bytes> {
    store.asked_by(Some(Asker::new(peer(PEERS + reader), None)));
    let answer = store.get(&kad::RecordKey::new(key)).unwrap();
    assert!(answer.value.len() <= SLICE_BYTES);
    let answer = Answer::decode(&answer.value[..]).unwrap();
    answer.spaces.into_iter().map(|space| space.public_key).collect()
}

/// Lets `readers` read the board from all these stores at the same time, the first of them with
/// this number. Returns the maximum and the mean number of lookups.
fn read(
    stores: &mut [SmartRecordStore],
    key: &RecordKey,
    all: usize,
    readers: Range<u64>,
) -> (usize, f64) {
    let mut read: Vec<_> = readers.map(|reader| (reader, BTreeSet::new(), 0)).collect();
    while read.iter().any(|(_, read, _)| read.len() < all) {
        for (reader, has, lookups) in &mut read {
            let missing = has.len() < all;
            // Readers that have finished go on, in place of new readers.
            for store in &mut *stores {
                has.extend(ask(store, key, *reader));
            }
            *lookups += usize::from(missing);
        }
    }
    let lookups = || read.iter().map(|(.., lookups)| *lookups);
    (lookups().max().unwrap(), lookups().sum::<usize>() as f64 / read.len() as f64)
}

#[test]
fn the_lookups_for_a_large_board_are_bounded_for_any_number_of_readers() {
    let mut number = 0;
    for board in 0..2 {
        let key = RecordKey::new(format!("/sr/boards/{board}"));
        let (mut stores, board) = replicas(&key, 250);
        // A part of each slice stays empty, because spaces are not split.
        let slices = slices(&board) + 4;
        println!("{key}: {slices} slices, {REPLICAS} replicas");
        for readers in [1, 2, 8, 40, 1] {
            for replicas in [REPLICAS, 12, 1] {
                let stores = &mut stores[REPLICAS - replicas..];
                let range = number..number + readers;
                number += readers;
                let (most, mean) = read(stores, &key, board.spaces().len(), range);
                // Others change nothing for a reader, whose places are random, and a single replica
                // returns everything that it has.
                let bound = bound(slices, replicas, slices * readers as usize).min(slices + 3);
                println!(
                    "  {readers} readers, {replicas} replicas: {mean:.1} lookups, at most {most}; bound {bound}"
                );
                assert!(most <= bound, "{most} lookups");
            }
        }
    }
}
