//! Records of the builder: their content, and what cannot be signed.

use ipld_core::ipld::Ipld;
use libp2p_smart_record::ipns::{Eol, IpnsBuilder};
use prost::Message;

use super::*;

#[test]
fn a_signed_record_is_the_one_that_the_specification_describes() {
    for keypair in all_types() {
        let record = IpnsBuilder::new(PATH, 7, at(EOL_MILLIS)).sign(&keypair, at(NOW)).unwrap();
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
        let builder = IpnsBuilder::new(PATH, 7, at(EOL_MILLIS)).without_v1();
        let record = builder.sign(&keypair, at(NOW)).unwrap();
        accepted(&keypair, record.as_bytes());
        let entry = Entry::decode(record.as_bytes()).unwrap();
        let expected = v2(&keypair, fields().encode());
        assert_eq!(entry, Entry { signature_v2: entry.signature_v2.clone(), ..expected });
    }
}

#[test]
fn the_public_key_is_embedded_on_demand() {
    for keypair in all_types() {
        let builder = IpnsBuilder::new(PATH, 7, at(EOL_MILLIS)).with_public_key();
        let record = builder.sign(&keypair, at(NOW)).unwrap();
        accepted(&keypair, record.as_bytes());
        let entry = Entry::decode(record.as_bytes()).unwrap();
        assert_eq!(entry.pub_key, Some(keypair.public().encode_protobuf()));
    }
}

#[test]
fn metadata_is_signed_in_its_place() {
    let owner = ed25519(1);
    let builder = IpnsBuilder::new(PATH, 7, at(EOL_MILLIS));
    let record = builder
        .with_metadata("_zz", Ipld::Integer(-1))
        .with_metadata("_a", vec![1, 2])
        .with_metadata("_a", "last")
        .sign(&owner, at(NOW))
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
    let first =
        IpnsBuilder::new("/ipfs/bafkqaala", 0, at(EOL_MILLIS)).sign(&owner, at(NOW)).unwrap();
    let second = IpnsBuilder::following(&first, "/ipfs/bafkqaalb", at(EOL_MILLIS - 1))
        .sign(&owner, at(NOW))
        .unwrap();
    assert_eq!(second.sequence(), 1);
    // The same value with a later EOL.
    let renewed =
        IpnsBuilder::new("/ipfs/bafkqaalb", 1, at(EOL_MILLIS)).sign(&owner, at(NOW)).unwrap();
    let mut node = node();
    for record in [&first, &second, &renewed] {
        assert_eq!(node.faults(&key(&owner), record.as_bytes()), []);
        assert_eq!(node.get(&key(&owner)).as_deref(), Some(record.as_bytes()));
    }
}

#[test]
fn an_end_to_the_nanosecond() {
    let eol: Eol = "2023-11-15T22:13:20.000000001Z".parse().unwrap();
    let record = IpnsBuilder::new(PATH, 7, eol).sign(&ed25519(1), at(NOW)).unwrap();
    assert_eq!(accepted(&ed25519(1), record.as_bytes()).eol(), eol);
}
