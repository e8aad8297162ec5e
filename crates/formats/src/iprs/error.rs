//! What is wrong with an IPRS record.

use cid::Cid;

use smart_record_core::{BadSignature, LimitExceeded, WriterError};

/// Why something is not an IPRS record, or cannot become one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IprsError {
    /// Too many bytes.
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
    /// Not DAG-CBOR, or data that DAG-CBOR has no form for.
    #[error("DAG-CBOR: {0}")]
    Cbor(String),
    /// Not in the one canonical form.
    #[error("not the canonical encoding of a record")]
    NotCanonical,
    /// A field is missing, of another type or out of range.
    #[error("expected {0}")]
    Expected(&'static str),
    /// A map has a field that does not belong there.
    #[error("unexpected field {0:?}")]
    UnexpectedField(String),
    /// What the scheme needs to know contradicts itself.
    #[error("{0}")]
    Contradiction(&'static str),
    /// The record is one of another scheme than was asked to read it.
    #[error("a record of the scheme {0}")]
    OtherScheme(Box<Cid>),
    /// The author's public key is not one.
    #[error(transparent)]
    Author(#[from] WriterError),
    /// The signature does not fit.
    #[error(transparent)]
    Signature(#[from] BadSignature),
    /// The key cannot sign.
    #[error("the key cannot sign: {0}")]
    CannotSign(String),
}
