//! Case 25 among values: a validator that logs and forwards to that of a format has its hooks.

use std::sync::{Arc, Mutex};

use libp2p_smart_record::{
    Namespace, RecordKey, Registry, Timestamp, ValidationError, Validator, Validity,
    ipns::IpnsValidator, presence::PresenceValidator,
};
use smart_record_testing::{
    ipns::{self, numbered},
    keys::ed25519,
    presence::{self, Draft, records},
};

use crate::replica::Replica;

/// Logs the keys, and forwards to a validator.
struct Logged<V>(V, Arc<Mutex<Vec<RecordKey>>>);

impl<V: Validator> Validator for Logged<V> {
    fn validate(
        &self,
        key: &RecordKey,
        value: &[u8],
        now: Timestamp,
    ) -> Result<Validity, ValidationError> {
        self.1.lock().unwrap().push(key.clone());
        self.0.validate(key, value, now)
    }

    fn select(&self, key: &RecordKey, values: &[&[u8]]) -> Result<usize, ValidationError> {
        self.0.select(key, values)
    }

    fn wrapped(&self) -> Option<&dyn Validator> {
        Some(&self.0)
    }
}

fn value_of(registry: &Registry, key: &RecordKey) -> Arc<dyn Validator> {
    match registry.resolve(key) {
        Ok(Namespace::Value(validator)) => validator.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn case_25_a_wrapper_of_presence_loses_no_entry_of_another_node() {
    let log = Arc::default();
    let logged = Logged(PresenceValidator::default(), Arc::clone(&log));
    let registry = Registry::empty().with("presence", logged).unwrap();
    let key = presence::key();
    let (short, long) = (Draft::at(1), Draft::at(2).living(presence::HOUR));
    let both = records(&[short.clone(), long.clone()]);

    let mut replica = Replica::with(registry.clone());
    replica.put(&key, short.encode());
    replica.put(&key, long.encode());
    assert_eq!(replica.get(&key).as_ref(), Some(&both));
    assert_eq!(replica.faults(&key, short.encode()), [], "known, not stale");
    assert!(log.lock().unwrap().contains(&key));

    assert!(registry.check_key(&RecordKey::new("/presence/x")).is_err());
    let (logged, later) = (value_of(&registry, &key), presence::at(presence::NOW + presence::TTL));
    assert_eq!(logged.collect(&key, &both, later), Some(long.encode()));
}

#[test]
fn case_25_a_wrapper_of_ipns_has_its_order_key() {
    let owner = ed25519(1);
    let (key, value) = (ipns::key(&owner), numbered(&owner, 7, "2099-01-01T00:00:00Z"));
    let registry = Registry::empty().with("ipns", Logged(IpnsValidator, Arc::default())).unwrap();
    let logged = value_of(&registry, &key).order_key(&key, &value);
    assert!(logged.is_some());
    assert_eq!(logged, IpnsValidator.order_key(&key, &value));
}
