//! Ownership of names: replays under another name, swapped keys, keys in the wrong form.

use libp2p_smart_record::{
    Fault, RecordKey, Validator,
    ipns::{IpnsError, IpnsName, IpnsRecord, IpnsValidator, NameError},
};
use prost::{Message, encoding::encode_varint};

use super::*;

#[test]
fn owners_with_keys_of_all_types_write() {
    for keypair in all_types() {
        for entry in [v2(&keypair, fields().encode()), v1_and_v2(&keypair)] {
            let record = accepted(&keypair, &entry.encode_to_vec());
            assert_eq!(record.name(), &name(&keypair));
            assert_eq!(record.value(), VALUE);
            assert_eq!(record.sequence(), 7);
            assert_eq!(record.eol().expires_at(), at(EOL_MILLIS));
            assert_eq!(record.ttl(at(NOW)).map(|ttl| ttl.as_secs()), Some(300));
        }
    }
}

#[test]
fn an_inlined_key_may_stand_in_the_record_too() {
    for keypair in &all_types()[..2] {
        let pub_key = Some(keypair.public().encode_protobuf());
        accepted(keypair, &Entry { pub_key, ..v1_and_v2(keypair) }.encode_to_vec());
        // An empty field counts as absent.
        accepted(keypair, &Entry { pub_key: Some(vec![]), ..v1_and_v2(keypair) }.encode_to_vec());
    }
}

#[test]
fn a_record_under_another_name() {
    for keypair in all_types() {
        let value = v1_and_v2(&keypair).encode_to_vec();
        refused(&ed25519(66), &value, Fault::Invalid);
        if keypair.public() != rsa().public() {
            refused(
                &rsa(),
                &value,
                if keypair.public().encode_protobuf().len() > 42 {
                    // The record embeds a key that is not that of the name.
                    Fault::Invalid
                } else {
                    // Neither the record nor the name contains a key.
                    Fault::Malformed
                },
            );
        }
    }
}

#[test]
fn a_stranger_s_record_with_the_owner_s_public_key() {
    for owner in all_types() {
        let pub_key = Some(owner.public().encode_protobuf());
        let entry = Entry { pub_key, ..v1_and_v2(&ed25519(66)) };
        refused(&owner, &entry.encode_to_vec(), Fault::Invalid);
    }
}

#[test]
fn a_stranger_s_record_with_the_stranger_s_public_key() {
    for owner in all_types() {
        let stranger = ed25519(66);
        let pub_key = Some(stranger.public().encode_protobuf());
        let value = Entry { pub_key, ..v1_and_v2(&stranger) }.encode_to_vec();
        refused(&owner, &value, Fault::Invalid);
        let owner_of_key = Box::new(stranger.public().to_peer_id());
        assert_eq!(
            IpnsRecord::decode(&name(&owner), value),
            Err(IpnsError::KeyMismatch { owner: owner_of_key })
        );
    }
}

#[test]
fn the_owner_s_record_with_a_stranger_s_public_key() {
    for owner in all_types() {
        let pub_key = Some(ed25519(66).public().encode_protobuf());
        refused(&owner, &Entry { pub_key, ..v1_and_v2(&owner) }.encode_to_vec(), Fault::Invalid);
    }
}

#[test]
fn a_hashed_name_without_the_public_key() {
    for owner in &all_types()[2..] {
        for pub_key in [None, Some(vec![])] {
            let value = Entry { pub_key, ..v1_and_v2(owner) }.encode_to_vec();
            refused(owner, &value, Fault::Malformed);
            assert_eq!(IpnsRecord::decode(&name(owner), value), Err(IpnsError::NoPublicKey));
        }
    }
}

#[test]
fn a_public_key_that_is_none() {
    for owner in all_types() {
        let good = owner.public().encode_protobuf();
        for pub_key in [
            b"no key".to_vec(),
            good[..good.len() - 1].to_vec(),
            // Another form of the same key.
            [&good[..], b"\x1a\0"].concat(),
            [&good[2..], &good[..2]].concat(),
        ] {
            let entry = Entry { pub_key: Some(pub_key), ..v1_and_v2(&owner) };
            refused(&owner, &entry.encode_to_vec(), Fault::Malformed);
        }
    }
}

/// The fault of a record under a key that may only look like the key of a name.
fn under(key: &RecordKey) -> Fault {
    let value = v1_and_v2(&ed25519(1)).encode_to_vec();
    let error = IpnsValidator.validate(key, &value, at(NOW)).unwrap_err();
    assert_eq!(IpnsValidator.select(key, &[&value]), Err(error.clone()));
    assert!(!node().faults(key, &value).is_empty());
    error.fault()
}

#[test]
fn a_short_key_that_is_hashed() {
    use sha2::{Digest, Sha256};
    let digest = Sha256::digest(ed25519(1).public().encode_protobuf());
    let hashed = RecordKey::new([b"/ipns/\x12\x20", &digest[..]].concat());
    assert_eq!(under(&hashed), Fault::Malformed);
    let pub_key = Some(ed25519(1).public().encode_protobuf());
    let value = Entry { pub_key, ..v1_and_v2(&ed25519(1)) }.encode_to_vec();
    let error = IpnsValidator.validate(&hashed, &value, at(NOW)).unwrap_err();
    assert_eq!(error.fault(), Fault::Invalid);
}

#[test]
fn a_name_that_inlines_no_key() {
    for bytes in [&b""[..], b"x", &[8; 42]] {
        let mut key = b"/ipns/\0".to_vec();
        encode_varint(bytes.len() as u64, &mut key);
        assert_eq!(under(&RecordKey::new([&key, bytes].concat())), Fault::Malformed);
    }
}

#[test]
fn a_key_that_is_not_the_peer_id_s_bytes() {
    let id = ed25519(1).public().to_peer_id();
    for path in [
        b"".to_vec(),
        id.to_base58().into_bytes(),
        name(&ed25519(1)).to_string().into_bytes(),
        [&[1, 0x72], &id.to_bytes()[..]].concat(),
        [&id.to_bytes()[..], b"\0"].concat(),
        [b"/", &id.to_bytes()[..]].concat(),
        id.to_bytes()[..37].to_vec(),
        // The code 0, and the length, in two bytes.
        [&[0x80], &id.to_bytes()[..]].concat(),
        [&[0, 36 | 0x80, 0], &id.to_bytes()[2..]].concat(),
    ] {
        let key = RecordKey::new([b"/ipns/", &path[..]].concat());
        assert_eq!(IpnsName::try_from(&key), Err(NameError::Key(key.clone())));
        assert_eq!(under(&key), Fault::Malformed, "{key}");
    }
}

#[test]
fn a_key_of_another_namespace() {
    let id = ed25519(1).public().to_peer_id().to_bytes();
    for prefix in ["/pk/", "/IPNS/", "/ipns", "ipns/", "//ipns/", "", "/"] {
        let key = RecordKey::new([prefix.as_bytes(), &id].concat());
        assert_eq!(under(&key), Fault::Malformed, "{key}");
        let value = v1_and_v2(&ed25519(1)).encode_to_vec();
        assert!(libp2p_smart_record::ipfs().validate(&key, &value, at(NOW)).is_err());
    }
}
