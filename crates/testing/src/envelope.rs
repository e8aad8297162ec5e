//! The signed bytes of libp2p envelopes, as RFC 0002 states them, and an encoder of protobuf
//! fields.

use libp2p_identity::Keypair;
use prost::encoding::{WireType, encode_key, encode_varint};

/// An encoded field of bytes.
pub fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_key(number, WireType::LengthDelimited, &mut out);
    out.extend(framed(bytes));
    out
}

/// An encoded field of a number.
pub fn varint(number: u32, value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    encode_key(number, WireType::Varint, &mut out);
    encode_varint(value, &mut out);
    out
}

/// Bytes with their length as prefix.
pub fn framed(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode_varint(bytes.len() as u64, &mut out);
    out.extend_from_slice(bytes);
    out
}

/// The signed bytes of a payload.
pub fn envelope(domain: &[u8], payload_type: &[u8], payload: &[u8]) -> Vec<u8> {
    [domain, payload_type, payload].map(framed).concat()
}

/// The signed bytes of a body that is bound to a key.
pub fn bound(domain: &str, payload_type: &str, key: &[u8], body: &[u8]) -> Vec<u8> {
    envelope(domain.as_bytes(), payload_type.as_bytes(), &[&framed(key), body].concat())
}

/// The signature of a body that is bound to a key.
pub fn sign(
    keypair: &Keypair,
    domain: &str,
    payload_type: &str,
    key: &[u8],
    body: &[u8],
) -> Vec<u8> {
    keypair.sign(&bound(domain, payload_type, key, body)).unwrap()
}
