//! The bytes: the record as an IPLD object, its CID, its signature, the schemes' CIDs.

use super::*;

use libp2p_core::SignedEnvelope;
use sha2::{Digest, Sha256};

/// A string or bytes of up to 255 bytes in CBOR: major type 3 or 2.
fn cbor(major: u8, bytes: &[u8]) -> Vec<u8> {
    let len = bytes.len() as u8;
    let head = if len < 24 { vec![major << 5 | len] } else { vec![major << 5 | 24, len] };
    [head, bytes.to_vec()].concat()
}

fn text(text: &str) -> Vec<u8> {
    cbor(3, text.as_bytes())
}

/// Tag 42 and the binary CID with a zero before it.
fn link(cid: &Cid) -> Vec<u8> {
    let bytes = [&[0][..], &cid.to_bytes()].concat();
    [vec![0xd8, 42], cbor(2, &bytes)].concat()
}

#[test]
fn the_record_object_is_the_map_that_the_documentation_says() {
    let record = sign(SequenceNumber::record("hello", 23).with_version(5));
    let author = alice().public().encode_protobuf();
    let expected = [
        vec![0xa5],
        text("value"),
        text("hello"),
        text("author"),
        cbor(2, &author),
        text("scheme"),
        link(&SequenceNumber.description().cid()),
        text("version"),
        vec![5],
        text("validity"),
        [vec![0xa1], text("sequence"), vec![23]].concat(),
    ]
    .concat();
    assert_eq!(record.block(), expected);

    let wire = [
        vec![0xa2],
        text("record"),
        expected.clone(),
        text("signature"),
        cbor(2, record.signature()),
    ]
    .concat();
    assert_eq!(record.as_bytes(), wire);

    // CID version 1, DAG-CBOR, SHA-256, 32 bytes.
    let cid = [&[1, 0x71, 0x12, 32], &Sha256::digest(&expected)[..]].concat();
    assert_eq!(record.cid().to_bytes(), cid);
}

#[test]
fn each_scheme_has_a_well_known_cid() {
    let schemes: [(&dyn Scheme, &str, &str); 4] = [
        (&DatetimeRange, "datetime-range", DATETIME_RANGE),
        (&TtlSinceReceipt, "ttl-since-receipt", TTL_SINCE_RECEIPT),
        (&Ancestry, "ancestry-chain", ANCESTRY),
        (&SequenceNumber, "sequence-number", SEQUENCE_NUMBER),
    ];
    for (scheme, name, cid) in schemes {
        let block = [
            vec![0xa3],
            text("name"),
            text(name),
            text("type"),
            text("iprs-scheme"),
            text("parameters"),
            vec![0xa0],
        ]
        .concat();
        assert_eq!(scheme.description().block(), block);
        assert_eq!(scheme.description().cid().to_string(), cid);
    }
    assert_eq!(IprsValidator::default().schemes().count(), 4);
}

// Calculated from the bytes above in another programming language.
const DATETIME_RANGE: &str = "bafyreibpbrcaalmrlirqspisehdy7phfntlq6ulyn7av7juixcejwadsve";
const TTL_SINCE_RECEIPT: &str = "bafyreifyf5x2zheevjhko4jdug5jaopqtaejyi5lv2eanfy6eduhqlanzu";
const ANCESTRY: &str = "bafyreibfzzobs4s26wnkju6dnpiu6iojihp2zrgfdmnuu5lty2anvj7gqu";
const SEQUENCE_NUMBER: &str = "bafyreidqygjckwcjfsj5m6uomlhwlaqlem6y5qpbgui23h7knmezkqik2i";

#[test]
fn libp2p_s_own_envelope_code_accepts_the_signature() {
    for keypair in [alice(), Keypair::generate_secp256k1(), Keypair::generate_ecdsa(), rsa()] {
        let key = key_of(&keypair, "x");
        let record = SequenceNumber::record("hello", 1).sign(&key, &keypair).unwrap();
        let mut payload = Vec::new();
        prost::encoding::encode_varint(key.as_bytes().len() as u64, &mut payload);
        payload.extend_from_slice(key.as_bytes());
        payload.extend_from_slice(record.block());
        let field = |number: u32, bytes: &[u8]| {
            let mut field = Vec::new();
            prost::encoding::bytes::encode(number, &bytes.to_vec(), &mut field);
            field
        };
        let envelope = [
            field(1, &keypair.public().encode_protobuf()),
            field(2, b"/libp2p-iprs/record"),
            field(3, &payload),
            field(5, record.signature()),
        ]
        .concat();
        let envelope = SignedEnvelope::from_protobuf_encoding(&envelope).unwrap();
        let (read, signer) = envelope
            .payload_and_signing_key("libp2p-iprs".to_owned(), b"/libp2p-iprs/record")
            .unwrap();
        assert_eq!((read, signer), (&payload[..], &keypair.public()));
    }
}

#[test]
fn what_dag_cbor_has_no_form_for_cannot_be_signed() {
    let scheme = SequenceNumber.description().cid();
    for value in [Ipld::Float(f64::NAN), Ipld::Float(f64::INFINITY), Ipld::Integer(i128::MAX)] {
        assert!(Record::new(scheme, value.clone(), Ipld::Null).sign(&key(), &alice()).is_err());
        assert!(Record::new(scheme, Ipld::Null, value).sign(&key(), &alice()).is_err());
    }
    for value in [Ipld::Float(-1.5), Ipld::Integer(u64::MAX.into()), Ipld::Link(scheme)] {
        let record = SequenceNumber::record(value.clone(), 1).sign(&key(), &alice()).unwrap();
        let read = IprsRecord::decode(&key(), record.encode(), IprsRecord::MAX_BYTES).unwrap();
        assert_eq!(*read.value(), value);
    }
}

#[test]
fn the_links_of_a_record_are_links_of_the_block() {
    let first = sign(Ancestry::first("one"));
    let about = first.cid();
    let second = sign(Ancestry::child(about, &first).unwrap());
    let data: Ipld = serde_ipld_dagcbor::from_slice(second.block()).unwrap();
    let mut links = Vec::new();
    data.references(&mut links);
    assert_eq!(links, [Ancestry.description().cid(), first.cid(), about]);
}

/// A record of an ECDSA author and its copy with the other valid signature: the lesser signature
/// first.
fn twins(record: Record) -> (RecordKey, IprsRecord, IprsRecord) {
    let keypair = Keypair::generate_ecdsa();
    let key = key_of(&keypair, "x");
    let one = record.sign(&key, &keypair).unwrap();
    let other = IprsRecord::decode(&key, twin(one.as_bytes()), IprsRecord::MAX_BYTES).unwrap();
    assert_ne!(one, other);
    if one.signature() < other.signature() { (key, one, other) } else { (key, other, one) }
}

#[test]
fn another_valid_signature_makes_no_other_record() {
    let (key, lesser, greater) = twins(Ancestry::first("one"));
    assert_eq!(lesser.cid(), greater.cid());
    assert!(validator().order(&lesser, &greater).is_eq());
    // All replicas keep the same bytes.
    for (values, best) in
        [([lesser.as_bytes(), greater.as_bytes()], 0), ([greater.as_bytes(), lesser.as_bytes()], 1)]
    {
        assert_eq!(validator().select(&key, &values), Ok(best));
    }
    let mut chains = [[&lesser, &greater], [&greater, &lesser]].map(|records| {
        let mut chain = Chain::new(key.clone());
        assert_eq!(chain.insert(records[0].clone()), Ok(true));
        assert_eq!(chain.insert(records[1].clone()), Ok(false));
        chain
    });
    assert_eq!(chains[0], chains[1]);
    assert_eq!(chains[0].tips().len(), 1);
    assert!(chains[1].insert(lesser).is_ok() && chains[1].forks().is_empty());
}
