//! Public keys: selection, and keys without a secret key.

use libp2p_identity::Keypair;
use proptest::prelude::*;
use prost::encoding::encode_varint;
use smart_record_core::{Fault, RecordKey, ValidationError, Validator};
use smart_record_formats::pk::PublicKeyValidator;
use smart_record_testing::{clock::*, keys::*, vectors};

fn key_of(keypair: &Keypair) -> RecordKey {
    let peer_id = keypair.public().to_peer_id();
    RecordKey::new([&b"/pk/"[..], &peer_id.to_bytes()].concat())
}

#[test]
fn what_py_libp2p_puts_is_kept() {
    for vector in vectors::read(&vectors::path("py-libp2p/public-keys.json")) {
        let (key, value) =
            (RecordKey::new(vectors::bytes(&vector, "key")), vectors::bytes(&vector, "value"));
        let validity = smart_record_formats::ipfs().validate(&key, &value, at(NOW));
        assert!(validity.is_ok(), "{}: {validity:?}", vector["key_type"]);
    }
}

#[test]
fn of_equal_values_the_first_is_selected() {
    let value = ed25519(1).public().encode_protobuf();
    let key = key_of(&ed25519(1));
    assert_eq!(PublicKeyValidator.select(&key, &[&value, &value]), Ok(0));
    assert_eq!(PublicKeyValidator.consolidate(&key, &[b"", &value]), Ok(value));
    assert_eq!(PublicKeyValidator.select(&key, &[]), Err(ValidationError::NoValue));
}

#[test]
fn a_key_that_is_hashed_although_it_is_short() {
    use sha2::{Digest, Sha256};
    let value = ed25519(1).public().encode_protobuf();
    let digest = Sha256::digest(&value);
    let key = RecordKey::new([b"/pk/\x12\x20", &digest[..]].concat());
    let error = PublicKeyValidator.validate(&key, &value, at(NOW)).unwrap_err();
    assert_eq!(error.fault(), Fault::Invalid);
}

#[test]
fn a_key_that_is_inlined_although_it_is_long() {
    for keypair in &all_types()[2..] {
        let value = keypair.public().encode_protobuf();
        let mut key = b"/pk/\0".to_vec();
        encode_varint(value.len() as u64, &mut key);
        key.extend(&value);
        let error = PublicKeyValidator.validate(&RecordKey::new(key), &value, at(NOW)).unwrap_err();
        assert_eq!(error.fault(), Fault::Invalid);
    }
}

#[test]
fn a_key_of_another_namespace() {
    let public = ed25519(1).public();
    let value = public.encode_protobuf();
    for prefix in ["/PK/", "/ipns/", "/pk", "pk/", "//pk/"] {
        let key = RecordKey::new([prefix.as_bytes(), &public.to_peer_id().to_bytes()].concat());
        let error = PublicKeyValidator.validate(&key, &value, at(NOW)).unwrap_err();
        assert_eq!(error.fault(), Fault::Malformed, "{key}");
        assert!(smart_record_formats::ipfs().validate(&key, &value, at(NOW)).is_err());
    }
}

proptest! {
    #[test]
    fn what_is_selected_does_not_depend_on_the_order(
        values in Just(
            all_types()
                .iter()
                .map(|k| k.public().encode_protobuf())
                .chain([vec![], ed25519(1).public().encode_protobuf(), b"no key".to_vec()])
                .collect::<Vec<_>>()
        ).prop_shuffle(),
        owner in 0_usize..4,
    ) {
        let owner = &all_types()[owner];
        let values: Vec<_> = values.iter().map(Vec::as_slice).collect();
        let best = PublicKeyValidator.select(&key_of(owner), &values).unwrap();
        let good = owner.public().encode_protobuf();
        prop_assert_eq!(values[best], &good);
        prop_assert_eq!(values.iter().position(|value| *value == good), Some(best));
    }

    #[test]
    fn nothing_but_the_key_is_accepted(value in any::<Vec<u8>>(), at_byte in any::<usize>()) {
        let owner = ed25519(1);
        prop_assert!(PublicKeyValidator.validate(&key_of(&owner), &value, at(NOW)).is_err());
        let mut near = owner.public().encode_protobuf();
        let index = at_byte % near.len();
        near[index] ^= value.first().map_or(1, |byte| byte | 1);
        prop_assert!(PublicKeyValidator.validate(&key_of(&owner), &near, at(NOW)).is_err());
    }
}
