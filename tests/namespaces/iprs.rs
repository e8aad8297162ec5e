//! IPRS: attacks on records, one test each; the schemes; chains and beacons; a user-defined scheme;
//! the laws of the order; and the TTL since receipt, in a store and between two nodes.

mod attacks;
mod chains;
mod freshness;
mod own_scheme;
mod receipt;

use std::{collections::BTreeMap, time::Duration};

use libp2p_kad::{self as kad, store::RecordStore};
use libp2p_smart_record::{
    Fault, RecordKey, Registry, ValidationError, Validator,
    iprs::{Ipld, IprsRecord, IprsValidator, Record},
    store::SmartRecordStore,
};
use smart_record_testing::{ManualClock, clock::*, envelope::bound, iprs::*, keys::rsa};

use crate::replica::{Replica, stored};

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// Signs a record as Alice for her key.
fn sign(record: Record) -> IprsRecord {
    record.sign(&key(), &alice()).unwrap()
}

fn validator() -> IprsValidator {
    IprsValidator::default()
}

/// A record with a changed object and a good signature of Alice for it.
fn tampered(record: &IprsRecord, change: impl FnOnce(&mut BTreeMap<String, Ipld>)) -> Vec<u8> {
    tampered_under(record.key(), record.block(), change)
}

/// A record with this validity, signed by Alice.
fn with_validity(record: &IprsRecord, validity: Ipld) -> Vec<u8> {
    tampered(record, |object| {
        object.insert("validity".to_owned(), validity);
    })
}

fn registry(validator: IprsValidator) -> Registry {
    Registry::default().with("iprs", validator).unwrap()
}

fn open_store(validator: IprsValidator) -> (SmartRecordStore, ManualClock) {
    let Replica { store, clock, .. } = Replica::with(registry(validator));
    (store, clock)
}

/// Checks that the validator and the store as Kademlia uses it refuse the value for the same
/// reason, and that the store keeps its record.
#[track_caller]
fn refused_by(
    validator: &IprsValidator,
    key: &RecordKey,
    value: &[u8],
    now: u64,
    fault: Fault,
) -> ValidationError {
    let reason = validator.validate(key, value, at(now)).unwrap_err();
    assert_eq!(reason.fault(), fault, "{reason}");

    let (mut store, clock) = open_store(validator.clone());
    clock.set(at(now));
    store.put(kad::Record::new(kad::RecordKey::new(key), value.to_vec())).unwrap();
    assert_eq!(stored(&store, key), None);
    assert_eq!(store.counters().refused.get(&fault), Some(&1));
    assert_eq!(store.counters().values, 0);
    reason
}

/// Checks that the built-in schemes refuse the value at the epoch.
#[track_caller]
fn refused(value: &[u8], fault: Fault) -> ValidationError {
    refused_by(&validator(), &key(), value, NOW, fault)
}

/// Checks that the validator and the store accept the value.
#[track_caller]
fn accepted_by(validator: &IprsValidator, key: &RecordKey, value: &[u8], now: u64) {
    validator.validate(key, value, at(now)).unwrap();
    let (mut store, clock) = open_store(validator.clone());
    clock.set(at(now));
    store.put(kad::Record::new(kad::RecordKey::new(key), value.to_vec())).unwrap();
    assert_eq!(stored(&store, key).as_deref(), Some(value));
}

#[track_caller]
fn accepted(value: &[u8]) {
    accepted_by(&validator(), &key(), value, NOW);
}
