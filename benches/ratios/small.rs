//! Figures of one core and one or two boards.

use std::{hint::black_box, thread, time::Duration};

use libp2p_identity::Keypair;
use libp2p_kad::{
    Record,
    store::{MemoryStore, MemoryStoreConfig, RecordStore},
};
use libp2p_smart_record::{
    RecordKey, SignatureMemory, SpaceRules, Writer, store::SmartRecordStore, verification_work,
};
use smart_record_testing::keys;

use crate::{
    fixtures::{
        Bare, HOUR, NOW, board, board_key, busy_time, keypair, local, record, store, time, update,
        value,
    },
    harness::Harness,
};

/// How many updates a round has.
const UPDATES: u64 = 1_000;
const ROUNDS: usize = 31;

pub fn run(harness: &mut Harness) {
    key_types(harness);
    admission(harness);
    packets(harness);
    boards(harness);
    reading(harness);
    two_cores(harness);
}

/// Verifying a signature of each key type, in parts of the work that the budget of other peers
/// counts for it. The unit of that is Ed25519, whose figure is the time in parts of 50 µs.
fn key_types(harness: &mut Harness) {
    let message = [7; 300];
    let verifier = |keypair: Keypair| {
        let (writer, signature) = (Writer::from(&keypair.public()), keypair.sign(&message));
        (writer, signature.unwrap())
    };
    let verify = |(writer, signature): &(Writer, Vec<u8>)| {
        time(0..20, |_| writer.verify_bytes(&message, signature).unwrap())
    };
    let [ed25519, secp256k1, ecdsa, rsa] = keys::all_types().map(verifier);
    harness
        .ratio("ed25519_in_50_us", ROUNDS, || (verify(&ed25519), 20 * Duration::from_micros(50)));
    let weight = |of: &(Writer, Vec<u8>)| verification_work(of.0.as_bytes(), message.len());
    for (name, of) in [
        ("secp256k1_in_its_weight", secp256k1),
        ("ecdsa_in_its_weight", ecdsa),
        ("rsa_2048_in_its_weight", rsa),
    ] {
        let in_ed25519 = weight(&of).div_duration_f64(weight(&ed25519));
        harness.ratio(name, ROUNDS, || (verify(&of), verify(&ed25519).mul_f64(in_ed25519)));
    }
    replays(harness);
}

/// A signature that was found good before.
fn replays(harness: &mut Harness) {
    let (memory, message) = (SignatureMemory::new(1_024 * 1_024), [7; 300]);
    let signatures: Vec<_> = (0..1_000)
        .map(keypair)
        .map(|keypair| (Writer::from(&keypair.public()), keypair.sign(&message).unwrap()))
        .collect();
    let verify = || {
        time(&signatures, |(writer, signature)| writer.verify_bytes(&message, signature).unwrap())
    };
    harness.ratio("verify_again_from_memory", ROUNDS, || {
        (memory.during(Duration::MAX, verify).0, verify())
    });
}

fn put(store: &mut SmartRecordStore, value: &(RecordKey, Vec<u8>)) {
    store.put(Record::new(libp2p_kad::RecordKey::new(&value.0), value.1.clone())).unwrap();
}

/// New updates, each of another writer and in its own record, and the same once more.
fn admission(harness: &mut Harness) {
    let (new, known) = ("admit_new_update", "admit_known_update");
    let new_key = "admit_new_update_of_new_key";
    if !harness.wants_any([new, known, new_key]) {
        return;
    }
    let mut values = Vec::new();
    let mut bare = Vec::new();
    for n in 0..UPDATES {
        let (key, keypair) = (board_key(n), keypair(n));
        let update = update(&key, &keypair, 0, HOUR);
        bare.push(Bare::new(&key, &keypair, &update));
        values.push((key.clone(), record(&key, [(&keypair, update)]).encode()));
    }
    let verify = || time(&bare, Bare::verify);
    let admit = || {
        let mut store = store();
        let admit = time(&values, |value| put(&mut store, value));
        assert_eq!(store.counters().admitted, UPDATES);
        admit
    };
    harness.ratio(new, ROUNDS, || (admit(), verify()));
    harness.ratio(new_key, ROUNDS, || (admit(), time(&bare, Bare::verify_anew)));
    let mut store = store();
    time(&values, |value| put(&mut store, value));
    harness.ratio(known, ROUNDS, || (time(&values, |value| put(&mut store, value)), verify()));
    assert_eq!(store.counters().admitted, UPDATES);
}

/// Packets of 40 new updates, each of another writer.
fn packets(harness: &mut Harness) {
    let name = "admit_packet_of_40";
    if !harness.wants(name) {
        return;
    }
    let (mut values, mut bare) = (Vec::new(), Vec::new());
    for n in 0..25 {
        let key = board_key(n);
        let keypairs: Vec<_> = (40 * n..40 * (n + 1)).map(keypair).collect();
        let updates = keypairs.iter().map(|keypair| (keypair, update(&key, keypair, 0, HOUR)));
        bare.extend(updates.clone().map(|(keypair, update)| Bare::new(&key, keypair, &update)));
        values.push((key.clone(), record(&key, updates).encode()));
    }
    harness.ratio(name, ROUNDS, || {
        let mut store = store();
        let admit = time(&values, |value| put(&mut store, value));
        assert_eq!(store.counters().admitted, UPDATES);
        (admit, time(&bare, Bare::verify_anew))
    });
}

fn boards(harness: &mut Harness) {
    let (into, join) = ("put_into_board_of_1000", "join_boards_differing_in_10");
    if !harness.wants_any([into, join]) {
        return;
    }
    let key = board_key(0);
    let mut store = store();
    for chunk in board(&key, 0..1_000).chunks(15 * 1_024) {
        store.put(Record::new(libp2p_kad::RecordKey::new(&key), chunk)).unwrap();
    }
    assert_eq!(store.counters().admitted, 1_000);
    let mut writers = (1_000..).map(keypair);
    harness.ratio(into, ROUNDS, || {
        let (mut large, mut small) = (Vec::new(), Vec::new());
        for (n, keypair) in (1_000_000..).zip(writers.by_ref().take(100)) {
            large.push((key.clone(), value(&key, &keypair, 0, HOUR)));
            let empty = board_key(n);
            small.push((empty.clone(), value(&empty, &keypair, 0, HOUR)));
        }
        let mut empty = crate::fixtures::store();
        let full = time(&large, |value| put(&mut store, value));
        assert_eq!(empty.counters().refused_total(), 0);
        (full, time(&small, |value| put(&mut empty, value)))
    });

    let (one, other) = (board(&key, 0..1_000).encode(), board(&key, 10..1_010));
    let keypairs: Vec<_> = (1_000..1_010).map(keypair).collect();
    let bare: Vec<_> =
        keypairs.iter().map(|k| Bare::new(&key, k, &update(&key, k, 0, HOUR))).collect();
    let other = other.encode();
    harness.ratio(join, ROUNDS, || {
        let mut store = crate::fixtures::store();
        store.write(&key, &one).unwrap();
        let joined = time([&other], |other| drop(store.write(&key, other).unwrap()));
        (joined, time(&bare, Bare::verify))
    });
}

/// A board of 20 spaces, read as Kademlia does, compared with the same answer from libp2p's store.
fn reading(harness: &mut Harness) {
    let name = board_key(0);
    let key = libp2p_kad::RecordKey::new(&name);
    let (mut ours, mut theirs) = (store(), MemoryStore::new(local()));
    ours.put(Record::new(key.clone(), board(&name, 0..20).encode())).unwrap();
    let record = ours.get(&key).unwrap().into_owned();
    theirs.put(record.clone()).unwrap();
    let times = || 0..10_000;
    harness.ratio("get_20_spaces", ROUNDS, || {
        let mine =
            busy_time(times(), |_| drop(black_box(ours.get(&record.key).unwrap().into_owned())));
        let other =
            busy_time(times(), |_| drop(black_box(theirs.get(&record.key).unwrap().into_owned())));
        (mine, other)
    });
    reading_for_the_first_time(harness);
}

/// The same with more records than the cache of replies holds, so that each reply is encoded anew.
fn reading_for_the_first_time(harness: &mut Harness) {
    const RECORDS: u64 = 1_500;
    let name = "get_20_spaces_for_the_first_time";
    if !harness.wants(name) {
        return;
    }
    let mut ours = store();
    let config = MemoryStoreConfig { max_records: RECORDS as usize, ..Default::default() };
    let mut theirs = MemoryStore::with_config(local(), config);
    let keys: Vec<_> = (0..RECORDS)
        .map(|n| {
            let key = board_key(n);
            let record = Record::new(libp2p_kad::RecordKey::new(&key), board(&key, 0..20).encode());
            ours.put(record.clone()).unwrap();
            theirs.put(record.clone()).unwrap();
            record.key
        })
        .collect();
    harness.ratio(name, ROUNDS, || {
        let mine = busy_time(&keys, |key| drop(black_box(ours.get(key).unwrap().into_owned())));
        let other = busy_time(&keys, |key| drop(black_box(theirs.get(key).unwrap().into_owned())));
        (mine, other)
    });
}

/// One validator on two threads.
fn two_cores(harness: &mut Harness) {
    let (name, bare) = ("validate_on_two_cores", "verify_strict_on_two_cores");
    if !harness.wants_any([name, bare]) {
        return;
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    if cores < 2 {
        return harness.skip([bare, name], "this process has one core");
    }
    // What two threads gain on this machine if they share nothing.
    let signatures: Vec<_> = (0..1_000)
        .map(|n| (board_key(n), keypair(n)))
        .map(|(key, keypair)| Bare::new(&key, &keypair, &update(&key, &keypair, 0, HOUR)))
        .collect();
    let verify = |signatures: &[Bare]| signatures.iter().for_each(Bare::verify);
    let (left, right) = signatures.split_at(signatures.len() / 2);
    harness.ratio(bare, ROUNDS, || {
        let one = time([()], |()| verify(&signatures));
        let two = time([()], |()| {
            thread::scope(|scope| {
                scope.spawn(|| verify(left));
                verify(right);
            });
        });
        (one, two)
    });
    let validator = SpaceRules::default();
    let values: Vec<_> =
        (0..1_000).map(|n| (board_key(n), value(&board_key(n), &keypair(n), 0, HOUR))).collect();
    let validate = |values: &[(RecordKey, Vec<u8>)]| {
        for (key, value) in values {
            validator.validate(key, value, NOW).unwrap();
        }
    };
    let (left, right) = values.split_at(values.len() / 2);
    let on_two = || {
        thread::scope(|scope| {
            scope.spawn(|| validate(left));
            validate(right);
        });
    };
    harness.ratio(name, ROUNDS, || {
        let one: Duration = time([()], |()| validate(&values));
        (one, time([()], |()| on_two()))
    });
}
