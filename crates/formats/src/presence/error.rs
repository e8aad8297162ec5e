//! Why bytes are not a presence record or a part of one, and why one cannot be made.
//!
//! **Invariants.** An error names the party or the field at fault, never a secret.
//!
//! **Spec.** `proto/presence.proto`.

use std::fmt;

use libp2p_identity::{PeerId, SigningError};

use super::{ExchangeKeyError, PresenceKeyError};
use smart_record_core::{LimitExceeded, ProtobufError, Timestamp, WriterError};

/// The two who sign an announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Party {
    /// Whose presence it is.
    Client,
    /// Where it is present.
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
    /// Too large, too long-lived, too many or from too far in the future.
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
    /// The key is not one of a presence record.
    #[error(transparent)]
    Key(#[from] PresenceKeyError),
    /// Not the protobuf message that it should be.
    #[error("not a protobuf message of a presence record: {0}")]
    Protobuf(#[from] ProtobufError),
    /// Not the one canonical encoding: unknown fields, another order, a value twice.
    #[error("not the canonical encoding of a presence record")]
    NotCanonical,
    /// A record without a value.
    #[error("a presence record without a value")]
    Empty,
    /// What is not signed differs from the key or from what is signed.
    #[error("the field {field} differs from what it repeats")]
    Disagrees {
        /// Its name in `proto/presence.proto`.
        field: &'static str,
    },
    /// An identity is not a public key.
    #[error("the identity of the {party}: {error}")]
    Identity {
        /// Whose.
        party: Party,
        /// What is wrong.
        error: WriterError,
    },
    /// The announcement is of another client than the key, or at another node than its place says.
    #[error("the {party} is {named}, not {expected}")]
    OtherParty {
        /// Which of the two.
        party: Party,
        /// The one named in the announcement.
        named: Box<PeerId>,
        /// The one it should be.
        expected: Box<PeerId>,
    },
    /// Client and node are the same peer; an announcement takes two.
    #[error("client and node are the same peer")]
    SameParty,
    /// Not the SHA-256 of the node's identity.
    #[error("the fingerprint is not that of the node's identity")]
    Fingerprint,
    /// The X25519 key of a party is not one.
    #[error("the key of the {party}: {error}")]
    ExchangeKey {
        /// Whose.
        party: Party,
        /// What is wrong.
        error: ExchangeKeyError,
    },
    /// A kind of announcement that this version does not know.
    #[error("unknown kind of announcement {0}")]
    UnknownKind(i32),
    /// A withdrawal with what only an announcement has, or one in the place of the other.
    #[error("not an announcement but a withdrawal, or a mixture of both")]
    Kind,
    /// The dates are not in order: an announcement ends after it was made, and is kept until it ends.
    #[error("the dates are not in order")]
    Dates,
    /// A party has not signed.
    #[error("the {missing} has not signed")]
    HalfSigned {
        /// Who.
        missing: Party,
    },
    /// There is a signature where there should be none.
    #[error("a signature of the {party} where there should be none")]
    SurplusSignature {
        /// Whose.
        party: Party,
    },
    /// A signature is not that of the party for this key and announcement.
    #[error("the signature is not that of the {party} for this key and announcement")]
    Signature {
        /// Whose it should be.
        party: Party,
    },
    /// All of it has expired.
    #[error("expired at {expired_at}")]
    Expired {
        /// When.
        expired_at: Timestamp,
    },
}

/// Why something cannot be announced, countersigned or withdrawn.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnnounceError {
    /// Replicas would refuse it.
    #[error(transparent)]
    Refused(#[from] PresenceError),
    /// The handshake key that the client was told is not the node's.
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
