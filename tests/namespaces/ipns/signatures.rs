//! Signatures that are missing, damaged, for other data, or good only without strict verification.

use curve25519_dalek::{
    EdwardsPoint,
    constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION},
    scalar::{Scalar, clamp_integer},
};
use libp2p_smart_record::{
    Fault, Writer,
    ipns::{IpnsError, IpnsRecord},
};
use prost::Message;
use sha2::{Digest, Sha512};

use super::*;

#[test]
fn a_record_of_version_1_only() {
    for owner in all_types() {
        for data in [None, Some(vec![]), Some(fields().encode())] {
            for signature_v2 in [None, Some(vec![])] {
                let data = data.clone();
                let value = Entry { signature_v2, data, ..v1_and_v2(&owner) }.encode_to_vec();
                refused(&owner, &value, Fault::Invalid);
                assert_eq!(IpnsRecord::decode(&name(&owner), value), Err(IpnsError::NoSignature));
            }
        }
    }
}

#[test]
fn a_record_without_data() {
    let owner = ed25519(1);
    for data in [None, Some(vec![])] {
        let entry = Entry { signature_v2: Some(sign_v2(&owner, b"")), ..v1_and_v2(&owner) };
        let value = Entry { data, ..entry }.encode_to_vec();
        refused(&owner, &value, Fault::Malformed);
        assert_eq!(IpnsRecord::decode(&name(&owner), value), Err(IpnsError::NoData));
    }
    refused(&owner, b"", Fault::Invalid);
}

#[test]
fn a_changed_signature() {
    for owner in all_types() {
        let good = v1_and_v2(&owner);
        let len = good.signature_v2.as_ref().unwrap().len();
        for index in [0, len / 2, len - 1] {
            let mut entry = good.clone();
            entry.signature_v2.as_mut().unwrap()[index] ^= 1;
            refused(&owner, &entry.encode_to_vec(), Fault::Invalid);
        }
        let mut entry = good.clone();
        entry.signature_v2.as_mut().unwrap().push(0);
        refused(&owner, &entry.encode_to_vec(), Fault::Invalid);
    }
}

#[test]
fn changed_data() {
    for owner in all_types() {
        for other in [
            fields().with("Value", cbor::bytes(b"/ipfs/bafkqaaa")),
            fields().with("Sequence", cbor::uint(8)),
            fields().with("Validity", cbor::bytes(b"2099-01-01T00:00:00Z")),
            fields().with("TTL", cbor::uint(0)),
            fields().with("_extra", cbor::uint(0)),
            fields().without("TTL"),
        ] {
            let entry = v2(&owner, fields().encode());
            refused(
                &owner,
                &Entry { data: Some(other.encode()), ..entry }.encode_to_vec(),
                Fault::Invalid,
            );
        }
    }
}

#[test]
fn a_signature_without_its_prefix() {
    for owner in all_types() {
        let data = fields().encode();
        for message in [
            data.clone(),
            [b"IPNS-signature:", &data[..]].concat(),
            [b"ipns-signature", &data[..]].concat(),
            [b"ipns-signature:", &data[..data.len() - 1]].concat(),
            [VALUE, EOL, b"EOL"].concat(),
        ] {
            let signature_v2 = Some(owner.sign(&message).unwrap());
            let value = Entry { signature_v2, ..v2(&owner, data.clone()) }.encode_to_vec();
            refused(&owner, &value, Fault::Invalid);
        }
    }
}

#[test]
fn the_signature_of_version_1_is_not_looked_at() {
    for owner in all_types() {
        let good = v1_and_v2(&owner);
        for signature_v1 in
            [None, Some(vec![]), Some(b"garbage".to_vec()), good.signature_v2.clone()]
        {
            accepted(&owner, &Entry { signature_v1, ..good.clone() }.encode_to_vec());
        }
    }
}

#[test]
fn an_ed25519_signature_whose_equation_holds_only_with_the_cofactor() {
    // Implementations of IPNS compare R with what they compute. The formats of this workspace
    // multiply by the cofactor (`docs/wire.md`, section 4.2).
    let owner = ed25519(1);
    let data = fields().encode();
    let message = [b"ipns-signature:", &data[..]].concat();
    let hash = Sha512::digest(owner.clone().try_into_ed25519().unwrap().secret());
    let secret = Scalar::from_bytes_mod_order(clamp_integer(hash[..32].try_into().unwrap()));
    let public = owner.public().try_into_ed25519().unwrap().to_bytes();
    let sign = |torsion: EdwardsPoint| {
        let r = (ED25519_BASEPOINT_POINT + torsion).compress().to_bytes();
        let k = Sha512::new().chain_update(r).chain_update(public).chain_update(&message);
        let s = Scalar::ONE + Scalar::from_bytes_mod_order_wide(&k.finalize().into()) * secret;
        [r, s.to_bytes()].concat()
    };
    let value = |signature: Vec<u8>| {
        let entry = Entry { signature_v2: Some(signature), ..v2(&owner, data.clone()) };
        entry.encode_to_vec()
    };
    accepted(&owner, &value(sign(EIGHT_TORSION[0])));
    let only_with = sign(EIGHT_TORSION[1]);
    assert!(Writer::from(&owner.public()).verify_bytes(&message, &only_with).is_ok());
    refused(&owner, &value(only_with), Fault::Invalid);
}

#[test]
fn an_ed25519_signature_with_a_scalar_that_is_not_reduced() {
    let owner = ed25519(1);
    let mut entry = v2(&owner, fields().encode());
    let signature = entry.signature_v2.as_mut().unwrap();
    // The order of the group added to the scalar.
    let order = (Scalar::ZERO - Scalar::ONE).to_bytes();
    let mut carry = 1;
    for (byte, more) in signature[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(more) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
    refused(&owner, &entry.encode_to_vec(), Fault::Invalid);
}
