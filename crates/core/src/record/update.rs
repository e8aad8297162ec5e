//! Updates: the signed writes in a space.
//!
//! **Invariants.** The bytes of a [`SignedUpdate`] are canonical, its document is within the limits
//! of its decoding, and its writer signed it for the key of its decoding.
//! [`Space::decode_trusted`](super::Space::decode_trusted) does not check this again. The bytes are
//! kept verbatim, extension fields included.
//!
//! **Spec.** `docs/wire.md`, sections "Updates" and "Extension fields"; `proto/smart_record.proto`,
//! message `Update`; `docs/design.md`, section "Update".

use std::cmp::Ordering;

use bytes::Bytes;
use libp2p_identity::Keypair;
use prost::Message;
use sha2::{Digest, Sha256};

use super::{
    extensions::{ExtensionError, Extensions},
    limits::{Limit, LimitExceeded, Limits, ZeroLifetime},
    seq::{Position, Seq},
    stamp::work_of,
    writer::{BadSignature, Writer, check_signature_len, signed_bytes},
};
use crate::{
    key::RecordKey,
    node::{Dict, DocumentLimits, NodeError, codec},
    proto::smart_record as proto,
    protobuf::ProtobufError,
    time::Timestamp,
};

/// How an update changes the space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UpdateKind {
    /// The document merges into the content of the older updates.
    Merge,
    /// The document replaces the content of all older updates. An empty document withdraws them.
    Replace,
}

/// A write to a space before it is signed.
///
/// Most applications use a [`SpaceSigner`](super::SpaceSigner), which sets `seq` and `retain_until`
/// correctly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The writer's clock.
    pub seq: Seq,
    /// When the document expires. A node may have an earlier time of its own.
    pub expires_at: Timestamp,
    /// Until when replicas keep the update; not before `expires_at`. It must never decrease within
    /// a space; otherwise overwritten content may come back.
    pub retain_until: Timestamp,
    /// Merge or replace.
    pub kind: UpdateKind,
    /// The document.
    pub document: Dict,
    /// A [`Stamp`](super::Stamp), and fields for later versions, signed and sent with the rest.
    /// Usually empty.
    pub extensions: Extensions,
}

/// Why bytes are not an admissible update of the writer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// The update is too large, too long-lived or too far in the future.
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
    /// The bytes are not an `Update` message.
    #[error("not a protobuf message of an update: {0}")]
    Protobuf(ProtobufError),
    /// The bytes are not the canonical encoding.
    #[error("not the canonical encoding of an update")]
    NotCanonical,
    /// A kind of update that this version does not know.
    #[error("unknown kind of update {0}")]
    UnknownKind(i32),
    /// `retain_until` is before `expires_at`.
    #[error("retained until {retain_until}, before its expiry at {expires_at}")]
    RetainedTooBriefly {
        /// When the document expires.
        expires_at: Timestamp,
        /// Until when it would be kept.
        retain_until: Timestamp,
    },
    /// `retain_until` has passed.
    #[error("expired at {retain_until}")]
    Expired {
        /// When it passed.
        retain_until: Timestamp,
    },
    /// The document is invalid.
    #[error("the document: {0}")]
    Document(NodeError),
    /// The signature is bad.
    #[error(transparent)]
    Signature(#[from] BadSignature),
}

impl From<ProtobufError> for UpdateError {
    fn from(error: ProtobufError) -> Self {
        Self::Protobuf(error)
    }
}

impl From<NodeError> for UpdateError {
    fn from(error: NodeError) -> Self {
        let limit = |limit, max| {
            Self::Limit(LimitExceeded {
                limit,
                got: None,
                max: u64::try_from(max).unwrap_or(u64::MAX),
            })
        };
        match error {
            NodeError::TooDeep { max } => limit(Limit::DOCUMENT_DEPTH, max),
            NodeError::TooManyNodes { max } => limit(Limit::DOCUMENT_NODES, max),
            other => Self::Document(other),
        }
    }
}

impl From<ExtensionError> for UpdateError {
    fn from(error: ExtensionError) -> Self {
        match error {
            ExtensionError::Limit(limit) => limit.into(),
            ExtensionError::NotCanonical | ExtensionError::Number(_) => Self::NotCanonical,
        }
    }
}

/// Why an update cannot be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// Replicas would refuse the update.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// The lifetime is zero.
    #[error(transparent)]
    ZeroLifetime(#[from] ZeroLifetime),
    /// The key cannot sign.
    #[error("the key cannot sign: {0}")]
    Key(String),
}

impl Update {
    /// The canonical encoding.
    pub fn encode(&self) -> Vec<u8> {
        let known = proto::Update {
            seq: self.seq.as_micros(),
            expires_at: self.expires_at.as_millis(),
            retain_until: (self.retain_until != self.expires_at)
                .then_some(self.retain_until.as_millis()),
            kind: match self.kind {
                UpdateKind::Merge => proto::UpdateKind::Merge,
                UpdateKind::Replace => proto::UpdateKind::Replace,
            }
            .into(),
            document: codec::encode(&self.document).into(),
        };
        [known.encode_to_vec(), self.extensions.encode()].concat()
    }

    /// Signs the update for the record `key` with any type of libp2p key.
    ///
    /// # Errors
    /// [`SignError`] if the update exceeds `limits`, so that replicas would refuse it, or the key
    /// cannot sign.
    pub fn sign(
        &self,
        key: &RecordKey,
        keypair: &Keypair,
        limits: &Limits,
    ) -> Result<SignedUpdate, SignError> {
        limits.check_key(key).map_err(UpdateError::from)?;
        let bytes = Bytes::from(self.encode());
        let signature =
            keypair.sign(&signed_bytes(key, &bytes)).map_err(|e| SignError::Key(e.to_string()))?;
        // The signature that was just made is not verified.
        Ok(UnverifiedUpdate::decode(bytes, signature.into(), limits)?.update)
    }
}

/// An update whose form is checked, and whose signature is not unless it was verified with others.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct UnverifiedUpdate {
    update: SignedUpdate,
    is_good: bool,
}

impl UnverifiedUpdate {
    /// Checks everything except time and signature.
    pub(crate) fn decode(
        bytes: Bytes,
        signature: Bytes,
        limits: &Limits,
    ) -> Result<Self, UpdateError> {
        Limit::UPDATE_BYTES.check(bytes.len(), limits.update_bytes())?;
        check_signature_len(&signature)?;
        let wire = proto::Update::decode(bytes.clone()).map_err(ProtobufError::new)?;
        let rest = bytes.strip_prefix(&wire.encode_to_vec()[..]);
        rest.map(Extensions::decode).ok_or(UpdateError::NotCanonical)??;
        let update = SignedUpdate::from_wire(wire, bytes, signature)?;
        let unverified = Self { update, is_good: false };
        unverified.check_lifetime(limits)?;
        codec::decode(&unverified.update.document, limits.document())?;
        Ok(unverified)
    }

    pub(crate) fn position(&self) -> Position {
        self.update.position
    }

    pub(crate) fn kind(&self) -> UpdateKind {
        self.update.kind
    }

    pub(crate) fn signature(&self) -> &[u8] {
        &self.update.signature
    }

    pub(crate) fn work(&self, rank: &[u8; 32]) -> u8 {
        self.update.work(rank)
    }

    /// Checks that a replica may admit the update at `now`. Decoding has checked the length of its
    /// lifetime.
    pub(crate) fn check_time(&self, now: Timestamp, limits: &Limits) -> Result<(), UpdateError> {
        let lead = self.update.position.seq.issued_at().saturating_since(now);
        if lead > limits.max_clock_skew() {
            let max = limits.max_clock_skew();
            return Err(LimitExceeded::of_duration(Limit::CLOCK_SKEW, lead, max).into());
        }
        if self.update.retain_until <= now {
            return Err(UpdateError::Expired { retain_until: self.update.retain_until });
        }
        Ok(())
    }

    fn check_lifetime(&self, limits: &Limits) -> Result<(), UpdateError> {
        let issued_at = self.update.position.seq.issued_at();
        let ttl = self.update.retain_until.saturating_since(issued_at);
        if ttl > limits.max_ttl() {
            return Err(LimitExceeded::of_duration(Limit::TTL, ttl, limits.max_ttl()).into());
        }
        Ok(())
    }

    pub(crate) fn verify(
        self,
        key: &RecordKey,
        writer: &Writer,
    ) -> Result<SignedUpdate, UpdateError> {
        if !self.is_good {
            writer.verify(key, &self.update.bytes, &self.update.signature)?;
        }
        Ok(self.update)
    }

    pub(crate) fn is_good(&self) -> bool {
        self.is_good
    }

    /// The bytes that its writer signs.
    pub(crate) fn signed_bytes(&self, key: &RecordKey) -> Vec<u8> {
        signed_bytes(key, &self.update.bytes)
    }

    /// Says that the signature was verified and is good, for the key and the writer to come.
    pub(crate) fn set_good(&mut self) {
        self.is_good = true;
    }

    /// The update as it is if the signature is good.
    pub(crate) fn unchecked(&self) -> &SignedUpdate {
        &self.update
    }
}

/// An update signed by its writer for one key.
///
/// Two are equal if their bytes and signatures are equal. A space compares only the bytes: of two
/// valid signatures of the same bytes, the lesser stays.
#[derive(Clone, Debug)]
pub struct SignedUpdate {
    position: Position,
    expires_at: Timestamp,
    retain_until: Timestamp,
    kind: UpdateKind,
    bytes: Bytes,
    signature: Bytes,
    /// The document, as a part of `bytes`.
    document: Bytes,
}

impl PartialEq for SignedUpdate {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes && self.signature == other.signature
    }
}

impl Eq for SignedUpdate {}

impl SignedUpdate {
    /// Decodes an update and makes every check that does not depend on the time.
    ///
    /// # Errors
    /// [`UpdateError`].
    pub fn decode(
        key: &RecordKey,
        writer: &Writer,
        bytes: Bytes,
        signature: Bytes,
        limits: &Limits,
    ) -> Result<Self, UpdateError> {
        UnverifiedUpdate::decode(bytes, signature, limits)?.verify(key, writer)
    }

    /// Decodes an update that was checked before it was stored.
    pub(super) fn from_stored(wire: proto::SignedUpdate) -> Result<Self, UpdateError> {
        let update = proto::Update::decode(wire.update.clone()).map_err(ProtobufError::new)?;
        Self::from_wire(update, wire.update, wire.signature)
    }

    fn from_wire(wire: proto::Update, bytes: Bytes, signature: Bytes) -> Result<Self, UpdateError> {
        let kind = match proto::UpdateKind::try_from(wire.kind) {
            Ok(proto::UpdateKind::Merge) => UpdateKind::Merge,
            Ok(proto::UpdateKind::Replace) => UpdateKind::Replace,
            Err(_) => return Err(UpdateError::UnknownKind(wire.kind)),
        };
        let expires_at = Timestamp::from_millis(wire.expires_at);
        let retain_until = match wire.retain_until.map(Timestamp::from_millis) {
            None => expires_at,
            Some(at) => match at.cmp(&expires_at) {
                Ordering::Greater => at,
                Ordering::Equal => return Err(UpdateError::NotCanonical),
                Ordering::Less => {
                    return Err(UpdateError::RetainedTooBriefly { expires_at, retain_until: at });
                }
            },
        };
        let position =
            Position { seq: Seq::from_micros(wire.seq), hash: Sha256::digest(&bytes).into() };
        Ok(Self {
            position,
            expires_at,
            retain_until,
            kind,
            bytes,
            signature,
            document: wire.document,
        })
    }

    /// Whether `wire` is this update, byte for byte.
    pub(crate) fn is(&self, wire: &proto::SignedUpdate) -> bool {
        self.bytes == wire.update && self.signature == wire.signature
    }

    pub(crate) fn to_wire(&self) -> proto::SignedUpdate {
        proto::SignedUpdate { update: self.bytes.clone(), signature: self.signature.clone() }
    }

    /// The position of the update in its space.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The writer's clock.
    pub fn seq(&self) -> Seq {
        self.position.seq
    }

    /// When the document expires. A node may have an earlier time of its own.
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// Until when replicas keep the update.
    pub fn retain_until(&self) -> Timestamp {
        self.retain_until
    }

    /// Merge or replace.
    pub fn kind(&self) -> UpdateKind {
        self.kind
    }

    /// Whether it withdraws its space: a replace with an empty document.
    pub fn is_withdrawal(&self) -> bool {
        self.kind == UpdateKind::Replace && self.document.is_empty()
    }

    /// The document.
    pub fn document(&self) -> Dict {
        // It was decoded before, within limits, so decoding cannot fail.
        let limits = DocumentLimits { depth: usize::MAX, nodes: usize::MAX };
        codec::decode(&self.document, limits).unwrap_or_default()
    }

    /// The extension fields. Decodes the update again.
    pub fn extensions(&self) -> Extensions {
        let known = proto::Update::decode(self.bytes.clone()).map(|update| update.encoded_len());
        // They were decoded before, so decoding cannot fail.
        let rest = known.ok().and_then(|len| self.bytes.get(len..)).unwrap_or_default();
        Extensions::decode(rest).unwrap_or_default()
    }

    /// The bits of work that its [`Stamp`](super::Stamp) proves in a space of this
    /// [rank](Writer::rank); zero if it has no good one. Costs one hash if it has a stamp.
    pub fn work(&self, rank: &[u8; 32]) -> u8 {
        work_of(&self.bytes, rank, 0)
    }

    /// The update bytes, which were signed together with the key.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The signature.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }
}
