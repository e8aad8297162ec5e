//! Kademlia's `remove`, and `forget`.

use super::*;

fn put_value(store: &mut SmartRecordStore, key: &str, seconds: u64) {
    let mut record = Record::new(kad_key(key), b"value".to_vec());
    record.expires = Some(Instant::now() + Duration::from_secs(seconds));
    store.put(record).unwrap();
}

#[test]
fn a_renewed_value_outlives_the_job_that_saw_it_expire() {
    // Kademlia's job takes a snapshot, and much later removes what has expired in it.
    for renewed_after in [5, 11] {
        let (mut store, clock) = open_store(StoreConfig::default());
        put_value(&mut store, "/any/a", 10);
        assert_eq!(store.records().count(), 1);
        clock.advance(Duration::from_secs(renewed_after));
        put_value(&mut store, "/any/a", 100);
        clock.advance(Duration::from_secs(12 - renewed_after));
        store.remove(&kad_key("/any/a"));
        assert!(store.get(&kad_key("/any/a")).is_some());
        // A plain remove, which the user asks for, removes.
        store.remove(&kad_key("/any/a"));
        assert!(store.get(&kad_key("/any/a")).is_none());
        assert_eq!(store.usage(), Usage::default());
    }
}

#[test]
fn a_plain_remove_removes_a_value() {
    let (mut store, _) = open_store(StoreConfig::default());
    for seen_by_job in [false, true] {
        put_value(&mut store, "/any/a", 10);
        if seen_by_job {
            assert_eq!(store.records().count(), 1);
        }
        store.remove(&kad_key("/any/a"));
        assert!(store.get(&kad_key("/any/a")).is_none());
    }
}

#[test]
fn remove_takes_nothing_that_lives_from_a_smart_record() {
    let (mut store, clock) = open_store(StoreConfig::default());
    let key = RecordKey::new("/sr/a");
    put(&mut store, &key, one_space(&key, 1, 10, Duration::from_secs(60)));
    put(&mut store, &key, one_space(&key, 2, 10, HOUR));
    let before = store.record(&key).unwrap();
    store.remove(&kad_key(&key));
    assert_eq!(store.record(&key).unwrap(), before);
    clock.advance(Duration::from_secs(61));
    store.remove(&kad_key(&key));
    assert_eq!(store.record(&key).unwrap().unwrap().spaces().len(), 1);
    assert_eq!(store.counters().collected, 1);
    store.remove(&kad_key("/sr/nothing"));
}

#[test]
fn forget_deletes_anything() {
    let (mut store, _) = open_store(StoreConfig::default());
    let (key, _) = large_board(&mut store, |_| HOUR);
    store.get(&kad_key(&key)).unwrap();
    put_value(&mut store, "/any/a", 10);
    store.forget(&key).unwrap();
    assert!(store.get(&kad_key(&key)).is_none());
    assert_eq!(store.record(&key).unwrap(), None);
    assert_eq!(store.usage().records, 1);
    store.forget(&RecordKey::new("/any/a")).unwrap();
    store.forget(&RecordKey::new("/any/never")).unwrap();
    assert_eq!(store.usage(), Usage::default());
}

#[test]
fn a_renewed_value_outlives_a_job_that_takes_long() {
    let (mut store, clock) = open_store(StoreConfig::default());
    put_value(&mut store, "/any/a", 360);
    assert_eq!(store.records().count(), 1);
    clock.advance(Duration::from_secs(100));
    put_value(&mut store, "/any/a", 3_600);
    clock.advance(Duration::from_secs(365));
    // Another caller reads the records in the meantime.
    assert_eq!(store.records().count(), 1);
    store.remove(&kad_key("/any/a"));
    assert!(store.get(&kad_key("/any/a")).is_some());
}
