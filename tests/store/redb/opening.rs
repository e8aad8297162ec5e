//! Opening and closing, and the content after a restart.

use ::redb::{Database, ReadableTable, TableDefinition};

use super::*;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

/// Changes a database without the storage.
fn alter(device: &Device, change: impl FnOnce(&::redb::WriteTransaction)) {
    let db = Database::builder().create_with_backend(device.clone()).unwrap();
    let transaction = db.begin_write().unwrap();
    change(&transaction);
    transaction.commit().unwrap();
}

fn set_meta(device: &Device, name: &str, value: &[u8]) {
    alter(device, |transaction| {
        transaction.open_table(META).unwrap().insert(name, value).unwrap();
    });
}

#[test]
fn what_was_written_is_there_after_a_restart() {
    for durability in MODES {
        let (device, clock) = (Device::default(), clock());
        let (board, value) = (RecordKey::new("/sr/a"), RecordKey::new("/any/a"));
        let mut store = store_on(&device, durability, &clock);
        for writer in 1..=20 {
            store.write(&board, &one_space(&board, writer, 10, HOUR)).unwrap();
        }
        store.write(&value, b"value").unwrap();
        store.write(&RecordKey::new("/any/gone"), b"gone").unwrap();
        store.forget(&RecordKey::new("/any/gone")).unwrap();
        let before = (store.record(&board).unwrap(), store.usage());
        drop(store);
        let store = store_on(&device, durability, &clock);
        assert_eq!((store.record(&board).unwrap(), store.usage()), before);
        assert_eq!(store.get(&kad_key(&value)).unwrap().value, b"value");
        assert!(store.get(&kad_key("/any/gone")).is_none());
        assert_eq!(store.records().count(), 2);
        assert_eq!(store.counters(), Default::default());
    }
}

#[test]
fn a_file_is_open_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let first = RedbStorage::open(&path, local(), &RedbConfig::default()).unwrap();
    let second = || RedbStorage::open(&path, local(), &RedbConfig::default());
    let error = second().unwrap_err();
    assert_eq!((&error.path, error.source), (&path, StorageError::Locked));
    drop(first);
    second().unwrap();
}

#[test]
fn what_is_not_a_storage_of_ours_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let open = |path: &std::path::Path| {
        let error = RedbStorage::open(path, local(), &RedbConfig::default()).unwrap_err();
        let file = path.file_name().unwrap().to_str().unwrap();
        assert!(error.to_string().contains(file), "the error names the file: {error}");
        error.source
    };
    let text = folder.path().join("text");
    std::fs::write(&text, "a letter to a friend, longer than any header of a database ".repeat(99))
        .unwrap();
    let before = std::fs::read(&text).unwrap();
    assert_eq!(open(&text), StorageError::ForeignFile);
    assert_eq!(std::fs::read(&text).unwrap(), before);
    assert_eq!(open(folder.path()), StorageError::Io(std::io::ErrorKind::IsADirectory));
    let nowhere = folder.path().join("no such folder").join("store");
    assert_eq!(open(&nowhere), StorageError::Io(std::io::ErrorKind::NotFound));

    // A database of another program, also with a table of the same name.
    for name in ["theirs", "meta"] {
        for other_types in [false, true] {
            let device = Device::default();
            alter(&device, |transaction| {
                if other_types {
                    let table = TableDefinition::<u64, u64>::new(name);
                    transaction.open_table(table).unwrap().insert(1, 1).unwrap();
                } else {
                    let table = TableDefinition::<&str, &[u8]>::new(name);
                    transaction.open_table(table).unwrap().insert("a", &[1][..]).unwrap();
                }
            });
            let error = open_on(&device, Durability::Immediate).unwrap_err();
            assert_eq!(error, StorageError::ForeignFile, "{name} {other_types}");
        }
    }
}

#[test]
fn another_format_and_another_peer_s_file_are_refused() {
    let (device, clock) = (Device::default(), clock());
    let key = RecordKey::new("/any/a");
    store_on(&device, Durability::Immediate, &clock).write(&key, b"value").unwrap();

    let other = device.clone();
    let error =
        RedbStorage::open_backend(move || Ok(other.clone()), peer(1), &RedbConfig::default());
    let Err(StorageError::OtherPeer(error)) = error else { panic!("{error:?}") };
    assert_eq!((*error.owner, *error.expected), (local(), peer(1)));

    // Once it is open, a store of another peer refuses it as well.
    let storage = open_on(&device, Durability::Immediate).unwrap();
    let config = StoreConfig::default();
    let error = SmartRecordStore::with_storage(peer(1), registry(), config, storage, clock.clone());
    let error = error.unwrap_err();
    assert_eq!((*error.owner, *error.expected), (local(), peer(1)));

    for found in [1_u32, 4] {
        set_meta(&device, "format", &found.to_le_bytes());
        let error = open_on(&device, Durability::Immediate).unwrap_err();
        assert_eq!(error, StorageError::OtherFormat { found, known: 3 });
    }
    set_meta(&device, "format", b"nonsense");
    let error = open_on(&device, Durability::Immediate).unwrap_err();
    assert!(matches!(error, StorageError::Damaged { .. }), "{error}");

    // None of these attempts has changed anything.
    set_meta(&device, "format", &3_u32.to_le_bytes());
    let store = store_on(&device, Durability::Immediate, &clock);
    assert_eq!(store.get(&kad_key(&key)).unwrap().value, b"value");
}

#[test]
fn a_count_that_is_damaged_is_made_anew() {
    let (device, clock) = (Device::default(), clock());
    let mut store = store_on(&device, Durability::Immediate, &clock);
    for n in 0..20 {
        let key = RecordKey::new(format!("/sr/{}", n % 3));
        store.write(&key, &one_space(&key, n, n as usize, HOUR)).unwrap();
    }
    let usage = store.usage();
    drop(store);
    set_meta(&device, "usage", &[0; 20]);
    assert_eq!(store_on(&device, Durability::Immediate, &clock).usage(), usage);
}

#[test]
fn what_has_expired_does_not_come_back() {
    for durability in MODES {
        let (device, clock) = (Device::default(), clock());
        let mut store = store_on(&device, durability, &clock);
        let (board, value) = (RecordKey::new("/sr/a"), RecordKey::new("/any/a"));
        store.write(&board, &one_space(&board, 1, 10, Duration::from_secs(60))).unwrap();
        store.write(&board, &one_space(&board, 2, 10, HOUR)).unwrap();
        let mut record = Record::new(kad_key(&value), b"value".to_vec());
        record.expires = Some(Instant::now() + Duration::from_secs(60));
        store.put(record).unwrap();
        drop(store);

        // It expires while the store is closed.
        clock.advance(Duration::from_secs(61));
        let mut store = store_on(&device, durability, &clock);
        assert_eq!(store.record(&board).unwrap().unwrap().spaces().len(), 1);
        assert!(store.get(&kad_key(&value)).is_none());
        assert_eq!(store.records().count(), 1);
        assert_eq!(store.collect(), Ok(2));
        assert_eq!(store.usage().records, 1);
        drop(store);

        // Once it is collected, it does not come back if the clock is set back.
        clock.set(Timestamp::from_millis(T0));
        let store = store_on(&device, durability, &clock);
        assert_eq!(store.record(&board).unwrap().unwrap().spaces().len(), 1);
        assert!(store.get(&kad_key(&value)).is_none());
    }
}

#[test]
fn jumps_of_the_clock_are_survived() {
    let (device, clock) = (Device::default(), clock());
    let board = RecordKey::new("/sr/a");
    let value = one_space(&board, 1, 10, HOUR);
    let mut store = store_on(&device, Durability::Immediate, &clock);
    store.write(&board, &value).unwrap();
    // The clock is set back by a year: what was written stays, although it is from the future now.
    for at in [T0 - 365 * 24 * 3_600_000, 0, T0] {
        clock.set(Timestamp::from_millis(at));
        drop(store);
        store = store_on(&device, Durability::Immediate, &clock);
        assert_eq!(store.record(&board).unwrap(), Some(decode(&board, &value)));
        store.collect().unwrap();
        assert_eq!(store.counters().rows_discarded, 0);
    }
    // To the end of time and back: everything has expired, and can be written again.
    clock.set(Timestamp::MAX);
    drop(store);
    store = store_on(&device, Durability::Immediate, &clock);
    assert_eq!(store.record(&board).unwrap(), None);
    store.collect().unwrap();
    assert_eq!(store.usage(), Usage::default());
    clock.set(Timestamp::from_millis(T0));
    drop(store);
    store = store_on(&device, Durability::Immediate, &clock);
    store.write(&board, &value).unwrap();
    assert_eq!(store.record(&board).unwrap(), Some(decode(&board, &value)));
}

#[test]
fn the_local_node_s_provider_records_survive_a_restart() {
    for durability in MODES {
        let folder = tempfile::tempdir().unwrap();
        let (path, clock) = (folder.path().join("store"), clock());
        let open = || {
            let storage = RedbStorage::open(&path, local(), &config(durability)).unwrap();
            let config = StoreConfig::default();
            SmartRecordStore::with_storage(local(), registry(), config, storage, clock.clone())
                .unwrap()
        };
        let (mut store, begun) = (open(), Instant::now());
        let addresses = vec!["/ip4/192.0.2.1/tcp/4001".parse().unwrap()];
        let provides = |key: &str, of, seconds: Option<u64>| {
            let mut record = ProviderRecord::new(kad_key(key), of, addresses.clone());
            record.expires = seconds.map(|s| Instant::now() + Duration::from_secs(s));
            record
        };
        store.add_provider(provides("for ever", local(), None)).unwrap();
        store.add_provider(provides("for an hour", local(), Some(3_600))).unwrap();
        store.add_provider(provides("for a minute", local(), Some(60))).unwrap();
        store.add_provider(provides("not any more", local(), None)).unwrap();
        store.add_provider(provides("for ever", peer(1), None)).unwrap();
        store.remove_provider(&kad_key("not any more"), &local());
        drop(store);

        clock.advance(Duration::from_secs(61));
        let store = open();
        let provided: BTreeMap<_, _> =
            store.provided().map(|record| (record.key.to_vec(), record.into_owned())).collect();
        assert_eq!(provided.len(), 2, "{provided:?}");
        assert_eq!(provided[&b"for ever"[..]], provides("for ever", local(), None));
        let hour = &provided[&b"for an hour"[..]];
        assert_eq!((&hour.addresses, hour.provider), (&addresses, local()));
        let left = hour.expires.unwrap().duration_since(Instant::now());
        let expected = HOUR - Duration::from_secs(61);
        let passed = begun.elapsed() + Duration::from_millis(2);
        assert!(left <= expected && left + passed >= expected, "{left:?}");
        // Other nodes announce their records again.
        assert_eq!(store.providers(&kad_key("for ever")).len(), 1);
        assert_eq!(store.counters().storage_failures, 0);
        drop(store);
        // What had expired is gone.
        clock.set(Timestamp::from_millis(T0));
        assert_eq!(open().provided().count(), 2);
    }
}

/// Rows of format 2 do not say when they were stored, and heads do not count withdrawn spaces.
#[test]
fn a_file_of_format_2_is_read() {
    const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
    let (device, clock) = (Device::default(), clock());
    let (board, value) = (RecordKey::new("/sr/a"), RecordKey::new("/any/a"));
    let mut alice = signer(&board, 1, Limits::default());
    alice.merge(text(10), clock.now(), HOUR).unwrap();
    alice.withdraw(clock.now()).unwrap();
    let mut store = store_on(&device, Durability::Immediate, &clock);
    store.write(&board, &one_space(&board, 2, 10, HOUR)).unwrap();
    store.write(&board, &alice.record(clock.now()).encode()).unwrap();
    store.write(&value, b"value").unwrap();
    let before = store.record(&board).unwrap().unwrap();
    drop(store);
    alter(&device, |transaction| {
        let mut rows = transaction.open_table(ROWS).unwrap();
        let all = rows.iter().unwrap().map(Result::unwrap);
        let all: Vec<_> = all.map(|(k, v)| (k.value().to_vec(), v.value().to_vec())).collect();
        assert_eq!(all.len(), 4);
        for (key, mut row) in all {
            // Without the flag, and the instant after the others.
            assert_eq!(row[8] & 8, 8);
            row[8] &= !8;
            let at = 9 + 8 * (row[8] & 3).count_ones() as usize;
            row.drain(at..at + 8);
            let mut sum = crc32fast::Hasher::new();
            sum.update(&key);
            sum.update(&row[4..]);
            row[..4].copy_from_slice(&sum.finalize().to_le_bytes());
            rows.insert(&key[..], &row[..]).unwrap();
        }
    });
    set_meta(&device, "format", &2_u32.to_le_bytes());
    let mut store = store_on(&device, Durability::Immediate, &clock);
    assert_eq!(store.record(&board).unwrap().unwrap(), before);
    assert_eq!(store.get(&kad_key(&value)).unwrap().value, b"value");
    assert_eq!(store.counters().rows_discarded, 0);
    store.write(&board, &one_space(&board, 3, 10, HOUR)).unwrap();
    drop(store);
    // Now it is one of this format.
    let store = store_on(&device, Durability::Immediate, &clock);
    assert_eq!(store.record(&board).unwrap().unwrap().spaces().len(), 3);
}
