//! Signed records: attacks, one test each, both sides of each limit, and the laws of the order.
//!
//! Each attack is tried on the reader and the validator (the reason), on the selection (the honest
//! record wins) and on a store as Kademlia uses it: a remote PUT returns `Ok`, changes nothing, and
//! reports the reason. `manager.rs` tests the exchange between a manager and the network.

mod content;
mod forms;
mod laws;
mod permissions;
mod record;
mod replays;
mod signatures;
mod times;

use std::time::Duration;

use libp2p_smart_record::{
    AllowList, Fault, Malformed, Open, Registry, Timestamp, ValidationError, Validator, Validity,
    signed::{SignedRecord, SignedRecordLimits, SignedRecordValidator, UnsignedRecord},
    store::{Origin, StoreEvent, WriteError},
};

use smart_record_testing::{
    envelope::envelope,
    forge::{Author, NOW, alice, at, field, mallory, varint},
    signed::*,
};

use crate::replica::Replica;

fn record_of(author: &Author, value: &str, sequence: u64) -> SignedRecord {
    UnsignedRecord::new(KEY, value.to_owned(), sequence)
        .sign(&author.0, &SignedRecordLimits::default())
        .unwrap()
}

/// The honest record that replicas have before the attack.
fn honest() -> Vec<u8> {
    record_of(&alice(), "honest", 5).encode().to_vec()
}

fn registry(rules: SignedRecordValidator) -> Registry {
    Registry::empty().with("notes", rules).unwrap()
}

/// Whether `select` can detect the fault. It has no clock and does not check the content.
#[derive(PartialEq)]
enum Seen {
    BySelect,
    ByValidateOnly,
}

#[track_caller]
fn refused_by(
    rules: SignedRecordValidator,
    bad: Vec<u8>,
    fault: Fault,
    seen: Seen,
) -> ValidationError {
    let (key, honest) = (key(), honest());
    assert_eq!(rules.validate(&key, &honest, at(NOW)), Ok(Validity::forever()));
    let reason = rules.validate(&key, &bad, at(NOW)).expect_err("the attack succeeds");
    assert_eq!(reason.fault(), fault, "{reason}");
    assert_eq!(rules.read(&key, &bad, at(NOW)), Err(reason.clone()));

    if seen == Seen::BySelect {
        assert_eq!(rules.select(&key, &[&bad, &honest]), Ok(1));
        assert_eq!(rules.select(&key, &[&honest, &bad]), Ok(0));
        assert_eq!(rules.select(&key, &[&bad]), Err(reason.clone()));
    }

    let mut replica = Replica::with(registry(rules));
    replica.put(&key, bad.clone());
    assert!(replica.is_empty(), "something bad is stored");
    assert_eq!(replica.refusals(), std::slice::from_ref(&reason));
    replica.put(&key, honest.clone());
    assert_eq!(replica.refusals(), []);
    replica.put(&key, bad);
    assert_eq!(replica.refusals(), std::slice::from_ref(&reason));
    assert_eq!(replica.get(&key), Some(honest), "the honest record is lost");
    assert_eq!(replica.store.counters().refused.get(&fault), Some(&2));
    reason
}

#[track_caller]
fn refused(bad: Vec<u8>, fault: Fault) -> ValidationError {
    refused_by(SignedRecordValidator::default(), bad, fault, Seen::BySelect)
}

/// The good side of a limit: a replica replaces the honest record with it.
#[track_caller]
fn accepted_by(rules: SignedRecordValidator, good: Vec<u8>) {
    let (key, honest) = (key(), honest());
    rules.validate(&key, &good, at(NOW)).unwrap();
    assert_eq!(rules.select(&key, &[&honest, &good]), Ok(1));
    let mut replica = Replica::with(registry(rules));
    replica.put(&key, honest);
    replica.put(&key, good.clone());
    assert_eq!(replica.refusals(), []);
    assert_eq!(replica.get(&key), Some(good));
}

#[track_caller]
fn accepted(good: Vec<u8>) {
    accepted_by(SignedRecordValidator::default(), good);
}
