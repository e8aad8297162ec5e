//! Disks that fail, are full, or lose power.

use super::{device::Faults, *};

const WRITES_FAIL: Faults = Faults { writes: true, ..Faults::NONE };
const SYNCS_FAIL: Faults = Faults { syncs: true, ..Faults::NONE };
const READS_FAIL: Faults = Faults { reads: true, ..Faults::NONE };

#[test]
fn a_write_that_fails_leaves_nothing_and_the_next_one_works() {
    for faults in [WRITES_FAIL, SYNCS_FAIL] {
        let (device, clock) = (Device::default(), clock());
        let mut store = store_on(&device, Durability::Immediate, &clock);
        let mut heard = store.subscribe();
        store.write(&key(1), b"one").unwrap();
        let usage = store.usage();
        events(&mut heard);
        device.fail(faults);
        for attempt in 0..3 {
            let error = until_it_works(|| match store.write(&key(2), b"two").unwrap_err() {
                // The thread has not run yet.
                WriteError::Storage(StorageError::QueueFull) => None,
                error => Some(error),
            });
            let io = StorageError::Io(std::io::ErrorKind::Other);
            assert_eq!(error, WriteError::Storage(io), "attempt {attempt}");
            // Kademlia gets what can still be read.
            assert!(store.get(&libp2p_kad::RecordKey::new(&key(2))).is_none());
            assert!(
                store
                    .get(&libp2p_kad::RecordKey::new(&key(1)))
                    .is_none_or(|record| record.value == b"one")
            );
            assert_eq!(store.usage(), usage);
        }
        let told = events(&mut heard);
        assert!(told.iter().all(|e| matches!(e, StoreEvent::StorageFailed { .. })), "{told:?}");
        assert!(told.len() >= 3);
        device.mend();
        until_it_works(|| store.write(&key(2), b"two").ok());
        drop(store);
        let store = store_on(&device, Durability::Immediate, &clock);
        assert_eq!(store.get(&libp2p_kad::RecordKey::new(&key(1))).unwrap().value, b"one");
        assert_eq!(store.get(&libp2p_kad::RecordKey::new(&key(2))).unwrap().value, b"two");
    }
}

#[test]
fn what_a_failed_write_has_left_in_the_file_is_counted() {
    for syncs in 0..8 {
        let (device, clock) = (Device::default(), clock());
        let mut store = store_on(&device, Durability::Immediate, &clock);
        store.write(&key(1), b"one").unwrap();
        device.fail(Faults { syncs_left: Some(syncs), ..Faults::NONE });
        let mut failed = 0;
        for n in 2..8 {
            failed += usize::from(store.write(&key(n), &[0; 100]).is_err());
        }
        device.mend();
        until_it_works(|| store.write(&key(8), b"last").ok());
        let is_there = |n: &usize| store.get(&libp2p_kad::RecordKey::new(&key(*n))).is_some();
        let (there, usage) = ((1..=8).filter(is_there).count(), store.usage());
        assert_eq!(usage.records, there, "{failed} writes failed after {syncs} syncs");
        assert_eq!(store.namespace_usage("any").unwrap().count as usize, there);
        drop(store);
        let storage = open_on(&device, Durability::Immediate).unwrap();
        assert_eq!(storage.usage(), usage);
        let rows = storage.scan(PartId::ALL).map(|row| row.unwrap().1.bytes.len() + Usage::ROW);
        assert_eq!(rows.sum::<usize>(), usage.bytes);
    }
}

#[test]
fn a_full_disk_is_told_and_survived() {
    for durability in [Durability::Immediate, EAGER] {
        let (device, clock) = (Device::default(), clock());
        let mut store = store_on(&device, durability, &clock);
        store.write(&key(0), &[0; 1_000]).unwrap();
        device.fail(Faults { capacity: Some(device.len()), ..Faults::NONE });
        let (mut n, mut there) = (0, BTreeSet::from([0]));
        let error = until_it_works(|| {
            n += 1;
            match store.write(&key(n), &[0; 50_000]) {
                Ok(_) => {
                    there.insert(n);
                    None
                }
                // For a moment the only known cause is that there was a failure.
                Err(WriteError::Storage(StorageError::Closed)) => None,
                Err(error) => Some(error),
            }
        });
        assert_eq!(error, WriteError::Storage(StorageError::Full));
        device.mend();
        until_it_works(|| store.write(&key(n), &[0; 50_000]).ok());
        there.insert(n);
        drop(store);
        let store = store_on(&device, durability, &clock);
        for n in there {
            assert!(store.get(&libp2p_kad::RecordKey::new(&key(n))).is_some(), "{n}");
        }
    }
}

/// Writes each commit at once.
const EAGER: Durability = Durability::Group { window: Duration::ZERO, max_bytes: 1 << 20 };

#[test]
fn a_group_that_cannot_be_written_stays_and_further_writes_are_refused() {
    for faults in [WRITES_FAIL, SYNCS_FAIL] {
        let (device, clock) = (Device::default(), clock());
        let mut store = store_on(&device, EAGER, &clock);
        let mut heard = store.subscribe();
        device.fail(faults);
        let mut n = 0;
        let error = until_it_works(|| {
            // Events of earlier writes would fill the queue.
            events(&mut heard);
            match store.write(&key(n + 1), b"value") {
                Ok(_) => {
                    n += 1;
                    None
                }
                Err(WriteError::Storage(StorageError::Closed)) => None,
                Err(error) => Some(error),
            }
        });
        assert_eq!(error, WriteError::Storage(StorageError::Io(std::io::ErrorKind::Other)));
        let failed =
            StoreEvent::StorageFailed { error: StorageError::Io(std::io::ErrorKind::Other) };
        assert_eq!(events(&mut heard), [failed]);
        // All acknowledged values can be read.
        for n in 1..=n {
            assert!(store.get(&libp2p_kad::RecordKey::new(&key(n))).is_some(), "{n}");
        }
        n += 1;
        assert!(store.get(&libp2p_kad::RecordKey::new(&key(n))).is_none());
        device.mend();
        until_it_works(|| store.write(&key(n), b"value").ok());
        drop(store);
        let store = store_on(&device, EAGER, &clock);
        assert_eq!(store.usage().records, n);
        for n in 1..=n {
            assert!(store.get(&libp2p_kad::RecordKey::new(&key(n))).is_some(), "{n}");
        }
    }
}

#[test]
fn dropping_a_store_with_a_broken_disk_ends() {
    for durability in [Durability::Immediate, EAGER, Durability::default()] {
        let (device, clock) = (Device::default(), clock());
        let mut store = store_on(&device, durability, &clock);
        device.fail(Faults { reads: true, syncs: true, ..WRITES_FAIL });
        let _ = store.write(&key(1), b"value");
        drop(store);
        device.mend();
        store_on(&device, durability, &clock);
    }
}

#[test]
fn a_disk_that_cannot_be_read_is_read_again_when_it_can() {
    for durability in MODES {
        let (device, clock) = (Device::default(), clock());
        let mut store = store_on(&device, Durability::default(), &clock);
        for n in 0..300 {
            store.write(&key(n), &[0; 1_000]).unwrap();
        }
        drop(store);
        // With a cache smaller than the rows.
        let config = config(durability).with_cache_bytes(0);
        let opened = device.clone();
        let storage =
            RedbStorage::open_backend(move || Ok(opened.clone()), local(), &config).unwrap();
        let store = SmartRecordStore::with_storage(
            local(),
            registry(),
            StoreConfig::default(),
            storage,
            clock.clone(),
        )
        .unwrap();
        device.fail(READS_FAIL);
        let answered = || (0..300).filter(|n| store.get(&kad_key(key(*n))).is_some()).count();
        assert!(answered() < 300);
        assert!(store.counters().storage_failures > 0);
        device.mend();
        // What is in memory is returned before the file has been opened again, which takes a pause.
        for n in 0..300 {
            until_it_works(|| store.get(&kad_key(key(n))));
        }
    }
}

/// A cheap source of numbers that look random.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }
}

#[test]
fn a_write_torn_anywhere_and_a_loss_of_power_lose_nothing_acknowledged() {
    let mut acknowledged = 0;
    for seed in 0..25 {
        let mut dice = Dice(seed * 0x9e37_79b9 + 1);
        let (mut device, clock) = (Device::default(), clock());
        let board = RecordKey::new("/sr/a");
        let mut written = BTreeSet::new();
        for round in 0..4 {
            let mut store = store_on(&device, Durability::Immediate, &clock);
            let there: BTreeSet<_> = store
                .record(&board)
                .unwrap()
                .iter()
                .flat_map(|record| {
                    record.spaces().map(|(writer, _)| writer.peer_id()).collect::<Vec<_>>()
                })
                .collect();
            assert!(there.is_superset(&written), "seed {seed}, round {round}");
            device.fail(Faults { bytes_left: Some(dice.roll(200_000)), ..Faults::NONE });
            for n in 0..40 {
                let writer = round * 100 + n;
                if store.write(&board, &one_space(&board, writer, 100, HOUR)).is_ok() {
                    written.insert(peer(writer));
                }
            }
            // Power is lost before anything can be repaired. Of each write that was not synced,
            // all, a part or nothing has arrived.
            let after = device.after_power_loss(|len| match dice.roll(3) {
                0 => 0,
                1 => len,
                _ => dice.roll(len + 1),
            });
            drop(store);
            device = after;
        }
        acknowledged += written.len();
    }
    assert!(acknowledged > 100, "{acknowledged}");
}

#[test]
fn whatever_bit_of_the_file_is_flipped_nothing_wrong_is_served() {
    let (device, clock) = (Device::default(), clock());
    let board = RecordKey::new("/sr/a");
    let mut store = store_on(&device, Durability::Immediate, &clock);
    let mut expected = SmartRecord::new(board.clone());
    for writer in 1..=50 {
        let value = one_space(&board, writer, 100, HOUR);
        store.write(&board, &value).unwrap();
        expected.join(decode(&board, &value)).unwrap();
    }
    drop(store);
    let mut dice = Dice(7);
    let (mut served, mut opened) = (0, 0);
    for _ in 0..60 {
        let copy = device.after_power_loss(|len| len);
        copy.tamper(|bytes| {
            for _ in 0..=dice.roll(20) {
                let at = dice.roll(bytes.len().min(200_000));
                bytes[at] ^= 1 << dice.roll(8);
            }
        });
        // An error is allowed, and so is a part of the data. A panic or other data is not.
        let Ok(storage) = open_on(&copy, Durability::Immediate) else {
            continue;
        };
        opened += 1;
        let config = StoreConfig::default();
        let mut store =
            SmartRecordStore::with_storage(local(), registry(), config, storage, clock.clone())
                .unwrap();
        if let Ok(Some(record)) = store.record(&board) {
            served += record.spaces().len();
            for (writer, space) in record.spaces() {
                assert_eq!(Some(space), expected.space(writer));
            }
        }
        let _ = store.write(&board, &one_space(&board, 99, 10, HOUR));
        let _ = store.records().count();
        let _ = store.collect();
    }
    println!("{opened} of 60 opened, {served} of {} spaces served", 50 * 60);
    assert!(served > 0);
}
