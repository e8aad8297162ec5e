//! Forged records, from bytes.
//!
//! The message and the encoding of its data are written anew from the specification, so that the tests do not
//! believe the code that they test.

use libp2p_identity::Keypair;
use libp2p_smart_record::{
    Fault, IpnsName, IpnsRecord, IpnsValidator, RecordKey, ValidationError, Validator,
};
use prost::Message;

use crate::keys::*;

pub const VALUE: &[u8] = b"/ipfs/bafkqaddimvwgy3zao5xxe3debi";
/// One day after [`NOW`].
pub const EOL: &[u8] = b"2023-11-15T22:13:20Z";
/// The same in milliseconds.
pub const EOL_MILLIS: u64 = NOW + 86_400_000;

#[derive(Clone, PartialEq, Message)]
pub struct Entry {
    #[prost(bytes = "vec", optional, tag = "1")]
    pub value: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub signature_v1: Option<Vec<u8>>,
    #[prost(int32, optional, tag = "3")]
    pub validity_type: Option<i32>,
    #[prost(bytes = "vec", optional, tag = "4")]
    pub validity: Option<Vec<u8>>,
    #[prost(uint64, optional, tag = "5")]
    pub sequence: Option<u64>,
    #[prost(uint64, optional, tag = "6")]
    pub ttl: Option<u64>,
    #[prost(bytes = "vec", optional, tag = "7")]
    pub pub_key: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "8")]
    pub signature_v2: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "9")]
    pub data: Option<Vec<u8>>,
}

/// CBOR by hand, in any order that a test likes.
pub mod cbor {
    pub fn head(major: u8, argument: u64) -> Vec<u8> {
        let (info, len) = match argument {
            0..24 => return vec![major << 5 | argument as u8],
            24..0x100 => (24, 1),
            0x100..0x1_0000 => (25, 2),
            0x1_0000..0x1_0000_0000 => (26, 4),
            _ => (27, 8),
        };
        [&[major << 5 | info], &argument.to_be_bytes()[8 - len..]].concat()
    }

    pub fn uint(value: u64) -> Vec<u8> {
        head(0, value)
    }

    /// The number -1 - `value`.
    pub fn negative(value: u64) -> Vec<u8> {
        head(1, value)
    }

    pub fn bytes(value: &[u8]) -> Vec<u8> {
        [&head(2, value.len() as u64), value].concat()
    }

    pub fn text(value: &str) -> Vec<u8> {
        [&head(3, value.len() as u64), value.as_bytes()].concat()
    }

    pub fn map<'a>(fields: impl IntoIterator<Item = (&'a str, Vec<u8>)>) -> Vec<u8> {
        let fields: Vec<_> =
            fields.into_iter().map(|(field, value)| [text(field), value].concat()).collect();
        [head(5, fields.len() as u64), fields.concat()].concat()
    }
}

/// The fields of a record's data in CBOR, in the order of DAG-CBOR: the shorter name first.
#[derive(Clone)]
pub struct Fields(pub Vec<(&'static str, Vec<u8>)>);

/// The fields of a harmless record.
pub fn fields() -> Fields {
    Fields(vec![
        ("TTL", cbor::uint(300_000_000_000)),
        ("Value", cbor::bytes(VALUE)),
        ("Sequence", cbor::uint(7)),
        ("Validity", cbor::bytes(EOL)),
        ("ValidityType", cbor::uint(0)),
    ])
}

impl Fields {
    /// With this field in place of the one of its name, or in its place among the others.
    pub fn with(mut self, field: &'static str, value: Vec<u8>) -> Self {
        self.0.retain(|(name, _)| *name != field);
        self.0.push((field, value));
        self.0.sort_by_key(|(name, _)| (name.len(), *name));
        self
    }

    pub fn without(mut self, field: &str) -> Self {
        self.0.retain(|(name, _)| *name != field);
        self
    }

    pub fn encode(&self) -> Vec<u8> {
        cbor::map(self.0.clone())
    }
}

pub fn sign_v2(keypair: &Keypair, data: &[u8]) -> Vec<u8> {
    keypair.sign(&[b"ipns-signature:", data].concat()).unwrap()
}

/// A record without fields of version 1, with any data.
pub fn v2(keypair: &Keypair, data: Vec<u8>) -> Entry {
    let public_key = keypair.public().encode_protobuf();
    Entry {
        pub_key: (public_key.len() > 42).then_some(public_key),
        signature_v2: Some(sign_v2(keypair, &data)),
        data: Some(data),
        ..Entry::default()
    }
}

/// The harmless record with its fields of version 1.
pub fn v1_and_v2(keypair: &Keypair) -> Entry {
    let signed_v1 = [VALUE, EOL, b"EOL"].concat();
    Entry {
        value: Some(VALUE.to_vec()),
        signature_v1: Some(keypair.sign(&signed_v1).unwrap()),
        validity_type: Some(0),
        validity: Some(EOL.to_vec()),
        sequence: Some(7),
        ttl: Some(300_000_000_000),
        ..v2(keypair, fields().encode())
    }
}

/// The record of this sequence number and EOL.
pub fn numbered(keypair: &Keypair, sequence: u64, eol: &str) -> Vec<u8> {
    let fields = fields()
        .with("Sequence", cbor::uint(sequence))
        .with("Validity", cbor::bytes(eol.as_bytes()));
    v2(keypair, fields.encode()).encode_to_vec()
}

pub fn name(keypair: &Keypair) -> IpnsName {
    IpnsName::from(&keypair.public())
}

pub fn key(keypair: &Keypair) -> RecordKey {
    RecordKey::new([&b"/ipns/"[..], &keypair.public().to_peer_id().to_bytes()].concat())
}

/// All take it as a record of the keypair's name, whether or not it has fields of version 1.
pub fn accepted(keypair: &Keypair, value: &[u8]) -> IpnsRecord {
    let record = IpnsRecord::decode(&name(keypair), value.to_vec()).unwrap();
    assert_eq!(record.as_bytes(), value);
    let key = key(keypair);
    let validity = IpnsValidator.validate(&key, value, at(NOW)).unwrap();
    assert_eq!(validity.expires_at, Some(record.eol().expires_at()));
    assert!(!validity.keeps_publisher);
    assert_eq!(IpnsValidator.select(&key, &[b"", value]), Ok(1));

    let mut node = Node::new();
    assert_eq!(node.put(&key, value), []);
    assert_eq!(node.get(&key).as_deref(), Some(value));
    record
}

/// None take it, and it does not stand in the way of a harmless record.
pub fn refused(keypair: &Keypair, value: &[u8], fault: Fault) -> ValidationError {
    let (key, good) = (key(keypair), v1_and_v2(keypair).encode_to_vec());
    let error = IpnsValidator.validate(&key, value, at(NOW)).unwrap_err();
    assert_eq!(error.fault(), fault, "{error}");
    let decoded = IpnsRecord::decode(&name(keypair), value.to_vec());
    assert_eq!(decoded.map_err(ValidationError::from), Err(error.clone()));
    assert_eq!(IpnsValidator.select(&key, &[value, &good]), Ok(1));
    assert_eq!(IpnsValidator.select(&key, &[&good, value]), Ok(0));
    assert_eq!(IpnsValidator.select(&key, &[value]), Err(error.clone()));

    let mut node = Node::new();
    assert_eq!(node.put(&key, value), [fault]);
    assert_eq!(node.get(&key), None);
    assert_eq!(node.put(&key, &good), []);
    assert_eq!(node.put(&key, value), [fault]);
    assert_eq!(node.get(&key), Some(good));
    error
}
