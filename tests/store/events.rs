//! The event queue.

use super::*;

#[test]
fn the_queue_of_events_is_bounded() {
    let (mut store, _) = open_store(StoreConfig::default().with_max_events(10));
    let mut slow = store.subscribe();
    let mut quick = store.subscribe();
    let gone = store.subscribe();
    drop(gone);
    for n in 0..25 {
        put(&mut store, &RecordKey::new(format!("/any/{n}")), b"value".to_vec());
        assert!(quick.try_next().is_some());
    }
    assert_eq!(store.counters().events_lost, 15);
    // The first ones are kept, in order.
    let told = events(&mut slow);
    assert_eq!(told.len(), 10);
    for (n, event) in told.iter().enumerate() {
        assert!(matches!(event, StoreEvent::Stored { key, .. }
            if *key == RecordKey::new(format!("/any/{n}"))));
    }
    assert_eq!(events(&mut quick), []);
    // There is room again.
    put(&mut store, &RecordKey::new("/any/a"), b"value".to_vec());
    assert_eq!(events(&mut slow).len(), 1);
    assert_eq!(store.counters().events_lost, 15);
}

#[test]
fn a_store_can_stand_in_for_libp2p_s() {
    // Both types are usable through the trait that Kademlia requires.
    fn value_of<S: RecordStore>(mut store: S) -> Option<Vec<u8>> {
        store.put(Record::new(kad_key("k"), b"v".to_vec())).unwrap();
        store.get(&kad_key("k")).map(|record| record.value.clone())
    }
    let expected = value_of(MemoryStore::new(local()));
    assert_eq!(value_of(with_fallback_only(local())), expected);
    // Without the fallback it stores only what it can validate.
    assert_eq!(value_of(SmartRecordStore::new(local())), None);
}
