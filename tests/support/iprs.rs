//! Makes IPRS records, good and bad, with an encoder and a signer of its own.

pub use crate::clock::ManualClock;
use std::{collections::BTreeMap, time::Duration};

use libp2p_identity::Keypair;
use libp2p_kad::{self as kad, store::RecordStore};
use libp2p_smart_record::{
    Fault, IprsValidator, RecordKey, Registry, SmartRecordStore, StoreConfig, Timestamp,
    ValidationError, Validator,
    iprs::{Ipld, IprsRecord, Record},
    store::MemoryStorage,
};

/// The time at which every test begins.
pub const NOW: u64 = 1_700_000_000_000;

pub fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

pub fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub fn alice() -> Keypair {
    Keypair::ed25519_from_bytes([1; 32]).unwrap()
}

pub fn mallory() -> Keypair {
    Keypair::ed25519_from_bytes([2; 32]).unwrap()
}

pub fn rsa() -> Keypair {
    let mut der = *include_bytes!("../vectors/rsa-2048.pk8");
    Keypair::rsa_from_pkcs8(&mut der).unwrap()
}

/// A key of this peer's.
pub fn key_of(owner: &Keypair, name: &str) -> RecordKey {
    RecordKey::new(format!("/iprs/{}/{name}", owner.public().to_peer_id()))
}

/// Alice's key, under which most tests write.
pub fn key() -> RecordKey {
    key_of(&alice(), "x")
}

/// Signed by Alice under her key.
pub fn sign(record: Record) -> IprsRecord {
    record.sign(&key(), &alice()).unwrap()
}

pub fn validator() -> IprsValidator {
    IprsValidator::default()
}

/// What the bytes say.
pub fn parse(bytes: &[u8]) -> BTreeMap<String, Ipld> {
    match serde_ipld_dagcbor::from_slice(bytes).unwrap() {
        Ipld::Map(map) => map,
        other => panic!("{other:?}"),
    }
}

pub fn encode(map: &BTreeMap<String, Ipld>) -> Vec<u8> {
    serde_ipld_dagcbor::to_vec(&Ipld::Map(map.clone())).unwrap()
}

/// A map.
pub fn map<const N: usize>(fields: [(&str, Ipld); N]) -> Ipld {
    Ipld::Map(fields.into_iter().map(|(name, data)| (name.to_owned(), data)).collect())
}

/// The envelope of RFC 0002, from the specification.
pub fn envelope(domain: &str, payload_type: &str, key: &RecordKey, object: &[u8]) -> Vec<u8> {
    fn framed(bytes: &[u8]) -> Vec<u8> {
        let mut framed = Vec::new();
        prost::encoding::encode_varint(bytes.len() as u64, &mut framed);
        framed.extend_from_slice(bytes);
        framed
    }
    let payload = [framed(key.as_bytes()), object.to_vec()].concat();
    [framed(domain.as_bytes()), framed(payload_type.as_bytes()), framed(&payload)].concat()
}

/// The signature that a record object of any form should have.
pub fn signature(keypair: &Keypair, key: &RecordKey, object: &[u8]) -> Vec<u8> {
    let message = envelope("libp2p-iprs", "/libp2p-iprs/record", key, object);
    keypair.sign(&message).unwrap()
}

/// A record with something changed in its object and a good signature of Alice's for that.
pub fn tampered(record: &IprsRecord, change: impl FnOnce(&mut BTreeMap<String, Ipld>)) -> Vec<u8> {
    let mut object = parse(record.block());
    change(&mut object);
    let signature = signature(&alice(), record.key(), &encode(&object));
    let outer = [("record", Ipld::Map(object)), ("signature", Ipld::Bytes(signature))];
    serde_ipld_dagcbor::to_vec(&map(outer)).unwrap()
}

/// A record whose validity is this, signed by Alice.
pub fn with_validity(record: &IprsRecord, validity: Ipld) -> Vec<u8> {
    tampered(record, |object| {
        object.insert("validity".to_owned(), validity);
    })
}

pub fn registry(validator: IprsValidator) -> Registry {
    Registry::default().with("iprs", validator).unwrap()
}

pub fn open_store(validator: IprsValidator) -> (SmartRecordStore, ManualClock) {
    let clock = ManualClock::at(at(NOW));
    let local = Keypair::ed25519_from_bytes([9; 32]).unwrap().public().to_peer_id();
    let store = SmartRecordStore::with_storage(
        local,
        registry(validator),
        StoreConfig::default(),
        MemoryStorage::default(),
        clock.clone(),
    );
    (store, clock)
}

/// What the store would answer a GET with.
pub fn stored(store: &SmartRecordStore, key: &RecordKey) -> Option<Vec<u8>> {
    store.get(&kad::RecordKey::new(key)).map(|record| record.value.clone())
}

/// Is refused, with the same reason by the validator and by the store as Kademlia uses it, which keeps what it
/// had.
#[track_caller]
pub fn refused_by(
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

/// Is refused at the beginning of time by the built-in schemes.
#[track_caller]
pub fn refused(value: &[u8], fault: Fault) -> ValidationError {
    refused_by(&validator(), &key(), value, NOW, fault)
}

/// Is accepted, by the validator and by the store.
#[track_caller]
pub fn accepted_by(validator: &IprsValidator, key: &RecordKey, value: &[u8], now: u64) {
    validator.validate(key, value, at(now)).unwrap();
    let (mut store, clock) = open_store(validator.clone());
    clock.set(at(now));
    store.put(kad::Record::new(kad::RecordKey::new(key), value.to_vec())).unwrap();
    assert_eq!(stored(&store, key).as_deref(), Some(value));
}

#[track_caller]
pub fn accepted(value: &[u8]) {
    accepted_by(&validator(), &key(), value, NOW);
}
