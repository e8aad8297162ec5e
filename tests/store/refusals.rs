//! Refusals, and how they are reported.

use super::*;

#[test]
fn refused_provider_records_of_this_node_and_of_others_are_counted_apart() {
    let providers = kad::store::MemoryStoreConfig { max_provided_keys: 1, ..Default::default() };
    let (mut store, _) = open_store(StoreConfig::default().with_providers(providers));
    for (provider, refused) in [(local(), (1, 0)), (peer(1), (1, 1))] {
        let mut add =
            |key: &str| store.add_provider(ProviderRecord::new(kad_key(key), provider, Vec::new()));
        add("first").unwrap();
        add("second").unwrap_err();
        let counters = store.counters();
        assert_eq!((counters.own_providers_refused, counters.providers_refused), refused);
    }
}

#[test]
fn only_the_local_user_is_told_no() {
    let (mut store, clock) = open_store(StoreConfig::default());
    let mut heard = store.subscribe();
    let foreign = RecordKey::new("/sr/elsewhere");
    let key = RecordKey::new("/sr/a");
    let expired = one_space(&key, 1, 1, Duration::from_secs(1));
    clock.advance(Duration::from_secs(2));
    let cases = [
        (b"garbage".to_vec(), Fault::Malformed),
        (Vec::new(), Fault::Malformed),
        // Signed for another key.
        (one_space(&foreign, 1, 1, HOUR), Fault::Invalid),
        (expired, Fault::Expired),
    ];
    for (value, fault) in cases {
        let mut record = Record::new(kad::RecordKey::new(&key), value);
        for (publisher, origin) in [
            (Some(local()), Origin::Local),
            (Some(peer(1)), Origin::Remote),
            (None, Origin::Remote),
        ] {
            record.publisher = publisher;
            let answer = store.put(record.clone());
            assert_eq!(answer.is_err(), origin == Origin::Local);
            let told = events(&mut heard);
            assert!(
                matches!(&told[..], [StoreEvent::Refused { key: k, origin: o, reason, .. }]
                    if *k == key && *o == origin && reason.fault() == fault),
                "{told:?}"
            );
        }
        assert_eq!(store.usage(), Usage::default());
    }
    assert_eq!(store.counters().refused_total(), 12);
    assert_eq!(store.counters().refused[&Fault::Malformed], 6);
    assert_eq!(store.counters().admitted, 0);
}

#[test]
fn an_unknown_namespace_is_refused() {
    let mut store = SmartRecordStore::new(local());
    for key in ["/other/a", "no namespace", "/"] {
        let error = store.write(&RecordKey::new(key), b"value").unwrap_err();
        assert!(matches!(error, WriteError::Refused(ValidationError::Unsupported(_))));
        put(&mut store, &RecordKey::new(key), b"value".to_vec());
    }
    assert_eq!(store.usage(), Usage::default());
    assert_eq!(store.counters().refused[&Fault::Unsupported], 6);
}

#[test]
fn the_good_part_of_a_write_stays() {
    let (mut store, _) = open_store(StoreConfig::default());
    let mut heard = store.subscribe();
    let (key, foreign) = (RecordKey::new("/sr/a"), RecordKey::new("/sr/b"));
    let good = one_space(&key, 1, 10, HOUR);
    // Encoded containers can be concatenated. This one has two spaces, the second signed for
    // another key, between two valid ones.
    let value =
        [good.clone(), one_space(&foreign, 2, 10, HOUR), one_space(&key, 3, 10, HOUR)].concat();
    let report = store.write(&key, &value).unwrap();
    assert_eq!((report.stored, report.known), (2, 0));
    assert!(matches!(&report.refused[..],
        [(Some(writer), ValidationError::Invalid(_))] if *writer == peer(2)));
    let mut expected = decode(&key, &good);
    expected.join(decode(&key, &one_space(&key, 3, 10, HOUR))).unwrap();
    assert_eq!(store.record(&key).unwrap(), Some(expected));
    let told = events(&mut heard);
    let mut writers = vec![peer(1), peer(3)];
    writers.sort_unstable();
    assert_eq!(told.len(), 2);
    assert!(told.contains(&StoreEvent::Stored {
        key: key.clone(),
        writers,
        origin: Origin::Local
    }));

    // Once more: known now, so there is no event.
    let report = store.write(&key, &value).unwrap();
    assert_eq!((report.stored, report.known, report.refused.len()), (0, 2, 1));
    let told = events(&mut heard);
    assert!(matches!(&told[..], [StoreEvent::Refused { .. }]), "{told:?}");
    assert_eq!(store.counters().known, 2);
    assert_eq!(store.counters().admitted, 2);
}

#[test]
fn what_was_replaced_is_stale() {
    let (mut store, clock) = open_store(StoreConfig::default());
    let key = RecordKey::new("/sr/a");
    let mut signer = signer(&key, 1, Limits::default());
    let encode = |signer: &SpaceSigner, update| {
        let mut record = SmartRecord::new(key.clone());
        record.insert(signer.writer(), update).unwrap();
        record.encode()
    };
    let update = signer.merge(text(1), clock.now(), HOUR).unwrap();
    let old = encode(&signer, update);
    store.write(&key, &old).unwrap();
    let update = signer.withdraw(clock.now()).unwrap();
    let withdrawal = encode(&signer, update);
    store.write(&key, &withdrawal).unwrap();
    assert_eq!(store.write(&key, &old), Err(ValidationError::Stale.into()));
    assert_eq!(store.record(&key).unwrap(), Some(decode(&key, &withdrawal)));
    assert_eq!(store.counters().superseded, 1);
}

/// A validator of numbers in text, up to 1,000; the greatest wins.
pub struct Number;

fn number(value: &[u8]) -> Option<u32> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

impl Validator for Number {
    fn validate(
        &self,
        _: &RecordKey,
        value: &[u8],
        _: Timestamp,
    ) -> Result<Validity, ValidationError> {
        match number(value) {
            Some(..=1_000) => Ok(Validity::until(Timestamp::from_millis(T0 + 60_000))),
            Some(_) => Err(ValidationError::Invalid("too great".to_owned())),
            None => Err(Malformed::other("not a number").into()),
        }
    }

    fn select(&self, _: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
        best_index(values.iter().map(|value| number(value)))
    }

    fn wrapped(&self) -> Option<&dyn Validator> {
        None
    }
}

#[test]
fn a_custom_validator_decides_what_is_better() {
    let (mut store, clock) = open_store(StoreConfig::default());
    let mut heard = store.subscribe();
    let key = RecordKey::new("/number/a");
    let value = |store: &SmartRecordStore| store.get(&kad_key(&key)).map(|r| r.value.clone());
    let report = store.write(&key, b"5").unwrap();
    assert_eq!((report.stored, report.known), (1, 0));
    let report = store.write(&key, b"5").unwrap();
    assert_eq!((report.stored, report.known), (0, 1));
    assert_eq!(store.write(&key, b"4"), Err(ValidationError::Stale.into()));
    assert_eq!(value(&store).unwrap(), b"5");
    store.write(&key, b"7").unwrap();
    assert_eq!(value(&store).unwrap(), b"7");
    // Greater but invalid, and not a number.
    assert!(store.write(&key, b"1001").is_err());
    assert!(store.write(&key, b"eight").is_err());
    // The same value from a remote writer, with any lifetime and publisher, is known and changes
    // nothing.
    let mut record = Record::new(kad::RecordKey::new(&key), b"7".to_vec());
    record.publisher = Some(peer(1));
    record.expires = Some(Instant::now() + Duration::from_secs(2));
    store.put(record).unwrap();
    assert_eq!(store.counters().known, 2);
    assert_eq!(store.get(&kad_key(&key)).unwrap().publisher, None);
    assert_eq!(store.counters().values, 2);
    let faults: Vec<_> = events(&mut heard)
        .iter()
        .filter_map(|event| match event {
            StoreEvent::Refused { reason, .. } => Some(reason.fault()),
            _ => None,
        })
        .collect();
    assert_eq!(faults, [Fault::Stale, Fault::Invalid, Fault::Malformed]);
    // It expires when it says, to the millisecond; then a worse one is stored.
    clock.advance(Duration::from_millis(59_999));
    assert_eq!(value(&store).unwrap(), b"7");
    clock.advance(Duration::from_millis(1));
    assert_eq!(value(&store), None);
    assert_eq!(store.records().count(), 0);
    assert!(matches!(
        store.write(&key, b"1"),
        Err(WriteError::Refused(ValidationError::Expired { .. }))
    ));
}

#[test]
fn a_local_record_has_to_fit_into_a_chunk() {
    let key = RecordKey::new("/sr/a");
    let value = one_space(&key, 1, 500, HOUR);
    for (room, fits) in [(value.len(), true), (value.len() - 1, false)] {
        let (mut store, _) = open_store(StoreConfig::default().with_chunk_bytes(room));
        let mut heard = store.subscribe();
        let mut record = Record::new(kad::RecordKey::new(&key), value.clone());
        record.publisher = Some(local());
        assert_eq!(store.put(record).is_ok(), fits);
        let refused = events(&mut heard).into_iter().any(|event| {
            matches!(event, StoreEvent::Refused {
                reason: ValidationError::LimitExceeded(LimitExceeded { limit, .. }), ..
            } if limit == StoreConfig::CHUNK_BYTES)
        });
        assert_eq!(refused, !fits);
        // A remote value arrived in one piece, so the local chunk size does not matter.
        put(&mut store, &key, value.clone());
        assert_eq!(store.record(&key).unwrap(), Some(decode(&key, &value)));
    }
    // Such a value is unchecked, as in libp2p's own store.
    let mut store = with_fallback_only(local());
    let mut record = Record::new(kad_key("plain"), vec![0; 60 * 1_024]);
    record.publisher = Some(local());
    assert!(store.put(record).is_ok());
}

#[test]
fn what_is_known_is_known_beside_what_this_version_does_not_know() {
    let (mut store, _) = open_store(StoreConfig::default());
    let board = RecordKey::new("/sr/a");
    let value = one_space(&board, 1, 10, HOUR);
    store.write(&board, &value).unwrap();
    // A field of the record that a later version may add.
    let later = [&value[..], &[0x7a, 1, 0]].concat();
    let report = store.write(&board, &later).unwrap();
    assert_eq!((report.stored, report.known), (0, 1));
    assert_eq!(store.counters().refused_total(), 0);
}

/// The warnings that a thread logs while it runs `of`.
fn warnings(of: impl FnOnce()) -> Vec<String> {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, of);
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Case 30: Kademlia reports only `MaxRecords` to its caller.
#[test]
fn case_30_a_refused_write_of_this_node_is_logged_with_the_reason_and_what_to_do_at_every_door() {
    let (key, unknown) = (RecordKey::new("/sr/a"), RecordKey::new("foo"));
    let kad_put = |key: &RecordKey, value: &[u8], publisher| {
        let mut record = Record::new(kad::RecordKey::new(key), value.to_vec());
        record.publisher = publisher;
        move |store: &mut SmartRecordStore| drop(store.put(record))
    };
    let (good, large) = (one_space(&key, 1, 1, HOUR), vec![0; 16 * 1_024]);
    type Door = Box<dyn FnOnce(&mut SmartRecordStore)>;
    let doors: Vec<(&str, Door, Option<[&str; 2]>)> = vec![
        ("kad", Box::new(kad_put(&unknown, b"bar", Some(local()))), Some(["foo", "drop_in"])),
        ("kad", Box::new(kad_put(&key, &large, Some(local()))), Some(["/sr/a", "Dht::put"])),
        ("remote", Box::new(kad_put(&unknown, b"bar", Some(peer(1)))), None),
        ("remote", Box::new(kad_put(&unknown, b"bar", None)), None),
        ("good", Box::new(kad_put(&key, &good, Some(local()))), None),
        (
            "write",
            Box::new(|store| drop(store.write(&RecordKey::new("/sr/a"), b"bar"))),
            Some(["/sr/a", "SpaceSigner"]),
        ),
        (
            "insert",
            Box::new(|store| {
                let key = RecordKey::new("/sr/b");
                let value = one_space(&RecordKey::new("/sr/a"), 1, 1, HOUR);
                let now = Timestamp::from_millis(T0);
                let checked = ValidatedRecord::new(store.registry(), key, &value, now);
                drop(store.insert(checked, Origin::Local));
            }),
            Some(["/sr/b", "signed for this key"]),
        ),
        (
            "provide",
            Box::new(|store| {
                let record = ProviderRecord::new(kad_key("film"), local(), Vec::new());
                assert!(store.add_provider(record).is_err());
            }),
            Some(["film", "StoreConfig::providers"]),
        ),
    ];
    for (door, open, expected) in doors {
        let clock = ManualClock::at(Timestamp::from_millis(T0));
        let providers =
            kad::store::MemoryStoreConfig { max_provided_keys: 0, ..Default::default() };
        let config = StoreConfig::default().with_providers(providers);
        let (registry, storage) = (Registry::default(), new_storage());
        let store = SmartRecordStore::with_storage(local(), registry, config, storage, clock);
        let mut store = store.unwrap();
        let told = warnings(|| open(&mut store));
        match expected {
            Some(words) => {
                assert_eq!(told.len(), 1, "{door}: {told:?}");
                assert!(told[0].contains("this node's own"), "{door}: {told:?}");
                assert!(words.iter().all(|word| told[0].contains(word)), "{door}: {told:?}");
            }
            None => assert_eq!(told, [""; 0], "{door}"),
        }
    }
}
