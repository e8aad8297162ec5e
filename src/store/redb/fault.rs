//! Conversion of redb's errors and panics.
//!
//! **Invariants.** No panic of the database reaches the user. A panic counts as damage, because
//! damage is what makes redb panic.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
};

use ::redb::Error;

use super::format::REDB_FORMAT;
use crate::store::storage::StorageError;

/// Converts any error of redb.
pub(super) fn failed(error: impl Into<Error>) -> StorageError {
    match error.into() {
        Error::Io(error) => error.into(),
        Error::PreviousIo | Error::DatabaseClosed => StorageError::Closed,
        Error::DatabaseAlreadyOpen | Error::LockProtocolMismatch => StorageError::Locked,
        error => StorageError::damaged(error),
    }
}

/// Converts an error of opening a file, which may have any content.
pub(super) fn not_opened(error: impl Into<Error>) -> StorageError {
    match error.into() {
        Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => StorageError::ForeignFile,
        Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            StorageError::damaged("the file ends early")
        }
        Error::UpgradeRequired(found) => StorageError::OtherDatabase { found, known: REDB_FORMAT },
        Error::TableTypeMismatch { .. }
        | Error::TableIsMultimap(_)
        | Error::TypeDefinitionChanged { .. } => StorageError::ForeignFile,
        error => failed(error),
    }
}

/// Runs an operation of redb, and converts a panic into an error.
pub(super) fn guarded<T>(run: impl FnOnce() -> Result<T, StorageError>) -> Result<T, StorageError> {
    // After a panic the database is closed and opened again, so half-changed state is not used.
    catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|_| Err(StorageError::damaged("the database could not go on")))
}
