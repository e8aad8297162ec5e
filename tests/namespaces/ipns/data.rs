//! Invalid data: other forms of CBOR, missing fields, fields of other types.

use libp2p_smart_record::{
    Fault,
    ipns::{IpnsError, IpnsRecord},
};
use prost::{Message, encoding::encode_varint};

use super::*;

/// Checks that data is refused although the owner signed it.
fn bad(data: Vec<u8>, fault: Fault) -> IpnsError {
    let owner = ed25519(1);
    let value = v2(&owner, data).encode_to_vec();
    refused(&owner, &value, fault);
    IpnsRecord::decode(&name(&owner), value).unwrap_err()
}

fn not_dag_cbor(data: Vec<u8>) {
    let error = bad(data, Fault::Malformed);
    assert!(matches!(error, IpnsError::DagCbor(_)), "{error:?}");
}

fn good(data: Vec<u8>) -> IpnsRecord {
    let owner = ed25519(1);
    accepted(&owner, &v2(&owner, data).encode_to_vec())
}

#[test]
fn data_that_is_not_a_map() {
    for data in [&b"\0"[..], b"\xff", b"\x80", b"\xf6", b"{}", b"/ipfs/x", b"\x1c"] {
        not_dag_cbor(data.to_vec());
    }
}

#[test]
fn truncated_data() {
    let data = fields().encode();
    for len in 1..data.len() {
        not_dag_cbor(data[..len].to_vec());
    }
}

#[test]
fn bytes_after_the_data() {
    not_dag_cbor([fields().encode(), vec![0]].concat());
    not_dag_cbor([fields().encode(), fields().encode()].concat());
}

#[test]
fn fields_in_another_order() {
    let mut fields = fields().0;
    let sorted = fields.clone();
    for (a, b) in [(0, 1), (1, 2), (3, 4), (0, 4)] {
        fields.swap(a, b);
        not_dag_cbor(cbor::map(fields.clone()));
        fields.clone_from(&sorted);
    }
    // In alphabetical order, as in other forms of CBOR.
    fields.sort();
    not_dag_cbor(cbor::map(fields));
    good(cbor::map(sorted));
}

#[test]
fn a_field_twice() {
    let mut fields = fields().0;
    fields.insert(3, ("Sequence", cbor::uint(8)));
    not_dag_cbor(cbor::map(fields));
}

#[test]
fn numbers_in_more_bytes_than_they_need() {
    for sequence in
        [&[0x18, 7][..], &[0x19, 0, 7], &[0x1a, 0, 0, 0, 7], &[0x1b, 0, 0, 0, 0, 0, 0, 0, 7]]
    {
        not_dag_cbor(fields().with("Sequence", sequence.to_vec()).encode());
    }
}

#[test]
fn lengths_in_more_bytes_than_they_need() {
    let value = [&[0x59, 0, VALUE.len() as u8], VALUE].concat();
    not_dag_cbor(fields().with("Value", value).encode());
    let data = fields().encode();
    not_dag_cbor([&[0xb8, 5], &data[1..]].concat());
    not_dag_cbor([&[data[0]], &b"\x78\x03TTL"[..], &data[5..]].concat());
}

#[test]
fn indefinite_lengths() {
    let data = fields().encode();
    not_dag_cbor([&[0xbf], &data[1..], &[0xff]].concat());
    let value = [&[0x5f], &cbor::bytes(VALUE)[..], &[0xff]].concat();
    not_dag_cbor(fields().with("Value", value).encode());
}

#[test]
fn what_dag_cbor_does_not_have() {
    for value in [
        // Undefined, another simple value, a float of 32 bits and of 16, NaN, infinity, minus
        // zero.
        &[0xf7][..],
        &[0xf8, 99],
        &[0xfa, 0x3f, 0x80, 0, 0],
        &[0xf9, 0x3c, 0],
        &[0xfb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0],
        &[0xfb, 0x7f, 0xf0, 0, 0, 0, 0, 0, 0],
        &[0xfb, 0x80, 0, 0, 0, 0, 0, 0, 0],
        // A date, a big number, an invalid link, a link with a byte after its CID.
        &[0xc1, 0],
        &[0xc2, 0x41, 1],
        &[0xd8, 0x2a, 0x42, 0, 1],
        &[0xd8, 0x2a, 0x46, 0, 1, 0x55, 0, 0, 7],
        // Text that is not UTF-8.
        &[0x62, 0xc3, 0x28],
        // A map whose key is not text.
        &[0xa1, 0, 0],
        // The same inside a list and a map.
        &[0x81, 0xf7],
        &[0xa1, 0x61, b'x', 0xf7],
        &[0x81, 0x18, 7],
        &[0xa2, 0x61, b'b', 0, 0x61, b'a', 0],
        &[0xa2, 0x61, b'a', 0, 0x61, b'a', 0],
    ] {
        not_dag_cbor(fields().with("_extra", value.to_vec()).encode());
    }
}

#[test]
fn more_fields_are_left_alone() {
    let link = [&[0xd8, 0x2a, 0x58, 37, 0, 1, 0x55, 0x12, 32][..], &[9; 32]].concat();
    for value in [
        cbor::uint(u64::MAX),
        cbor::negative(u64::MAX),
        cbor::bytes(b"x"),
        cbor::text("x"),
        vec![0xf4],
        vec![0xf6],
        vec![0xfb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0],
        vec![0x80],
        vec![0xa0],
        [&[0x82, 0x81, 0xa1, 0x61, b'x'], &link[..], &link].concat(),
        link,
    ] {
        let data = fields().with("_extra", value).encode();
        let record = good(data);
        assert_eq!(record.value(), VALUE);
        assert_eq!(record.metadata().unwrap().len(), 1);
    }
    assert!(good(fields().encode()).metadata().unwrap().is_empty());
}

#[test]
fn fields_of_the_message_that_nobody_knows_are_left_alone() {
    // The specification may add fields. They are not signed, so they have no effect.
    let owner = ed25519(1);
    let good = v1_and_v2(&owner).encode_to_vec();
    for extra in
        [&[0x50, 1][..], &[0x52, 1, b'x'], &[0x5d, 0, 0, 0, 0], &[0x79, 0, 0, 0, 0, 0, 0, 0, 0]]
    {
        for value in [[&good, extra].concat(), [extra, &good].concat()] {
            assert_eq!(accepted(&owner, &value).value(), VALUE);
        }
    }
}

#[test]
fn what_is_not_the_message() {
    let owner = ed25519(1);
    let good = v1_and_v2(&owner).encode_to_vec();
    for value in [
        b"no message".to_vec(),
        // A field of the wrong type, one that is too long, one without a number.
        [&good[..], &[0x48, 1]].concat(),
        [&good[..], &[0x52, 0x7f]].concat(),
        [&good[..], &[0x02, 0]].concat(),
    ] {
        refused(&owner, &value, Fault::Malformed);
    }
}

#[test]
fn a_truncated_record() {
    let owner = ed25519(1);
    let value = v1_and_v2(&owner).encode_to_vec();
    for len in 0..value.len() {
        assert!(IpnsRecord::decode(&name(&owner), value[..len].to_vec()).is_err(), "{len}");
    }
    refused(&owner, &value[..value.len() - 1], Fault::Malformed);
}

#[test]
fn nesting() {
    let nested = |depth: usize| {
        let value = [vec![0x81; depth], vec![0]].concat();
        v2(&ed25519(1), fields().with("_extra", value).encode()).encode_to_vec()
    };
    accepted(&ed25519(1), &nested(100));
    for depth in [200, 1_000, 9_000] {
        refused(&ed25519(1), &nested(depth), Fault::Malformed);
    }
}

#[test]
fn claims_of_great_lengths() {
    for major in 2..=5 {
        for len in [1 << 16, 1 << 32, 1 << 63, u64::MAX] {
            let value = cbor::head(major, len);
            not_dag_cbor(fields().with("_extra", value.clone()).encode());
            not_dag_cbor(fields().with("ValidityTypeOfOld", value.repeat(50)).encode());
        }
    }
    let owner = ed25519(1);
    for len in [1 << 16, 1 << 32, 1 << 63, u64::MAX] {
        let mut value = vec![0x4a];
        encode_varint(len, &mut value);
        refused(&owner, &value, Fault::Malformed);
    }
}

#[test]
fn a_missing_field() {
    for field in ["Value", "Validity", "ValidityType", "Sequence"] {
        assert_eq!(
            bad(fields().without(field).encode(), Fault::Malformed),
            IpnsError::Field { field }
        );
    }
}

#[test]
fn a_field_of_another_type() {
    for (field, others) in [
        ("Value", [cbor::uint(1), cbor::text("/ipfs/bafkqaaa"), vec![0xf6], vec![0x80]]),
        ("Validity", [cbor::uint(1), cbor::text("2023-11-15T22:13:20Z"), vec![0xf6], vec![0xa0]]),
        ("ValidityType", [cbor::bytes(b"0"), cbor::text("0"), vec![0xf6], vec![0xf4]]),
        ("Sequence", [cbor::negative(0), cbor::bytes(b"1"), vec![0xf6], vec![0xf5]]),
        ("TTL", [cbor::negative(0), cbor::negative(u64::MAX), cbor::text("1"), vec![0xf6]]),
    ] {
        for other in others {
            let error = bad(fields().with(field, other).encode(), Fault::Malformed);
            assert_eq!(error, IpnsError::Field { field });
        }
    }
}

#[test]
fn an_unknown_validity_type() {
    for (cbor, number) in
        [(cbor::uint(1), 1), (cbor::uint(u64::MAX), i128::from(u64::MAX)), (cbor::negative(0), -1)]
    {
        let error = bad(fields().with("ValidityType", cbor).encode(), Fault::Unsupported);
        assert_eq!(error, IpnsError::ValidityType(number));
    }
}

#[test]
fn the_greatest_numbers() {
    let greatest = cbor::uint(u64::MAX);
    let data = fields().with("Sequence", greatest.clone()).with("TTL", greatest);
    let record = good(data.encode());
    assert_eq!(record.sequence(), u64::MAX);
    assert_eq!(record.ttl(at(0)).map(|ttl| ttl.as_nanos()), Some(1_700_086_400 * 1_000_000_000));
}
