//! Signed records: one value under one key, signed by its author; the highest sequence wins.
//!
//! * [`UnsignedRecord`]: what an author wants to say; it cannot be sent.
//! * [`SignedRecord`]: what was signed; it can.
//! * [`SignedRecordLimits`]: how large, and how far ahead.
//! * [`SignedRecordValidator`]: who may write what under the keys of a namespace.
//! * `RecordManager` of `libp2p-smart-record`: puts and gets them.
//!
//! For many writers under one key, use [`SmartRecord`](smart_record_core::SmartRecord)s: here a record of one author takes
//! the place of another's wherever the policy admits both.
//!
//! **Invariants.** Holding a [`SignedRecord`] means that its bytes are canonical and that its signature is the
//! author's for this key, value, sequence and expiry. Its order, [`Rank`], is total and the same everywhere.
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

/// The domain of the signatures, as RFC 0002 separates them.
pub const SIGNATURE_DOMAIN: &str = "libp2p-signed-record";
/// The payload type of a signed record, as RFC 0002 means it.
pub const SIGNATURE_PAYLOAD_TYPE: &[u8] = b"/libp2p-signed-record/record";

/// What an author wants to say under a key, not signed yet.
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
    /// Under which it shall stand.
    pub key: RecordKey,
    /// What it says.
    pub value: Bytes,
    /// The highest wins. A `RecordManager` counts Unix microseconds, but never
    /// backwards; any other count will do that stays below that, see
    /// [`SignedRecordLimits::max_clock_skew`].
    pub sequence: u64,
    /// When it expires; `None` if it does not say.
    pub expires_at: Option<Timestamp>,
}

impl UnsignedRecord {
    /// A record that does not say when it expires.
    pub fn new(key: impl Into<RecordKey>, value: impl Into<Bytes>, sequence: u64) -> Self {
        Self { key: key.into(), value: value.into(), sequence, expires_at: None }
    }

    /// Lets it expire at an instant.
    pub const fn until(mut self, expires_at: Timestamp) -> Self {
        self.expires_at = Some(expires_at);
        self
    }

    /// Signs the record. Any libp2p key will do.
    ///
    /// # Errors
    /// [`SignRecordError`] if the record is not within `limits`, so that replicas would refuse it, or the key
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
    /// Replicas would refuse it.
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
    /// The key cannot sign.
    #[error("the key cannot sign: {0}")]
    Key(String),
}

/// A record that its author signed.
///
/// Two are equal when all that was sent of them is, whenever they were received.
#[derive(Clone, Debug)]
pub struct SignedRecord {
    content: UnsignedRecord,
    author: Writer,
    rank: Rank,
    bytes: Bytes,
    received_at: Option<Timestamp>,
}

impl SignedRecord {
    /// Reads a record and checks everything about it that does not depend on the time.
    ///
    /// # Errors
    /// [`SignedRecordError`].
    pub fn decode(
        bytes: impl Into<Bytes>,
        limits: &SignedRecordLimits,
    ) -> Result<Self, SignedRecordError> {
        UnverifiedRecord::decode(bytes.into(), limits)?.verify()
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

    /// The canonical wire form: an envelope of RFC 0002.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The canonical wire form: an envelope of RFC 0002.
    pub fn encode(&self) -> Bytes {
        self.bytes.clone()
    }

    /// The key under which it stands.
    pub const fn key(&self) -> &RecordKey {
        &self.content.key
    }

    /// What it says.
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

    /// The highest wins.
    pub const fn sequence(&self) -> u64 {
        self.content.sequence
    }

    /// When it expires; `None` if it does not say.
    pub const fn expires_at(&self) -> Option<Timestamp> {
        self.content.expires_at
    }

    /// Where it stands among the records of its key: the greatest is the best.
    pub const fn rank(&self) -> &Rank {
        &self.rank
    }

    /// When it was received here first, if whoever handed it out took note. Nobody has signed that, and it
    /// is not sent.
    pub const fn received_at(&self) -> Option<Timestamp> {
        self.received_at
    }

    /// Takes note of when the record was received.
    #[must_use]
    pub const fn with_received_at(mut self, at: Timestamp) -> Self {
        self.received_at = Some(at);
        self
    }

    /// The record without the signature, for one to be signed after it.
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
    /// Something in it is too large.
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
    /// The bytes are not an `Envelope` with a `Record` in it.
    #[error("not a protobuf message of a signed record: {0}")]
    Protobuf(#[from] ProtobufError),
    /// The bytes are not the canonical encoding.
    #[error("not the canonical encoding of a signed record")]
    NotCanonical,
    /// It is a signed envelope of something else.
    #[error("a signed envelope of something else than a record")]
    PayloadType,
    /// The public key is not one.
    #[error(transparent)]
    Author(#[from] WriterError),
    /// The signature is not the author's.
    #[error("the signature is not the author's for this record")]
    Signature(#[from] BadSignature),
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
pub(crate) struct UnverifiedRecord {
    record: SignedRecord,
    payload: Bytes,
    signature: Bytes,
}

impl UnverifiedRecord {
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

    /// What it claims to be.
    pub(crate) const fn claim(&self) -> &SignedRecord {
        &self.record
    }

    pub(crate) fn verify(self) -> Result<SignedRecord, SignedRecordError> {
        let message = envelope_bytes(SIGNATURE_DOMAIN, SIGNATURE_PAYLOAD_TYPE, &[&self.payload]);
        self.record.author.verify_bytes(&message, &self.signature)?;
        Ok(self.record)
    }
}
