//! Records of our own making: what is in them, and what cannot be signed.

use std::time::Duration;

use ipld_core::ipld::Ipld;
use libp2p_smart_record::{
    IpnsBuilder,
    ipns::{Eol, IpnsSignError},
    record::Limit,
};
use prost::Message;

use crate::{forge::*, keys::*};

#[test]
fn a_signed_record_is_the_one_that_the_specification_describes() {
    for keypair in all_types() {
        let record = IpnsBuilder::new(VALUE, 7, at(EOL_MILLIS)).sign(&keypair).unwrap();
        accepted(&keypair, record.as_bytes());
        let entry = Entry::decode(record.as_bytes()).unwrap();
        let expected = v1_and_v2(&keypair);
        assert_eq!(entry.data, expected.data);
        assert_eq!(entry.value, expected.value);
        assert_eq!(entry.validity, expected.validity);
        assert_eq!(entry.validity_type, Some(0));
        assert_eq!(entry.sequence, Some(7));
        assert_eq!(entry.ttl, Some(300_000_000_000));
        assert_eq!(entry.pub_key, expected.pub_key);
        assert!(
            keypair
                .public()
                .verify(&[VALUE, EOL, b"EOL"].concat(), entry.signature_v1.as_deref().unwrap())
        );
    }
}

#[test]
fn without_version_1_there_is_nothing_but_what_is_needed() {
    for keypair in all_types() {
        let builder = IpnsBuilder::new(VALUE, 7, at(EOL_MILLIS)).without_v1();
        let record = builder.sign(&keypair).unwrap();
        accepted(&keypair, record.as_bytes());
        let entry = Entry::decode(record.as_bytes()).unwrap();
        let expected = v2(&keypair, fields().encode());
        assert_eq!(entry, Entry { signature_v2: entry.signature_v2.clone(), ..expected });
    }
}

#[test]
fn the_public_key_is_embedded_on_demand() {
    for keypair in all_types() {
        let builder = IpnsBuilder::new(VALUE, 7, at(EOL_MILLIS)).with_public_key();
        let record = builder.sign(&keypair).unwrap();
        accepted(&keypair, record.as_bytes());
        let entry = Entry::decode(record.as_bytes()).unwrap();
        assert_eq!(entry.pub_key, Some(keypair.public().encode_protobuf()));
    }
}

#[test]
fn metadata_is_signed_in_its_place() {
    let owner = ed25519(1);
    let builder = IpnsBuilder::new(VALUE, 7, at(EOL_MILLIS));
    let record = builder
        .with_metadata("_zz", Ipld::Integer(-1))
        .with_metadata("_a", vec![1, 2])
        .with_metadata("_a", "last")
        .sign(&owner)
        .unwrap();
    accepted(&owner, record.as_bytes());
    let metadata = record.metadata().unwrap();
    let expected = [("_a", Ipld::String("last".into())), ("_zz", Ipld::Integer(-1))]
        .map(|(k, v)| (k.into(), v));
    assert_eq!(metadata, expected.into());
    let data = fields().with("_a", cbor::text("last")).with("_zz", cbor::negative(0)).encode();
    assert_eq!(Entry::decode(record.as_bytes()).unwrap().data, Some(data));
}

#[test]
fn the_next_record_takes_the_place_of_the_last() {
    let owner = ed25519(1);
    let first = IpnsBuilder::new("/ipfs/a", 0, at(EOL_MILLIS)).sign(&owner).unwrap();
    let second =
        IpnsBuilder::following(&first, "/ipfs/b", at(EOL_MILLIS - 1)).sign(&owner).unwrap();
    assert_eq!(second.sequence(), 1);
    // The same value, for longer.
    let renewed = IpnsBuilder::new("/ipfs/b", 1, at(EOL_MILLIS)).sign(&owner).unwrap();
    let mut node = Node::new();
    for record in [&first, &second, &renewed] {
        assert_eq!(node.put(&key(&owner), record.as_bytes()), []);
        assert_eq!(node.get(&key(&owner)).as_deref(), Some(record.as_bytes()));
    }
}

#[test]
fn numbers_that_go_cannot_read_are_not_signed() {
    let owner = ed25519(1);
    let greatest = i64::MAX as u64;
    let new = |sequence| IpnsBuilder::new(VALUE, sequence, at(EOL_MILLIS));
    let last = new(greatest).sign(&owner).unwrap();
    let too_great = |field| Err(IpnsSignError::TooGreat { field });
    assert_eq!(new(greatest + 1).sign(&owner), too_great("Sequence"));
    assert_eq!(new(u64::MAX).sign(&owner), too_great("Sequence"));
    let next = IpnsBuilder::following(&last, VALUE, at(EOL_MILLIS));
    assert_eq!(next.sign(&owner), too_great("Sequence"));
    let for_long = Duration::from_nanos(greatest);
    assert_eq!(new(1).with_ttl(for_long).sign(&owner).unwrap().ttl(), Some(for_long));
    assert_eq!(new(1).with_ttl(for_long + Duration::from_nanos(1)).sign(&owner), too_great("TTL"));
    assert_eq!(new(1).with_ttl(Duration::MAX).sign(&owner), too_great("TTL"));
}

#[test]
fn metadata_that_would_be_something_else_is_not_signed() {
    for field in ["", "Value", "Validity", "ValidityType", "Sequence", "TTL"] {
        let builder = IpnsBuilder::new(VALUE, 7, at(EOL_MILLIS)).with_metadata(field, true);
        let field = field.to_owned();
        assert_eq!(builder.sign(&ed25519(1)), Err(IpnsSignError::Reserved { field }));
    }
}

#[test]
fn metadata_that_nobody_could_read_is_not_signed() {
    let deep = (0..200).fold(Ipld::Null, |inner, _| Ipld::List(vec![inner]));
    for value in [Ipld::Float(f64::NAN), Ipld::Float(f64::INFINITY), Ipld::Integer(1 << 64), deep] {
        let builder = IpnsBuilder::new(VALUE, 7, at(EOL_MILLIS)).with_metadata("_x", value);
        assert!(matches!(builder.sign(&ed25519(1)), Err(IpnsSignError::DagCbor(_))));
    }
}

#[test]
fn what_is_too_large_is_not_signed() {
    let owner = ed25519(1);
    let sign = |len| IpnsBuilder::new(vec![b'x'; len], 7, at(EOL_MILLIS)).without_v1().sign(&owner);
    let overhead = sign(9_000).unwrap().as_bytes().len() - 9_000;
    assert_eq!(sign(10_240 - overhead).unwrap().as_bytes().len(), 10_240);
    let error = sign(10_241 - overhead).unwrap_err();
    assert!(matches!(error, IpnsSignError::Limit(limit) if limit.limit == Limit::VALUE_BYTES));
}

#[test]
fn an_end_to_the_nanosecond() {
    let eol: Eol = "2023-11-15T22:13:20.000000001Z".parse().unwrap();
    let record = IpnsBuilder::new(VALUE, 7, eol).sign(&ed25519(1)).unwrap();
    assert_eq!(accepted(&ed25519(1), record.as_bytes()).eol(), eol);
}

#[test]
fn the_signature_of_version_1_cannot_be_had_for_something_else() {
    // An app that publishes what a stranger gives it would sign the beginning of a version 2 message: the
    // signature of version 1 has no domain of its own.
    let owner = libp2p_identity::Keypair::generate_ed25519();
    for value in [&b"ipns-signature:\xa6"[..], b"", b"libp2p-peer-record"] {
        let builder = IpnsBuilder::new(value, 0, at(EOL_MILLIS));
        let refused = builder.sign(&owner);
        assert!(matches!(refused, Err(IpnsSignError::NotAPath)), "{refused:?}");
        assert!(builder.without_v1().sign(&owner).is_ok());
    }
}
