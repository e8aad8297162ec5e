//! Validation errors and their classes.
//!
//! **Invariants.** Every error has one class, a [`Fault`], which says who is at fault.
//!
//! **Spec.** `docs/design.md`, section "Validators".

use std::{fmt, time::Duration};

use libp2p_identity::PeerId;

use crate::{
    protobuf::ProtobufError,
    record::{
        Limit, LimitExceeded, PolicyRefusal, RecordError, SignError, UpdateError, WriterError,
    },
    text::printable,
    time::Timestamp,
};

/// Why a value, or a part of it, is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValidationError {
    /// The bytes have the wrong form: broken or hostile code made them.
    #[error("malformed: {0}")]
    Malformed(Malformed),
    /// Well formed, but not signed by the right peer: forged or damaged.
    #[error("invalid: {}", printable(.0))]
    Invalid(String),
    /// Expired: the sender is slow or replays.
    #[error("expired at {expired_at}")]
    Expired {
        /// When it expired.
        expired_at: Timestamp,
    },
    /// A newer value is known: the sender is behind or replays.
    #[error("stale: something newer is known")]
    Stale,
    /// Larger, longer-lived or further in the future than this node allows.
    #[error("over a limit: {0}")]
    LimitExceeded(LimitExceeded),
    /// The writer may not write under this key.
    #[error("refused by policy: {0}")]
    RefusedByPolicy(PolicyRefusal),
    /// A kind of value that this node does not support.
    #[error("unsupported: {}", printable(.0))]
    Unsupported(String),
    /// The caller passed no values.
    #[error("no value was given")]
    NoValue,
}

impl From<PolicyRefusal> for ValidationError {
    fn from(error: PolicyRefusal) -> Self {
        Self::RefusedByPolicy(error)
    }
}

impl From<LimitExceeded> for ValidationError {
    fn from(error: LimitExceeded) -> Self {
        Self::LimitExceeded(error)
    }
}

impl From<Malformed> for ValidationError {
    fn from(error: Malformed) -> Self {
        Self::Malformed(error)
    }
}

/// The class of a refusal, for counters and for finding the peer at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// The wrong form.
    Malformed,
    /// Not signed by the right peer.
    Invalid,
    /// Expired.
    Expired,
    /// Older than what is known.
    Stale,
    /// Over a limit.
    LimitExceeded,
    /// Not allowed by the write policy.
    RefusedByPolicy,
    /// Not supported by this node.
    Unsupported,
    /// A mistake of the caller.
    Caller,
}

impl Fault {
    /// All classes.
    pub const ALL: [Self; 8] = [
        Self::Malformed,
        Self::Invalid,
        Self::Expired,
        Self::Stale,
        Self::LimitExceeded,
        Self::RefusedByPolicy,
        Self::Unsupported,
        Self::Caller,
    ];

    /// The class as text, as used for metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Invalid => "invalid",
            Self::Expired => "expired",
            Self::Stale => "stale",
            Self::LimitExceeded => "limit",
            Self::RefusedByPolicy => "policy",
            Self::Unsupported => "unsupported",
            Self::Caller => "caller",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl ValidationError {
    /// The class of the refusal.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Malformed(_) => Fault::Malformed,
            Self::Invalid(_) => Fault::Invalid,
            Self::Expired { .. } => Fault::Expired,
            Self::Stale => Fault::Stale,
            Self::LimitExceeded(_) => Fault::LimitExceeded,
            Self::RefusedByPolicy(_) => Fault::RefusedByPolicy,
            Self::Unsupported(_) => Fault::Unsupported,
            Self::NoValue => Fault::Caller,
        }
    }

    /// The time by which the value was signed ahead of the reader's clock, if it is refused for
    /// that. One of the two clocks is wrong.
    pub fn lead(&self) -> Option<Duration> {
        match self {
            Self::LimitExceeded(exceeded) if exceeded.limit == Limit::CLOCK_SKEW => {
                Some(Duration::from_millis(exceeded.got.unwrap_or(exceeded.max)))
            }
            _ => None,
        }
    }

    /// Whether the value is refused because it was signed ahead of the reader's clock.
    pub fn is_ahead_of_clock(&self) -> bool {
        self.lead().is_some()
    }
}

impl SignError {
    /// The class of the refusal.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Update(UpdateError::Limit(_)) => Fault::LimitExceeded,
            Self::Update(_) => Fault::Malformed,
            Self::ZeroLifetime(_) | Self::Key(_) => Fault::Caller,
        }
    }
}

/// How bytes are malformed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// A smart record without updates, or an empty value.
    #[error("the record has no updates")]
    Empty,
    /// Not a protobuf message of a smart record.
    #[error("not a protobuf message of a smart record: {0}")]
    Container(ProtobufError),
    /// The public key of a space is invalid.
    #[error(transparent)]
    Writer(WriterError),
    /// An update is invalid.
    #[error("an update of {writer}: {error}")]
    Update {
        /// The writer of the space.
        writer: Box<PeerId>,
        /// Why the update is invalid.
        error: UpdateError,
    },
    /// An error of the validator of another namespace.
    #[error("{}", printable(.0))]
    Other(String),
}

impl Malformed {
    /// An error with a validator's own text.
    pub fn other(reason: impl fmt::Display) -> Self {
        Self::Other(reason.to_string())
    }
}

impl From<WriterError> for ValidationError {
    fn from(error: WriterError) -> Self {
        match error {
            WriterError::Limit(limit) => limit.into(),
            WriterError::Unsupported(_) => Self::Unsupported(error.to_string()),
            other => Malformed::Writer(other).into(),
        }
    }
}

impl ValidationError {
    /// Converts the error of an update in the space of `writer`.
    pub fn of_update(writer: Box<PeerId>, error: UpdateError) -> Self {
        match error {
            UpdateError::Limit(limit) => limit.into(),
            UpdateError::Expired { retain_until } => Self::Expired { expired_at: retain_until },
            UpdateError::UnknownKind(_) => Self::Unsupported(error.to_string()),
            UpdateError::Signature(_) => Self::Invalid(format!("{writer}: {error}")),
            error => Malformed::Update { writer, error }.into(),
        }
    }
}

impl From<RecordError> for ValidationError {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Limit(limit) => limit.into(),
            RecordError::Writer(error) => error.into(),
            RecordError::Update { writer, error } => Self::of_update(writer, error),
            RecordError::Empty => Malformed::Empty.into(),
            RecordError::Protobuf(error) => Malformed::Container(error).into(),
        }
    }
}
