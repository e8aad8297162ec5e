//! Signed records: one value under one key, signed by its author. The record with the highest
//! sequence wins.
//!
//! * [`UnsignedRecord`]: the content of a record before it is signed.
//! * [`SignedRecord`]: a record with a verified signature, which can be sent.
//! * [`SignedRecordLimits`]: the maximum sizes and the maximum clock skew.
//! * [`SignedRecordValidator`]: the validator of a namespace: its limits, writers and content
//!   checks.
//! * `RecordManager` of `libp2p-smart-record`: puts and gets signed records.
//!
//! For many writers under one key, use [`SmartRecord`](smart_record_core::SmartRecord)s: a signed
//! record of one author replaces that of another wherever the policy admits both.
//!
//! **Invariants.** Holding a [`SignedRecord`] means that its bytes are canonical and that its
//! signature is the author's for this key, value, sequence and expiry. The order of records,
//! [`Rank`], is total and the same on every node.
//!
//! **Spec.** `proto/signed_record.proto`; the envelope is that of
//! [RFC 0002](https://github.com/libp2p/specs/blob/master/RFC/0002-signed-envelopes.md).

mod limits;
mod rank;
mod validator;

use bytes::Bytes;
use libp2p_identity::{Keypair, PeerId};
use prost::Message;

pub use self::validator::SignedRecordValidator;
pub use self::{limits::SignedRecordLimits, rank::Rank};
use crate::proto::signed_record as proto;
use smart_record_core::{
    BadSignature, LimitExceeded, Malformed, ProtobufError, RecordKey, Timestamp, ValidationError,
    Writer, WriterError, check_signature_len, envelope_bytes,
};

/// The domain of the signatures, as defined by RFC 0002.
pub const SIGNATURE_DOMAIN: &str = "libp2p-signed-record";
/// The payload type of a signed record, as defined by RFC 0002.
pub const SIGNATURE_PAYLOAD_TYPE: &[u8] = b"/libp2p-signed-record/record";

/// The content of a record before it is signed.
///
/// ```
/// use libp2p_identity::Keypair;
/// use smart_record_formats::signed::{SignedRecord, SignedRecordLimits, UnsignedRecord};
///
/// let limits = SignedRecordLimits::default();
/// let keypair = Keypair::generate_ed25519();
/// let record = UnsignedRecord::new("/notes/a", "hello", 1).sign(&keypair, &limits)?;
///
/// let received = SignedRecord::decode(record.encode(), &limits)?;
/// assert_eq!(received.value(), b"hello");
/// assert_eq!(received.author(), keypair.public().to_peer_id());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it says nothing to anyone until it is signed"]
pub struct UnsignedRecord {
    /// The key in the DHT.
    pub key: RecordKey,
    /// The value.
    pub value: Bytes,
    /// The sequence: the highest wins. A `RecordManager` uses Unix microseconds and never
    /// decreases it. Any other numbering works if it stays below that: see
    /// [`SignedRecordLimits::max_clock_skew`].
    pub sequence: u64,
    /// When the record expires; `None` if it has no expiry.
    pub expires_at: Option<Timestamp>,
}

impl UnsignedRecord {
    /// Creates a record without an expiry.
    pub fn new(key: impl Into<RecordKey>, value: impl Into<Bytes>, sequence: u64) -> Self {
        Self { key: key.into(), value: value.into(), sequence, expires_at: None }
    }

    /// Sets the expiry.
    pub const fn until(mut self, expires_at: Timestamp) -> Self {
        self.expires_at = Some(expires_at);
        self
    }

    /// Signs the record with a libp2p key of any type.
    ///
    /// # Errors
    /// [`SignRecordError`] if the record exceeds `limits`, so replicas would refuse it, or the key
    /// cannot sign.
    pub fn sign(
        self,
        keypair: &Keypair,
        limits: &SignedRecordLimits,
    ) -> Result<SignedRecord, SignRecordError> {
        let author = Writer::from(&keypair.public());
        limits.check_parts(&self.key, self.value.len())?;
        let payload = Bytes::from(self.encode());
        let signature = keypair
            .sign(&envelope_bytes(SIGNATURE_DOMAIN, SIGNATURE_PAYLOAD_TYPE, &[&payload]))
            .map_err(|e| SignRecordError::Key(e.to_string()))?;
        let envelope = proto::Envelope {
            public_key: author.to_bytes(),
            payload_type: Bytes::from_static(SIGNATURE_PAYLOAD_TYPE),
            payload,
            signature: signature.into(),
        };
        let bytes = Bytes::from(envelope.encode_to_vec());
        Ok(SignedRecord::new(self, author, envelope, bytes))
    }

    /// The canonical bytes of the payload.
    fn encode(&self) -> Vec<u8> {
        proto::Record {
            key: Bytes::copy_from_slice(self.key.as_bytes()),
            value: self.value.clone(),
            sequence: self.sequence,
            expires_at: self.expires_at.map(Timestamp::as_millis),
        }
        .encode_to_vec()
    }
}

/// Why a record cannot be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignRecordError {
    /// The record exceeds the limits, so replicas would refuse it.
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
    /// The key cannot sign.
    #[error("the key cannot sign: {0}")]
    Key(String),
}

/// A record with a verified signature.
///
/// Two records are equal if their bytes are. [`received_at`](Self::received_at) does not count.
#[derive(Clone, Debug)]
pub struct SignedRecord {
    content: UnsignedRecord,
    author: Writer,
    rank: Rank,
    bytes: Bytes,
    received_at: Option<Timestamp>,
}

impl SignedRecord {
    /// Decodes a record and checks everything that does not depend on the time.
    ///
    /// # Errors
    /// [`SignedRecordError`].
    pub fn decode(
        bytes: impl Into<Bytes>,
        limits: &SignedRecordLimits,
    ) -> Result<Self, SignedRecordError> {
        UnverifiedSignedRecord::decode(bytes.into(), limits)?.verify()
    }

    fn new(
        content: UnsignedRecord,
        author: Writer,
        envelope: proto::Envelope,
        bytes: Bytes,
    ) -> Self {
        let rank = Rank::new(content.sequence, envelope);
        Self { content, author, rank, bytes, received_at: None }
    }

    /// The canonical bytes: an envelope of RFC 0002.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The canonical bytes: an envelope of RFC 0002.
    pub fn encode(&self) -> Bytes {
        self.bytes.clone()
    }

    /// The key in the DHT.
    pub const fn key(&self) -> &RecordKey {
        &self.content.key
    }

    /// The value.
    pub fn value(&self) -> &[u8] {
        &self.content.value
    }

    /// The peer that signed it.
    pub fn author(&self) -> PeerId {
        self.author.peer_id()
    }

    /// The public key of the author.
    pub const fn public_key(&self) -> &Writer {
        &self.author
    }

    /// The sequence: the highest wins.
    pub const fn sequence(&self) -> u64 {
        self.content.sequence
    }

    /// When the record expires; `None` if it has no expiry.
    pub const fn expires_at(&self) -> Option<Timestamp> {
        self.content.expires_at
    }

    /// The rank among the records of the key: the greatest is the best.
    pub const fn rank(&self) -> &Rank {
        &self.rank
    }

    /// When this node first received the record, if the source of the record noted it. It is
    /// neither signed nor sent.
    pub const fn received_at(&self) -> Option<Timestamp> {
        self.received_at
    }

    /// Sets the time of receipt.
    #[must_use]
    pub const fn with_received_at(mut self, at: Timestamp) -> Self {
        self.received_at = Some(at);
        self
    }

    /// The content without the signature, for example to sign a successor.
    pub const fn content(&self) -> &UnsignedRecord {
        &self.content
    }
}

impl PartialEq for SignedRecord {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for SignedRecord {}

/// Why bytes are not a signed record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignedRecordError {
    /// The record, or a part of it, is too large.
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
    /// The bytes are not an `Envelope` with a `Record` in it.
    #[error("not a protobuf message of a signed record: {0}")]
    Protobuf(ProtobufError),
    /// The bytes are not the canonical encoding.
    #[error("not the canonical encoding of a signed record")]
    NotCanonical,
    /// The envelope has another payload type.
    #[error("the signed envelope does not contain a record")]
    PayloadType,
    /// The public key is invalid.
    #[error(transparent)]
    Author(#[from] WriterError),
    /// The signature is not the author's.
    #[error("the signature is not the author's for this record")]
    Signature(#[from] BadSignature),
}

impl From<ProtobufError> for SignedRecordError {
    fn from(error: ProtobufError) -> Self {
        Self::Protobuf(error)
    }
}

impl From<SignedRecordError> for ValidationError {
    fn from(error: SignedRecordError) -> Self {
        match error {
            SignedRecordError::Limit(limit) => limit.into(),
            SignedRecordError::Author(error) => error.into(),
            SignedRecordError::Signature(_) => Self::Invalid(error.to_string()),
            error => Malformed::other(error).into(),
        }
    }
}

/// A record whose form has been checked, but not yet its signature.
#[derive(Clone, Debug)]
pub(crate) struct UnverifiedSignedRecord {
    record: SignedRecord,
    payload: Bytes,
    signature: Bytes,
}

impl UnverifiedSignedRecord {
    /// Checks everything but the signature.
    pub(crate) fn decode(
        bytes: Bytes,
        limits: &SignedRecordLimits,
    ) -> Result<Self, SignedRecordError> {
        limits.check_envelope(bytes.len())?;
        let envelope = proto::Envelope::decode(bytes.clone()).map_err(ProtobufError::new)?;
        if envelope.payload_type != SIGNATURE_PAYLOAD_TYPE {
            return Err(SignedRecordError::PayloadType);
        }
        let wire = proto::Record::decode(envelope.payload.clone()).map_err(ProtobufError::new)?;
        if wire.encode_to_vec() != envelope.payload || envelope.encode_to_vec() != bytes {
            return Err(SignedRecordError::NotCanonical);
        }
        check_signature_len(&envelope.signature)?;
        let content = UnsignedRecord {
            key: RecordKey::new(wire.key),
            value: wire.value,
            sequence: wire.sequence,
            expires_at: wire.expires_at.map(Timestamp::from_millis),
        };
        limits.check_parts(&content.key, content.value.len())?;
        let author = Writer::decode(envelope.public_key.clone())?;
        let (payload, signature) = (envelope.payload.clone(), envelope.signature.clone());
        Ok(Self { record: SignedRecord::new(content, author, envelope, bytes), payload, signature })
    }

    /// The record, with the signature not verified yet.
    pub(crate) const fn claim(&self) -> &SignedRecord {
        &self.record
    }

    pub(crate) fn verify(self) -> Result<SignedRecord, SignedRecordError> {
        let message = envelope_bytes(SIGNATURE_DOMAIN, SIGNATURE_PAYLOAD_TYPE, &[&self.payload]);
        self.record.author.verify_bytes(&message, &self.signature)?;
        Ok(self.record)
    }
}
