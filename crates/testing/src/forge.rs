//! Forged smart records: mirrors of the messages of `proto/smart_record.proto`, and signatures over
//! any bytes.

#![expect(missing_docs, reason = "the messages and their fields are those of the schema")]

use libp2p_identity::{Keypair, PeerId};
use prost::{
    Message,
    encoding::{WireType, encode_key},
};
use smart_record_core::{
    Limits, RecordKey, SignedUpdate as Signed, SmartRecord, SpaceRules, Timestamp, ValidationError,
    Writer,
};

pub use crate::{
    clock::{NOW, at},
    envelope::{field, varint},
};
use crate::{envelope::bound, keys};

/// Key of the attacked record.
pub const KEY: &str = "/sr/rooms/lobby";
/// Default lifetime of updates.
pub const TTL: u64 = 60_000;

pub const MERGE: i32 = 0;
pub const REPLACE: i32 = 1;

#[derive(Clone, PartialEq, Message)]
pub struct Record {
    #[prost(message, repeated, tag = "1")]
    pub spaces: Vec<Space>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Space {
    #[prost(bytes = "vec", tag = "1")]
    pub public_key: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    pub updates: Vec<SignedUpdate>,
}

#[derive(Clone, PartialEq, Message)]
pub struct SignedUpdate {
    #[prost(bytes = "vec", tag = "1")]
    pub update: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub signature: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Update {
    #[prost(uint64, tag = "1")]
    pub seq: u64,
    #[prost(uint64, tag = "2")]
    pub expires_at: u64,
    #[prost(uint64, optional, tag = "3")]
    pub retain_until: Option<u64>,
    #[prost(int32, tag = "4")]
    pub kind: i32,
    #[prost(bytes = "vec", tag = "5")]
    pub document: Vec<u8>,
}

/// The envelope of RFC 0002.
#[derive(Clone, PartialEq, Message)]
pub struct Envelope {
    #[prost(bytes = "vec", tag = "1")]
    pub public_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub payload_type: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub payload: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    pub signature: Vec<u8>,
}

/// A public key of libp2p. Encoded by hand where its form matters.
#[derive(Clone, PartialEq, Message)]
pub struct PublicKey {
    #[prost(int32, required, tag = "1")]
    pub r#type: i32,
    #[prost(bytes = "vec", required, tag = "2")]
    pub data: Vec<u8>,
}

/// Encoded nodes.
pub mod node {
    use super::{WireType, encode_key, field, varint};

    pub fn int(value: i64) -> Vec<u8> {
        varint(3, ((value << 1) ^ (value >> 63)) as u64)
    }

    pub fn float(value: f64) -> Vec<u8> {
        let mut out = Vec::new();
        encode_key(4, WireType::SixtyFourBit, &mut out);
        out.extend_from_slice(&value.to_le_bytes());
        out
    }

    pub fn text(value: &str) -> Vec<u8> {
        field(5, value.as_bytes())
    }

    pub fn list(elements: &[Vec<u8>]) -> Vec<u8> {
        let elements: Vec<_> = elements.iter().map(|e| field(1, e)).collect();
        field(8, &elements.concat())
    }

    /// The message `Dict`, which is also a whole document.
    pub fn document(pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(key, value)| field(1, &[field(1, key), field(2, value)].concat()))
            .collect();
        pairs.concat()
    }

    pub fn dict(pairs: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        field(9, &document(pairs))
    }

    /// A document `{"k": value}`.
    pub fn just(value: Vec<u8>) -> Vec<u8> {
        document(&[(text("k"), value)])
    }
}

impl Update {
    /// A harmless update: `{"k": value}`, issued now, for a minute.
    pub fn saying(value: i64) -> Self {
        Self::of(node::just(node::int(value)))
    }

    pub fn of(document: Vec<u8>) -> Self {
        Self { seq: NOW * 1_000, expires_at: NOW + TTL, retain_until: None, kind: MERGE, document }
    }

    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self::decode(bytes).unwrap()
    }

    /// Issued `n` microseconds later.
    pub fn after(mut self, n: u64) -> Self {
        self.seq += n;
        self
    }

    pub fn replacing(mut self) -> Self {
        self.kind = REPLACE;
        self
    }

    /// An update of exactly this many bytes.
    pub fn of_len(len: usize) -> Self {
        (0..len)
            .rev()
            .map(|n| Self::of(node::just(node::text(&"x".repeat(n)))))
            .find(|update| update.encoded_len() <= len)
            .filter(|update| update.encoded_len() == len)
            .unwrap()
    }
}

/// The bytes that a writer signs.
pub fn message(key: &RecordKey, update: &[u8]) -> Vec<u8> {
    bound("libp2p-smart-record", "/libp2p-smart-record/update", key.as_bytes(), update)
}

/// A writer with a fixed key, so that every run is the same.
#[derive(Clone, Debug)]
pub struct Author(pub Keypair);

impl Author {
    pub fn ed25519(seed: u64) -> Self {
        Self(keys::keypair(seed))
    }

    pub fn secp256k1() -> Self {
        Self(keys::secp256k1())
    }

    pub fn ecdsa() -> Self {
        Self(keys::ecdsa())
    }

    pub fn rsa() -> Self {
        Self(keys::rsa())
    }

    /// One of each key type.
    pub fn all_types() -> [Self; 4] {
        [Self::ed25519(1), Self::secp256k1(), Self::ecdsa(), Self::rsa()]
    }

    pub fn public_key(&self) -> Vec<u8> {
        self.0.public().encode_protobuf()
    }

    pub fn writer(&self) -> Writer {
        Writer::from(&self.0.public())
    }

    pub fn peer_id(&self) -> PeerId {
        self.0.public().to_peer_id()
    }

    pub fn sign(&self, update: &Update) -> SignedUpdate {
        self.sign_under(KEY, update)
    }

    pub fn sign_under(&self, key: impl Into<Vec<u8>>, update: &Update) -> SignedUpdate {
        self.sign_bytes(&RecordKey::new(key), update.encode_to_vec())
    }

    pub fn sign_bytes(&self, key: &RecordKey, update: Vec<u8>) -> SignedUpdate {
        let signature = self.0.sign(&message(key, &update)).unwrap();
        SignedUpdate { update, signature }
    }

    pub fn space<const N: usize>(&self, updates: [SignedUpdate; N]) -> Space {
        self.space_of(updates.to_vec())
    }

    pub fn space_of(&self, updates: Vec<SignedUpdate>) -> Space {
        Space { public_key: self.public_key(), updates }
    }

    /// The space with one signed update.
    pub fn says(&self, update: &Update) -> Space {
        self.space([self.sign(update)])
    }
}

/// The owner of the attacked space.
pub fn alice() -> Author {
    Author::ed25519(1)
}

/// The attacker.
pub fn mallory() -> Author {
    Author::ed25519(666)
}

/// A good space beside the attacked one.
pub fn neighbour() -> (Author, Space) {
    let bob = Author::ed25519(2);
    let space = bob.says(&Update::saying(2));
    (bob, space)
}

pub fn encode(spaces: impl IntoIterator<Item = Space>) -> Vec<u8> {
    let spaces = spaces.into_iter().collect();
    Record { spaces }.encode_to_vec()
}

/// A value of 16 updates, whose bad P-256 signatures take 5 ms to verify.
pub fn dear() -> Vec<u8> {
    let author = Author::ecdsa();
    let updates = (0..16).map(|n: i64| {
        let mut update = author.sign(&Update::saying(n).after(n.unsigned_abs()));
        if let Some(last) = update.signature.last_mut() {
            *last ^= 1;
        }
        update
    });
    encode([author.space_of(updates.collect())])
}

pub fn key() -> RecordKey {
    RecordKey::new(KEY)
}

pub fn validate(spaces: impl IntoIterator<Item = Space>) -> Result<Timestamp, ValidationError> {
    let value = encode(spaces);
    let record = SpaceRules::default().validate(&key(), &value, at(NOW))?;
    Ok(record.retain_until().unwrap())
}

pub fn consolidate(values: &[&[u8]]) -> Result<Vec<u8>, ValidationError> {
    SpaceRules::default().consolidate(&key(), values)
}

/// A record, decoded by the code under test.
pub fn read(value: &[u8]) -> SmartRecord {
    SmartRecord::decode(&key(), value.to_vec(), &Limits::default()).unwrap()
}

/// An update, decoded by the code under test.
pub fn signed(author: &Author, wire: &SignedUpdate) -> Signed {
    Signed::decode(
        &key(),
        &author.writer(),
        wire.update.clone().into(),
        wire.signature.clone().into(),
        &Limits::default(),
    )
    .unwrap()
}
