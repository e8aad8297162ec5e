//! Errors of a storage.
//!
//! **Invariants.** Each kind of failure of disk, file or content has its own variant, so that a
//! program can tell a temporary failure from a permanent one.

use std::io;

use libp2p_identity::PeerId;
use smart_record_core::ValidationError;

/// A failure of the storage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// Reading or writing failed.
    #[error("input or output failed: {0}")]
    Io(io::ErrorKind),
    /// There is no room left on the disk.
    #[error("the disk is full")]
    Full,
    /// Stored data is damaged.
    #[error("damaged: {what}")]
    Damaged {
        /// What is damaged.
        what: String,
    },
    /// The file is not a storage of this crate.
    #[error("not a storage of records")]
    ForeignFile,
    /// The file is empty. No storage is ever empty, so it may be what is left of one.
    #[error("the file is empty")]
    EmptyFile,
    /// The file was written by a version of the database redb with another file format.
    #[error("of another version: file format {found} of redb; this version knows format {known}")]
    OtherDatabase {
        /// The version of the file's format.
        found: u8,
        /// The version of the format that this version of the crate reads.
        known: u8,
    },
    /// The file was written by another version of this crate.
    #[error("of another version: format {found}; this version knows format {known}")]
    OtherFormat {
        /// The format version of the file.
        found: u32,
        /// The format version that this version of the crate reads.
        known: u32,
    },
    /// The storage belongs to another peer.
    #[error(transparent)]
    OtherPeer(#[from] OtherPeer),
    /// Another process, or another storage of this one, has the file open.
    #[error("it is open already")]
    Locked,
    /// The queue of pending writes is full, and the disk did not catch up in time.
    #[error("the disk does not keep up")]
    QueueFull,
    /// The storage was closed after a failure and is not open again yet.
    #[error("closed after a failure")]
    Closed,
}

/// The store or its storage belongs to another peer than the expected one.
///
/// Rows are ordered by distance from the owner, and writes of the owner count as local, so no other
/// peer can use the store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store belongs to peer {owner}, not to {expected}")]
#[non_exhaustive]
pub struct OtherPeer {
    /// The peer that owns the store.
    pub owner: Box<PeerId>,
    /// The peer that was expected.
    pub expected: Box<PeerId>,
}

impl OtherPeer {
    /// Checks that `owner` and `expected` are the same peer.
    pub(crate) fn check(owner: PeerId, expected: PeerId) -> Result<(), Self> {
        if owner == expected {
            return Ok(());
        }
        Err(Self { owner: Box::new(owner), expected: Box::new(expected) })
    }
}

impl StorageError {
    /// Damaged data, with what is damaged.
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

/// Why a stored row is no longer served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RowFault {
    /// It is not what was written.
    #[error("a damaged row")]
    Damaged,
    /// It, or something in it, would not be admitted now.
    #[error(transparent)]
    Invalid(#[from] ValidationError),
}
