//! Signed records: attacks on them, one test each, the bounds on both sides, and the laws of their order.
//!
//! Each attack is tried on the reader and the validator (the reason), on the selection (the honest record
//! wins) and on a store as Kademlia uses it (a remote PUT returns `Ok`, changes nothing, and tells why). What
//! happens between a manager and the network is in `manager.rs`.

#[path = "support/clock.rs"]
mod clock;
#[path = "signed/content.rs"]
mod content;
#[path = "support/forge.rs"]
#[allow(dead_code, reason = "the attacks on smart records use the rest")]
mod forge;
#[path = "signed/forms.rs"]
mod forms;
#[path = "signed/laws.rs"]
mod laws;
#[path = "signed/permissions.rs"]
mod permissions;
#[path = "signed/record.rs"]
mod record;
#[path = "signed/replays.rs"]
mod replays;
#[path = "signed/signatures.rs"]
mod signatures;
#[path = "signed/times.rs"]
mod times;
#[path = "signed/vectors.rs"]
mod vectors;

use std::time::Duration;

use forge::{Author, NOW, Replica, alice, at, field, mallory, varint};
use libp2p_smart_record::{
    AcceptAny, AllowList, Fault, KeyOwner, Malformed, RecordKey, Registry, SignedRecord,
    SignedRecordValidator, StoreEvent, Timestamp, UnsignedRecord, ValidationError, Validator,
    Validity, WriteError,
    record::Open,
    signed::{SignedRecordError, SignedRecordLimits},
    store::Origin,
};

const KEY: &str = "/notes/a";

/// A record that can be anything, encoded by hand from `proto/signed_record.proto` and RFC 0002.
#[derive(Clone)]
struct Forgery {
    /// The protobuf field numbers and what they hold.
    payload: Vec<u8>,
    public_key: Vec<u8>,
    payload_type: Vec<u8>,
    signature: Vec<u8>,
}

const DOMAIN: &[u8] = b"libp2p-signed-record";
const PAYLOAD_TYPE: &[u8] = b"/libp2p-signed-record/record";

fn payload(key: &[u8], value: &[u8], sequence: u64) -> Vec<u8> {
    [field(1, key), field(2, value), varint(3, sequence)].concat()
}

fn message(domain: &[u8], payload_type: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    for part in [domain, payload_type, payload] {
        prost::encoding::encode_varint(part.len() as u64, &mut message);
        message.extend_from_slice(part);
    }
    message
}

impl Forgery {
    fn by(author: &Author, payload: Vec<u8>) -> Self {
        let signature = author.0.sign(&message(DOMAIN, PAYLOAD_TYPE, &payload)).unwrap();
        let public_key = author.public_key();
        Self { payload, public_key, payload_type: PAYLOAD_TYPE.to_vec(), signature }
    }

    /// Says "evil" with a sequence above the honest one.
    fn saying(author: &Author) -> Self {
        Self::by(author, payload(KEY.as_bytes(), b"evil", 10))
    }

    fn encode(&self) -> Vec<u8> {
        [
            field(1, &self.public_key),
            field(2, &self.payload_type),
            field(3, &self.payload),
            field(5, &self.signature),
        ]
        .concat()
    }
}

fn key() -> RecordKey {
    RecordKey::new(KEY)
}

fn record_of(author: &Author, value: &str, sequence: u64) -> SignedRecord {
    UnsignedRecord::new(KEY, value.to_owned(), sequence)
        .sign(&author.0, &SignedRecordLimits::default())
        .unwrap()
}

/// What everybody has before the attack.
fn honest() -> Vec<u8> {
    record_of(&alice(), "honest", 5).encode().to_vec()
}

fn registry(rules: SignedRecordValidator) -> Registry {
    Registry::empty().with("notes", rules).unwrap()
}

/// What a replica answers.
fn stored(replica: &Replica, key: &RecordKey) -> Option<Vec<u8>> {
    use libp2p_kad::store::RecordStore;
    replica.store.get(&libp2p_kad::RecordKey::new(key)).map(|record| record.value.clone())
}

/// Whether `select` can see what is wrong, which has no clock and does not look at the content.
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
    assert_eq!(stored(&replica, &key), Some(honest), "the honest record is lost");
    assert_eq!(replica.store.counters().refused.get(&fault), Some(&2));
    reason
}

#[track_caller]
fn refused(bad: Vec<u8>, fault: Fault) -> ValidationError {
    refused_by(SignedRecordValidator::default(), bad, fault, Seen::BySelect)
}

/// The good side of a bound: a replica takes it in the place of the honest one.
#[track_caller]
fn accepted_by(rules: SignedRecordValidator, good: Vec<u8>) {
    let (key, honest) = (key(), honest());
    rules.validate(&key, &good, at(NOW)).unwrap();
    assert_eq!(rules.select(&key, &[&honest, &good]), Ok(1));
    let mut replica = Replica::with(registry(rules));
    replica.put(&key, honest);
    replica.put(&key, good.clone());
    assert_eq!(replica.refusals(), []);
    assert_eq!(stored(&replica, &key), Some(good));
}

#[track_caller]
fn accepted(good: Vec<u8>) {
    accepted_by(SignedRecordValidator::default(), good);
}
