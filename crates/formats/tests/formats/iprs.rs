//! IPRS: the bytes, the laws of the order, chains, and beacons.

mod attacks;
mod chains;
mod format;
mod freshness;
mod laws;
mod own_scheme;

use std::{collections::BTreeMap, time::Duration};

use libp2p_identity::Keypair;
use smart_record_core::*;
use smart_record_formats::iprs::*;
use smart_record_testing::{clock::*, iprs::*, keys::rsa};

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

/// A record with this validity, signed by Alice.
fn with_validity(record: &IprsRecord, validity: Ipld) -> Vec<u8> {
    tampered_under(record.key(), record.block(), |object: &mut BTreeMap<_, _>| {
        object.insert("validity".to_owned(), validity);
    })
}
