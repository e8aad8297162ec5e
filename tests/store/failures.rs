//! Failures of the storage.

use super::*;

#[test]
fn a_failed_write_leaves_what_was_there() {
    let (mut store, state, clock) = probed(StoreConfig::default());
    let mut heard = store.subscribe();
    let (board, value) = (RecordKey::new("/sr/a"), RecordKey::new("/any/a"));
    put(&mut store, &board, one_space(&board, 1, 10, Duration::from_secs(60)));
    put(&mut store, &value, b"old".to_vec());
    events(&mut heard);
    let before = (store.record(&board).unwrap(), store.usage());
    let check = |store: &SmartRecordStore| {
        assert_eq!((store.record(&board).unwrap(), store.usage()), before);
        assert_eq!(store.get(&kad_key(&value)).unwrap().value, b"old");
    };

    state.fail_applies_after(0);
    let more = one_space(&board, 2, 10, HOUR);
    assert!(matches!(store.write(&board, &more), Err(WriteError::Storage(_))));
    assert!(matches!(store.write(&value, b"new"), Err(WriteError::Storage(_))));
    // The remote writer gets no error; the local user gets an event.
    put(&mut store, &board, more.clone());
    let mut own = Record::new(kad_key(&value), b"new".to_vec());
    own.publisher = Some(local());
    assert!(store.put(own).is_err());
    store.remove(&kad_key(&value));
    assert!(store.forget(&value).is_err());
    let told = events(&mut heard);
    assert_eq!(told.len(), 5, "{told:?}");
    assert!(told.iter().all(|e| matches!(e, StoreEvent::StorageFailed { .. })));
    assert_eq!(store.counters().storage_failures, 5);
    check(&store);

    // Nothing can be collected either, but what has expired is hidden.
    clock.advance(Duration::from_secs(61));
    assert!(store.collect().is_err());
    assert_eq!(store.record(&board).unwrap(), None);
    assert!(store.get(&kad_key(&board)).is_none());
    assert_eq!(store.usage(), before.1);

    state.mend();
    assert_eq!(store.collect(), Ok(1));
    store.write(&board, &more).unwrap();
    assert_eq!(store.record(&board).unwrap(), Some(decode(&board, &more)));
    store.remove(&kad_key(&value));
    assert!(store.get(&kad_key(&value)).is_none());
}

#[test]
fn a_failed_read_is_no_answer_and_no_loss() {
    let (mut store, state, _) = probed(StoreConfig::default());
    let (board, value) = (RecordKey::new("/sr/a"), RecordKey::new("/any/a"));
    let first = one_space(&board, 1, 10, HOUR);
    put(&mut store, &board, first.clone());
    put(&mut store, &value, b"old".to_vec());
    let usage = store.usage();
    for switch in [&state.fail_reads, &state.fail_due] {
        switch.store(true, SeqCst);
        let failures = store.counters().storage_failures;
        let reads_fail = state.fail_reads.load(SeqCst);
        assert_eq!(store.get(&kad_key(&board)).is_none(), reads_fail);
        assert_eq!(store.record(&board).is_err(), reads_fail);
        assert_eq!(store.view(&board).is_err(), reads_fail);
        assert_eq!(store.records().count(), if reads_fail { 0 } else { 2 });
        put(&mut store, &board, one_space(&board, 2, 10, HOUR));
        put(&mut store, &value, b"new".to_vec());
        // Two writes; failed reads count only if they are Kademlia's, which get no error.
        let reads = if reads_fail { 2 } else { 0 };
        assert_eq!(store.counters().storage_failures, failures + 2 + reads);
        state.mend();
        assert_eq!(store.usage(), usage);
        assert_eq!(store.record(&board).unwrap(), Some(decode(&board, &first)));
        assert_eq!(store.get(&kad_key(&value)).unwrap().value, b"old");
    }
}

#[test]
fn a_single_failed_read_of_a_write_is_told() {
    let key = RecordKey::new("/sr/a");
    let value: Vec<_> = (1..5).flat_map(|n| one_space(&key, n, 10, HOUR)).collect();
    let mut failed = 0;
    loop {
        let (mut store, state, _) = probed(StoreConfig::default());
        let first = state.gets.load(SeqCst) + 1;
        state.failing_get.store(first + failed, SeqCst);
        let written = store.write(&key, &value);
        if state.gets.load(SeqCst) < first + failed {
            assert_eq!(written.unwrap().stored, 4);
            break;
        }
        assert!(matches!(written, Err(WriteError::Storage(_))), "{failed}: {written:?}");
        assert_eq!(store.counters().storage_failures, 1);
        failed += 1;
    }
    assert!(failed > 8, "each space is read twice or more");
}

#[test]
fn a_write_that_fails_halfway_tells_of_the_first_half() {
    let (mut store, state, _) = probed(StoreConfig::default());
    let mut heard = store.subscribe();
    let key = RecordKey::new("/sr/a");
    let first = one_space(&key, 1, 10, HOUR);
    let value = [first.clone(), one_space(&key, 2, 10, HOUR)].concat();
    state.fail_applies_after(1);
    assert!(matches!(store.write(&key, &value), Err(WriteError::Storage(_))));
    state.mend();
    // One space is stored, and there is an event for it.
    let stored = store.record(&key).unwrap().unwrap();
    let writers: Vec<_> = stored.spaces().map(|(writer, _)| writer.peer_id()).collect();
    assert_eq!(writers.len(), 1);
    let told = events(&mut heard);
    let stored = StoreEvent::Stored { key: key.clone(), writers, origin: Origin::Local };
    assert!(told.contains(&stored), "{told:?}");
    assert_eq!(store.counters().admitted, 1);
    assert_eq!(store.counters().storage_failures, 1);
    store.write(&key, &value).unwrap();
    assert_eq!(store.record(&key).unwrap().unwrap().spaces().len(), 2);
}

/// What a damaged disk might have in the place of a row.
const DAMAGE: &[u8] = &[0xff; 40];

fn damaged(id: PartId, due_at: Option<Timestamp>) -> Change {
    Change::Set(
        id,
        Part {
            bytes: Cow::Borrowed(DAMAGE),
            due_at,
            expires_at: due_at,
            stored_at: Timestamp::EPOCH,
            digest: None,
        },
    )
}

#[test]
fn a_damaged_row_does_not_stand_in_the_way_of_others() {
    let (board, value) = (RecordKey::new("/sr/a"), RecordKey::new("/any/a"));
    let id = RecordId::new(&local(), &board);
    let clock = ManualClock::at(Timestamp::from_millis(T0));
    let later = clock.now().saturating_add(HOUR);
    for (due_at, what) in [
        (None, "never due"),
        (Some(clock.now()), "due from the beginning"),
        (Some(later), "due later"),
    ] {
        let parts = [id.head(), id.part(SpaceId([1; 32])), id.part(SpaceId::MAX)];
        for (part, is_of_before) in parts.into_iter().flat_map(|part| [(part, false), (part, true)])
        {
            let mut storage = new_storage();
            storage.apply(vec![damaged(part, due_at)]).unwrap();
            // Two orphans: spaces without a head, far away and near.
            let far = RecordId([0xff; 32]).part(SpaceId::MAX);
            storage.apply(vec![damaged(far, due_at)]).unwrap();
            if is_of_before {
                storage.commit().unwrap();
                reopen(&mut storage);
            }
            let config = StoreConfig::default().with_max_records(2).with_max_bytes(4_096);
            let clock = ManualClock::at(Timestamp::from_millis(T0));
            let mut store =
                SmartRecordStore::with_storage(local(), registry(), config, storage, clock.clone())
                    .unwrap();
            // Writes and reads go on, here and elsewhere.
            let good = one_space(&board, 1, 10, HOUR);
            store.write(&board, &good).unwrap();
            assert_eq!(store.record(&board).unwrap(), Some(decode(&board, &good)), "{what}");
            assert!(store.get(&kad_key(&board)).is_some(), "{what}");
            store.write(&value, b"value").unwrap();
            assert_eq!(store.get(&kad_key(&value)).unwrap().value, b"value");
            assert!(store.records().count() >= 2, "{what}");
            // It can be evicted and collected.
            let mut n = 2;
            while n < 40 {
                put(&mut store, &RecordKey::new(format!("/any/{n}")), vec![0; 100]);
                n += 1;
            }
            assert!(store.usage().bytes <= 4_096, "{what}");
            clock.advance(2 * HOUR);
            store.collect().unwrap();
            store.forget(&board).unwrap();
            assert!(store.get(&kad_key(&board)).is_none());
        }
    }
}

#[test]
fn a_write_is_committed_once_however_many_spaces_it_has() {
    let (mut store, state, _) = probed(StoreConfig::default());
    let board = RecordKey::new("/sr/a");
    let value = (1..=20).fold(SmartRecord::new(board.clone()), |mut record, n| {
        record.join(decode(&board, &one_space(&board, n, 10, HOUR))).unwrap();
        record
    });
    store.write(&board, &value.encode()).unwrap();
    assert_eq!(state.commits.load(SeqCst), 1);
    store.write(&RecordKey::new("/any/a"), b"value").unwrap();
    assert_eq!(state.commits.load(SeqCst), 2);
}

#[test]
fn what_cannot_be_committed_is_not_told_as_stored() {
    let (mut store, state, _) = probed(StoreConfig::default());
    let mut heard = store.subscribe();
    state.fail_commits.store(true, SeqCst);
    let board = RecordKey::new("/sr/a");
    let value = one_space(&board, 1, 10, HOUR);
    assert!(matches!(store.write(&board, &value), Err(WriteError::Storage(_))));
    let any = RecordKey::new("/any/a");
    assert!(matches!(store.write(&any, b"value"), Err(WriteError::Storage(_))));
    let told = events(&mut heard);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().all(|e| matches!(e, StoreEvent::StorageFailed { .. })));
    assert_eq!((store.counters().admitted, store.counters().values), (0, 0));
    assert_eq!(store.counters().storage_failures, 2);
}

#[test]
fn an_eviction_is_told_once_it_lasts() {
    let (mut store, state, _) = probed(StoreConfig::default().with_max_records(3));
    let mut heard = store.subscribe();
    let keys = by_distance(5);
    for key in &keys[1..4] {
        put(&mut store, key, b"value".to_vec());
    }
    let evictions = |heard: &mut Events| {
        events(heard).iter().filter(|e| matches!(e, StoreEvent::Evicted { .. })).count()
    };
    assert_eq!(evictions(&mut heard), 0);
    state.fail_commits.store(true, SeqCst);
    assert!(store.write(&keys[0], b"nearer").is_err());
    assert_eq!((evictions(&mut heard), store.counters().records_evicted), (0, 0));
    state.mend();
    store.write(&keys[0], b"nearest").unwrap();
    assert_eq!(evictions(&mut heard), 0, "the storage has kept what it said it could not");
    put(&mut store, &keys[1], b"value".to_vec());
    assert_eq!(store.usage().records, 3);
}
