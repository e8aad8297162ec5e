//! Figures with a million updates.

use std::{env, ops::Range, process::Command, sync::mpsc, thread, time::Duration};

use libp2p_kad::{Record, store::RecordStore};
use libp2p_smart_record::{
    RecordKey,
    store::{MemoryStorage, SmartRecordStore},
};

use smart_record_testing::ManualClock;

use crate::{
    fixtures::{HOUR, NOW, board_key, keypair, store, store_over, time, value},
    harness::{Goal, Harness},
};

/// How many updates there are; `UPDATES` in the environment sets another number.
fn updates() -> u64 {
    env::var("UPDATES").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000_000)
}

/// How many updates the process whose memory is measured holds.
const RESIDENT: u64 = 100_000;
/// Marks the child process. Its value is the number of spaces of a record.
const CHILD: &str = "RATIOS_CHILD";

pub fn run(harness: &mut Harness) {
    collection(harness);
    resident(harness);
    #[cfg(feature = "redb")]
    disk::run(harness);
}

/// Boards of 1,000 writers with one update each, made in a separate thread.
fn many(range: Range<u64>, ttl: Duration) -> impl Iterator<Item = (RecordKey, Vec<u8>)> {
    many_of(1_000, range, ttl)
}

fn many_of(
    spaces: u64,
    range: Range<u64>,
    ttl: Duration,
) -> impl Iterator<Item = (RecordKey, Vec<u8>)> {
    let (sender, receiver) = mpsc::sync_channel(1_024);
    thread::spawn(move || {
        for n in range {
            let key = board_key(n / spaces);
            let value = value(&key, &keypair(n), 0, ttl);
            if sender.send((key, value)).is_err() {
                return;
            }
        }
    });
    receiver.into_iter()
}

fn fill(store: &mut SmartRecordStore, values: impl Iterator<Item = (RecordKey, Vec<u8>)>) -> usize {
    values
        .map(|(key, value)| {
            let len = value.len();
            store.put(Record::new(libp2p_kad::RecordKey::new(&key), value)).unwrap();
            len
        })
        .sum()
}

/// Collects a thousand expired updates, each in another board: among a million that have not
/// expired, and with nothing else in the store.
fn collection(harness: &mut Harness) {
    const ROUNDS: u64 = 7;
    let name = "collect_1000_of_1000000";
    if !harness.wants(name) {
        return;
    }
    let clock = ManualClock::at(NOW);
    let minutes = |n: u64| Duration::from_secs(60 * n);
    let mut large = store_over(MemoryStorage::default(), clock.clone());
    fill(&mut large, many(0..updates(), HOUR));
    // A thousand updates that expire in the same minute, spread over as many boards.
    let expiring = |minute: u64| {
        (0..1_000).map(move |n| {
            let keypair = keypair(10_000_000 + minute * 1_000 + n);
            let key = board_key(n * updates() / 1_000_000);
            let value = value(&key, &keypair, 0, minutes(minute));
            (key, value)
        })
    };
    for minute in 1..=ROUNDS + 1 {
        fill(&mut large, expiring(minute));
    }
    let mut minute = 0;
    harness.ratio(name, Goal::AtMost(1.5), ROUNDS as usize, || {
        minute += 1;
        let mut small = store_over(MemoryStorage::default(), clock.clone());
        fill(&mut small, expiring(minute));
        clock.advance(minutes(1));
        let collect =
            |store: &mut SmartRecordStore| time([()], |()| assert_eq!(store.collect(), Ok(1_000)));
        (collect(&mut large), collect(&mut small))
    });
}

/// The growth of a process's memory, with nothing else in it.
fn resident(harness: &mut Harness) {
    for (name, spaces, goal) in [
        ("resident_bytes_per_wire_byte", 1_000, Goal::AtMost(2.0)),
        ("resident_bytes_per_wire_byte_of_records_of_one_space", 1, Goal::AtMost(1.8)),
    ] {
        if !harness.wants(name) {
            continue;
        }
        let child = env::current_exe().unwrap();
        let child = Command::new(child).env(CHILD, spaces.to_string()).output().unwrap();
        let ratio = String::from_utf8(child.stdout).unwrap();
        harness.report(name, ratio.trim().parse().unwrap(), "×", goal);
    }
}

pub fn is_child() -> bool {
    env::var_os(CHILD).is_some()
}

/// Prints the resident bytes of a store for each byte received.
pub fn child() {
    let spaces: u64 = env::var(CHILD).unwrap().parse().unwrap();
    let values = |range| many_of(spaces, range, HOUR);
    let resident = || memory_stats::memory_stats().unwrap().physical_mem as f64;
    let mut store = store();
    // What the process needs anyway is allocated after the first values.
    fill(&mut store, values(0..1_000));
    let before = resident();
    let wire = fill(&mut store, values(1_000..RESIDENT + 1_000));
    println!("{}", (resident() - before) / wire as f64);
    assert_eq!(store.counters().admitted, RESIDENT + 1_000);
}

/// The storage in a file.
#[cfg(feature = "redb")]
mod disk {
    use std::path::Path;

    use libp2p_smart_record::store::{Durability, RedbConfig, RedbStorage};

    use super::*;
    use crate::fixtures::local;

    pub(super) fn run(harness: &mut Harness) {
        puts(harness);
        reopening(harness);
    }

    fn open(path: &Path) -> SmartRecordStore {
        open_with(path, Durability::default())
    }

    fn open_with(path: &Path, durability: Durability) -> SmartRecordStore {
        let config = RedbConfig::default().with_durability(durability);
        let storage = RedbStorage::open(path, local(), &config).unwrap();
        store_over(storage, ManualClock::at(NOW))
    }

    /// How many puts of new updates each store takes in the same time.
    fn puts(harness: &mut Harness) {
        const UPDATES: u64 = 20_000;
        let name = "redb_group_puts_per_memory_put";
        if !harness.wants(name) {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let values: Vec<_> = many(0..UPDATES, HOUR).collect();
        let mut ratios: Vec<_> = (0..5)
            .map(|round| {
                let mut disk = open(&folder.path().join(round.to_string()));
                let mut memory = store();
                // Includes the time until everything is on disk, which is when the store has been
                // dropped.
                let on_disk = time([()], |()| _ = fill(&mut disk, values.iter().cloned()));
                let in_memory = time([()], |()| _ = fill(&mut memory, values.iter().cloned()));
                assert_eq!(disk.counters().admitted, UPDATES);
                let on_disk = on_disk + time([disk], drop);
                in_memory.as_secs_f64() / on_disk.as_secs_f64()
            })
            .collect();
        ratios.sort_by(f64::total_cmp);
        harness.report(name, ratios[ratios.len() / 2], "×", Goal::AtLeast(0.5));
    }

    /// The time from opening a large file to the first reply, after it was closed and after a
    /// crash.
    fn reopening(harness: &mut Harness) {
        let (closed, crashed) = ("redb_reopen_1000000", "redb_reopen_1000000_after_a_crash");
        if !harness.wants(closed) {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (path, copy) = (folder.path().join("store"), folder.path().join("crashed"));
        let mut store = open(&path);
        fill(&mut store, many(0..updates(), HOUR));
        drop(store);
        // The content of the file while it is open is what a killed process leaves, in this case
        // one that has written since it was opened. No write may be pending while the file is
        // copied.
        let mut store = open_with(&path, Durability::Immediate);
        fill(&mut store, many(updates()..updates() + 1, HOUR));
        std::fs::copy(&path, &copy).unwrap();
        drop(store);
        // Pending writes of the copy must not count for the store.
        std::fs::File::open(&copy).unwrap().sync_all().unwrap();
        for (name, path) in [(closed, &path), (crashed, &copy)] {
            let key = libp2p_kad::RecordKey::new(&board_key(0));
            let mut opened = None;
            let taken = time([()], |()| {
                let store = opened.insert(open(path));
                assert!(store.get(&key).is_some());
            });
            harness.report(name, taken.as_secs_f64(), "s", Goal::AtMost(1.0));
        }
    }
}
