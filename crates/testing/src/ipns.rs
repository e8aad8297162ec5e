//! Forged IPNS records: the message and the encoding of its data are written anew from the
//! specification.

#![expect(missing_docs, reason = "the message and its fields are those of the specification")]

use libp2p_identity::Keypair;
use prost::Message;
use smart_record_core::RecordKey;

use crate::clock::NOW;

pub const PATH: &str = "/ipfs/bafkqaddimvwgy3zao5xxe3debi";
pub const VALUE: &[u8] = PATH.as_bytes();
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

/// CBOR with fields in any order.
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
#[derive(Clone, Debug)]
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
    /// Sets a field, in its place among the others.
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

/// A record of these fields, without fields of version 1.
pub fn record(keypair: &Keypair, fields: &Fields) -> Vec<u8> {
    v2(keypair, fields.encode()).encode_to_vec()
}

/// The record with this sequence number and EOL.
pub fn numbered(keypair: &Keypair, sequence: u64, eol: &str) -> Vec<u8> {
    let fields = fields()
        .with("Sequence", cbor::uint(sequence))
        .with("Validity", cbor::bytes(eol.as_bytes()));
    record(keypair, &fields)
}

pub fn key(keypair: &Keypair) -> RecordKey {
    RecordKey::new([&b"/ipns/"[..], &keypair.public().to_peer_id().to_bytes()].concat())
}
