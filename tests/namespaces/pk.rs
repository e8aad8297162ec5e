//! The namespace `pk`: valid keys of every type, and attacks, one test each.

use libp2p_identity::Keypair;
use libp2p_smart_record::{
    Fault, Limit, LimitExceeded, RecordKey, ValidationError, Validator, Validity,
    pk::PublicKeyValidator,
};
use prost::encoding::{WireType, encode_key, encode_varint};
use smart_record_testing::{clock::*, envelope::field, keys::*};

use crate::ipns::node;

fn key_of(keypair: &Keypair) -> RecordKey {
    let peer_id = keypair.public().to_peer_id();
    RecordKey::new([&b"/pk/"[..], &peer_id.to_bytes()].concat())
}

/// Checks that the validator and a node refuse it, and that the right key wins over it.
fn refused(owner: &Keypair, value: &[u8], fault: Fault) -> ValidationError {
    let key = key_of(owner);
    let good = owner.public().encode_protobuf();
    let error = PublicKeyValidator.validate(&key, value, at(NOW)).unwrap_err();
    assert_eq!(error.fault(), fault, "{error}");
    assert_eq!(PublicKeyValidator.select(&key, &[value, &good]), Ok(1));
    assert_eq!(PublicKeyValidator.select(&key, &[&good, value]), Ok(0));
    assert_eq!(PublicKeyValidator.select(&key, &[value]), Err(error.clone()));

    let mut node = node();
    assert_eq!(node.faults(&key, value), [fault]);
    assert_eq!(node.get(&key), None);
    assert_eq!(node.faults(&key, &good), []);
    assert_eq!(node.faults(&key, value), [fault]);
    assert_eq!(node.get(&key), Some(good));
    error
}

fn key_type(number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    encode_key(1, WireType::Varint, &mut out);
    encode_varint(number, &mut out);
    out
}

#[test]
fn keys_of_all_types_are_kept() {
    for keypair in all_types() {
        let (key, value) = (key_of(&keypair), keypair.public().encode_protobuf());
        assert_eq!(PublicKeyValidator::key(&keypair.public()), key);
        assert_eq!(PublicKeyValidator.validate(&key, &value, at(NOW)), Ok(Validity::forever()));
        let mut node = node();
        assert_eq!(node.faults(&key, &value), []);
        assert_eq!(node.get(&key), Some(value));
    }
}

#[test]
fn a_key_does_not_expire_by_its_own_word() {
    let (key, value) = (key_of(&ed25519(1)), ed25519(1).public().encode_protobuf());
    let mut node = node();
    assert_eq!(node.faults(&key, &value), []);
    // It is dropped only at the maximum age of the store, and may be stored again at any time.
    let max_age = 48 * 60 * 60 * 1_000;
    node.clock.set(at(NOW + max_age - 1_000));
    assert_eq!(node.store.collect(), Ok(0));
    assert_eq!(node.get(&key), Some(value.clone()));
    node.clock.set(at(NOW + max_age));
    assert_eq!(node.store.collect(), Ok(1));
    assert_eq!(node.faults(&key, &value), []);
    assert_eq!(node.get(&key), Some(value));
}

#[test]
fn the_key_of_another_peer() {
    for owner in all_types() {
        refused(&owner, &ed25519(66).public().encode_protobuf(), Fault::Invalid);
    }
}

#[test]
fn the_same_point_as_a_key_of_another_type() {
    let public = ed25519(1).public().encode_protobuf();
    let of_type = |other| [key_type(other), public[2..].to_vec()].concat();
    for other in [0, 2, 3] {
        refused(&ed25519(1), &of_type(other), Fault::Malformed);
    }
    // Unknown types.
    for other in [4, 1 << 32] {
        refused(&ed25519(1), &of_type(other), Fault::Unsupported);
    }
}

#[test]
fn a_path_that_is_not_the_peer_id_s_bytes() {
    let public = ed25519(1).public();
    let value = public.encode_protobuf();
    let id = public.to_peer_id();
    let hex: String = id.to_bytes().iter().map(|b| format!("{b:02x}")).collect();
    for path in [
        b"".to_vec(),
        id.to_base58().into_bytes(),
        hex.into_bytes(),
        value.clone(),
        // A CID of the key.
        [&[1, 0x72], &id.to_bytes()[..]].concat(),
        [&id.to_bytes()[..], b"\0"].concat(),
        [b"/", &id.to_bytes()[..]].concat(),
        // The code 0 in two bytes.
        [&[0x80], &id.to_bytes()[..]].concat(),
    ] {
        let key = RecordKey::new([b"/pk/", &path[..]].concat());
        let error = PublicKeyValidator.validate(&key, &value, at(NOW)).unwrap_err();
        assert_eq!(error.fault(), Fault::Invalid, "{key}");
        assert_eq!(node().faults(&key, &value), [Fault::Invalid]);
    }
}

#[test]
fn a_private_key() {
    let private = ed25519(1).to_protobuf_encoding().unwrap();
    refused(&ed25519(1), &private, Fault::Malformed);
}

#[test]
fn a_truncated_key() {
    for owner in all_types() {
        let value = owner.public().encode_protobuf();
        let key = key_of(&owner);
        for len in 0..value.len() {
            assert!(PublicKeyValidator.validate(&key, &value[..len], at(NOW)).is_err());
        }
        refused(&owner, &value[..value.len() - 1], Fault::Malformed);
    }
    refused(&ed25519(1), b"", Fault::Malformed);
}

#[test]
fn a_key_in_another_form_than_the_canonical_one() {
    for owner in all_types() {
        let value = owner.public().encode_protobuf();
        let (kind, data) = value.split_at(2);
        for other in [
            // An unknown field.
            [&value, &field(3, b"x")[..]].concat(),
            // The fields in reverse order, and twice.
            [data, kind].concat(),
            [kind, &value].concat(),
            // The type in two bytes.
            [&[8, kind[1] | 0x80, 0], data].concat(),
        ] {
            refused(&owner, &other, Fault::Malformed);
        }
    }
}

#[test]
fn a_point_in_another_form_than_the_reduced_one() {
    // The identity, whose y is 1, as p + 1.
    let mut point = [0xff; 32];
    (point[0], point[31]) = (0xee, 0x7f);
    refused(&ed25519(1), &[key_type(1), field(2, &point)].concat(), Fault::Malformed);
}

#[test]
fn a_key_is_at_most_1152_bytes() {
    for (len, fault) in [(1_152, Fault::Malformed), (1_153, Fault::LimitExceeded)] {
        let value = [key_type(0), field(2, &vec![0; len - 5])].concat();
        assert_eq!(value.len(), len);
        let error = refused(&rsa(), &value, fault);
        if fault == Fault::LimitExceeded {
            let limit = Limit::PUBLIC_KEY_BYTES;
            let (got, max) = (Some(1_153), 1_152);
            assert_eq!(error, LimitExceeded { limit, got, max }.into());
        }
    }
}
