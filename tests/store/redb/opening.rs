//! Opening and closing, and the content after a restart.

use std::path::{Path, PathBuf};

use ::redb::{Database, TableDefinition};

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
        let mut counters = store.counters();
        assert_eq!(counters.signatures_verified, 20);
        // The rows and the heads of two records.
        assert_eq!(counters.rows_checked, 22);
        (counters.signatures_verified, counters.rows_checked) = (0, 0);
        assert_eq!(counters, Default::default());
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
fn one_of_those_that_create_a_file_at_the_same_time_has_it_and_nothing_else_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let (path, other) = (folder.path().join("store"), folder.path().join("store.new"));
    std::fs::write(&other, "a letter").unwrap();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let path = path.clone();
            std::thread::spawn(move || RedbStorage::open(path, local(), &RedbConfig::default()))
        })
        .collect();
    let opened: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let errors = opened.iter().filter_map(|opened| opened.as_ref().err());
    assert!(errors.clone().all(|error| error.source == StorageError::Locked), "{opened:?}");
    assert!(errors.count() < 8, "somebody has it");
    drop(opened);
    RedbStorage::open(&path, local(), &RedbConfig::default()).unwrap();
    assert_eq!(std::fs::read(&other).unwrap(), b"a letter");
    assert_eq!(contents(folder.path()).len(), 2, "nothing is left over");
}

/// Names and contents of the files in a folder.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect()
}

/// Makes a database of another program.
fn foreign_database(path: &Path, table: TableDefinition<'_, &str, &[u8]>) -> Database {
    let database = Database::create(path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(table).unwrap().insert("a", &[1][..]).unwrap();
    transaction.commit().unwrap();
    database
}

/// Case 21 and its kind.
#[test]
fn case_21_a_file_that_is_not_opened_is_told_by_its_name_and_stays_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let letter = "a letter to a friend, longer than any header of a database ".repeat(99);
    std::fs::write(path("empty"), "").unwrap();
    std::fs::write(path("short"), "x").unwrap();
    std::fs::write(path("letter"), letter).unwrap();
    smart_record_testing::redb2::write(&path("redb 2"));

    drop(foreign_database(&path("foreign"), TableDefinition::new("theirs")));
    drop(foreign_database(&path("of the same table"), TableDefinition::new("meta")));
    // As it is after a crash of its program.
    let open = foreign_database(&path("open"), TableDefinition::new("theirs"));
    std::fs::copy(path("open"), path("crashed")).unwrap();
    let other_types = Database::create(path("of other types")).unwrap();
    let transaction = other_types.begin_write().unwrap();
    transaction.open_table(TableDefinition::<u64, u64>::new("meta")).unwrap().insert(1, 1).unwrap();
    transaction.commit().unwrap();
    drop(other_types);

    drop(RedbStorage::open(path("theirs"), peer(1), &RedbConfig::default()).unwrap());
    let ours = std::fs::read(path("theirs")).unwrap();
    let mut later = ours.clone();
    (later[64], later[192]) = (4, 4);
    std::fs::write(path("later redb"), later).unwrap();
    std::fs::write(path("cut off"), &ours[..ours.len() / 2]).unwrap();
    std::fs::write(path("header alone"), &ours[..100]).unwrap();
    std::fs::write(path("format 9"), &ours).unwrap();
    let other_format = Database::open(path("format 9")).unwrap();
    let transaction = other_format.begin_write().unwrap();
    transaction.open_table(META).unwrap().insert("format", &9_u32.to_le_bytes()[..]).unwrap();
    transaction.commit().unwrap();
    drop(other_format);
    let held = RedbStorage::open(path("held"), local(), &RedbConfig::default()).unwrap();

    let before = contents(folder.path());
    let refused = |name: &str| {
        let error = RedbStorage::open(path(name), local(), &RedbConfig::default()).unwrap_err();
        assert_eq!(error.path, path(name));
        assert!(error.to_string().contains(name), "the error names the file: {error}");
        assert!(contents(folder.path()) == before, "{name}: a file was changed");
        error.source
    };
    for (name, error) in [
        ("empty", StorageError::EmptyFile),
        ("short", StorageError::ForeignFile),
        ("letter", StorageError::ForeignFile),
        ("redb 2", StorageError::OtherDatabase { found: 2, known: 3 }),
        ("later redb", StorageError::OtherDatabase { found: 4, known: 3 }),
        ("foreign", StorageError::ForeignFile),
        ("of the same table", StorageError::ForeignFile),
        ("of other types", StorageError::ForeignFile),
        ("crashed", StorageError::ForeignFile),
        ("open", StorageError::Locked),
        ("held", StorageError::Locked),
        ("format 9", StorageError::OtherFormat { found: 9, known: 3 }),
        ("", StorageError::Io(std::io::ErrorKind::IsADirectory)),
        ("no such folder/store", StorageError::Io(std::io::ErrorKind::NotFound)),
    ] {
        assert_eq!(refused(name), error, "{name}");
    }
    for (name, text) in
        [("redb 2", "another version"), ("format 9", "another version"), ("empty", "is empty")]
    {
        assert!(refused(name).to_string().contains(text), "{name}");
    }
    assert!(matches!(refused("theirs"), StorageError::OtherPeer(_)));
    for name in ["cut off", "header alone"] {
        assert!(matches!(refused(name), StorageError::Damaged { .. }), "{name}");
    }
    #[cfg(unix)]
    assert_eq!(
        RedbStorage::open("/dev/null", local(), &RedbConfig::default()).unwrap_err().source,
        StorageError::ForeignFile
    );
    drop((open, held));
}

#[test]
fn a_damaged_file_that_is_not_opened_stays_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let mut store = SmartRecordStore::open(&path, local()).unwrap();
    for n in 0..20 {
        let key = RecordKey::new(format!("/sr/{n}"));
        let (mut signer, now) = (signer(&key, n, Limits::default()), SystemClock.now());
        signer.merge(text(100), now, HOUR).unwrap();
        store.write(&key, &signer.record(now).encode()).unwrap();
    }
    drop(store);
    let whole = std::fs::read(&path).unwrap();
    let mut refused = 0;
    for at in (0..320).step_by(7).chain((4_096..whole.len()).step_by(4_001)) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x41;
        std::fs::write(&path, &damaged).unwrap();
        if SmartRecordStore::open(&path, local()).is_err() {
            refused += 1;
            assert!(std::fs::read(&path).unwrap() == damaged, "{at}");
        }
    }
    assert!(refused > 0);
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
