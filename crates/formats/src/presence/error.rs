//! Errors of presence records and announcements.
//!
//! **Invariants.** An error names the party or the field at fault, never a secret.
//!
//! **Spec.** `proto/presence.proto`.

use std::fmt;

use libp2p_identity::{PeerId, SigningError};

use super::{ExchangeKeyError, PresenceKeyError};
use smart_record_core::{LimitExceeded, ProtobufError, Timestamp, WriterError, ZeroLifetime};

/// A party of an announcement. Exhaustive: an announcement has two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Party {
    /// The peer that announces its presence.
    Client,
    /// The node that hosts the client.
    Node,
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Node => "node",
        })
    }
}

/// Why bytes are not a presence record or a part of one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PresenceError {
    /// A size, a lifetime, a count or a clock skew exceeds its limit.
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
    /// The key is not the key of a presence record.
    #[error(transparent)]
    Key(#[from] PresenceKeyError),
    /// Not a valid protobuf message.
    #[error("not a protobuf message of a presence record: {0}")]
    Protobuf(ProtobufError),
    /// The encoding is not canonical: for example unknown fields, another order or a duplicate
    /// value.
    #[error("not the canonical encoding of a presence record")]
    NotCanonical,
    /// The record has no values.
    #[error("a presence record without a value")]
    Empty,
    /// An unsigned field differs from the key or from the signed field.
    #[error("the field {field} differs from the value that it repeats")]
    Disagrees {
        /// The name of the field in `proto/presence.proto`.
        field: &'static str,
    },
    /// An identity is not a public key.
    #[error("the identity of the {party}: {error}")]
    Identity {
        /// The party.
        party: Party,
        /// The reason.
        error: WriterError,
    },
    /// The message names another client or node than the expected one.
    #[error("the {party} is {named}, not {expected}")]
    OtherParty {
        /// The party that differs.
        party: Party,
        /// The peer that the message names.
        named: Box<PeerId>,
        /// The expected peer.
        expected: Box<PeerId>,
    },
    /// Client and node are the same peer.
    #[error("client and node are the same peer")]
    SameParty,
    /// The fingerprint is not the SHA-256 of the node's identity.
    #[error("the fingerprint is not that of the node's identity")]
    Fingerprint,
    /// The X25519 key of a party is invalid.
    #[error("the key of the {party}: {error}")]
    ExchangeKey {
        /// The party.
        party: Party,
        /// The reason.
        error: ExchangeKeyError,
    },
    /// This version does not know the kind of announcement.
    #[error("unknown kind of announcement {0}")]
    UnknownKind(i32),
    /// A withdrawal has a field that only an announcement has, or was found in place of an
    /// announcement.
    #[error("not an announcement but a withdrawal, or a mixture of both")]
    Kind,
    /// The dates are not in order: `expires_at` is after `created_at`, and `retain_until` is at
    /// least `expires_at`.
    #[error("the dates are not in order")]
    Dates,
    /// A party has not signed.
    #[error("the {missing} has not signed")]
    MissingSignature {
        /// The party that has not signed.
        missing: Party,
    },
    /// A signature is present where none is allowed.
    #[error("a signature of the {party} where there should be none")]
    SurplusSignature {
        /// The party.
        party: Party,
    },
    /// A signature is not the party's for this key and announcement.
    #[error("the signature is not that of the {party} for this key and announcement")]
    Signature {
        /// The party whose signature was expected.
        party: Party,
    },
    /// The message, or every entry of the record, has expired.
    #[error("expired at {expired_at}")]
    Expired {
        /// The instant of expiry.
        expired_at: Timestamp,
    },
}

impl From<ProtobufError> for PresenceError {
    fn from(error: ProtobufError) -> Self {
        Self::Protobuf(error)
    }
}

/// Why an announcement or a withdrawal cannot be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnnounceError {
    /// Replicas would refuse it.
    #[error(transparent)]
    Refused(#[from] PresenceError),
    /// The lifetime is zero.
    #[error(transparent)]
    ZeroLifetime(#[from] ZeroLifetime),
    /// The announcement has another handshake key than the node.
    #[error("the handshake key is not that of this node")]
    HandshakeKey,
    /// The key cannot sign.
    #[error("the key cannot sign: {0}")]
    Key(String),
}

impl From<SigningError> for AnnounceError {
    fn from(error: SigningError) -> Self {
        Self::Key(error.to_string())
    }
}
