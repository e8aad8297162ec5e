//! Records that the builder refuses to sign.

use super::*;

use ipld_core::ipld::Ipld;
use prost::Message;
use std::time::Duration;

const CID_V0: &str = "QmbWqxBEKC3P8tqsKc98xmWNzrzDtRLMiMPL8wBuTGsMnR";

#[test]
fn numbers_that_go_cannot_read_are_not_signed() {
    let owner = ed25519(1);
    let greatest = i64::MAX as u64;
    let new = |sequence| IpnsBuilder::new(PATH, sequence, Timestamp::MAX);
    let last = new(greatest).sign(&owner, at(NOW)).unwrap();
    let too_great = |field| Err(IpnsSignError::TooGreat { field });
    assert_eq!(new(greatest + 1).sign(&owner, at(NOW)), too_great("Sequence"));
    assert_eq!(new(u64::MAX).sign(&owner, at(NOW)), too_great("Sequence"));
    let next = IpnsBuilder::following(&last, PATH, Timestamp::MAX);
    assert_eq!(next.sign(&owner, at(NOW)), too_great("Sequence"));
    let for_long = Duration::from_nanos(greatest);
    assert_eq!(
        new(1).with_ttl(for_long).sign(&owner, at(NOW)).unwrap().ttl(at(NOW)),
        Some(for_long)
    );
    assert_eq!(
        new(1).with_ttl(for_long + Duration::from_nanos(1)).sign(&owner, at(NOW)),
        too_great("TTL")
    );
    assert_eq!(new(1).with_ttl(Duration::MAX).sign(&owner, at(NOW)), too_great("TTL"));
}

#[test]
fn metadata_that_would_be_something_else_is_not_signed() {
    for field in ["", "Value", "Validity", "ValidityType", "Sequence", "TTL"] {
        let builder = IpnsBuilder::new(PATH, 7, at(EOL_MILLIS)).with_metadata(field, true);
        let field = field.to_owned();
        assert_eq!(builder.sign(&ed25519(1), at(NOW)), Err(IpnsSignError::Reserved { field }));
    }
}

#[test]
fn metadata_that_nobody_could_read_is_not_signed() {
    let deep = (0..200).fold(Ipld::Null, |inner, _| Ipld::List(vec![inner]));
    for value in [Ipld::Float(f64::NAN), Ipld::Float(f64::INFINITY), Ipld::Integer(1 << 64), deep] {
        let builder = IpnsBuilder::new(PATH, 7, at(EOL_MILLIS)).with_metadata("_x", value);
        assert!(matches!(builder.sign(&ed25519(1), at(NOW)), Err(IpnsSignError::DagCbor(_))));
    }
}

#[test]
fn what_is_too_large_is_not_signed() {
    let owner = ed25519(1);
    let sign = |len| {
        let path = format!("/ipns/{}", "x".repeat(len - 6));
        IpnsBuilder::new(path, 7, at(EOL_MILLIS)).without_v1().sign(&owner, at(NOW))
    };
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
    for value in ["ipns-signature:\u{a6}", "", "libp2p-peer-record"] {
        let builder = IpnsBuilder::new(value, 0, at(EOL_MILLIS));
        for builder in [builder.clone(), builder.without_v1()] {
            let refused = builder.sign(&owner, at(NOW));
            assert!(matches!(refused, Err(IpnsSignError::Value(_))), "{refused:?}");
        }
    }
}

#[test]
fn what_kubo_could_not_resolve_is_not_signed() {
    let sign = |value: &str| IpnsBuilder::new(value, 0, at(EOL_MILLIS)).sign(&ed25519(1), at(NOW));
    for value in
        ["/", "/ipfs", "/ipfs/", "/ipfs/x", "/ipns/", "/home/x", "bafkqaaa", "/ipfs/a/../.."]
    {
        let refused = sign(value);
        assert!(matches!(refused, Err(IpnsSignError::Value(_))), "{value}: {refused:?}");
    }
    let v0 = format!("/ipfs/{CID_V0}/a b");
    for (value, signed) in [
        ("/ipfs/bafkqaaa", "/ipfs/bafkqaaa"),
        (&v0, &v0),
        ("/ipld/bafkqaaa//x/./", "/ipld/bafkqaaa/x/"),
        ("/ipns/example.com/../example.org", "/ipns/example.org"),
    ] {
        let record = sign(value).unwrap();
        assert_eq!(record.value(), signed.as_bytes());
        assert_eq!(record.path().unwrap().as_str(), signed);
    }
}

#[test]
fn case_7_a_ttl_does_not_go_beyond_the_eol() {
    let owner = ed25519(1);
    let secs = Duration::from_secs;
    let builder = IpnsBuilder::new(PATH, 0, at(NOW + 60_000));
    // The default is capped, what the caller asks for is refused, as in kubo.
    assert_eq!(builder.sign(&owner, at(NOW)).unwrap().ttl(at(NOW)), Some(secs(60)));
    let refused = builder.clone().with_ttl(secs(3_600)).sign(&owner, at(NOW));
    assert_eq!(refused, Err(IpnsSignError::TtlBeyondEol { left: secs(60) }));
    let record = builder.clone().with_ttl(secs(60)).sign(&owner, at(NOW)).unwrap();
    // A reader gets what is left.
    for (millis, left) in [(0, 60_000), (59_999, 1), (60_000, 0), (90_000, 0)] {
        assert_eq!(record.ttl(at(NOW + millis)), Some(Duration::from_millis(left)));
    }
    let data = fields().with("TTL", cbor::uint(3_600_000_000_000)).encode();
    let long = IpnsRecord::decode(&name(&owner), v2(&owner, data).encode_to_vec()).unwrap();
    assert_eq!(long.ttl(at(NOW)), Some(secs(3_600)));
    assert_eq!(long.ttl(at(EOL_MILLIS - 60_000)), Some(secs(60)));
    // What has expired is not signed.
    for now in [NOW + 60_000, NOW + 90_000] {
        let eol = at(NOW + 60_000).into();
        assert_eq!(builder.sign(&owner, at(now)), Err(IpnsSignError::Expired { eol }));
    }
}

#[test]
fn case_8_a_value_is_shown_as_the_path_that_go_reads() {
    let owner = ed25519(1);
    let read = |value: &[u8]| {
        let data = fields().with("Value", cbor::bytes(value)).encode();
        let record = IpnsRecord::decode(&name(&owner), v2(&owner, data).encode_to_vec()).unwrap();
        assert_eq!(record.value(), value);
        record.path().map(|path| path.to_string())
    };
    let v0 = parse_cid(CID_V0).unwrap().to_bytes();
    let v0_path = format!("/ipfs/{CID_V0}");
    for (value, path) in [
        (&[1, 0x55, 0, 0][..], "/ipfs/bafkqaaa"),
        (&v0, &v0_path),
        (b"", "/ipfs/bafkqaaa"),
        (b"/ipns/example.com//a/", "/ipns/example.com/a/"),
        // Case 4.
        (b"/ipfs/bafkqaaa/\x1b]0;evil\x07\t0", r"/ipfs/bafkqaaa/\x1b]0;evil\x07\x090"),
        ("/ipns/\u{202e}é".as_bytes(), r"/ipns/\xe2\x80\xaeé"),
    ] {
        assert_eq!(read(value), Ok(path.to_owned()));
    }
    for value in [&[1, 0x55, 0, 0, 0][..], b"bafkqaaa", b"/ipfs/x", b"/ipns/\xff", b"\x1b[2J"] {
        let told = read(value).unwrap_err().to_string();
        assert_eq!(printable(&told).to_string(), told);
    }
}
