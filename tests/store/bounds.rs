//! Bounds, and what is evicted when they are reached.

use super::*;

fn kept(store: &SmartRecordStore, keys: &[RecordKey]) -> Vec<bool> {
    keys.iter().map(|key| store.get(&kad_key(key)).is_some()).collect()
}

#[test]
fn room_is_made_from_the_far_end() {
    let keys = by_distance(5);
    let (mut store, _) = open_store(StoreConfig::default().with_max_records(3));
    let mut heard = store.subscribe();
    for key in &keys[1..4] {
        put(&mut store, key, b"value".to_vec());
    }
    assert!(matches!(events(&mut heard)[..], [_, _, _]));

    // Farther than all others: refused, and nothing is evicted.
    let full = LimitExceeded { limit: StoreConfig::STORE_RECORDS, got: Some(4), max: 3 };
    put(&mut store, &keys[4], b"value".to_vec());
    let refused = StoreEvent::Refused {
        key: keys[4].clone(),
        writer: None,
        origin: Origin::Remote,
        reason: full.into(),
        count: 1,
    };
    assert_eq!(events(&mut heard), [refused]);
    assert_eq!(kept(&store, &keys), [false, true, true, true, false]);

    // Nearer than some: the farthest is evicted.
    put(&mut store, &keys[0], b"value".to_vec());
    assert_eq!(kept(&store, &keys), [true, true, true, false, false]);
    let stored =
        StoreEvent::Stored { key: keys[0].clone(), writers: Vec::new(), origin: Origin::Remote };
    let evicted = StoreEvent::Evicted { key: keys[3].clone() };
    assert_eq!(events(&mut heard), [evicted, stored]);
    assert_eq!(store.counters().records_evicted, 1);

    // A stored value may be overwritten although the store is full.
    put(&mut store, &keys[2], b"other".to_vec());
    assert_eq!(store.get(&kad_key(&keys[2])).unwrap().value, b"other");
    assert_eq!(store.usage().records, 3);
}

#[test]
fn what_has_expired_goes_first() {
    let keys = by_distance(4);
    let (mut store, clock) = open_store(StoreConfig::default().with_max_records(3));
    let mut heard = store.subscribe();
    for (key, seconds) in keys.iter().zip([10, 1_000, 1_000]) {
        let mut record = Record::new(kad::RecordKey::new(key), b"value".to_vec());
        record.expires = Some(Instant::now() + Duration::from_secs(seconds));
        store.put(record).unwrap();
    }
    clock.advance(Duration::from_secs(11));
    // The new one is the farthest of all, but there is room.
    put(&mut store, &keys[3], b"value".to_vec());
    assert_eq!(kept(&store, &keys), [false, true, true, true]);
    assert!(!events(&mut heard).iter().any(|e| matches!(e, StoreEvent::Evicted { .. })));
    assert_eq!(store.counters().collected, 1);
    assert_eq!(store.usage().records, 3);
}

#[test]
fn bytes_are_bounded_too() {
    let keys = by_distance(4);
    let row = 1_000 + Usage::ROW + 32;
    let (mut store, _) = open_store(StoreConfig::default().with_max_bytes(3 * row));
    let mut heard = store.subscribe();
    for key in &keys[1..] {
        put(&mut store, key, vec![1; 1_000]);
    }
    assert_eq!(kept(&store, &keys), [false, true, true, true]);
    put(&mut store, &keys[0], vec![1; 1_000]);
    assert_eq!(kept(&store, &keys), [true, true, true, false]);
    let mut more = store.subscribe();
    put(&mut store, &keys[3], vec![1; 1_000]);
    assert!(matches!(
        &events(&mut more)[..],
        [StoreEvent::Refused {
            reason: ValidationError::LimitExceeded(LimitExceeded {
                limit: StoreConfig::STORE_BYTES,
                ..
            }),
            ..
        }]
    ));
    assert_eq!(store.counters().refused.get(&Fault::LimitExceeded), Some(&1));
    assert!(events(&mut heard).contains(&StoreEvent::Evicted { key: keys[3].clone() }));
}

#[test]
fn no_byte_more_than_the_bound() {
    // One record after the other, with bounds one byte apart around their total size.
    let keys = [RecordKey::new("/sr/a"), RecordKey::new("/any/b")];
    let values = [one_space(&keys[0], 1, 100, HOUR), vec![7; 300]];
    for (key, value) in keys.iter().zip(values) {
        let (mut store, _) = open_store(StoreConfig::default());
        put(&mut store, key, value.clone());
        let needed = store.usage().bytes;
        let mut fitted = 0;
        for max in needed - 40..=needed + 40 {
            let (mut store, _) = open_store(StoreConfig::default().with_max_bytes(max));
            put(&mut store, key, value.clone());
            let used = store.usage().bytes;
            assert!(used <= max, "{used} of {max} bytes used for {key}");
            fitted += usize::from(used > 0);
        }
        assert!(fitted > 0);
    }
}

#[test]
fn a_full_store_takes_what_makes_it_smaller() {
    // A board and a value that take nearly all the room. Replacing them by something smaller needs
    // no room.
    let key = RecordKey::new("/sr/a");
    let (mut signer, now) = (signer(&key, 1, Limits::default()), Timestamp::from_millis(T0));
    let update = signer.merge(text(1_000), now, HOUR).unwrap();
    let withdrawal = signer.withdraw(now).unwrap();
    let encode = |update| {
        let mut record = SmartRecord::new(key.clone());
        record.insert(signer.writer(), update).unwrap();
        record.encode()
    };
    let max = 1_250 + 2 * Usage::ROW;
    let (mut store, _) = open_store(StoreConfig::default().with_max_bytes(max));
    store.write(&key, &encode(update)).unwrap();
    assert_eq!(store.view(&key).unwrap().len(), 1);
    store.write(&key, &encode(withdrawal)).unwrap();
    assert!(store.view(&key).unwrap().is_empty());

    let max = 1_300 + Usage::ROW;
    let (mut store, _) = open_store(StoreConfig::default().with_max_bytes(max));
    let key = RecordKey::new("/any/a");
    store.write(&key, &[1; 1_200]).unwrap();
    store.write(&key, &[2; 1_100]).unwrap();
    assert_eq!(store.get(&kad_key(&key)).unwrap().value, [2; 1_100]);
    // A value that does not fit leaves the old one in place.
    assert!(store.write(&key, &[3; 1_600]).is_err());
    assert_eq!(store.get(&kad_key(&key)).unwrap().value, [2; 1_100]);
}

#[test]
fn no_flood_exceeds_the_bounds() {
    let flood = vec((0_u64..12, 0_u64..6, 0_usize..900, 1_u64..60, 0_u64..3_000), 1..80);
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 40,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let (max_records, max_bytes) = (5, 4_000);
    runner
        .run(&flood, |flood| {
            let config =
                StoreConfig::default().with_max_records(max_records).with_max_bytes(max_bytes);
            let (mut store, clock) = open_store(config);
            for (key, writer, size, ttl, pause) in flood {
                let ttl = Duration::from_secs(ttl);
                if key % 2 == 0 {
                    let key = RecordKey::new(format!("/sr/{key}"));
                    let value = one_space(&key, writer, size, ttl);
                    put(&mut store, &key, value);
                } else {
                    let mut record = Record::new(kad_key(format!("/any/{key}")), vec![1; size]);
                    record.expires = Some(Instant::now() + ttl);
                    store.put(record).unwrap();
                }
                let usage = store.usage();
                prop_assert!(usage.records <= max_records, "{usage:?}");
                prop_assert!(usage.bytes <= max_bytes, "{usage:?}");
                clock.advance(Duration::from_millis(pause));
            }
            clock.advance(HOUR);
            store.collect().unwrap();
            prop_assert_eq!(store.usage(), Usage::default());
            Ok(())
        })
        .unwrap();
}

#[test]
fn of_too_many_spaces_the_lowest_ranks_stay() {
    let limits = Limits::default().with_spaces_per_record(4);
    let registry = Registry::empty().with("sr", SpaceRules::new(limits.clone(), Open)).unwrap();
    let clock = ManualClock::at(Timestamp::from_millis(T0));
    let config = StoreConfig::default();
    let storage = new_storage();
    let mut store =
        SmartRecordStore::with_storage(local(), registry, config, storage, clock.clone()).unwrap();
    let key = RecordKey::new("/sr/crowd");
    let mut all = SmartRecord::new(key.clone());
    for writer in 0..20 {
        let value = one_space(&key, writer, 10, Duration::from_secs(60 + writer));
        all.join(decode(&key, &value)).unwrap();
        put(&mut store, &key, value);
    }
    all.truncate(&limits);
    assert_eq!(store.record(&key).unwrap().unwrap(), all);
    assert!(store.counters().spaces_evicted > 0);
    assert!(store.counters().refused[&Fault::LimitExceeded] > 0);
    // Expired spaces take no places.
    clock.advance(Duration::from_secs(120));
    let mut signer = signer(&key, 99, limits);
    let update = signer.merge(text(1), clock.now(), HOUR).unwrap();
    let mut late = SmartRecord::new(key.clone());
    late.insert(signer.writer(), update).unwrap();
    store.write(&key, &late.encode()).unwrap();
    assert_eq!(store.record(&key).unwrap(), Some(late));
}

#[test]
fn the_expired_take_no_one_s_place_in_a_full_record() {
    let limits = Limits::default().with_spaces_per_record(8);
    let rules = SpaceRules::new(limits, libp2p_smart_record::Open);
    for seed in 0..8 {
        let registry = Registry::empty().with("sr", rules.clone()).unwrap();
        let clock = ManualClock::at(Timestamp::from_millis(T0));
        let mut store = SmartRecordStore::with_storage(
            local(),
            registry,
            StoreConfig::default(),
            new_storage(),
            clock.clone(),
        )
        .unwrap();
        // More rows elsewhere are due earlier than one write collects.
        for n in 0..400 {
            let key = RecordKey::new(format!("/sr/{n}"));
            put(&mut store, &key, one_space(&key, n, 1, Duration::from_secs(10)));
        }
        let key = RecordKey::new("/sr/board");
        for writer in 0..7 {
            let writer = 1_000 + 10 * seed + writer;
            put(&mut store, &key, one_space(&key, writer, 1, Duration::from_secs(20)));
        }
        let live = one_space(&key, 2_000 + seed, 1, HOUR);
        put(&mut store, &key, live.clone());
        clock.advance(Duration::from_secs(21));
        let mut signer = signer(&key, 3_000 + seed, Limits::default());
        signer.merge(text(1), clock.now(), HOUR).unwrap();
        let new = signer.record(clock.now());
        assert_eq!(store.write(&key, &new.encode()).map(|report| report.stored), Ok(1));
        let mut expected = decode(&key, &live);
        expected.join(new).unwrap();
        assert_eq!(store.record(&key).unwrap(), Some(expected), "seed {seed}");
    }
}

#[test]
fn case_28_writers_who_come_and_go_leave_room_for_newcomers() {
    const TTL: Duration = Duration::from_secs(30);
    // More than a board has places for, within the 48 hours for which a withdrawal could be
    // retained.
    let newcomers = Limits::default().spaces_per_record() as u64 + 100;
    let (mut store, clock) = open_store(StoreConfig::default());
    let key = RecordKey::new("/sr/board");
    for writer in 0..newcomers {
        let mut signer = signer(&key, writer, Limits::default());
        signer.merge(text(1), clock.now(), TTL).unwrap();
        let stored = store.write(&key, &signer.record(clock.now()).encode());
        assert_eq!(stored.map(|report| report.stored), Ok(1), "writer {writer}");
        clock.advance(TTL / 30);
        signer.withdraw(clock.now()).unwrap();
        let withdrawn = store.write(&key, &signer.record(clock.now()).encode());
        assert_eq!(withdrawn.map(|report| report.stored), Ok(1), "writer {writer}");
    }
    assert_eq!(store.counters().refused_total(), 0);
    assert_eq!(store.counters().spaces_evicted, 0);
    assert!(store.view(&key).unwrap().is_empty(), "nothing that was withdrawn comes back");
    clock.advance(TTL);
    assert_eq!(store.record(&key).unwrap(), None);
}
