//! How a storage fails.
//!
//! **Invariants.** Every failure of a disk, of a file or of what is in it has a variant of its own, so that a
//! program can tell one that passes from one that does not.

use std::io;

use libp2p_identity::PeerId;
use smart_record_core::ValidationError;

/// The storage failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// Reading or writing failed.
    #[error("input or output failed: {0}")]
    Io(io::ErrorKind),
    /// There is no room left on the disk.
    #[error("the disk is full")]
    Full,
    /// What is stored is not what was written.
    #[error("damaged: {what}")]
    Damaged {
        /// What was found.
        what: String,
    },
    /// The file is something else than a storage of this crate.
    #[error("not a storage of records")]
    NotAStorage,
    /// The file was written by another version of this crate.
    #[error("of format {found}; this version knows format {known}")]
    OtherFormat {
        /// The format of the file.
        found: u32,
        /// The format that this version reads.
        known: u32,
    },
    /// The file belongs to another peer, from which its rows are ordered by distance.
    #[error("it belongs to {owner}")]
    OtherPeer {
        /// To whom.
        owner: Box<PeerId>,
    },
    /// Another process, or another storage of this one, has the file open.
    #[error("it is open already")]
    Locked,
    /// As much waits to be written as may, and the disk has not caught up in time.
    #[error("the disk does not keep up")]
    Busy,
    /// It was closed after a failure and could not yet be opened again.
    #[error("closed after a failure")]
    Closed,
}

impl StorageError {
    /// Something that should not be there.
    pub(crate) fn damaged(what: impl std::fmt::Display) -> Self {
        Self::Damaged { what: what.to_string() }
    }
}

impl From<io::Error> for StorageError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::Full,
            kind => Self::Io(kind),
        }
    }
}

/// Why a row is not served any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RowFault {
    /// It is not as it was written.
    #[error("a damaged row")]
    Damaged,
    /// It, or something in it, would not be admitted today.
    #[error(transparent)]
    Invalid(#[from] ValidationError),
}
