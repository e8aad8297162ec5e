//! Errors of IPRS records.

use cid::Cid;

use smart_record_core::{BadSignature, LimitExceeded, WriterError, printable};

/// Why data is not an IPRS record, or cannot become one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IprsError {
    /// A value exceeds a limit.
    #[error(transparent)]
    Limit(#[from] LimitExceeded),
    /// The bytes are not DAG-CBOR, or DAG-CBOR cannot encode the data.
    #[error("DAG-CBOR: {}", printable(.0))]
    Cbor(String),
    /// The encoding is not canonical.
    #[error("not the canonical encoding of a record")]
    NotCanonical,
    /// A field is missing, has the wrong type or is out of range.
    #[error("expected {0}")]
    Expected(&'static str),
    /// A map has an unknown field.
    #[error("unexpected field {0:?}")]
    UnexpectedField(String),
    /// The data for the scheme contradicts itself.
    #[error("{0}")]
    Contradiction(&'static str),
    /// The record is of another scheme than the one that reads it.
    #[error("a record of the scheme {0}")]
    OtherScheme(Box<Cid>),
    /// The author's public key is invalid.
    #[error(transparent)]
    Author(#[from] WriterError),
    /// The signature is not the author's for this record and key.
    #[error(transparent)]
    Signature(#[from] BadSignature),
    /// The key cannot sign.
    #[error("the key cannot sign: {0}")]
    CannotSign(String),
}
