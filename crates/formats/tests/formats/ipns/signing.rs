//! Records that the builder refuses to sign.

use super::*;

use ipld_core::ipld::Ipld;
use std::time::Duration;

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
fn the_signature_of_version_1_cannot_be_had_for_something_else() {
    // Otherwise an app that publishes a value from a stranger could sign the beginning of a version
    // 2 message: the signature of version 1 has no domain.
    let owner = libp2p_identity::Keypair::generate_ed25519();
    for value in [&b"ipns-signature:\xa6"[..], b"", b"libp2p-peer-record"] {
        let builder = IpnsBuilder::new(value, 0, at(EOL_MILLIS));
        let refused = builder.sign(&owner);
        assert!(matches!(refused, Err(IpnsSignError::NotAPath)), "{refused:?}");
        assert!(builder.without_v1().sign(&owner).is_ok());
    }
}
