//! Version 1 and version 2 differ: a copy outside of the signed data must equal the original.

use libp2p_smart_record::{
    Fault, Timestamp,
    ipns::{Eol, IpnsError, IpnsRecord},
};
use prost::Message;

use super::*;

fn disagrees(entry: &Entry, field: &'static str) {
    let value = entry.encode_to_vec();
    refused(&ed25519(1), &value, Fault::Invalid);
    let error = IpnsRecord::decode(&name(&ed25519(1)), value).unwrap_err();
    assert_eq!(error, IpnsError::Disagreement { field });
}

/// Changes one field of three records: one with all fields, one without the signature of version 1,
/// and one with this field only, which counts if it is the value.
fn changed(field: &'static str, change: impl Fn(&mut Entry)) {
    let owner = ed25519(1);
    let mut all = v1_and_v2(&owner);
    change(&mut all);
    disagrees(&all, field);
    all.signature_v1 = None;
    disagrees(&all, field);
    let mut lone = v2(&owner, fields().encode());
    change(&mut lone);
    match lone.value {
        Some(_) => disagrees(&lone, field),
        None => drop(accepted(&owner, &lone.encode_to_vec())),
    }
}

/// Removes one field of a record that has a value or a signature of version 1.
fn left_out(field: &'static str, leave_out: impl Fn(&mut Entry)) {
    let mut entry = v1_and_v2(&ed25519(1));
    leave_out(&mut entry);
    disagrees(&entry, field);
    entry.signature_v1 = None;
    match entry.value.as_deref() {
        // An empty value counts as none, so nobody reads the copies.
        None | Some([]) => drop(accepted(&ed25519(1), &entry.encode_to_vec())),
        Some(_) => disagrees(&entry, field),
    }
}

#[test]
fn another_value() {
    changed("Value", |entry| entry.value = Some(b"/ipfs/bafkqaaa".to_vec()));
    left_out("Value", |entry| entry.value = None);
    left_out("Value", |entry| entry.value = Some(vec![]));
}

#[test]
fn another_validity() {
    changed("Validity", |entry| entry.validity = Some(b"2099-01-01T00:00:00Z".to_vec()));
    // The same instant in another form.
    changed("Validity", |entry| entry.validity = Some(b"2023-11-15T22:13:20.0Z".to_vec()));
    left_out("Validity", |entry| entry.validity = None);
}

#[test]
fn another_validity_type() {
    for other in [1, -1, i32::MAX] {
        changed("ValidityType", |entry| entry.validity_type = Some(other));
    }
}

#[test]
fn another_sequence() {
    for other in [0, 6, 8, u64::MAX] {
        changed("Sequence", |entry| entry.sequence = Some(other));
    }
    left_out("Sequence", |entry| entry.sequence = None);
}

#[test]
fn another_ttl() {
    for other in [0, 1, u64::MAX] {
        changed("TTL", |entry| entry.ttl = Some(other));
    }
    left_out("TTL", |entry| entry.ttl = None);
}

#[test]
fn a_ttl_that_is_in_the_copy_only() {
    let owner = ed25519(1);
    let data = fields().without("TTL").encode();
    let v2_only = v2(&owner, data);
    assert_eq!(accepted(&owner, &v2_only.encode_to_vec()).ttl(at(NOW)), None);
    for ttl in [0, 300_000_000_000] {
        let entry = Entry { ttl: Some(ttl), ..v2_only.clone() };
        assert_eq!(accepted(&owner, &entry.encode_to_vec()).ttl(at(NOW)), None);
    }
    // With a value outside, the signed data needs a TTL.
    disagrees(
        &Entry {
            ttl: None,
            signature_v2: v2_only.signature_v2,
            data: v2_only.data,
            ..v1_and_v2(&owner)
        },
        "TTL",
    );
}

#[test]
fn absent_copies_have_their_defaults() {
    let owner = ed25519(1);
    // Go writes zeros, others may omit them.
    let data = fields().with("Sequence", cbor::uint(0)).with("TTL", cbor::uint(0)).encode();
    let entry =
        Entry { value: Some(VALUE.to_vec()), validity: Some(EOL.to_vec()), ..v2(&owner, data) };
    accepted(&owner, &entry.encode_to_vec());
}

#[test]
fn copies_without_a_value_and_a_signature_of_version_1_do_not_count() {
    // Otherwise a stranger could make a record unreadable for us that Go and JavaScript read.
    let owner = ed25519(1);
    for sequence in [7, 8] {
        let validity = Some(b"2099-01-01T00:00:00Z".to_vec());
        let entry = Entry { sequence: Some(sequence), validity, ..v2(&owner, fields().encode()) };
        let record = accepted(&owner, &entry.encode_to_vec());
        assert_eq!((record.sequence(), record.eol().expires_at()), (7, at(EOL_MILLIS)));
    }
}

#[test]
fn an_empty_value() {
    let owner = ed25519(1);
    let data = fields().with("Value", cbor::bytes(b"")).encode();
    let record = accepted(&owner, &v2(&owner, data.clone()).encode_to_vec());
    assert_eq!(record.value(), b"");
    let entry = Entry { value: Some(vec![]), ..v2(&owner, data) };
    accepted(&owner, &entry.encode_to_vec());
}

#[test]
fn what_counts_is_what_is_signed() {
    // In protobuf, the last of several occurrences of a field counts.
    let owner = ed25519(1);
    let good = v1_and_v2(&owner).encode_to_vec();
    let twice = |entry: Entry| [entry.encode_to_vec(), good.clone()].concat();
    let lie = Entry {
        value: Some(b"/ipfs/bafkqaaa".to_vec()),
        validity: Some(b"2099-01-01T00:00:00Z".to_vec()),
        sequence: Some(99),
        ..Entry::default()
    };
    let record = accepted(&owner, &twice(lie.clone()));
    assert_eq!((record.value(), record.sequence()), (VALUE, 7));
    assert_eq!(record.eol(), Eol::from(Timestamp::from_millis(EOL_MILLIS)));
    refused(&owner, &[good, lie.encode_to_vec()].concat(), Fault::Invalid);
}
