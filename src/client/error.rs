//! Why a client could not do what it was asked for.

use crate::store::{StorageError, WriteError};
use smart_record_core::{RecordKey, SignError, ValidationError};

/// Why a client could not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The behaviour is gone: nobody polls the swarm any more.
    #[error("the behaviour has stopped")]
    Stopped,
    /// The registry has no rules of smart records for the key, so there is no space to write to.
    #[error("no rules of smart records for {0}")]
    Unregistered(RecordKey),
    /// Replicas would refuse the document or its lifetime.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// Our own store refused it: by the rules of the key, or because it is full.
    #[error(transparent)]
    Refused(#[from] WriteError),
    /// Our own store could not be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Nobody answered in time.
    #[error("the lookup timed out")]
    TimedOut,
    /// No peer could be reached, so what there is in the network is not known.
    #[error("no peer could be reached")]
    Unreachable,
}

impl From<ValidationError> for ClientError {
    fn from(error: ValidationError) -> Self {
        Self::Refused(error.into())
    }
}
