//! A file that an earlier version has written.

use super::*;

/// A file of format 2, by the code of commit 1a17820, the last one whose records had no coverage.
/// `ORIGIN.md` beside it has the program. Its store was dropped, so all of it is in the file.
const FORMAT_2: &[u8] = include_bytes!("format-2.redb");

/// What that program wrote: the acts of each writer, at [`T0`] for an hour.
const ACTS: [(u64, &str); 4] = [(1, "m"), (2, "mm"), (3, "mrm"), (4, "mw")];

/// The record of the file, signed anew: equal keys and documents give equal bytes.
fn expected(board: &RecordKey) -> SmartRecord {
    let now = Timestamp::from_millis(T0);
    let mut record = SmartRecord::new(board.clone());
    for (writer, acts) in ACTS {
        let mut signer = match acts.contains('w') {
            // It retained a withdrawal for 48 hours, as only one without its history does now.
            true => SpaceSigner::new(board.clone(), keypair(writer), Limits::default()),
            false => signer(board, writer, Limits::default()),
        };
        for (n, act) in (0_i64..).zip(acts.chars()) {
            let document = Dict::from([(format!("{act}{n}"), n)]);
            let update = match act {
                'm' => signer.merge(document, now, HOUR),
                'r' => signer.replace(document, now, HOUR),
                _ => signer.withdraw(now),
            };
            record.insert(signer.writer(), update.unwrap()).unwrap();
        }
    }
    record
}

/// The format that the file states.
fn format(path: &std::path::Path) -> u32 {
    let database = ::redb::Database::open(path).unwrap();
    let table: ::redb::TableDefinition<'_, &str, &[u8]> = ::redb::TableDefinition::new("meta");
    let table = ::redb::ReadableDatabase::begin_read(&database).unwrap().open_table(table).unwrap();
    let format = table.get("format").unwrap().unwrap();
    u32::from_le_bytes(format.value().try_into().unwrap())
}

#[test]
fn a_file_that_an_earlier_version_wrote_is_read_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    std::fs::write(&path, FORMAT_2).unwrap();
    assert_eq!(format(&path), 2);
    let (board, value, clock) = (RecordKey::new("/sr/a"), RecordKey::new("/any/a"), clock());
    let open = || {
        let storage = RedbStorage::open(&path, local(), &config(GROUP)).unwrap();
        let bounds = StoreConfig::default();
        SmartRecordStore::with_storage(local(), registry(), bounds, storage, clock.clone()).unwrap()
    };

    let mut store = open();
    let mut expected = expected(&board);
    assert_eq!(store.record(&board).unwrap(), Some(expected.clone()));
    let view = expected.view(clock.now());
    let documents: Vec<_> = view.iter().map(|(_, space)| space.document.to_string()).collect();
    assert_eq!(view.len(), 3, "the fourth writer has withdrawn: {documents:?}");
    assert_eq!(store.get(&kad_key(&value)).unwrap().value, b"value");
    assert!(store.get(&kad_key("/any/gone")).is_none());
    assert_eq!(store.records().count(), 2);
    assert_eq!(store.provided().count(), 1);
    assert_eq!(store.providers(&kad_key(&value)).len(), 1);
    let mut counters = store.counters();
    assert!(counters.signatures_verified > 0 && counters.rows_checked > 0);
    (counters.signatures_verified, counters.rows_checked) = (0, 0);
    assert_eq!(counters, Default::default(), "no row is damaged or refused");

    // It is written to, and opened once more: rows of both formats are beside each other.
    let more = one_space(&board, 5, 10, HOUR);
    expected.join(decode(&board, &more)).unwrap();
    store.write(&board, &more).unwrap();
    let usage = store.usage();
    drop(store);
    assert_eq!(format(&path), 3);
    let mut store = open();
    assert_eq!((store.record(&board).unwrap(), store.usage()), (Some(expected.clone()), usage));
    assert_eq!(store.get(&kad_key(&value)).unwrap().value, b"value");

    // What expires is collected by the index of the file.
    clock.set(Timestamp::from_millis(T0).saturating_add(49 * HOUR));
    store.collect().unwrap();
    assert_eq!(store.record(&board).unwrap(), None);
    // All that the file counted is counted off.
    store.forget(&value).unwrap();
    assert_eq!(store.usage(), Usage::default());
}
