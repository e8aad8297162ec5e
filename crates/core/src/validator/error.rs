//! Why a value is refused, and who is at fault.
//!
//! **Invariants.** Every error has one class, a [`Fault`], which says whom to blame.
//!
//! **Spec.** `docs/design.md`, section "Validators".

use std::fmt;

use libp2p_identity::PeerId;

use crate::{
    protobuf::ProtobufError,
    record::{LimitExceeded, PolicyRefusal, RecordError, SignError, UpdateError, WriterError},
    time::Timestamp,
};

/// Why a value, or a part of it, is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValidationError {
    /// The bytes are not what they should be: whoever made them runs broken or hostile code.
    #[error("malformed: {0}")]
    Malformed(#[from] Malformed),
    /// Well formed, but not signed by whom it should be: someone forged or damaged it.
    #[error("invalid: {0}")]
    Invalid(String),
    /// Its time has passed: whoever sent it is slow or replays.
    #[error("expired at {expired_at}")]
    Expired {
        /// When.
        expired_at: Timestamp,
    },
    /// Something newer is known: whoever sent it is behind or replays.
    #[error("stale: something newer is known")]
    Stale,
    /// Larger, longer-lived or further in the future than is allowed here.
    #[error("over a limit: {0}")]
    LimitExceeded(#[from] LimitExceeded),
    /// The writer may not write there.
    #[error("refused by policy: {0}")]
    RefusedByPolicy(#[from] PolicyRefusal),
    /// Of a kind that this node does not know.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// The caller gave no value to choose from.
    #[error("there is no value to choose from")]
    NoValue,
}

/// The classes of refusal, for counting and for deciding whom to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// Not what it should be.
    Malformed,
    /// Not signed as it should be.
    Invalid,
    /// Too late.
    Expired,
    /// Behind what is known.
    Stale,
    /// Over a limit.
    LimitExceeded,
    /// Not allowed there.
    RefusedByPolicy,
    /// Not known here.
    Unsupported,
    /// The caller's own mistake.
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

    /// The class in words, as a metric's label has it.
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
}

impl SignError {
    /// The class of the refusal.
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Update(UpdateError::Limit(_)) => Fault::LimitExceeded,
            Self::Update(UpdateError::Expired { .. }) => Fault::Expired,
            Self::Update(_) => Fault::Malformed,
            Self::Key(_) => Fault::Caller,
        }
    }
}

/// How bytes fail to be what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// A smart record without an update, or no value at all.
    #[error("a record without an update")]
    Empty,
    /// Not the protobuf message of a smart record.
    #[error("not a protobuf message of a smart record: {0}")]
    Container(ProtobufError),
    /// The public key of a space is not one.
    #[error(transparent)]
    Writer(WriterError),
    /// An update is not one.
    #[error("an update of {writer}: {error}")]
    Update {
        /// In whose space it stands.
        writer: Box<PeerId>,
        /// What is wrong.
        error: UpdateError,
    },
    /// Not what a validator of another namespace expects.
    #[error("{0}")]
    Other(String),
}

impl Malformed {
    /// A reason in a validator's own words.
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
    /// What an error of an update in `writer`'s space means.
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
