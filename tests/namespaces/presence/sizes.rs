//! Sizes and counts: both sides of each limit.

use libp2p_smart_record::{
    Fault, Limit, Validator,
    presence::{PresenceLimits, PresenceValidator},
};
use prost::Message;

use super::*;

#[test]
fn an_oversized_record() {
    let value = records(&[Draft::at(1), Draft::at(2), Draft::at(3)]);
    let fits = |max| {
        let limits = PresenceLimits::default().with_announcement_bytes(600);
        let validator = PresenceValidator::new(limits.with_record_bytes(max));
        validator.validate(&key(), &value, now())
    };
    let error = fits(value.len() - 1).unwrap_err();
    exceeded(&error, Limit::VALUE_BYTES);
    // All three are kept if another of the largest size would fit as well.
    fits(value.len() + 700).unwrap();
    // Garbage is refused for its size before it is decoded.
    exceeded(&refused(&vec![0xff; 8 * 1_024 + 1], Fault::LimitExceeded), Limit::VALUE_BYTES);
    refused(&vec![0xff; 8 * 1_024], Fault::Malformed);
}

#[test]
fn an_oversized_announcement() {
    let value = |draft: &Draft, len| record([draft.value_of(vec![0xff; len])]).encode_to_vec();
    let error = refused(&value(&Draft::at(1), 2_817), Fault::LimitExceeded);
    exceeded(&error, PresenceLimits::ANNOUNCEMENT_BYTES);
    refused(&value(&Draft::at(1), 2_816), Fault::Malformed);
}

#[test]
fn an_oversized_signature() {
    let draft = Draft::at(1);
    // The limit for an Ed25519 key of 36 bytes is 72.
    for (len, fault) in [(73, Fault::LimitExceeded), (72, Fault::Invalid)] {
        let signed = Signed { client_signature: vec![1; len], ..draft.signed() };
        let value = draft.value_of(signed.encode_to_vec());
        refused(&record([value]).encode_to_vec(), fault);
        let signed = Signed { node_signature: vec![1; len], ..draft.signed() };
        let value = draft.value_of(signed.encode_to_vec());
        refused(&record([value]).encode_to_vec(), fault);
    }
}

#[test]
fn too_many_nodes() {
    let drafts: Vec<_> = (1..=9).map(|n| Draft::at(n).made(-i64::from(n))).collect();
    accepted(&records(&drafts[..8]));
    let nine = records(&drafts);
    let error = refused_under(&key(), &nine, Fault::LimitExceeded);
    exceeded(&error, PresenceLimits::NODES_PER_CLIENT);
    // In two pieces the newest eight are kept, in either order.
    for pieces in [[&drafts[..5], &drafts[5..]], [&drafts[5..], &drafts[..5]]] {
        let (mut replica, _) = replica();
        for piece in pieces {
            replica.write(&key(), &records(piece)).unwrap();
        }
        assert_eq!(stored(&replica, &key()).unwrap(), records(&drafts[..8]));
    }
}
