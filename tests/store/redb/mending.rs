//! Recovery after a failure, and in a store that was opened with narrower bounds.

use super::{device::Faults, *};

fn faults(syncs_left: usize) -> Faults {
    Faults { syncs_left: Some(syncs_left), ..Faults::NONE }
}

#[test]
fn no_answer_of_the_time_of_a_failure_outlives_it() {
    let mut failed = 0;
    for syncs in 0..8 {
        let (device, clock) = (Device::default(), clock());
        let mut store = store_on(&device, Durability::Immediate, &clock);
        let board = RecordKey::new("/sr/a");
        let spaces = [one_space(&board, 1, 10, HOUR), one_space(&board, 2, 10, HOUR)];
        store.write(&board, &spaces[0]).unwrap();
        device.fail(faults(syncs));
        let is_ok = store.write(&board, &spaces[1]).is_ok();
        failed += usize::from(!is_ok);
        // The reply matches what is stored now; the effect of the failed write may appear later.
        let answered = |store: &SmartRecordStore| {
            let answer = store.get(&kad_key(&board));
            answer.map_or(0, |record| decode(&board, &record.value).spaces().len())
        };
        assert!(answered(&store) <= 2);
        device.mend();
        until_it_works(|| {
            let written = store.write(&board, &spaces[1]).ok();
            let _ = answered(&store);
            written
        });
        // The database may be opened once more, and nothing can be read meanwhile.
        let shown = until_it_works(|| Some(answered(&store)).filter(|shown| *shown > 0));
        assert_eq!(shown, 2, "after {syncs} syncs");
    }
    assert!(failed > 0);
}

#[test]
fn what_is_collected_beside_a_refused_write_is_gone_for_good() {
    let (device, clock) = (Device::default(), clock());
    let mut store = store_on(&device, Durability::Immediate, &clock);
    for n in 0..20 {
        let key = RecordKey::new(format!("/sr/{n}"));
        store.write(&key, &one_space(&key, n, 10, HOUR)).unwrap();
    }
    clock.advance(HOUR);
    store.write(&RecordKey::new("/sr/a"), b"rubbish").unwrap_err();
    let after = device.after_power_loss(|_| 0);
    assert_eq!(open_on(&after, Durability::Immediate).unwrap().usage(), Usage::default());
}

#[test]
fn what_a_node_provides_is_noted_once_the_disk_works_again() {
    for durability in MODES {
        let (device, clock) = (Device::default(), clock());
        let mut store = store_on(&device, durability, &clock);
        let provides = |key: &str| ProviderRecord::new(kad_key(key), local(), Vec::new());
        store.add_provider(provides("before")).unwrap();
        drop(store);
        store = store_on(&device, durability, &clock);
        device.fail(faults(0));
        // Until the storage has noticed the failure.
        let mut n = 0_u64;
        until_it_works(|| {
            n += 1;
            store.write(&RecordKey::new("/any/b"), &n.to_le_bytes()).err()
        });
        // Kademlia has them, but the disk does not.
        store.add_provider(provides("meanwhile")).unwrap();
        store.remove_provider(&kad_key("before"), &local());
        // An empty write succeeds, and changes nothing about that.
        store.collect().unwrap_or_default();
        device.mend();
        until_it_works(|| store.write(&RecordKey::new("/any/a"), b"value").ok());
        drop(store);
        let store = store_on(&device, durability, &clock);
        let provided: Vec<_> = store.provided().map(|record| record.key.clone()).collect();
        assert_eq!(provided, [kad_key("meanwhile")], "{durability:?}");
    }
}

#[test]
fn what_has_expired_goes_before_what_is_beyond_narrower_bounds() {
    let (device, clock) = (Device::default(), clock());
    let mut store = store_on(&device, Durability::Immediate, &clock);
    for n in 0..900 {
        let key = RecordKey::new(format!("/any/{n}"));
        let ttl = Duration::from_secs(if n < 600 { 60 } else { 3_600 });
        let expires = Some(Instant::now() + ttl);
        store.put(Record { expires, ..Record::new(kad_key(&key), vec![0; 10]) }).unwrap();
    }
    drop(store);
    clock.advance(Duration::from_secs(61));
    let mut store = store_within(
        StoreConfig::default().with_max_records(400),
        &device,
        Durability::Immediate,
        &clock,
    );
    for n in 0..20 {
        store.write(&RecordKey::new(format!("/any/new/{n}")), b"value").unwrap();
    }
    assert_eq!(store.counters().records_evicted, 0);
    assert_eq!(store.usage().records, 320);
}

#[test]
fn what_is_beyond_narrower_bounds_goes_little_by_little() {
    let (device, clock) = (Device::default(), clock());
    let mut store = store_on(&device, Durability::Immediate, &clock);
    let own = RecordKey::new("/any/own");
    store.write(&own, b"own").unwrap();
    for n in 0..100 {
        let key = RecordKey::new(format!("/sr/{n}"));
        store.write(&key, &one_space(&key, n, 10, HOUR)).unwrap();
    }
    let (all, before) = (store.usage(), store.usage().bytes);
    drop(store);
    let ten = before / 10;
    let narrow = [
        StoreConfig::default().with_max_bytes(ten),
        StoreConfig::default().with_max_records(10),
        StoreConfig::default().with_namespace_quota("sr", Quota { count: 10, bytes: 1 << 30 }),
        StoreConfig::default().with_namespace_quota("sr", Quota { count: 1_000, bytes: ten }),
    ];
    for config in narrow {
        let device = device.after_power_loss(|len| len);
        let mut store = store_within(config, &device, Durability::Immediate, &clock);
        let mut heard = store.subscribe();
        assert_eq!(store.usage(), all, "nothing goes while it is opened");
        let mut writes = 0;
        while store.usage().records > 11 || store.usage().bytes > before / 9 {
            writes += 1;
            assert!(writes < 20, "{:?} after {writes} writes", store.usage());
            // It may find room or not. A write makes room only for what it adds.
            let key = RecordKey::new(format!("/sr/new/{writes}"));
            let _ = store.write(&key, &one_space(&key, writes, 10, HOUR));
            let is_evicted = |e: &StoreEvent| matches!(e, StoreEvent::Evicted { .. });
            let evicted = events(&mut heard).iter().filter(|e| is_evicted(e)).count();
            assert!(evicted <= 20, "{evicted} records in one write");
        }
        assert!(writes > 3);
        assert_eq!(store.value(&own).unwrap().unwrap().value, b"own"[..]);
        assert_eq!(store.counters().rows_discarded, 0);
    }
}
