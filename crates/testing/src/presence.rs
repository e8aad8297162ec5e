//! Forged presence records: mirrors of the messages of `proto/presence.proto`, and signatures over
//! any bytes.

#![expect(missing_docs, reason = "the messages and their fields are those of the schema")]

use std::time::Duration;

use curve25519_dalek::{
    edwards::EdwardsPoint,
    scalar::{Scalar, clamp_integer},
};
use libp2p_identity::{Keypair, PeerId, PublicKey};
use prost::Message;
use sha2::{Digest, Sha256, Sha512};
use smart_record_core::{Limit, LimitExceeded, RecordKey, Timestamp, ValidationError};

use crate::envelope::{bound, sign};
pub use crate::keys::{all_types, ed25519};

/// The time of all tests that do not move the clock.
pub const NOW: i64 = crate::clock::NOW.cast_signed();
/// Default lifetime of announcements.
pub const TTL: i64 = 60_000;
pub const HOUR: i64 = 3_600_000;
/// The maximum clock skew of an announcement.
pub const SKEW: i64 = 300_000;

pub const PRESENT: i32 = 0;
pub const WITHDRAWN: i32 = 1;

#[derive(Clone, PartialEq, Message)]
pub struct Record {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(int64, tag = "2")]
    pub update_date: i64,
    #[prost(string, tag = "3")]
    pub id1: String,
    #[prost(message, repeated, tag = "4")]
    pub values: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Value {
    #[prost(string, tag = "1")]
    pub id2: String,
    #[prost(int64, tag = "3")]
    pub creation_date: i64,
    #[prost(int64, tag = "4")]
    pub expiration_date: i64,
    #[prost(bytes = "vec", tag = "5")]
    pub value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Signed {
    #[prost(bytes = "vec", tag = "1")]
    pub message: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub client_signature: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub node_signature: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Announcement {
    #[prost(bytes = "vec", tag = "1")]
    pub node_identity: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub client_identity: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub handshake_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub fingerprint: Vec<u8>,
    #[prost(int64, tag = "5")]
    pub expiration_date: i64,
    #[prost(bytes = "vec", tag = "6")]
    pub presence_key: Vec<u8>,
    #[prost(int64, tag = "7")]
    pub creation_date: i64,
    #[prost(int64, optional, tag = "8")]
    pub retain_until: Option<i64>,
    #[prost(int32, tag = "9")]
    pub kind: i32,
}

pub fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis.try_into().unwrap())
}

pub fn now() -> Timestamp {
    at(NOW)
}

pub fn millis(n: i64) -> Duration {
    Duration::from_millis(n.try_into().unwrap())
}

/// The client of all announcements.
pub fn client() -> Keypair {
    ed25519(200)
}

/// Another client.
pub fn mallory() -> Keypair {
    ed25519(201)
}

/// The node of this number.
pub fn node(n: u8) -> Keypair {
    ed25519(n)
}

pub fn id(keypair: &Keypair) -> PeerId {
    keypair.public().to_peer_id()
}

/// The key of a client, as text.
pub fn path_of(client: &Keypair) -> String {
    format!("/presence/{}/", id(client))
}

pub fn key() -> RecordKey {
    RecordKey::new(path_of(&client()))
}

pub const BY_CLIENT: &str = "/libp2p-presence/announcement/client";
pub const BY_NODE: &str = "/libp2p-presence/announcement/node";
pub const WITHDRAWAL: &str = "/libp2p-presence/withdrawal";

/// An Ed25519 signature by the key of this seed, with a chosen nonce.
fn sign_with_nonce(seed: u8, message: &[u8], nonce: u64) -> Vec<u8> {
    let secret: [u8; 32] = Sha512::digest([seed; 32])[..32].try_into().unwrap();
    let secret = Scalar::from_bytes_mod_order(clamp_integer(secret));
    let public = EdwardsPoint::mul_base(&secret).compress();
    let nonce = Scalar::from(nonce);
    let commitment = EdwardsPoint::mul_base(&nonce).compress();
    let challenge = Sha512::new()
        .chain_update(commitment.as_bytes())
        .chain_update(public.as_bytes())
        .chain_update(message)
        .finalize();
    let challenge = Scalar::from_bytes_mod_order_wide(&challenge.into());
    let response = nonce + challenge * secret;
    [*commitment.as_bytes(), *response.as_bytes()].concat()
}

/// An announcement with all inputs of its signatures, each of which a test may replace.
#[derive(Clone, Debug)]
pub struct Draft {
    pub message: Announcement,
    /// The key that the signatures bind.
    pub key: String,
    /// The client's signing key and payload type.
    pub by_client: Option<(Keypair, &'static str)>,
    pub by_node: Option<(Keypair, &'static str)>,
    pub domain: &'static str,
}

impl Draft {
    /// A valid announcement of a client at a node, made now.
    pub fn of(client: &Keypair, node: &Keypair) -> Self {
        let node_identity = node.public().encode_protobuf();
        Self {
            message: Announcement {
                fingerprint: Sha256::digest(&node_identity).to_vec(),
                node_identity,
                client_identity: client.public().encode_protobuf(),
                handshake_key: vec![8; 32],
                presence_key: vec![9; 32],
                creation_date: NOW,
                expiration_date: NOW + TTL,
                retain_until: None,
                kind: PRESENT,
            },
            key: path_of(client),
            by_client: Some((client.clone(), BY_CLIENT)),
            by_node: Some((node.clone(), BY_NODE)),
            domain: "libp2p-presence",
        }
    }

    /// A valid announcement of the client at the node of this number.
    pub fn at(n: u8) -> Self {
        Self::of(&client(), &node(n))
    }

    /// The client's withdrawal from the node of this number.
    pub fn withdrawn(n: u8) -> Self {
        Self::at(n)
            .with(|m| {
                m.kind = WITHDRAWN;
                m.handshake_key.clear();
                m.presence_key.clear();
            })
            .signed_by(Some((client(), WITHDRAWAL)), None)
    }

    pub fn with(mut self, change: impl FnOnce(&mut Announcement)) -> Self {
        change(&mut self.message);
        self
    }

    /// Moves creation and expiry by this many milliseconds.
    pub fn made(self, offset: i64) -> Self {
        self.with(|m| {
            m.creation_date += offset;
            m.expiration_date += offset;
        })
    }

    pub fn living(self, ttl: i64) -> Self {
        self.with(|m| m.expiration_date = m.creation_date + ttl)
    }

    pub fn under(mut self, key: &str) -> Self {
        self.key = key.to_owned();
        self
    }

    pub fn signed_by(
        mut self,
        client: Option<(Keypair, &'static str)>,
        node: Option<(Keypair, &'static str)>,
    ) -> Self {
        (self.by_client, self.by_node) = (client, node);
        self
    }

    /// Signed by the client with another nonce, which gives another valid signature.
    pub fn signed_again(&self, client_seed: u8) -> Signed {
        let payload_type = if self.message.kind == WITHDRAWN { WITHDRAWAL } else { BY_CLIENT };
        let body = self.message.encode_to_vec();
        let message = bound(self.domain, payload_type, self.key.as_bytes(), &body);
        Signed { client_signature: sign_with_nonce(client_seed, &message, 7), ..self.signed() }
    }

    pub fn signed(&self) -> Signed {
        let message = self.message.encode_to_vec();
        let sign = |by: &Option<(Keypair, &str)>| match by {
            Some((by, payload_type)) => {
                sign(by, self.domain, payload_type, self.key.as_bytes(), &message)
            }
            None => Vec::new(),
        };
        Signed {
            client_signature: sign(&self.by_client),
            node_signature: sign(&self.by_node),
            message,
        }
    }

    /// A value of a record with valid fields.
    pub fn value(&self) -> Value {
        self.value_of(self.signed().encode_to_vec())
    }

    /// As [`Draft::value`], with other bytes instead of the signed announcement.
    pub fn value_of(&self, value: Vec<u8>) -> Value {
        let node = PublicKey::try_decode_protobuf(&self.message.node_identity)
            .map(|key| key.to_peer_id().to_string())
            .unwrap_or_default();
        Value {
            id2: format!("{}{node}", self.key),
            creation_date: self.message.creation_date,
            expiration_date: self.message.expiration_date,
            value,
        }
    }

    pub fn record(&self) -> Record {
        record([self.value()])
    }

    pub fn encode(&self) -> Vec<u8> {
        self.record().encode_to_vec()
    }
}

/// A record of the client with valid fields.
pub fn record(values: impl IntoIterator<Item = Value>) -> Record {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(|a, b| a.id2.cmp(&b.id2));
    Record {
        key: path_of(&client()),
        update_date: values.iter().map(|v| v.creation_date).max().unwrap_or_default(),
        id1: id(&client()).to_string(),
        values,
    }
}

pub fn records(drafts: &[Draft]) -> Vec<u8> {
    record(drafts.iter().map(Draft::value)).encode_to_vec()
}

/// Asserts that the error contains these words.
pub fn says(error: &ValidationError, words: &str) {
    assert!(error.to_string().contains(words), "{error}");
}

/// Asserts that the error is that of this limit.
pub fn exceeded(error: &ValidationError, limit: Limit) {
    assert!(
        matches!(error, ValidationError::LimitExceeded(LimitExceeded { limit: l, .. }) if *l == limit),
        "{error}"
    );
}
