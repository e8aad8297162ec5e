//! The maximum age of values that are signed for longer than Kademlia keeps a record.

use super::*;
use libp2p_smart_record::{
    ipns::{IpnsBuilder, IpnsName},
    pk::PublicKeyValidator,
    store::StoreConfig,
};

fn ipns_store(config: StoreConfig) -> (SmartRecordStore, ManualClock) {
    let clock = ManualClock::at(Timestamp::from_millis(T0));
    let storage = new_storage();
    let registry = libp2p_smart_record::ipfs();
    let store =
        SmartRecordStore::with_storage(local(), registry, config, storage, clock.clone()).unwrap();
    (store, clock)
}

/// A remote write of an IPNS record that expires `hours` after signing, sent with this lifetime.
fn ipns(hours: u32, lifetime: Option<Duration>) -> Record {
    let until = Timestamp::from_millis(T0).saturating_add(hours * HOUR);
    let keypair = keypair(1);
    let record = IpnsBuilder::new("/ipfs/bafkqaaa", 1, until)
        .sign(&keypair, Timestamp::from_millis(T0))
        .unwrap();
    let key = IpnsName::from(&keypair.public()).key();
    let expires = lifetime.map(|lifetime| Instant::now() + lifetime);
    Record {
        key: kad::RecordKey::new(&key),
        value: record.as_bytes().to_vec(),
        publisher: None,
        expires,
    }
}

/// Whether the value still exists after this time. With one second less it would not be sent any
/// more.
fn lives_after(
    store: &SmartRecordStore,
    clock: &ManualClock,
    record: &Record,
    after: Duration,
) -> bool {
    clock.set(Timestamp::from_millis(T0).saturating_add(after));
    store.get(&record.key).is_some()
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_far_expiry_ends_with_the_age_that_the_store_allows() {
    for (config, age) in [
        (StoreConfig::default(), 48 * HOUR),
        (StoreConfig::default().with_max_age(HOUR), HOUR),
        (StoreConfig::default().with_max_age(Duration::MAX), 1_000 * HOUR),
    ] {
        for local in [false, true] {
            let (mut store, clock) = ipns_store(config.clone());
            let record = ipns(1_000, None);
            if local {
                // A local write.
                store.write(&RecordKey::new(record.key.to_vec()), &record.value).unwrap();
            } else {
                store.put(record.clone()).unwrap();
            }
            assert!(lives_after(&store, &clock, &record, age - SECOND));
            assert!(!lives_after(&store, &clock, &record, age));
            assert_eq!(store.collect().unwrap(), 1);
            assert_eq!(store.usage(), Usage::default());
        }
    }
}

#[test]
fn what_comes_again_lives_on() {
    let (mut store, clock) = ipns_store(StoreConfig::default());
    let record = ipns(130, None);
    for again in [0, 40, 80, 120] {
        assert_eq!(lives_after(&store, &clock, &record, again * HOUR), again > 0);
        store.put(ipns(130, Some(48 * HOUR))).unwrap();
    }
    assert!(lives_after(&store, &clock, &record, 130 * HOUR - SECOND));
    assert!(!lives_after(&store, &clock, &record, 130 * HOUR));
}

#[test]
fn a_near_expiry_is_the_value_s_own_and_a_far_one_cannot_be_cut_short() {
    for (hours, lives_for) in [(48, 48), (49, 48)] {
        let (mut store, clock) = ipns_store(StoreConfig::default());
        let record = ipns(hours, None);
        store.put(record.clone()).unwrap();
        store.put(ipns(hours, Some(2 * SECOND))).unwrap();
        assert!(lives_after(&store, &clock, &record, lives_for * HOUR - SECOND));
    }
    // Whatever lifetime is sent with it.
    let (mut store, clock) = ipns_store(StoreConfig::default());
    let record = ipns(48, Some(2 * SECOND));
    store.put(record.clone()).unwrap();
    assert!(lives_after(&store, &clock, &record, 48 * HOUR - SECOND));
}

#[test]
fn replicas_do_not_keep_a_value_alive_among_themselves() {
    let begun = Instant::now();
    let (mut a, clock) = ipns_store(StoreConfig::default());
    let (mut b, clock_b) = ipns_store(StoreConfig::default());
    let record = ipns(1_000, Some(48 * HOUR));
    a.put(record.clone()).unwrap();
    for hours in (1..48).step_by(6) {
        for clock in [&clock, &clock_b] {
            clock.set(Timestamp::from_millis(T0).saturating_add(hours * HOUR));
        }
        let sent: Vec<_> = a.records().map(Cow::into_owned).collect();
        sent.into_iter().for_each(|record| b.put(record).unwrap());
        let sent: Vec<_> = b.records().map(Cow::into_owned).collect();
        sent.into_iter().for_each(|record| a.put(record).unwrap());
    }
    for (store, clock) in [(&a, &clock), (&b, &clock_b)] {
        // The transmitted lifetime is shorter by the time until it is received.
        assert!(lives_after(store, clock, &record, 48 * HOUR - 2 * SECOND - begun.elapsed()));
        assert!(!lives_after(store, clock, &record, 48 * HOUR));
    }
}

#[test]
fn a_value_that_does_not_say_when_it_expires_has_an_end() {
    let (mut store, clock) = ipns_store(StoreConfig::default());
    let public = keypair(1).public();
    let key = PublicKeyValidator::key(&public);
    let record = Record::new(kad::RecordKey::new(&key), public.encode_protobuf());
    store.put(record.clone()).unwrap();
    assert!(lives_after(&store, &clock, &record, 48 * HOUR - SECOND));
    assert!(!lives_after(&store, &clock, &record, 48 * HOUR));
}
