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
    /// The storage belongs to another peer.
    #[error(transparent)]
    OtherPeer(#[from] OtherPeer),
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

/// A store or its storage belongs to another peer than the one it was given for.
///
/// Rows are ordered by distance from their owner, and local writes are told from remote ones by it,
/// so neither can be used for another peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store belongs to peer {owner}, not to {expected}")]
#[non_exhaustive]
pub struct OtherPeer {
    /// The peer that owns the store.
    pub owner: Box<PeerId>,
    /// The peer that it was given for.
    pub expected: Box<PeerId>,
}

impl OtherPeer {
    /// Checks that what `owner` owns is used for `expected`.
    pub(crate) fn check(owner: PeerId, expected: PeerId) -> Result<(), Self> {
        if owner == expected {
            return Ok(());
        }
        Err(Self { owner: Box::new(owner), expected: Box::new(expected) })
    }
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
