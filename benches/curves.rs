//! Growth of costs: with the length of an update, the spaces of a board, the difference of two
//! boards, and the size of documents that are merged.
//!
//! `cargo bench --all-features --bench curves` measures all; `-- get` only those whose names
//! contain `get`.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a measurement that cannot go on has failed"
)]

mod ratios {
    #[allow(dead_code, reason = "the ratios use the rest")]
    pub mod fixtures;
}

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use libp2p_kad::{Record, store::RecordStore};
use libp2p_smart_record::{
    Dict, KeptDocument, Limits, Set, SpaceRules, SpaceSigner, store::SmartRecordStore,
};
use ratios::fixtures::{HOUR, NOW, board, board_key, keypair, store, value};

const SPACES: [u64; 4] = [1, 10, 100, 1_000];

/// A store that holds a board, put as Kademlia does.
fn holding(spaces: u64) -> SmartRecordStore {
    let (key, mut store) = (board_key(0), store());
    for chunk in board(&key, 0..spaces).chunks(15 * 1_024) {
        store.put(Record::new(libp2p_kad::RecordKey::new(&key), chunk)).unwrap();
    }
    store
}

fn admit(c: &mut Criterion) {
    let mut group = c.benchmark_group("admit_by_update_bytes");
    let (key, keypair) = (board_key(0), keypair(0));
    for len in [16_usize, 64, 256, 1_024, 1_900] {
        let mut signer = SpaceSigner::new(key.clone(), keypair.clone(), Limits::default());
        signer.merge(Dict::from_iter([("text", "x".repeat(len))]), NOW, HOUR).unwrap();
        let value = signer.record(NOW).encode();
        group.throughput(Throughput::Bytes(value.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(len), &value, |b, value| {
            b.iter_batched(
                || (store(), Record::new(libp2p_kad::RecordKey::new(&key), value.clone())),
                |(mut store, record)| store.put(record),
                BatchSize::SmallInput,
            );
        });
    }
}

fn put(c: &mut Criterion) {
    let mut group = c.benchmark_group("put_by_spaces_of_board");
    let key = board_key(0);
    for spaces in SPACES {
        let mut store = holding(spaces);
        let mut writers = spaces..;
        group.bench_function(BenchmarkId::from_parameter(spaces), |b| {
            b.iter_batched(
                || {
                    Record::new(
                        libp2p_kad::RecordKey::new(&key),
                        value(&key, &keypair(writers.next().unwrap()), 0, HOUR),
                    )
                },
                |record| store.put(record),
                BatchSize::SmallInput,
            );
        });
    }
}

fn get(c: &mut Criterion) {
    let mut group = c.benchmark_group("get_by_spaces_of_board");
    let key = libp2p_kad::RecordKey::new(&board_key(0));
    for spaces in SPACES {
        let store = holding(spaces);
        group.bench_function(BenchmarkId::from_parameter(spaces), |b| {
            b.iter(|| black_box(store.get(&key).unwrap().into_owned()));
        });
    }
}

fn join(c: &mut Criterion) {
    let mut group = c.benchmark_group("join_1000_spaces_by_new_ones");
    let key = board_key(0);
    let one = board(&key, 0..1_000).encode();
    for new in [0, 1, 10, 100] {
        let other = board(&key, new..1_000 + new).encode();
        group.bench_function(BenchmarkId::from_parameter(new), |b| {
            b.iter_batched_ref(
                || {
                    let mut store = store();
                    store.write(&key, &one).unwrap();
                    store
                },
                |store| store.write(&key, &other).unwrap(),
                BatchSize::LargeInput,
            );
        });
    }
}

fn consolidate(c: &mut Criterion) {
    let mut group = c.benchmark_group("consolidate_by_spaces");
    let (key, validator) = (board_key(0), SpaceRules::default());
    for spaces in [1, 10, 100] {
        let (one, other) = (board(&key, 0..spaces).encode(), board(&key, 1..spaces + 1).encode());
        group.bench_function(BenchmarkId::from_parameter(spaces), |b| {
            b.iter(|| validator.consolidate(&key, &[&one, &other]).unwrap());
        });
    }
}

/// Documents of `n` pairs, or of a set of `n` elements: one, one that shares none of them, and one
/// with a single pair or element.
type Documents = fn(n: u32) -> [Dict; 3];

fn merge(c: &mut Criterion) {
    fn name(n: u32) -> String {
        format!("key {n:06}")
    }
    let documents: [(&str, Documents); 2] = [
        ("pairs", |n| {
            let pairs = |from, to| (from..to).step_by(2).map(|n| (name(n), i64::from(n))).collect();
            [pairs(0, 2 * n), pairs(1, 2 * n), pairs(1, 2)]
        }),
        ("elements", |n| {
            let set = |from, to| (from..to).step_by(2).map(name).collect::<Set>();
            [set(0, 2 * n), set(1, 2 * n), set(1, 2)].map(|set| Dict::from([("set", set)]))
        }),
    ];
    for (what, documents) in documents {
        for n in [10, 100, 1_000, 10_000] {
            let [older, many, one] = documents(n);
            let older = KeptDocument::new(older, HOUR).unwrap();
            c.bench_function(&format!("merge_as_many_{what}/{n}"), |b| {
                let documents = || (older.clone(), many.clone());
                b.iter_batched(documents, |(a, b)| a.and(b, HOUR), BatchSize::LargeInput);
            });
            c.bench_function(&format!("merge_without_as_many_{what}/{n}"), |b| {
                b.iter_batched(|| older.clone(), |a| a.without(&many), BatchSize::LargeInput);
            });
            // Into the same document again and again, because a copy of it costs more than this.
            let mut merged = Some(older);
            c.bench_function(&format!("merge_one_into_{what}/{n}"), |b| {
                b.iter(|| merged = merged.take().map(|all| all.and(one.clone(), HOUR)));
            });
        }
    }
}

criterion_group!(curves, admit, put, get, join, consolidate, merge);
criterion_main!(curves);
