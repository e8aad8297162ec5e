//! Collection by the expiry index.

use super::*;

#[test]
fn collection_costs_what_has_expired() {
    let gets = |live: u64| {
        let (mut store, state, clock) = probed(StoreConfig::default());
        for n in 0..live {
            let key = RecordKey::new(format!("/sr/{}", n % 50));
            put(&mut store, &key, one_space(&key, n, 1, HOUR));
        }
        for n in 0..10 {
            let key = RecordKey::new(format!("/sr/short-lived/{n}"));
            put(&mut store, &key, one_space(&key, n, 1, Duration::from_secs(60)));
        }
        clock.advance(Duration::from_secs(61));
        state.reset();
        assert_eq!(store.collect().unwrap(), 10);
        assert_eq!(state.scans.load(SeqCst), 0);
        assert_eq!(store.counters().admitted, live + 10);
        assert_eq!(store.counters().collected, 10);
        let left: usize = (0..50)
            .filter_map(|n| store.record(&RecordKey::new(format!("/sr/{n}"))).unwrap())
            .map(|record| record.spaces().len())
            .sum();
        assert_eq!(left, live as usize);
        state.gets.load(SeqCst)
    };
    assert_eq!(gets(50), gets(2_000));
}

#[test]
fn writes_collect_on_their_way() {
    let (mut store, clock) = open_store(StoreConfig::default());
    for n in 0..10 {
        let key = RecordKey::new(format!("/sr/{n}"));
        put(&mut store, &key, one_space(&key, n, 1, Duration::from_secs(60)));
    }
    clock.advance(Duration::from_secs(60));
    for n in 0..10 {
        // Expired and not yet collected: hidden.
        assert!(store.get(&kad_key(format!("/sr/{n}"))).is_none());
    }
    assert_eq!(store.records().count(), 0);
    assert_eq!(store.usage().records, 10);
    put(&mut store, &RecordKey::new("/any/a"), b"value".to_vec());
    assert_eq!(store.usage().records, 1);
}

#[test]
fn a_write_of_another_peer_collects_little_even_if_it_needs_room() {
    let collected = |is_local: bool| {
        let config = StoreConfig::default().with_max_bytes(100 * 1_024);
        let (mut store, clock) = open_store(config);
        for n in 0..300 {
            let key = RecordKey::new(format!("/sr/{n}"));
            put(&mut store, &key, one_space(&key, n, 1, Duration::from_secs(60)));
        }
        clock.advance(Duration::from_secs(61));
        let before = store.counters().collected;
        // The store is full, and this takes the room of more than 32 of them.
        assert!(store.usage().bytes > 90 * 1_024);
        let (key, value) = (RecordKey::new("/any/a"), vec![7; 60_000]);
        match is_local {
            true => drop(store.write(&key, &value)),
            false => put(&mut store, &key, value),
        }
        store.counters().collected - before
    };
    assert_eq!(collected(false), 32);
    assert!(collected(true) > 32);
}
