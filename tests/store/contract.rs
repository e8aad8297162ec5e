//! The contract of libp2p's `MemoryStore`, tested on it and on this store with the fallback.

use super::*;

fn value_record(n: u64) -> Record {
    let mut record = Record::new(kad_key(format!("key {n}")), vec![n as u8; n as usize]);
    record.publisher = (n % 2 == 1).then(|| peer(n));
    record.expires = (!n.is_multiple_of(3)).then(|| Instant::now() + Duration::from_secs(10 * n));
    record
}

/// Asserts equality, except for what is lost when an instant is converted to wall-clock
/// milliseconds and back: two milliseconds, and the time between the readings of the two clocks,
/// which is at most the time since `start`.
fn assert_same(found: Option<Cow<'_, Record>>, expected: &Record, start: Instant) {
    let found = found.expect("a record");
    let apart = match (found.expires, expected.expires) {
        (Some(a), Some(b)) => a.max(b) - a.min(b),
        (a, b) => {
            assert_eq!(a, b);
            Duration::ZERO
        }
    };
    assert!(apart <= Duration::from_millis(2) + start.elapsed(), "{apart:?} apart");
    let expires = expected.expires;
    assert_eq!(&Record { expires, ..found.into_owned() }, expected);
}

pub(super) fn put_get_remove<S: RecordStore>(make: impl Fn(PeerId) -> S) {
    let start = Instant::now();
    let mut store = make(local());
    let records: Vec<_> = (0..12).map(value_record).collect();
    for record in &records {
        assert!(store.get(&record.key).is_none());
        store.put(record.clone()).unwrap();
        assert_same(store.get(&record.key), record, start);
    }
    assert_eq!(store.records().count(), 12);
    for record in &records {
        assert_same(store.records().find(|r| r.key == record.key), record, start);
        store.remove(&record.key);
        assert!(store.get(&record.key).is_none());
        store.remove(&record.key);
    }
    assert_eq!(store.records().count(), 0);
}

pub(super) fn the_last_put_stays<S: RecordStore>(make: impl Fn(PeerId) -> S) {
    let start = Instant::now();
    let mut store = make(local());
    // Longer and shorter values, with and without lifetime, from two publishers.
    for n in [3, 8, 1, 6, 5, 5] {
        let record = Record { key: kad_key("one"), ..value_record(n) };
        store.put(record.clone()).unwrap();
        assert_same(store.get(&record.key), &record, start);
    }
    assert_eq!(store.records().count(), 1);
}

pub(super) fn too_large_a_value<S: RecordStore>(make: impl Fn(PeerId) -> S) {
    let start = Instant::now();
    let mut store = make(local());
    let mut record = Record::new(kad_key("large"), vec![1; 65 * 1_024]);
    record.publisher = Some(local());
    let error = store.put(record.clone()).unwrap_err();
    assert!(matches!(error, kad::store::Error::ValueTooLarge));
    assert!(store.get(&record.key).is_none());
    record.value.pop();
    store.put(record.clone()).unwrap();
    assert_same(store.get(&record.key), &record, start);
}

fn provider(key: &str, of: u64) -> ProviderRecord {
    ProviderRecord::new(kad_key(key), peer(of), Vec::new())
}

pub(super) fn providers<S: RecordStore>(make: impl Fn(PeerId) -> S) {
    let mut store = make(local());
    let (a, b) = (provider("k", 1), provider("k", 2));
    for record in [&a, &b, &a] {
        store.add_provider(record.clone()).unwrap();
    }
    assert_eq!(store.providers(&a.key), vec![a.clone(), b.clone()]);
    assert_eq!(store.providers(&kad_key("other")), vec![]);
    store.remove_provider(&a.key, &a.provider);
    assert_eq!(store.providers(&a.key), vec![b.clone()]);
    store.remove_provider(&a.key, &b.provider);
    assert_eq!(store.providers(&a.key), vec![]);
    assert_eq!(store.provided().count(), 0);
}

pub(super) fn provided<S: RecordStore>(make: impl Fn(PeerId) -> S) {
    let mut store = make(local());
    let own = ProviderRecord::new(kad_key("k"), local(), Vec::new());
    store.add_provider(provider("k", 1)).unwrap();
    store.add_provider(own.clone()).unwrap();
    let provided: Vec<_> = store.provided().map(Cow::into_owned).collect();
    assert_eq!(provided, vec![own.clone()]);
    store.remove_provider(&own.key, &own.provider);
    assert_eq!(store.provided().count(), 0);
    assert_eq!(store.providers(&own.key).len(), 1);
}

pub(super) fn update_provider<S: RecordStore>(make: impl Fn(PeerId) -> S) {
    let mut store = make(local());
    for of in [1, u64::MAX] {
        let mut record = provider("k", of);
        store.add_provider(record.clone()).unwrap();
        record.expires = Some(Instant::now());
        store.add_provider(record.clone()).unwrap();
        let kept = store.providers(&record.key);
        assert_eq!(kept.iter().filter(|r| **r == record).count(), 1);
    }
    assert_eq!(store.providers(&kad_key("k")).len(), 2);
    let provided: Vec<_> = store.provided().map(Cow::into_owned).collect();
    assert!(provided.len() == 1 && provided[0].expires.is_some());
}

pub(super) fn max_providers_per_key<S: RecordStore>(make: impl Fn(PeerId) -> S) {
    let mut store = make(local());
    let max = kad::K_VALUE.get() as u64;
    for of in 0..max {
        store.add_provider(provider("k", of)).unwrap();
    }
    // One too many is ignored without an error.
    store.add_provider(provider("k", max)).unwrap();
    let kept: Vec<_> = (0..max).map(|of| provider("k", of)).collect();
    assert_eq!(store.providers(&kad_key("k")), kept);
}

pub(super) fn max_provided_keys<S: RecordStore>(make: impl Fn(PeerId) -> S) {
    let mut store = make(local());
    for n in 0..1_024 {
        store.add_provider(provider(&n.to_string(), 1)).unwrap();
    }
    let error = store.add_provider(provider("more", 1)).unwrap_err();
    assert!(matches!(error, kad::store::Error::MaxProvidedKeys));
    store.add_provider(provider("0", 2)).unwrap();
}

macro_rules! on_all_stores {
    ($($test:ident),* $(,)?) => {
        mod libp2p_memory_store {
            $(#[test]
            fn $test() {
                super::$test(libp2p_kad::store::MemoryStore::new);
            })*
        }
        mod with_fallback {
            $(#[test]
            fn $test() {
                super::$test(super::with_fallback_only);
            })*
        }
        mod drop_in {
            $(#[test]
            fn $test() {
                super::$test(super::SmartRecordStore::drop_in);
            })*
        }
    };
}

on_all_stores! {
    put_get_remove,
    the_last_put_stays,
    too_large_a_value,
    providers,
    provided,
    update_provider,
    max_providers_per_key,
    max_provided_keys,
}

pub fn with_fallback_only(local: PeerId) -> SmartRecordStore {
    let registry = Registry::empty().with_fallback(AcceptAny::default());
    let config = StoreConfig::default();
    SmartRecordStore::with_storage(local, registry, config, new_storage(), SystemClock).unwrap()
}

#[test]
fn the_bounds_of_providers_are_the_user_s() {
    let providers = kad::store::MemoryStoreConfig {
        max_provided_keys: 1,
        max_providers_per_key: 1,
        ..Default::default()
    };
    let (mut store, _) = open_store(StoreConfig::default().with_providers(providers));
    let provider = |key: &str, of| ProviderRecord::new(kad_key(key), peer(of), Vec::new());
    store.add_provider(provider("a", 1)).unwrap();
    store.add_provider(provider("a", 2)).unwrap();
    assert_eq!(store.providers(&kad_key("a")), vec![provider("a", 1)]);
    assert!(store.add_provider(provider("b", 1)).is_err());
}

#[test]
fn strangers_take_no_room_from_the_node_s_own_provider_records() {
    let providers = kad::store::MemoryStoreConfig {
        max_provided_keys: 2,
        max_providers_per_key: 2,
        ..Default::default()
    };
    let (mut store, _) = open_store(StoreConfig::default().with_providers(providers));
    let own = |key| ProviderRecord::new(kad_key(key), local(), Vec::new());
    for (key, of) in [("a", 1), ("a", 2), ("b", 1), ("b", 2)] {
        store.add_provider(provider(key, of)).unwrap();
    }
    assert!(store.add_provider(provider("c", 1)).is_err(), "it is full");
    store.add_provider(own("a")).unwrap();
    store.add_provider(own("c")).unwrap();
    assert_eq!(store.providers(&kad_key("a")), vec![own("a"), provider("a", 1)]);
    let mut provided: Vec<_> = store.provided().map(Cow::into_owned).collect();
    provided.sort_by_key(|record| record.key.to_vec());
    assert_eq!(provided, vec![own("a"), own("c")]);
    // Nor does the node take any from strangers.
    store.remove_provider(&kad_key("b"), &peer(1));
    store.remove_provider(&kad_key("b"), &peer(2));
    store.add_provider(provider("d", 1)).unwrap();
}
