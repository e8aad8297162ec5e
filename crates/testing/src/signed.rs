//! Forged signed records, encoded by hand from `proto/signed_record.proto` and RFC 0002.

use smart_record_core::RecordKey;

use crate::{
    envelope::{envelope, field, varint},
    forge::Author,
};

/// The key under which most tests write.
pub const KEY: &str = "/notes/a";
/// The domain of the envelopes.
pub const DOMAIN: &[u8] = b"libp2p-signed-record";
/// The type of their payloads.
pub const PAYLOAD_TYPE: &[u8] = b"/libp2p-signed-record/record";

/// [`KEY`] as a key.
pub fn key() -> RecordKey {
    RecordKey::new(KEY)
}

/// The payload of a record that never expires.
pub fn payload(key: &[u8], value: &[u8], sequence: u64) -> Vec<u8> {
    [field(1, key), field(2, value), varint(3, sequence)].concat()
}

/// A record with any content.
#[derive(Clone, Debug)]
pub struct Forgery {
    /// The encoded payload.
    pub payload: Vec<u8>,
    /// The author's public key.
    pub public_key: Vec<u8>,
    /// The payload type of the envelope.
    pub payload_type: Vec<u8>,
    /// The signature of the envelope.
    pub signature: Vec<u8>,
}

impl Forgery {
    /// A valid envelope of this payload.
    pub fn by(author: &Author, payload: Vec<u8>) -> Self {
        let signature = author.0.sign(&envelope(DOMAIN, PAYLOAD_TYPE, &payload)).unwrap();
        let public_key = author.public_key();
        Self { payload, public_key, payload_type: PAYLOAD_TYPE.to_vec(), signature }
    }

    /// A record "evil" with a sequence above the honest one.
    pub fn saying(author: &Author) -> Self {
        Self::by(author, payload(KEY.as_bytes(), b"evil", 10))
    }

    /// The envelope.
    pub fn encode(&self) -> Vec<u8> {
        [
            field(1, &self.public_key),
            field(2, &self.payload_type),
            field(3, &self.payload),
            field(5, &self.signature),
        ]
        .concat()
    }
}
