//! What redb's errors mean here, and what becomes of its panics.
//!
//! **Invariants.** No panic of the database reaches the user: it counts as damage, because that is what makes
//! redb panic.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
};

use ::redb::Error;

use crate::store::storage::StorageError;

/// Any error of redb's.
pub(super) fn failed(error: impl Into<Error>) -> StorageError {
    match error.into() {
        Error::Io(error) => error.into(),
        Error::PreviousIo | Error::DatabaseClosed => StorageError::Closed,
        Error::DatabaseAlreadyOpen | Error::LockProtocolMismatch => StorageError::Locked,
        Error::UpgradeRequired(_) => StorageError::NotAStorage,
        error => StorageError::damaged(error),
    }
}

/// An error of redb's on opening a file, which may be anything.
pub(super) fn not_opened(error: impl Into<Error>) -> StorageError {
    match error.into() {
        Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => StorageError::NotAStorage,
        Error::TableTypeMismatch { .. }
        | Error::TableIsMultimap(_)
        | Error::TypeDefinitionChanged { .. } => StorageError::NotAStorage,
        error => failed(error),
    }
}

/// Runs code of redb's.
pub(super) fn guarded<T>(run: impl FnOnce() -> Result<T, StorageError>) -> Result<T, StorageError> {
    // After a panic the database is closed and opened again, so nothing half-changed is looked at.
    catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|_| Err(StorageError::damaged("the database could not go on")))
}
