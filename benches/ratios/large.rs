//! Figures of a million updates.

use std::{env, process::Command, sync::mpsc, thread, time::Duration};

use libp2p_kad::{Record, store::RecordStore};
use libp2p_smart_record::{RecordKey, SmartRecordStore, store::Storage};

use crate::{
    clock::ManualClock,
    fixtures::{HOUR, NOW, board_key, keypair, store, store_over, time, value},
    harness::{Goal, Harness},
};

/// How many updates there are; `UPDATES` in the environment sets another number.
fn updates() -> u64 {
    env::var("UPDATES").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000)
}

/// How many updates the process whose memory is measured holds.
const RESIDENT: u64 = 100_000;
/// By this the child knows what it is for.
const CHILD: &str = "RATIOS_CHILD";

pub fn run(harness: &mut Harness) {
    collection(harness);
    resident(harness);
}

/// Boards of 1,000 writers with one update each, made by a thread of their own.
fn many(range: std::ops::Range<u64>, ttl: Duration) -> impl Iterator<Item = (RecordKey, Vec<u8>)> {
    let (sender, receiver) = mpsc::sync_channel(1_024);
    thread::spawn(move || {
        for n in range {
            let key = board_key(n / 1_000);
            let value = value(&key, &keypair(n), 0, ttl);
            if sender.send((key, value)).is_err() {
                return;
            }
        }
    });
    receiver.into_iter()
}

fn fill<S: Storage>(
    store: &mut SmartRecordStore<S>,
    values: impl Iterator<Item = (RecordKey, Vec<u8>)>,
) -> usize {
    values
        .map(|(key, value)| {
            let len = value.len();
            store.put(Record::new(&key, value)).unwrap();
            len
        })
        .sum()
}

/// A thousand that have expired, among a million that have not and alone.
fn collection(harness: &mut Harness) {
    const ROUNDS: u64 = 7;
    let name = "collect_1000_of_1000000";
    if !harness.wants(name) {
        return;
    }
    let clock = ManualClock::at(NOW);
    let minutes = |n: u64| Duration::from_secs(60 * n);
    let mut large = store_over(Default::default(), clock.clone());
    let mut small = store_over(Default::default(), clock.clone());
    fill(&mut large, many(0..updates(), HOUR));
    // Spread over the boards, and in boards of their own.
    for round in 0..=ROUNDS {
        for n in 0..1_000 {
            let keypair = keypair(10_000_000 + round * 1_000 + n);
            let ttl = minutes(round + 1);
            let (among, alone) = (board_key(n * updates() / 1_000_000), board_key(n));
            large.put(Record::new(&among, value(&among, &keypair, 0, ttl))).unwrap();
            small.put(Record::new(&alone, value(&alone, &keypair, 0, ttl))).unwrap();
        }
    }
    harness.ratio(name, Goal::AtMost(1.5), ROUNDS as usize, || {
        clock.advance(minutes(1));
        let collect =
            |store: &mut SmartRecordStore| time([()], |()| assert_eq!(store.collect(), Ok(1_000)));
        (collect(&mut large), collect(&mut small))
    });
}

/// What the memory of a process grows by, with nothing else in it.
fn resident(harness: &mut Harness) {
    let name = "resident_bytes_per_wire_byte";
    if !harness.wants(name) {
        return;
    }
    let child = Command::new(env::current_exe().unwrap()).env(CHILD, "1").output().unwrap();
    let ratio = String::from_utf8(child.stdout).unwrap();
    harness.report(name, ratio.trim().parse().unwrap(), "×", Goal::AtMost(2.0));
}

pub fn is_child() -> bool {
    env::var_os(CHILD).is_some()
}

/// Prints the resident bytes of a store for each byte that came over the wire.
pub fn child() {
    let resident = || memory_stats::memory_stats().unwrap().physical_mem as f64;
    let mut store = store();
    // What the process needs anyway is there after the first.
    fill(&mut store, many(0..1_000, HOUR));
    let before = resident();
    let wire = fill(&mut store, many(1_000..RESIDENT + 1_000, HOUR));
    println!("{}", (resident() - before) / wire as f64);
    assert_eq!(store.counters().admitted, RESIDENT + 1_000);
}
