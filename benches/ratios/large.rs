//! Figures with a million updates.

use std::{
    env,
    ops::Range,
    process::{Command, Output},
    sync::mpsc,
    thread,
    time::Duration,
};

use libp2p_kad::{Record, store::RecordStore};
use libp2p_smart_record::{
    RecordKey,
    store::{MemoryStorage, SmartRecordStore},
};

use smart_record_testing::ManualClock;

use crate::{
    fixtures::{HOUR, NOW, board_key, keypair, store, store_over, time, value},
    harness::Harness,
};

/// How many updates there are; `UPDATES` in the environment sets another number.
///
/// # Errors
/// If that is not a number.
pub fn updates() -> Result<u64, String> {
    let set = env::var_os("UPDATES").map(|n| n.to_string_lossy().parse());
    set.unwrap_or(Ok(1_000_000)).map_err(|error| format!("UPDATES: {error}"))
}

/// How many updates the process whose memory is measured holds.
const RESIDENT: u64 = 100_000;
/// Marks a child process. Its value says what the child does.
const CHILD: &str = "RATIOS_CHILD";

pub fn run(harness: &mut Harness, updates: u64) {
    collection(harness, updates);
    resident(harness);
    let names = [
        "redb_group_puts_per_memory_put",
        "redb_reopen_1000000",
        "redb_reopen_1000000_after_a_crash",
    ];
    #[cfg(feature = "redb")]
    disk::run(harness, updates, names);
    #[cfg(not(feature = "redb"))]
    harness.skip(names, "the feature `redb` is off");
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
fn collection(harness: &mut Harness, updates: u64) {
    const ROUNDS: u64 = 7;
    let name = "collect_1000_of_1000000";
    if !harness.wants(name) {
        return;
    }
    let clock = ManualClock::at(NOW);
    let minutes = |n: u64| Duration::from_secs(60 * n);
    let mut large = store_over(MemoryStorage::default(), clock.clone());
    fill(&mut large, many(0..updates, HOUR));
    // A thousand updates that expire in the same minute, spread over as many boards.
    let expiring = |minute: u64| {
        (0..1_000).map(move |n| {
            let keypair = keypair(10_000_000 + minute * 1_000 + n);
            let key = board_key(n * updates / 1_000_000);
            let value = value(&key, &keypair, 0, minutes(minute));
            (key, value)
        })
    };
    for minute in 1..=ROUNDS + 1 {
        fill(&mut large, expiring(minute));
    }
    let mut minute = 0;
    harness.ratio(name, ROUNDS as usize, || {
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
    const ROUNDS: usize = 3;
    let mut figures = [
        ("resident_bytes_per_wire_byte", 1_000, Vec::new()),
        ("resident_bytes_per_wire_byte_of_records_of_one_space", 1, Vec::new()),
    ];
    if memory_stats::memory_stats().is_none() {
        let names = figures.each_ref().map(|(name, ..)| *name);
        return harness.skip(names, "this system does not tell the memory of a process");
    }
    for _ in 0..ROUNDS {
        for (name, spaces, ratios) in &mut figures {
            if harness.wants(name) {
                let ratio = String::from_utf8(child_that(&format!("resides {spaces}")).stdout);
                ratios.push(ratio.unwrap().trim().parse().unwrap());
            }
        }
    }
    for (name, _, ratios) in figures.into_iter().filter(|(.., ratios)| !ratios.is_empty()) {
        harness.report(name, ratios);
    }
}

/// Runs a child process.
fn child_that(does: &str) -> Output {
    let output = Command::new(env::current_exe().unwrap()).env(CHILD, does).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    output
}

pub fn is_child() -> bool {
    env::var_os(CHILD).is_some()
}

pub fn child() {
    let does = env::var(CHILD).unwrap();
    match does.splitn(3, ' ').collect::<Vec<_>>()[..] {
        ["resides", spaces] => reside(spaces.parse().unwrap()),
        #[cfg(feature = "redb")]
        ["crashes", update, path] => disk::crash(update.parse().unwrap(), path.as_ref()),
        _ => panic!("{CHILD} is {does}"),
    }
}

/// Prints the resident bytes of a store for each byte received.
fn reside(spaces: u64) {
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
    use std::{path::Path, process};

    use libp2p_smart_record::store::{Durability, RedbConfig, RedbStorage};

    use super::*;
    use crate::fixtures::local;

    pub(super) fn run(harness: &mut Harness, updates: u64, names: [&str; 3]) {
        let [puts, closed, crashed] = names;
        self::puts(harness, puts);
        reopening(harness, updates, [closed, crashed]);
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
    fn puts(harness: &mut Harness, name: &str) {
        const UPDATES: u64 = 20_000;
        const ROUNDS: usize = 5;
        if !harness.wants(name) {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let values: Vec<_> = many(0..UPDATES, HOUR).collect();
        let ratios = (0..ROUNDS)
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
        harness.report(name, ratios);
    }

    /// The time from opening a large file to the first reply, in turns after a crash and after it
    /// was closed.
    fn reopening(harness: &mut Harness, updates: u64, names: [&str; 2]) {
        const ROUNDS: u64 = 7;
        if !harness.wants_any(names) {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let mut store = open(&path);
        fill(&mut store, many(0..updates, HOUR));
        drop(store);
        let reopen = || {
            let key = libp2p_kad::RecordKey::new(&board_key(0));
            let mut opened = None;
            let taken = time([()], |()| {
                let store = opened.insert(open(&path));
                assert!(store.get(&key).is_some());
            });
            taken.as_secs_f64()
        };
        let (mut closed, mut crashed) = (Vec::new(), Vec::new());
        for update in updates..updates + ROUNDS {
            child_that(&format!("crashes {update} {}", path.display()));
            crashed.push(reopen());
            closed.push(reopen());
        }
        let [name, after_a_crash] = names;
        harness.report(name, closed);
        harness.report(after_a_crash, crashed);
    }

    /// Opens a file, writes an update and ends with the file open, as a killed process does.
    pub(super) fn crash(update: u64, path: &Path) {
        let mut store = open_with(path, Durability::Immediate);
        fill(&mut store, many(update..update + 1, HOUR));
        assert_eq!(store.counters().admitted, 1);
        process::exit(0);
    }
}
