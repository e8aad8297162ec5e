//! Values that were checked before they are handed to the store.

use libp2p_smart_record::store::ValidatedRecord;

use super::*;

#[test]
fn inserting_what_was_checked_does_what_writing_does() {
    let (mut written, _) = open_store(StoreConfig::default());
    let (mut inserted, _) = open_store(StoreConfig::default());
    let key = RecordKey::new("/sr/board");
    let good = one_space(&key, 1, 10, HOUR);
    let elsewhere = one_space(&RecordKey::new("/sr/elsewhere"), 2, 10, HOUR);
    let values = [
        (key.clone(), good.clone()),
        (key.clone(), good.clone()),
        (key.clone(), [one_space(&key, 3, 10, HOUR), elsewhere.clone()].concat()),
        (key.clone(), elsewhere),
        (key.clone(), b"junk".to_vec()),
        (RecordKey::new("/number/x"), b"7".to_vec()),
        (RecordKey::new("/number/x"), b"5".to_vec()),
        (RecordKey::new("/number/x"), b"not one".to_vec()),
        (RecordKey::new("anything"), b"goes".to_vec()),
        (RecordKey::new(""), b"nowhere".to_vec()),
    ];
    for (key, value) in values {
        let one = written.write(&key, &value);
        let now = Timestamp::from_millis(T0);
        let checked = ValidatedRecord::new(&registry(), key.clone(), &value, now);
        let other = inserted.insert(checked, Origin::Local);
        assert_eq!(one, other, "{key}: {}", value.escape_ascii());
        assert_eq!(written.record(&key), inserted.record(&key));
        assert_eq!(written.value(&key), inserted.value(&key));
    }
    // What was checked elsewhere was verified there.
    let mut counters = written.counters();
    assert_eq!((counters.signatures_verified, inserted.counters().signatures_verified), (4, 0));
    counters.signatures_verified = 0;
    assert_eq!(counters, inserted.counters());
    assert_eq!(written.usage(), inserted.usage());
}

/// Counts its calls.
struct Counting(Arc<AtomicUsize>);

impl Validator for Counting {
    fn validate(&self, _: &RecordKey, _: &[u8], _: Timestamp) -> Result<Validity, ValidationError> {
        self.0.fetch_add(1, SeqCst);
        Ok(Validity::forever())
    }

    fn select(&self, _: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
        best_index(values.iter())
    }

    fn wrapped(&self) -> Option<&dyn Validator> {
        None
    }
}

#[test]
fn what_was_checked_is_not_checked_again() {
    let asked = Arc::<AtomicUsize>::default();
    let registry = Registry::empty().with("counted", Counting(asked.clone())).unwrap();
    let (config, storage) = (StoreConfig::default(), new_storage());
    let mut store =
        SmartRecordStore::with_storage(local(), registry.clone(), config, storage, SystemClock)
            .unwrap();
    let key = RecordKey::new("/counted/x");
    let checked = ValidatedRecord::new(&registry, key, b"1", Timestamp::from_millis(T0));
    assert_eq!(asked.load(SeqCst), 1);
    store.insert(checked, Origin::Remote).unwrap();
    assert_eq!(asked.load(SeqCst), 1);
}

#[test]
fn what_has_expired_since_it_was_checked_is_refused() {
    let (mut store, clock) = open_store(StoreConfig::default());
    let key = RecordKey::new("/sr/board");
    let value = one_space(&key, 1, 10, HOUR);
    let checked = ValidatedRecord::new(&registry(), key.clone(), &value, clock.now());
    clock.advance(HOUR);
    let refused = store.insert(checked, Origin::Remote).unwrap_err();
    assert!(
        matches!(&refused, WriteError::Refused(reason) if reason.fault() == Fault::Expired),
        "{refused:?}"
    );
    assert_eq!(store.record(&key), Ok(None));
}
