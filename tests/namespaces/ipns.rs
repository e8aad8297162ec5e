//! The namespace `ipns`: attacks, one test each; laws; records of other implementations.
//!
//! Each attack is tried on the decoder, on the validator (validate and select) and on a store as
//! Kademlia uses it.

mod copies;
mod data;
mod owners;
mod replays;
mod signatures;
mod signing;
mod sizes;
mod times;
mod vectors;

use libp2p_identity::Keypair;
use libp2p_smart_record::{
    Fault, ValidationError, Validator,
    ipns::{IpnsName, IpnsRecord, IpnsValidator},
};
use prost::Message;
use smart_record_testing::{clock::*, ipns::*, keys::*};

use crate::replica::Replica;

fn name(keypair: &Keypair) -> IpnsName {
    IpnsName::from(&keypair.public())
}

/// A record node of an IPFS-style DHT.
pub fn node() -> Replica {
    Replica::with(libp2p_smart_record::ipfs())
}

/// Checks that every entry point accepts it as a record of the keypair's name, with and without
/// fields of version 1.
fn accepted(keypair: &Keypair, value: &[u8]) -> IpnsRecord {
    let record = IpnsRecord::decode(&name(keypair), value.to_vec()).unwrap();
    assert_eq!(record.as_bytes(), value);
    let key = key(keypair);
    let validity = IpnsValidator.validate(&key, value, at(NOW)).unwrap();
    assert_eq!(validity.expires_at, Some(record.eol().expires_at()));
    assert!(!validity.keeps_publisher);
    assert_eq!(IpnsValidator.select(&key, &[b"", value]), Ok(1));

    let mut node = node();
    assert_eq!(node.faults(&key, value), []);
    assert_eq!(node.get(&key).as_deref(), Some(value));
    record
}

/// Checks that every entry point refuses it, and that it does not affect a valid record.
fn refused(keypair: &Keypair, value: &[u8], fault: Fault) -> ValidationError {
    let (key, good) = (key(keypair), v1_and_v2(keypair).encode_to_vec());
    let error = IpnsValidator.validate(&key, value, at(NOW)).unwrap_err();
    assert_eq!(error.fault(), fault, "{error}");
    let decoded = IpnsRecord::decode(&name(keypair), value.to_vec());
    assert_eq!(decoded.map_err(ValidationError::from), Err(error.clone()));
    assert_eq!(IpnsValidator.select(&key, &[value, &good]), Ok(1));
    assert_eq!(IpnsValidator.select(&key, &[&good, value]), Ok(0));
    assert_eq!(IpnsValidator.select(&key, &[value]), Err(error.clone()));

    let mut node = node();
    assert_eq!(node.faults(&key, value), [fault]);
    assert_eq!(node.get(&key), None);
    assert_eq!(node.faults(&key, &good), []);
    assert_eq!(node.faults(&key, value), [fault]);
    assert_eq!(node.get(&key), Some(good));
    error
}
